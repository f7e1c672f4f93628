// Keeps one address family's kernel rules equal to the model: says when what changed is compiled, when the kernel is
// compared, and when the difference is committed. One syncer and one backend a family: what breaks one leaves the other alone.
import PQueue from 'p-queue'
import { CommitError, type Delta, type Program } from '../backend/backend.ts'
import type { ServiceKey } from '../model/records.ts'
import type { Committer } from './committer.ts'
import type { SetAside, Suspicion, SyncerOptions } from './contract.ts'
import { DriftGuard, type Due, type Finding, mostExamples } from './drift.ts'
import { Leisure } from './leisure.ts'
import { waitBeforeSync } from './pace.ts'
import type { DesiredProgram } from './program.ts'
import { Wanted } from './wanted.ts'

/** Times of changes that wait for a sync which succeeds; of a longer outage the rest says nothing new. */
const mostTriggers = 10_000
/** What passes by itself passes soon; a change must not wait half a minute for it. */
const longestTransientBackoffMs = 5_000

export class Syncer {
  readonly #options: SyncerOptions
  readonly #committer: Committer
  readonly #wanted: Wanted
  /** One writer at a time. */
  readonly #queue = new PQueue({ concurrency: 1 })
  readonly #stop = new AbortController()
  /** When the changes happened that are not in the kernel yet. */
  #triggeredAt: number[] = []
  /** The kernel may hold something else than believed: the next sync compares. */
  #mustCompare = true
  /** When to compare all the same. */
  #comparisonDue = 0
  readonly #leisure: Leisure
  /** What was set aside was tried again. */
  #lastRetry: number
  readonly #guard: DriftGuard
  /** The kernel tells of changes. */
  #isWatched = false
  /** The kernel held everything once; what it lacks since then was taken away. */
  #isTrusted = false
  /** When work began that a suspicion led to. */
  #suspectedAt: number | undefined
  #firstChange: number
  #lastEnd: number
  #lastDuration = 0
  #failures = 0
  #lastError: CommitError | undefined
  #wake: (() => void) | undefined
  readonly #firstSync = Promise.withResolvers<void>()

  constructor(options: SyncerOptions) {
    this.#options = options
    this.#wanted = new Wanted(options)
    this.#committer = this.#wanted.committer
    this.#leisure = new Leisure(options.now)
    this.#guard = new DriftGuard(options.now, this.#leisure, options.checkMs)
    this.#firstChange = options.now()
    this.#lastRetry = this.#firstChange
    this.#lastEnd = Number.NEGATIVE_INFINITY
  }

  get program(): DesiredProgram {
    return this.#committer.program
  }

  get setAsides(): readonly SetAside[] {
    return this.#wanted.setAsides
  }

  /** Services that have something to do in this family. */
  get services(): number {
    return this.#wanted.services
  }

  /** Services that wait to be looked at. */
  get pending(): number {
    return this.#wanted.pending
  }

  /** Syncs that failed one after another. */
  get failures(): number {
    return this.#failures
  }

  /** The last failure, until a sync succeeds. */
  get lastError(): CommitError | undefined {
    return this.#lastError
  }

  /** Owners of objects that a Service has in the program: its ports. */
  ownersOf(service: ServiceKey): readonly string[] {
    return this.#wanted.ownersOf(service)
  }

