// Cleans stale UDP flows after syncs: in the background, one cleaning at a time, never more of the machine than a tenth.
import { setTimeout as wait } from 'node:timers/promises'
import type { FlowTable } from '../net/flow.ts'
import type { Family, IP } from '../net/ip.ts'
import { type ServedPort, ServedTable } from './table.ts'

/** What one cleaning did. */
export interface Cleaning {
  readonly searches: number
  /** Flows that were looked at. */
  readonly seen: number
  readonly removed: number
  readonly milliseconds: number
}

export interface FlowKeeperOptions {
  readonly family: Family
  readonly flows: FlowTable
  /** Whether an address is one of the node's at which node ports answer; `nodePortTest` makes it. Asked anew each time. */
  readonly takesNodePorts: (ip: IP) => boolean
  readonly onCleaned?: (cleaning: Cleaning) => void
  /** What stands in the way, in one sentence, when it comes or changes; undefined when it is over. */
  readonly onProblem?: (sentence: string | undefined) => void
  /** Resolves after so many milliseconds, or rejects when aborted. */
  readonly sleep?: (milliseconds: number, signal: AbortSignal) => Promise<void>
  /** Milliseconds, from whenever. */
  readonly now?: () => number
}

/** A cleaning is followed by this many times its own duration of rest, in which further changes gather. */
const restFactor = 9
const retryMs = { first: 5_000, longest: 300_000 } as const

const sleepUnlessAborted = (milliseconds: number, signal: AbortSignal): Promise<void> =>
  wait(milliseconds, undefined, { signal, ref: false })

/**
 * Fed with what Services have become, told when the kernel's rules say so. The first cleaning looks at all UDP flows and
 * removes the stale ones, whoever left them; each further one looks for what changed. Nothing here throws or is waited
 * for by a sync; what fails is tried again with what came since.
 */
export class FlowKeeper {
  readonly #options: FlowKeeperOptions
  readonly #table: ServedTable
  readonly #abort = new AbortController()
  #running: Promise<void> | undefined
  #problem: string | undefined

  constructor(options: FlowKeeperOptions) {
    this.#options = options
    this.#table = new ServedTable(options.family)
  }

  /** What this node does for a Service from the next sync on; no ports when it is gone. Costs what the Service has. */
  note(service: string, ports: readonly ServedPort[]): void {
    this.#table.note(service, ports)
  }

  /** A sync succeeded: all that was noted is in the kernel's rules. Returns at once. */
  afterSync(): void {
    this.#table.seal()
    if (this.#running !== undefined || this.#abort.signal.aborted || !this.#table.isDue) return
    this.#running = this.#run().finally(() => {
      this.#running = undefined
    })
  }

  /** Resolves when nothing is being cleaned or waited for. */
  async idle(): Promise<void> {
    await this.#running
  }

  /** Ends what is under way and waits for its end. */
  async close(): Promise<void> {
    this.#abort.abort()
    await this.#running
  }

  async #run(): Promise<void> {
    const { sleep = sleepUnlessAborted } = this.#options
    const { signal } = this.#abort
    let retry: number = retryMs.first
    while (!signal.aborted && this.#table.isDue) {
      const now = this.#options.now ?? (() => performance.now())
      const began = now()
      const isClean = await this.#clean(began, now)
      if (signal.aborted) return
      const rest = isClean ? (now() - began) * restFactor : retry
      retry = isClean ? retryMs.first : Math.min(retry * 2, retryMs.longest)
      await sleep(rest, signal).catch(() => undefined)
    }
  }

  async #clean(began: number, now: () => number): Promise<boolean> {
    const { flows, takesNodePorts, onCleaned } = this.#options
    const { signal } = this.#abort
    const work = this.#table.take(takesNodePorts)
    if (work === undefined) return true
    let seen = 0
    let removed = 0
    let problem: string | undefined
    try {
      for (const filter of work.searches) {
        const removal = await flows.remove(filter, work.isStale, signal)
        seen += removal.seen
        removed += removal.removed
        problem ??= removal.problem
      }
    } catch (error) {
      if (signal.aborted) return false
      problem = `stale UDP flows could not be removed: ${error instanceof Error ? error.message : String(error)}`
    }
    onCleaned?.({ searches: work.searches.length, seen, removed, milliseconds: now() - began })
    if (problem !== undefined) work.restore()
    this.#tell(problem)
    return problem === undefined
  }

  #tell(problem: string | undefined): void {
    if (problem === this.#problem) return
    this.#problem = problem
    this.#options.onProblem?.(problem)
  }
}
