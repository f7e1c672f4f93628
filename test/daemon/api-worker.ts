// The embedded API server in a process of its own, inside a namespace, with a hand on its objects and faults.

import type { Fault } from '../support/apiserver/faults.ts'
import { type ObjectReference, startApiServer } from '../support/apiserver/server.ts'
import { answerCalls } from '../support/netns/calls.ts'

const server = await startApiServer({ address: '127.0.0.1' })

const methods = {
  kubeconfig: (): string => server.kubeconfig(),
  put: ({ objects }: { objects: readonly object[] }): void => server.put(objects),
  list: ({ kind }: { kind: string }) => server.list(kind),
  remove: ({ reference }: { reference: ObjectReference }): void => server.delete(reference),
  fault: ({ fault }: { fault: Fault }): void => void server.fault(fault),
  clearFaults: (): void => server.clearFaults(),
}
export type ApiWorkerMethods = typeof methods

process.on('SIGINT', () => undefined)
answerCalls(methods)
