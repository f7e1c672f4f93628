// Reflector: keeps a consumer in step with one resource of the API server, whatever happens on the way.
import { setTimeout as sleep } from 'node:timers/promises'
import { type Backoff, createBackoff } from './backoff.ts'
import { ErrorEvent, type ErrorKind, errorKind, messageOf, StatusError, StreamError } from './errors.ts'
import type { Patience } from './exchange.ts'
import { metaOf } from './fields.ts'
import { KnownKeys } from './known-keys.ts'
import { createPacer } from './pacer.ts'
import {
  type Consumer,
  type ReflectorOptions,
  type ReflectorState,
  type ReflectorStats,
  type ServerTraits,
  type Settings,
  withDefaults,
} from './reflector-options.ts'
import { type ListFrom, list, type RequestContext, type Resource, type WatchEvent, watch } from './requests.ts'
import type { Connection } from './transport.ts'

/** Long enough not to ask in vain all day, short enough to notice an upgrade. */
const avoidWatchListMs = 30 * 60_000
/** A watch that ends sooner and without an event is a failure, not an end (as in client-go). */
const shortWatchMs = 1_000
/** So that a server that ends every watch after one event is not asked in a tight loop. */
const shortWatchPauseMs = 200
/** A watch that lived this long says that the server was well: its loss is the first failure, not one more. */
const steadyWatchMs = 5_000

/** An exception of the consumer, on its way out through code that survives all others. */
class ConsumerError extends Error {}

/**
 * True if the first version is the lower of two: a cluster restored from a backup, which would send nothing until it has
 * caught up. Versions are decimal numbers (KEP-5504); where they are not, nothing is known.
 */
function isOlder(version: string, than: string): boolean {
  if (!/^[1-9]\d*$/.test(version) || !/^[1-9]\d*$/.test(than)) return false
  return version.length === than.length ? version < than : version.length < than.length
}

/** One resource, one connection at a time. `run` is called once. */
export class Reflector {
  readonly #connection: Connection
  readonly #resource: Resource
  readonly #consumer: Consumer
  readonly #traits: ServerTraits
  readonly #settings: Settings
  readonly #backoff: Backoff
  readonly #known = new KnownKeys()
  readonly #errors: Partial<Record<ErrorKind, number>> = {}
  #state: ReflectorState = 'idle'
  #synced = false
  /** Empty: the next thing to do is a list. */
  #resourceVersion = ''
  /** Last version of the resource ever seen: a list must not be older. */
  #newest = ''
  /** The server could not serve `#newest` (it was restored, or lags): the next list takes what is true now. */
  #listLatest = false
  #listedAt = 0
  #lastEventAt = 0
  #gapSince = 0
  #gapMs = 0
  #lists = 0
  #watches = 0
  #events = 0
  #lastError: string | undefined
  #announced = ''

  constructor(
    connection: Connection,
    resource: Resource,
    consumer: Consumer,
    traits: ServerTraits,
    options: ReflectorOptions = {},
  ) {
    this.#connection = connection
    this.#resource = resource
    this.#consumer = consumer
    this.#traits = traits
    this.#settings = withDefaults(options)
    this.#backoff = createBackoff(this.#settings.backoff)
  }