  /** Services that changed, and when, where that is known (milliseconds since the epoch). Cheap: only noted here. */
  markDirty(keys: Iterable<ServiceKey>, triggeredAt: Iterable<readonly number[]> = []): void {
    this.#wanted.markDirty(keys)
    for (const times of triggeredAt) this.#triggeredAt.push(...times)
    if (this.#triggeredAt.length > mostTriggers) this.#triggeredAt.splice(mostTriggers)
    if (this.#wanted.isPending) this.#changed()
  }

  /** Everything must be resolved again: the node or the configuration changed. */
  markAll(): void {
    this.#wanted.markAll()
    this.#changed()
  }

  /** The kernel may hold something else than believed. */
  markDoubtful(): void {
    this.#mustCompare = true
    this.#changed()
  }

  /** Somebody may have written to what is ours. Cheap: only noted here. */
  suspect(suspicion: Suspicion): void {
    if (this.#guard.suspect(suspicion)) this.#rouse()
  }

  /** Whether `suspect` is called for each change of what the backend's `watched` names. */
  set isWatched(value: boolean) {
    this.#isWatched = value
  }

  /** Syncs whenever there is something to sync, until the signal or `stop`. Call when the model is complete. */
  async run(signal: AbortSignal): Promise<void> {
    const ended = AbortSignal.any([signal, this.#stop.signal])
    while (!ended.aborted) {
      await this.#sleep(this.#wait(), ended)
      if (ended.aborted) break
      if (this.#guard.dueAt <= this.#options.now()) await this.#queue.add(() => this.#check(ended))
      if (this.#wait() > 0 || ended.aborted) continue
      if (!this.#isPending() && !this.#isComparisonDue()) continue
      await this.sync(ended).catch((error: unknown) => {
        if (!(error instanceof CommitError)) throw error
      })
    }
    await this.#queue.onIdle()
  }

  stop(): void {
    this.#stop.abort()
  }

  /** Resolves after the first successful sync with true, or with false when the signal comes first. */
  untilSynced(signal: AbortSignal): Promise<boolean> {
    if (signal.aborted) return Promise.resolve(false)
    return new Promise(resolve => {
      signal.addEventListener('abort', () => resolve(false), { once: true })
      void this.#firstSync.promise.then(() => resolve(true))
    })
  }

  /** One sync of what is pending. Throws CommitError if the kernel does not hold everything afterwards. */
  sync(signal: AbortSignal): Promise<void> {
    return this.#queue.add(() => this.#sync(signal))
  }

  /** Everything compiled; the kernel is not asked. */
  async compile(): Promise<Program> {
    await this.#wanted.compile()
    return this.program.objects
  }

  /** Compares with the kernel and returns the difference, changing nothing. */
  async difference(signal: AbortSignal): Promise<Delta> {
    await this.#wanted.compile()
    await this.#committer.compare(signal)
    return this.#committer.pending()
  }

  async #sync(signal: AbortSignal): Promise<void> {
    const { observer, family, now, resyncMs } = this.#options
    const start = now()
    // What there is to write does not wait for a comparison that it is merely time for.
    const isFirst = !this.#wanted.isPending || this.#leisure.isOverdue(this.#comparisonDue)
    const isComparisonDue = isFirst && this.#isComparisonDue()
    const triggeredAt: number[] = []
    let services = 0
    const compile = async (): Promise<void> => {
      services += await this.#wanted.compile()
      // Also of changes that came while others were compiled; what comes from now on is the next sync's.
      triggeredAt.push(...this.#takeTriggers())
    }
    let compared = false
    let isWriting = false
    if ((isComparisonDue || this.#mustCompare) && start - this.#lastRetry >= resyncMs) {
      // What the kernel refused then it may take now: a module may have been loaded.
      this.#wanted.retrySetAside()
      this.#lastRetry = start
    }
    try {
      await compile()
      if (isComparisonDue || this.#mustCompare) {
        compared = await this.#compareWithKernel(signal)
        if (!compared) await compile()
      }
      isWriting = true
      const { added, changed, removed } = await this.#committer.commit(compared, signal)
      this.#guard.synced({ compared, wrote: added + changed + removed > 0 })
      this.#isTrusted = true
      this.#failures = 0
      this.#lastError = undefined
      this.#finish(start)
      this.#firstSync.resolve()
      const durationMs = now() - start
      const morePending = this.#isPending()
      const counts = { services, added, changed, removed }
      observer.synced({ family, durationMs, ...counts, compared, triggeredAt, morePending })
    } catch (error) {
      const failure =
        error instanceof CommitError
          ? error
          : new CommitError('transient', `sync failed: ${String(error)}`, { cause: error })
      // What was written is unknown: the next sync asks the kernel.
      this.#mustCompare = true
      // That it could not be read is no reason to take what it lacks next time for our own doing.
      this.#isTrusted &&= !isWriting || failure.kind === 'stale'
      this.#guard.synced({ compared: false, wrote: true })
      this.#triggeredAt.unshift(...triggeredAt)
      this.#failures += failure.kind === 'stale' && this.#failures === 0 ? 0 : 1
      this.#lastError = failure
      this.#finish(start)
      if (!signal.aborted) observer.failed(family, failure, this.#failures, { durationMs: now() - start, compared })
      if (failure.kind === 'stale' && this.#failures === 0) {
        this.#failures = 1
        return this.#sync(signal)
      }
      throw failure
    }
  }

  /** It is time to compare, whether or not there is anything to write. */
  #isComparisonDue(): boolean {
    return this.#leisure.from(this.#comparisonDue) <= this.#options.now()
  }

  #takeTriggers(): number[] {
    const taken = this.#triggeredAt
    this.#triggeredAt = []
    return taken
  }

  /**
   * Takes note of what the kernel holds; what others did to it is told. False if a change came meanwhile, which shall not
   * wait for a comparison that it was merely time for: that is made after it.
   */
  async #compareWithKernel(signal: AbortSignal): Promise<boolean> {
    const { observer, family, now, resyncMs } = this.#options
    const compare = (until: AbortSignal) => this.#committer.compare(until, mostExamples)
    const isInTime = !this.#mustCompare
    // A doubt that comes up meanwhile asks for another.
    this.#mustCompare = false
    const compared = isInTime
      ? await this.#leisure.run(this.#comparisonDue, signal, compare)
      : { value: await compare(signal) }
    if (compared === undefined) return false
    const found = compared.value
    this.#comparisonDue = now() + resyncMs
    if (!this.#isTrusted || found.missing + found.foreign + found.changed === 0) return true
    observer.drift?.(
      family,
      this.#guard.repairing(found, key => this.program.ownersOf(key)),
    )
    return true
  }

  /** Looks whether somebody wrote to what is ours; if so, or if only a comparison can tell, that is what comes next. */
  async #check(signal: AbortSignal): Promise<void> {
    const start = this.#options.now()
    const due = this.#guard.take()
    if (due === undefined) return
    // What is to be compared anyway need not be looked at.
    if (!this.#mustCompare) await this.#look(due, signal)
    if (due.since !== undefined) return
    if (this.#mustCompare) this.#suspectedAt ??= start
    else this.#guard.worked(start)
  }

  async #look(due: Due, signal: AbortSignal): Promise<void> {
    const { backend } = this.#options
    const isRegular = due.since !== undefined
    let found: Finding
    try {
      found = await this.#guard.look(due, backend, this.#isWatched, this.#committer.skeleton, signal)
    } catch (error) {
      if (!(error instanceof CommitError)) throw error
      // That the kernel cannot be asked shows at the next sync; a regular look that fails changes nothing.
      if (isRegular) return
      found = 'unknown'
    }
    if (found === 'whole' || found === 'put off') return
    if (isRegular && found === 'unknown') this.#comparisonDue = Math.min(this.#comparisonDue, this.#options.now())
    else this.#mustCompare = true
  }

  #finish(start: number): void {
    this.#lastEnd = this.#options.now()
    this.#lastDuration = this.#lastEnd - start
    this.#firstChange = this.#lastEnd
    if (this.#suspectedAt !== undefined) this.#guard.worked(this.#suspectedAt)
    this.#suspectedAt = undefined
  }

  #changed(): void {
    this.#leisure.changed()
    this.#options.observer.queued?.(this.#options.family)
    // The first change since the last sync: the settle time counts from here.
    if (this.#wake !== undefined) this.#firstChange = Math.max(this.#firstChange, this.#options.now())
    this.#rouse()
  }

  /** Ends the sleep before a sync that nothing is pending for. */
  #rouse(): void {
    const wake = this.#wake
    this.#wake = undefined
    wake?.()
  }

  #isPending(): boolean {
    return this.#mustCompare || this.#wanted.isPending
  }

  /** Milliseconds until the next sync is due. */
  #wait(): number {
    const { now, pace, random } = this.#options
    const time = now()
    if (!this.#isPending())
      return Math.max(0, Math.min(this.#leisure.from(this.#comparisonDue), this.#guard.dueAt) - time)
    const slow = this.#lastError?.kind === 'denied' || this.#lastError?.kind === 'unsupported'
    const longest = this.#lastError?.patienceMs ?? longestTransientBackoffMs
    const patience = slow
      ? { ...pace, minBackoffMs: pace.maxBackoffMs }
      : { ...pace, maxBackoffMs: Math.min(pace.maxBackoffMs, longest) }
    return waitBeforeSync(patience, {
      now: time,
      firstChange: this.#firstChange,
      lastEnd: this.#lastEnd,
      lastDuration: this.#lastDuration,
      failures: this.#failures,
      jitter: random(),
    })
  }

  /** Sleeps; while nothing is pending, a change ends the sleep. */
  #sleep(ms: number, signal: AbortSignal): Promise<void> {
    if (ms <= 0) return new Promise(next => setImmediate(next))
    return new Promise(done => {
      const finish = () => {
        clearTimeout(timer)
        signal.removeEventListener('abort', finish)
        this.#wake = undefined
        done()
      }
      // Timers hold 31 bits.
      const timer = setTimeout(finish, Math.min(ms, 0x7fffffff))
      signal.addEventListener('abort', finish)
      if (!this.#isPending()) this.#wake = finish
    })
  }
}
