// A backend of plain text for the syncer's tests: a kernel in memory that takes whole transactions and fails on demand.
import { type Backend, CommitError, type KernelObject, type Transaction } from '../../src/backend/backend.ts'
import type { Endpoint, ServicePort } from '../../src/policy/service-port.ts'
import { type Harness, harness } from './harness.ts'

interface Change {
  readonly key: string
  readonly from: string | undefined
  readonly to: string | undefined
}

/** The kernel behind a fake backend: what it holds, what it was asked, and how it fails. */
export class FakeKernel {
  readonly held = new Map<string, string>()
  /** Changes of each commit that took effect. */
  readonly commits: (readonly Change[])[] = []
  /** Names of the Service ports that were compiled, in order. */
  readonly compiled: string[] = []
  reads = 0
  attempts = 0
  /** The next commits fail with these, one each; undefined lets one pass. */
  readonly failures: (CommitError | undefined)[] = []
  readonly readFailures: CommitError[] = []
  /** Objects that the kernel never takes. */
  refuses: (key: string, value: string) => boolean = () => false
  /** The kernel says which objects it refuses. */
  names = true
  /** Called in the middle of each commit. */
  during: () => Promise<void> | void = () => undefined
  /** Service ports that throw when compiled. */
  cannotCompile: string | undefined
  skeleton: readonly KernelObject[] = [{ key: 'skeleton', value: 'jump' }]
  giveUp: (() => string | undefined) | undefined

  take(changes: readonly Change[]): void {
    for (const { key, from } of changes) {
      if (this.held.get(key) !== from) throw new CommitError('stale', `${key} is not as believed`)
    }
    const refused = changes.filter(({ key, to }) => to !== undefined && this.refuses(key, to))
    if (refused.length > 0) {
      throw new CommitError('refused', 'Invalid argument', { keys: this.names ? refused.map(({ key }) => key) : [] })
    }
    for (const { key, to } of changes) {
      if (to === undefined) this.held.delete(key)
      else this.held.set(key, to)
    }
    this.commits.push(changes)
  }

  /** Endpoints of a Service port, as the kernel has them; undefined when it knows nothing of it. */
  endpointsOf(servicePort: string): string | undefined {
    return this.held.get(`chain/${servicePort}`)
  }
}

/** A backend over that kernel: a chain for each Service port, and an object for each frontend that names it. */
export function fakeBackend(kernel: FakeKernel): Backend {
  return {
    mode: 'iptables',
    skeleton: () => kernel.skeleton,
    *compile(port: ServicePort) {
      kernel.compiled.push(port.name)
      if (port.name === kernel.cannotCompile) throw new Error('no such rule')
      const { internal } = port
      const value = internal.kind === 'endpoints' ? internal.endpoints.map(textOf).join(' ') : internal.kind
      yield { key: `chain/${port.name}`, value }
      for (const { address, port: number } of port.frontends) {
        yield { key: `front/${address}:${number}/${port.protocol}`, value: port.name }
      }
    },
    plan({ added, changed, removed }) {
      const changes: Change[] = [
        ...added.map(({ key, value }) => ({ key, from: undefined, to: value })),
        ...changed,
        ...removed.map(({ key, value }) => ({ key, from: value, to: undefined })),
      ]
      const text = JSON.stringify(changes.map(({ key, from, to }) => [key, from ?? null, to ?? null]))
      return { steps: [{ title: `${changes.length} changes`, text, keys: changes.map(({ key }) => key) }] }
    },
    async read() {
      kernel.reads++
      const failure = kernel.readFailures.shift()
      if (failure !== undefined) throw failure
      return new Map(kernel.held)
    },
    async commit(transaction, signal) {
      kernel.attempts++
      await kernel.during()
      if (signal.aborted) throw new CommitError('transient', 'interrupted')
      const failure = kernel.failures.shift()
      if (failure !== undefined) throw failure
      kernel.take(changesOf(transaction))
    },
    trace: () => ({ verdict: 'none', endpoints: [], masquerade: false, servicePort: null, path: [] }),
    ...(kernel.giveUp === undefined ? {} : { giveUp: kernel.giveUp }),
    async cleanup() {
      kernel.held.clear()
    },
  }
}

const textOf = ({ address, port }: Endpoint): string => `${address}:${port}`

const changesOf = ({ steps }: Transaction): Change[] =>
  steps.flatMap(({ text }) => {
    const rows: [string, string | null, string | null][] = JSON.parse(text)
    return rows.map(([key, from, to]) => ({ key, from: from ?? undefined, to: to ?? undefined }))
  })

/** A syncer around a kernel in memory, which `prepare` may change before anything is asked of it. */
export const setUp = (
  prepare: (kernel: FakeKernel) => void = () => undefined,
): Harness & { readonly kernel: FakeKernel } => {
  const kernel = new FakeKernel()
  prepare(kernel)
  return { kernel, ...harness({ backend: fakeBackend(kernel) }) }
}

/** What a commit fails with while another program writes. */
export const lockHeld = (): CommitError => new CommitError('transient', 'another app is holding the lock')
