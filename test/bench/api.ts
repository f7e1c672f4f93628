// The API server of a measurement, in a process of its own. Run by `Sandbox.worker`. Times are on the monotonic clock in
// nanoseconds, taken right before the first object is put.
import { writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { type ApiServer, startApiServer } from '../support/apiserver/server.ts'
import { answerCalls } from '../support/netns/calls.ts'
import { cluster, node, partsOf, ports, rollingService, rollingSlice, serviceCIDR, sink, slices } from './objects.ts'

const starting: Promise<ApiServer> = startApiServer({ serviceCIDRs: [serviceCIDR] })

/** The port that each Service's endpoints have now. */
let portOf: number[] = []
let endpointsEach = 0
/** Of the Service whose endpoints are replaced: the generation at each place; empty while there is none. */
let generations: number[] = []

const other = (port: number): number => (port === ports.before ? ports.after : ports.before)

function flip(server: ApiServer, index: number): number {
  const port = other(portOf[index] ?? ports.before)
  portOf[index] = port
  server.put(slices(index, endpointsEach, port))
  return port
}

const methods = {
  /** Fills the server with Services, and writes a kubeconfig that leads to it. */
  fill: async (params: { services: number; endpoints: number; kubeconfig: string }): Promise<void> => {
    const server = await starting
    server.put(cluster(params.services, params.endpoints))
    portOf = new Array<number>(params.services).fill(ports.before)
    endpointsEach = params.endpoints
    writeFileSync(params.kubeconfig, server.kubeconfig(), { mode: 0o600 })
  },
  /** The same with this node and nothing else. */
  fillBare: async (params: { kubeconfig: string }): Promise<void> => {
    const server = await starting
    server.put(node)
    writeFileSync(params.kubeconfig, server.kubeconfig(), { mode: 0o600 })
  },
  /** The port that each of these Services has now. */
  portsOf: (params: { indices: readonly number[] }): number[] =>
    params.indices.map(index => portOf[index] ?? ports.before),
  /** Moves the endpoints of Services to the other port, all at once. `putMs`: how long that took the server itself. */
  flip: async (params: { indices: readonly number[] }): Promise<{ at: string; putMs: number }> => {
    const server = await starting
    const at = process.hrtime.bigint()
    for (const index of params.indices) flip(server, index)
    return { at: String(at), putMs: Number(process.hrtime.bigint() - at) / 1e6 }
  },
  /**
   * Makes `rate` changes a second, `rate` × `seconds` in all, each to one of the first `services` in turn, in an order that
   * leaps about. Where the server cannot keep up it takes longer. Returns when it ended and how long it took, how many changes
   * there were, and the numbers of the last Services, 100 at most.
   */
  storm: async (params: {
    rate: number
    seconds: number
    services: number
  }): Promise<{ endedAt: string; tookMs: number; sent: number; last: number[] }> => {
    const server = await starting
    const began = process.hrtime.bigint()
    const all = params.rate * params.seconds
    const last = new Set<number>()
    for (let sent = 0; sent < all; ) {
      await sleep(5)
      const due = Math.floor((Number(process.hrtime.bigint() - began) / 1e9) * params.rate)
      for (; sent < Math.min(due, all); sent++) {
        // A prime: every Service has its turn before one has its second.
        const index = (sent * 7_919) % params.services
        flip(server, index)
        if (sent >= all - 100) last.add(index)
      }
    }
    const ended = process.hrtime.bigint()
    return { endedAt: String(ended), tookMs: Number(ended - began) / 1e6, sent: all, last: [...last] }
  },
  /** Makes the Service whose endpoints are replaced. */
  putRolling: async (params: { endpoints: number }): Promise<void> => {
    const server = await starting
    generations = new Array<number>(params.endpoints).fill(0)
    server.put([rollingService(), ...partsOf(0, params.endpoints).map(part => rollingSlice(generations, part))])
  },
  /** Replaces its endpoints at places `from` up to `to` by those of a generation; writes the slices that differ. */
  replace: async (params: { from: number; to: number; generation: number }): Promise<{ at: string }> => {
    const server = await starting
    generations.fill(params.generation, params.from, params.to)
    const changed = partsOf(params.from, params.to).map(part => rollingSlice(generations, part))
    const at = process.hrtime.bigint()
    server.put(changed)
    return { at: String(at) }
  },
  /** Removes it. */
  removeRolling: async (): Promise<void> => {
    const server = await starting
    server.delete({ kind: 'Service', namespace: 'bench', name: 'rolling' })
    for (const part of partsOf(0, generations.length)) {
      server.delete({ kind: 'EndpointSlice', namespace: 'bench', name: `rolling-${part}` })
    }
    generations = []
  },
  /** Makes the Service that takes streams. */
  putSink: async (): Promise<void> => (await starting).put(sink()),
}
export type ApiMethods = typeof methods

process.on('SIGINT', () => undefined)
answerCalls(methods)
