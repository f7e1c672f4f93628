// Keeps one address family's kernel rules equal to the model: takes dirty Services, resolves and compiles them, and
// commits the difference. One syncer and one backend a family: what breaks one leaves the other alone.
import PQueue from 'p-queue'
import { type Backend, CommitError, type Delta, type Program } from '../backend/backend.ts'
import type { EndpointSliceRecord, ServiceKey, ServiceRecord } from '../model/records.ts'
import type { Family } from '../net/ip.ts'
import type { Claims } from '../policy/claims.ts'
import type { Network } from '../policy/network.ts'
import type { NodeView } from '../policy/node-view.ts'
import { resolve } from '../policy/resolve.ts'
import type { ServicePort } from '../policy/service-port.ts'
import { type Pace, waitBeforeSync } from './pace.ts'
import { DesiredProgram } from './program.ts'

/** What the syncer reads of the store. */
export interface ServiceReader {
  service(key: ServiceKey): ServiceRecord | undefined
  slices(key: ServiceKey): Iterable<EndpointSliceRecord>
  keys(): Iterable<ServiceKey>
}

export interface SyncReport {
  readonly family: Family
  readonly durationMs: number
  /** Services resolved. */
  readonly services: number
  readonly added: number
  readonly changed: number
  readonly removed: number
  /** The kernel was read and compared. */
  readonly compared: boolean
}

/** A Service port that the kernel refuses: the rest goes on without it, and what it had before stays. */
export interface SetAside {
  readonly family: Family
  readonly service: ServiceKey
  readonly servicePort: string
  readonly reason: string
}

/** Two Services want one address and port: the older has it. */
export interface Conflict {
  readonly family: Family
  readonly service: ServiceKey
  readonly frontend: string
  readonly holder: ServiceKey
}

/** Told of what happens; must not throw. */
export interface SyncObserver {
  synced(report: SyncReport): void
  failed(family: Family, error: CommitError, retries: number): void
  setAside(item: SetAside): void
  conflict(item: Conflict): void
}

export interface SyncerOptions {
  readonly family: Family
  readonly backend: Backend
  readonly reader: ServiceReader
  readonly claims: Claims
  readonly node: () => NodeView
  readonly network: () => Network
  readonly pace: Pace
  /** Time between full comparisons with the kernel, milliseconds. */
  readonly resyncMs: number
  readonly observer: SyncObserver
  /** Milliseconds of a clock that never goes back. */
  readonly now: () => number
  readonly random: () => number
}

/** Owner of what is needed whatever the Services are. */
const skeletonOwner = '(skeleton)'
/** A full pass gives the event loop a turn at least this often. */
const sliceMs = 10

export class Syncer {
  readonly #options: SyncerOptions
  readonly #program: DesiredProgram
  readonly #dirty = new Set<ServiceKey>()
  /** Owners (Service ports) of each Service that has any. */
  readonly #ports = new Map<ServiceKey, readonly string[]>()
  /** Objects that owners had before changes that are not committed yet. */
  readonly #uncommitted = new Map<string, readonly { key: string; value: string }[]>()
  readonly #setAside = new Map<string, SetAside>()
  /** One writer at a time. */
  readonly #queue = new PQueue({ concurrency: 1 })
  readonly #stop = new AbortController()
  #all = true
  #compare = true
  #lastCompare = 0
  #firstChange: number
  #lastEnd: number
  #lastDuration = 0
  #failures = 0
  #lastError: CommitError | undefined
  #wake: (() => void) | undefined
  readonly #firstSync = Promise.withResolvers<void>()

  constructor(options: SyncerOptions) {
    this.#options = options
    this.#program = new DesiredProgram(options.backend.layout?.())
    this.#firstChange = options.now()
    this.#lastEnd = Number.NEGATIVE_INFINITY
  }

  get program(): DesiredProgram {
    return this.#program
  }

