// The API server of a measurement, in a process of its own. Run by `Sandbox.worker`.
import { writeFileSync } from 'node:fs'
import { type ApiServer, startApiServer } from '../support/apiserver/server.ts'
import { answerCalls } from '../support/netns/calls.ts'
import { cluster, serviceCIDR, slice } from './objects.ts'

const starting: Promise<ApiServer> = startApiServer({ serviceCIDRs: [serviceCIDR] })

const methods = {
  /** Fills the server, and writes a kubeconfig that leads to it. */
  fill: async (params: { services: number; endpoints: number; kubeconfig: string }): Promise<void> => {
    const server = await starting
    server.put(cluster(params.services, params.endpoints))
    writeFileSync(params.kubeconfig, server.kubeconfig(), { mode: 0o600 })
  },
  /** Moves the endpoints of a Service to another port. Returns when that was, on the monotonic clock in nanoseconds. */
  move: async (params: { index: number; endpoints: number; port: number }): Promise<{ at: string }> => {
    const server = await starting
    const at = process.hrtime.bigint()
    server.put(slice(params.index, params.endpoints, params.port))
    return { at: String(at) }
  },
}
export type ApiMethods = typeof methods

process.on('SIGINT', () => undefined)
answerCalls(methods)
