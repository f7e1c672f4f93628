// The nftables backend of a worker in a namespace, for tests that use it as one of this process.
import { join } from 'node:path'
import { type Backend, CommitError, type Delta, type Program, type Transaction } from '../../../src/backend/backend.ts'
import { nftablesBackend } from '../../../src/backend/nftables/index.ts'
import type { Family } from '../../../src/net/ip.ts'
import type { Sandbox, Worker } from '../../support/netns/sandbox.ts'
import type { BackendMethods, Ended } from './worker.ts'

/** Starts the worker. `own`: its tables are its own. */
export async function backendWorker(sandbox: Sandbox, namespace: string, own = false): Promise<Worker<BackendMethods>> {
  const worker = await sandbox.worker<BackendMethods>({ namespace, module: join(import.meta.dirname, 'worker.ts') })
  await worker.call('open', { own })
  return worker
}

/** What was planned; the worker plans it again, as functions do not go to another process. */
interface Planned extends Transaction {
  readonly delta: Delta
  readonly program: Program
}

const isPlanned = (transaction: Transaction): transaction is Planned => 'delta' in transaction

/** A backend whose kernel is that of the worker's namespace. */
export function remoteBackend(worker: () => Worker<BackendMethods>, family: Family): Backend {
  const exec = { run: () => Promise.reject(new Error('no program is needed')) }
  return {
    ...nftablesBackend({ family, exec }),
    plan: (delta, program): Planned => ({ steps: [], delta, program }),
    read: async () => new Map((await worker().call('read', { family })).map(({ key, value }) => [key, value])),
    commit: async transaction => {
      if (!isPlanned(transaction)) throw new Error('not planned here')
      const { delta, program } = transaction
      const objects = [...program].map(([key, value]) => ({ key, value }))
      thrown(await worker().call('write', { family, delta, program: objects }))
    },
    cleanup: async () => thrown(await worker().call('cleanup', { family })),
  }
}

function thrown(ended: Ended): void {
  if (ended.kind !== 'done') throw new CommitError(ended.kind, ended.message, { keys: ended.keys })
}
