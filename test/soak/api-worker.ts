// The soak's API server in a process of its own, inside the node's namespace: objects go in whatever the faults, which are
// between it and its clients only.
import type { Fault } from '../support/apiserver/faults.ts'
import { type ObjectReference, startApiServer } from '../support/apiserver/server.ts'
import { ApiError } from '../support/apiserver/status.ts'
import { answerCalls } from '../support/netns/calls.ts'
import type { Change } from './population.ts'

// A short memory, so that watches resumed after a pause are told 410 now and then.
const server = await startApiServer({ address: '127.0.0.1', bookmarkIntervalMs: 5_000, historyLimit: 500 })
let accepts = true

async function accept(): Promise<void> {
  if (accepts) return
  await server.acceptConnections()
  accepts = true
}

function remove(reference: ObjectReference): void {
  try {
    server.delete(reference)
  } catch (error) {
    // A slice may have gone before its Service.
    if (!(error instanceof ApiError) || error.code !== 404) throw error
  }
}

const methods = {
  kubeconfig: (): string => server.kubeconfig(),
  change: ({ changes }: { changes: readonly Change[] }): void => {
    for (const change of changes) {
      if ('put' in change) server.put(change.put)
      else remove(change.remove)
    }
    // The log of requests is of no use here, and a soak is long.
    server.clearRequests()
  },
  objects: (): object[] => ['Service', 'EndpointSlice', 'Node', 'ServiceCIDR'].flatMap(kind => server.list(kind)),
  fault: ({ fault }: { fault: Fault }): void => void server.fault(fault),
  compact: (): void => server.compact(),
  drop: (): void => server.dropConnections(),
  refuse: async (): Promise<void> => {
    if (!accepts) return
    accepts = false
    await server.refuseConnections()
  },
  accept,
  /** All faults end. Streams that are frozen stay so, unless connections are dropped, too. */
  clear: async ({ drop }: { drop: boolean }): Promise<void> => {
    server.clearFaults()
    await accept()
    if (drop) server.dropConnections()
  },
}
export type SoakApiMethods = typeof methods

process.on('SIGINT', () => undefined)
answerCalls(methods)