  /**
   * Lists and watches until the signal says stop; resolves then. Never gives up.
   * @throws only what the consumer throws.
   */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      let wait = 0
      try {
        wait = await this.#step(signal)
      } catch (error) {
        if (error instanceof ConsumerError) throw error.cause
        if (signal.aborted) break
        wait = this.#afterFailure(error)
      }
      this.#gap(true)
      if (wait > 0) await sleep(wait, undefined, { signal }).catch(() => undefined)
    }
    this.#setState('stopped')
  }

  stats(): ReflectorStats {
    const open = this.#gapSince === 0 ? 0 : this.#settings.now() - this.#gapSince
    return {
      state: this.#state,
      synced: this.#synced,
      objects: this.#known.size,
      resourceVersion: this.#newest,
      lastEventAt: this.#lastEventAt,
      lists: this.#lists,
      watches: this.#watches,
      events: this.#events,
      gapMs: this.#gapMs + open,
      errors: { ...this.#errors },
      ...(this.#lastError === undefined ? {} : { lastError: this.#lastError }),
    }
  }

  /** One list or one watch to its end; returns the milliseconds to wait before the next. */
  async #step(signal: AbortSignal): Promise<number> {
    const context: RequestContext = {
      connection: this.#connection,
      resource: this.#resource,
      pacer: createPacer(),
      signal,
      idleMs: this.#settings.idleMs,
    }
    if (this.#resourceVersion !== '' && this.#settings.now() - this.#listedAt > this.#settings.relistMs) {
      this.#resourceVersion = ''
    }
    if (this.#resourceVersion !== '') return this.#watch(context)
    if (this.#traits.avoidWatchListUntil <= this.#settings.now()) return this.#watch(context)
    await this.#list(context)
    return 0
  }

  async #list(context: RequestContext): Promise<void> {
    this.#setState('listing')
    this.#known.beginList()
    const resourceVersion = await list(context, this.#listFrom(), this.#settings.pageSize, item => {
      this.#lastEventAt = this.#settings.now()
      this.#upsert(item)
    })
    this.#completeList(resourceVersion)
  }

  #listFrom(): ListFrom {
    if (this.#listLatest) return 'latest'
    return this.#newest === '' ? 'any' : { notOlderThan: this.#newest }
  }

  /** Goes on from the last version, or, where there is none, begins with everything that exists. */
  async #watch(context: RequestContext): Promise<number> {
    const { now, timeoutSeconds, backoff, idleMs, initialIdleMs } = this.#settings
    const from = this.#resourceVersion
    const [low, high] = timeoutSeconds
    if (from === '') this.#known.beginList()
    const eventsBefore = this.#events
    let opened = 0
    const limits = from === '' ? { ...context, idleMs: initialIdleMs } : context
    const options = {
      ...(from === '' ? {} : { resourceVersion: from }),
      timeoutSeconds: Math.round(low + (high - low) * backoff.random()),
      onOpen: (patience: Patience) => {
        opened = now()
        this.#watches += 1
        this.#lastEventAt = opened
        patience.idleMs = from === '' ? initialIdleMs : idleMs
        this.#setState(from === '' ? 'listing' : 'watching')
        this.#gap(from === '')
      },
    }
    try {
      await watch(limits, options, (event, patience) => this.#event(event, patience))
    } catch (error) {
      if (opened !== 0 && now() - opened > steadyWatchMs) this.#backoff.reset()
      throw this.#resourceVersion === '' ? this.#initialFailure(error, this.#events > eventsBefore) : error
    }
    if (this.#resourceVersion === '') {
      // It ended before its beginning was complete: a server that knows nothing of initial events, or one going down.
      this.#avoidWatchList(this.#events > eventsBefore)
      throw new StreamError('no-initial-events', 'the watch ended before the initial events were complete')
    }
    if (now() - opened >= shortWatchMs) return 0
    if (this.#events > eventsBefore) return shortWatchPauseMs
    throw new StreamError('short-watch', 'the watch ended at once and without an event')
  }

  #event(event: WatchEvent, patience: Patience): void {
    this.#events += 1
    this.#lastEventAt = this.#settings.now()
    switch (event.type) {
      case 'ADDED':
      case 'MODIFIED':
        this.#upsert(event.object)
        break
      case 'DELETED':
        this.#remove(event.object)
        break
      case 'initial-end':
        if (this.#resourceVersion === '') {
          this.#completeList(event.resourceVersion)
          patience.idleMs = this.#settings.idleMs
          this.#setState('watching')
          this.#gap(false)
        }
        break
      case 'BOOKMARK':
        if (isOlder(event.resourceVersion, this.#resourceVersion)) {
          this.#listLatest = true
          throw new StreamError('gone', `the server is at ${event.resourceVersion}, behind ${this.#resourceVersion}`)
        }
        if (this.#resourceVersion === '') {
          this.#avoidWatchList(true)
          throw new StreamError('no-initial-events', 'a bookmark came before the end of the initial events')
        }
        break
    }
    // During the initial events versions come in no order; the first that counts is that of their end.
    if (this.#resourceVersion === '' || event.resourceVersion === '') return
    this.#resourceVersion = event.resourceVersion
    this.#newest = event.resourceVersion
    this.#backoff.reset()
  }

  #completeList(resourceVersion: string): void {
    if (resourceVersion === '') throw new StreamError('bad-frame', 'initial events without a resourceVersion')
    const gone = this.#known.endList()
    this.#consume(() => {
      for (const key of gone) this.#consumer.remove(key)
      if (!this.#synced) this.#consumer.synced()
    })
    this.#synced = true
    this.#lists += 1
    this.#listedAt = this.#settings.now()
    this.#lastEventAt = this.#listedAt
    this.#listLatest = false
    this.#resourceVersion = resourceVersion
    this.#newest = resourceVersion
  }

  #upsert(object: unknown): void {
    const meta = metaOf(object)
    if (meta === undefined) {
      // No API server sends one; a relist would bring it again, and again.
      this.#count('bad-frame')
      return
    }
    this.#known.add(meta.key)
    this.#consume(() => this.#consumer.upsert(meta.key, object))
  }

  #remove(object: unknown): void {
    const meta = metaOf(object)
    if (meta === undefined) throw new StreamError('bad-frame', 'a deleted object without a name')
    this.#known.delete(meta.key)
    this.#consume(() => this.#consumer.remove(meta.key))
  }

  #consume(deliver: () => void): void {
    try {
      deliver()
    } catch (error) {
      throw new ConsumerError('the consumer failed', { cause: error })
    }
  }

  /** What a watch that failed during its initial events says of the server: does it know them at all? */
  #initialFailure(error: unknown, hadEvents: boolean): unknown {
    const refused = error instanceof StatusError && (error.status === 400 || error.status === 422)
    if (refused) {
      this.#avoidWatchList(true)
      return new StreamError('no-initial-events', messageOf(error), { cause: error })
    }
    if (error instanceof StreamError && error.kind === 'idle') this.#avoidWatchList(hadEvents)
    return error
  }

  /** Certain: for half an hour and for all reflectors. Else a dead connection looks the same: for the next list only. */
  #avoidWatchList(certain: boolean): void {
    const now = this.#settings.now()
    const until = now + (certain ? avoidWatchListMs : this.#settings.initialIdleMs)
    this.#traits.avoidWatchListUntil = Math.max(this.#traits.avoidWatchListUntil, until)
  }

  /** Decides what a failure means; returns the milliseconds to wait. */
  #afterFailure(error: unknown): number {
    const kind = errorKind(error)
    this.#count(kind)
    this.#known.abandonList()
    const status = error instanceof StatusError ? error : undefined
    if (this.#settings.optional && (status?.status === 404 || status?.status === 403)) return this.#absent(status)
    // Nothing is wrong with a server that has no initial events: the list follows at once.
    if (kind === 'no-initial-events') return 0
    if (this.#resourceVersion === '' && (kind === 'gone' || status?.status === 504)) this.#listLatest = true
    const mustList = kind === 'gone' || kind === 'error-event' || kind === 'bad-frame' || status?.status === 400
    if (mustList) this.#resourceVersion = ''
    this.#lastError = messageOf(error)
    this.#setState('waiting', kind, this.#lastError)
    // The silence was wait enough: a quiet resource must not be unwatched half the time (client-node 2.0.0).
    if (kind === 'idle') return 0
    const wait = this.#backoff.next(error instanceof ErrorEvent ? error.retryAfterMs : status?.retryAfterMs)
    return kind === 'gone' ? Math.max(wait, this.#settings.goneJitterMs * this.#settings.backoff.random()) : wait
  }

  #absent(status: StatusError): number {
    this.#resourceVersion = ''
    if (status.status === 404) {
      this.#newest = ''
      this.#known.beginList()
      for (const key of this.#known.endList()) this.#consumer.remove(key)
    }
    if (!this.#synced) this.#consumer.synced()
    this.#synced = true
    this.#setState('absent', String(status.status), status.message)
    return this.#settings.absentMs * (0.5 + this.#settings.backoff.random() / 2)
  }

  #count(kind: ErrorKind): void {
    this.#errors[kind] = (this.#errors[kind] ?? 0) + 1
  }

  #gap(isOpen: boolean): void {
    const now = this.#settings.now()
    if (this.#gapSince !== 0) this.#gapMs += now - this.#gapSince
    this.#gapSince = isOpen && this.#synced ? now : 0
  }

  #setState(state: ReflectorState, cause = '', why = ''): void {
    this.#state = state
    if (state === 'watching') this.#lastError = undefined
    // Only the turns from well to failing and back are news, not every attempt in between.
    if (state !== 'watching' && state !== 'waiting' && state !== 'absent') return
    if (this.#announced === state + cause) return
    this.#announced = state + cause
    this.#settings.onState?.(state, why)
  }
}