  get setAsides(): readonly SetAside[] {
    return [...this.#setAside.values()]
  }

  /** The last failure, until a sync succeeds. */
  get lastError(): CommitError | undefined {
    return this.#lastError
  }

  /** Services that changed. Cheap: only noted here. */
  markDirty(keys: Iterable<ServiceKey>): void {
    for (const key of keys) this.#dirty.add(key)
    if (this.#dirty.size > 0) this.#changed()
  }

  /** Everything must be resolved again: the node or the configuration changed. */
  markAll(): void {
    this.#all = true
    this.#changed()
  }

  /** The kernel may hold something else than believed. */
  markDoubtful(): void {
    this.#compare = true
    this.#changed()
  }

  /** Syncs whenever there is something to sync, until the signal or `stop`. Call when the model is complete. */
  async run(signal: AbortSignal): Promise<void> {
    const ended = AbortSignal.any([signal, this.#stop.signal])
    while (!ended.aborted) {
      await this.#sleep(this.#wait(), ended)
      if (ended.aborted) break
      if (this.#wait() > 0) continue
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
    await this.#compilePending()
    return this.#program.objects
  }

  /** Compares with the kernel and returns the difference, changing nothing. */
  async difference(signal: AbortSignal): Promise<Delta> {
    await this.#compilePending()
    this.#program.rebase(await this.#options.backend.read(signal))
    return this.#program.pending()
  }

  async #sync(signal: AbortSignal): Promise<void> {
    const { backend, observer, family, now } = this.#options
    const start = now()
    const resync = start - this.#lastCompare >= this.#options.resyncMs
    const compared = this.#compare || resync
    // What the kernel refused then it may take now: a module may have been loaded.
    if (resync) for (const { service } of this.#setAside.values()) this.#dirty.add(service)
    try {
      const services = await this.#compilePending()
      if (compared) {
        this.#program.rebase(await backend.read(signal))
        this.#compare = false
        this.#lastCompare = now()
      }
      const { added, changed, removed } = await this.#commitOrIsolate([...this.#uncommitted.keys()], signal)
      this.#uncommitted.clear()
      this.#failures = 0
      this.#lastError = undefined
      this.#finish(start)
      this.#firstSync.resolve()
      observer.synced({ family, durationMs: now() - start, services, added, changed, removed, compared })
    } catch (error) {
      const failure =
        error instanceof CommitError
          ? error
          : new CommitError('transient', `sync failed: ${String(error)}`, { cause: error })
      // What was written is unknown: the next sync asks the kernel.
      this.#compare = true
      this.#failures += failure.kind === 'stale' && this.#failures === 0 ? 0 : 1
      this.#lastError = failure
      this.#finish(start)
      if (!signal.aborted) observer.failed(family, failure, this.#failures)
      if (failure.kind === 'stale' && this.#failures === 0) {
        this.#failures = 1
        return this.#sync(signal)
      }
      throw failure
    }
  }

  #finish(start: number): void {
    this.#lastEnd = this.#options.now()
    this.#lastDuration = this.#lastEnd - start
    this.#firstChange = this.#lastEnd
  }

  /** Resolves and compiles what is dirty. Returns how many Services that were. */
  async #compilePending(): Promise<number> {
    const { reader, now } = this.#options
    if (this.#all) {
      this.#all = false
      this.#replace(skeletonOwner, this.#options.backend.skeleton(this.#options.network()))
      for (const key of reader.keys()) this.#dirty.add(key)
      for (const key of this.#ports.keys()) this.#dirty.add(key)
    }
    let count = 0
    let sliceEnd = now() + sliceMs
    // Keys added on the way, such as Services whose address became free, are visited too.
    for (const key of this.#dirty) {
      this.#dirty.delete(key)
      try {
        this.#compileService(key)
      } catch (error) {
        // A Service that cannot be compiled keeps what it has; the others go on.
        this.#putAside(this.#ports.get(key)?.[0] ?? key, `cannot be compiled: ${String(error)}`)
      }
      count++
      if (now() > sliceEnd) {
        await new Promise(next => setImmediate(next))
        sliceEnd = now() + sliceMs
      }
    }
    return count
  }

  #compileService(key: ServiceKey): void {
    const { reader, claims, backend, family } = this.#options
    const network = this.#options.network()
    const granted = this.#resolve(key, reader.service(key), claims, family)
    const owners: string[] = []
    for (const port of granted) {
      const owner = `${port.name}/${port.protocol}`
      owners.push(owner)
      this.#replace(owner, backend.compile(port, network))
      this.#setAside.delete(owner)
    }
    for (const owner of this.#ports.get(key) ?? []) {
      if (owners.includes(owner)) continue
      this.#replace(owner, [])
      this.#setAside.delete(owner)
    }
    if (owners.length === 0) this.#ports.delete(key)
    else this.#ports.set(key, owners)
  }

  #resolve(
    key: ServiceKey,
    service: ServiceRecord | undefined,
    claims: Claims,
    family: Family,
  ): readonly ServicePort[] {
    if (service === undefined) {
      for (const other of claims.release(key)) this.#dirty.add(other)
      return []
    }
    const ports = resolve(service, this.#options.reader.slices(key), this.#options.node(), family)
    const result = claims.claim(key, service.createdAt, ports)
    for (const other of result.alsoDirty) this.#dirty.add(other)
    for (const { frontend, protocol, holder } of result.lost) {
      const where = frontend.address === 'node-ports' ? 'node port ' : `${frontend.address} port `
      this.#options.observer.conflict({
        family,
        service: key,
        frontend: `${where}${frontend.port}/${protocol}`,
        holder,
      })
    }
    return result.granted
  }

  #replace(owner: string, objects: Iterable<{ key: string; value: string }>): void {
    if (!this.#uncommitted.has(owner)) this.#uncommitted.set(owner, this.#program.objectsOf(owner))
    this.#program.replace(owner, objects)
  }

  async #commitPending(signal: AbortSignal): Promise<{ added: number; changed: number; removed: number }> {
    const { backend } = this.#options
    const delta = this.#program.pending()
    const counts = { added: delta.added.length, changed: delta.changed.length, removed: delta.removed.length }
    if (counts.added + counts.changed + counts.removed > 0) {
      await backend.commit(backend.plan(delta, this.#program.objects), signal)
    }
    this.#program.settle()
    return counts
  }

  /**
   * Commits; if the kernel refuses an object, finds the owner at fault, puts back what it had, and commits the rest. Where
   * the kernel does not say which object it was, halves the candidates until one is left.
   */
  async #commitOrIsolate(
    candidates: readonly string[],
    signal: AbortSignal,
  ): Promise<{ added: number; changed: number; removed: number }> {
    try {
      return await this.#commitPending(signal)
    } catch (error) {
      if (!(error instanceof CommitError) || error.kind !== 'refused') throw error
      const suspects = candidates.filter(owner => owner !== skeletonOwner)
      const named = new Set(error.keys.flatMap(key => this.#program.ownersOf(key)))
      const guilty = suspects.filter(owner => named.has(owner))
      const [only] = suspects
      if (guilty.length === 0 && suspects.length === 1 && only !== undefined) guilty.push(only)
      if (guilty.length > 0) {
        for (const owner of guilty) this.#putAside(owner, error.message)
        await this.#rebase(signal)
        return this.#commitOrIsolate(
          suspects.filter(owner => !guilty.includes(owner)),
          signal,
        )
      }
      if (suspects.length === 0) throw error

      const wanted = suspects.map(owner => ({ owner, objects: this.#program.objectsOf(owner) }))
      for (const { owner } of wanted) this.#putBack(owner)
      await this.#rebase(signal)
      const total = await this.#commitOrIsolate([], signal)
      const middle = wanted.length >> 1
      for (const half of [wanted.slice(0, middle), wanted.slice(middle)]) {
        for (const { owner, objects } of half) this.#program.replace(owner, objects)
        const part = await this.#commitOrIsolate(
          half.map(({ owner }) => owner),
          signal,
        )
        total.added += part.added
        total.changed += part.changed
        total.removed += part.removed
      }
      return total
    }
  }

  #putBack(owner: string): void {
    this.#program.replace(owner, this.#uncommitted.get(owner) ?? [])
  }

  #putAside(owner: string, reason: string): void {
    this.#putBack(owner)
    const service = [...this.#ports].find(([, owners]) => owners.includes(owner))?.[0] ?? owner
    const item: SetAside = { family: this.#options.family, service, servicePort: owner, reason }
    this.#setAside.set(owner, item)
    this.#options.observer.setAside(item)
  }

  async #rebase(signal: AbortSignal): Promise<void> {
    this.#program.rebase(await this.#options.backend.read(signal))
  }

  #changed(): void {
    if (this.#wake !== undefined) {
      // The first change since the last sync: the settle time counts from here.
      this.#firstChange = Math.max(this.#firstChange, this.#options.now())
      const wake = this.#wake
      this.#wake = undefined
      wake()
    }
  }

  #isPending(): boolean {
    return this.#all || this.#compare || this.#dirty.size > 0
  }

  /** Milliseconds until the next sync is due. */
  #wait(): number {
    const { now, pace, resyncMs, random } = this.#options
    const time = now()
    if (!this.#isPending()) return Math.max(0, this.#lastCompare + resyncMs - time)
    const slow = this.#lastError?.kind === 'denied' || this.#lastError?.kind === 'unsupported'
    return waitBeforeSync(slow ? { ...pace, minBackoffMs: pace.maxBackoffMs } : pace, {
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
