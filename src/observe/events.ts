// Records Kubernetes events without ever holding up or failing those who record: repeats become a series, floods are cut,
// and while the API server is away what cannot wait is dropped and counted.
import type { EventInput } from './events-known.ts'
import { Bucket, Buckets, evict } from './events-limits.ts'
import { collectionPath, eventObject, nameOf, type Reporter, type SeriesFacts, seriesPatch } from './events-objects.ts'
import type { EventCounts } from './metrics-readings.ts'

/** Sends a body to the API; rejects when there is no answer. `createEventWriter` of `api/` makes one. */
export type EventWriter = (
  method: 'POST' | 'PATCH',
  path: string,
  body: unknown,
  signal: AbortSignal,
) => Promise<{ readonly status: number; readonly retryAfterMs?: number }>

export interface RecorderOptions {
  readonly write: EventWriter
  readonly nodeName: string
  /** Told when an event is given up, and why: for the log. */
  readonly onLost?: (input: EventInput, why: string) => void
  /** Milliseconds since the epoch. */
  readonly now?: () => number
}

export interface EventRecorder {
  /** Takes an event. Returns at once and never throws. */
  record(input: EventInput): void
  counts(): EventCounts
  /** Resolves when nothing waits to be written. */
  idle(): Promise<void>
  /** Gives up what waits, and the request under way; nothing is recorded from then on. */
  stop(): void
}

/** Recorded again within this time, an event is the same one: client-go's. */
const sameWithinMs = 6 * 60_000
/** A series is written when it begins, and then at most this often; client-go's is half an hour, too long to watch. */
const seriesEveryMs = 60_000
/** Of one object: as client-go's spam filter. */
const perObject = { burst: 25, refillMs: 300_000 }
/** Of one node: what every node sees at the same moment must not drown the API server. */
const perNode = { burst: 50, refillMs: 1_000 }
const mostWaiting = 1_000
const mostRemembered = 2_000
const attempts = 6
const firstRetryMs = 1_000
/** A server that asks for longer is asked again after this. */
const longestRetryMs = 60_000

/** An event that was recorded lately. */
interface Remembered {
  readonly input: EventInput
  readonly path: string
  readonly firstAt: number
  name: string
  count: number
  lastAt: number
  /** Times that the API knows of; 0 until it has the event. */
  writtenCount: number
  /** When the count may be written again. */
  writeAt: number
  isWaiting: boolean
}

/** Makes a recorder. It runs no timers while there is nothing to write. */
export function createEventRecorder(options: RecorderOptions): EventRecorder {
  return new Recorder(options)
}

class Recorder implements EventRecorder {
  readonly #write: EventWriter
  readonly #reporter: Reporter
  readonly #onLost: (input: EventInput, why: string) => void
  readonly #now: () => number
  readonly #remembered = new Map<string, Remembered>()
  readonly #buckets = new Buckets(perObject, mostRemembered)
  readonly #node: Bucket
  readonly #queue: Remembered[] = []
  readonly #stop = new AbortController()
  readonly #counts = { written: 0, merged: 0, refused: 0, dropped: 0 }
  #writing: Promise<void> | undefined
  #timer: NodeJS.Timeout | undefined
  #timerAt = Number.POSITIVE_INFINITY
  #number = 0n

  constructor({ write, nodeName, onLost = () => undefined, now = Date.now }: RecorderOptions) {
    this.#write = write
    this.#reporter = { controller: 'kube-penstock', instance: `kube-penstock-${nodeName}` }
    this.#onLost = onLost
    this.#now = now
    this.#node = new Bucket(perNode, now())
  }

  record(input: EventInput): void {
    if (this.#stop.signal.aborted) return
    const now = this.#now()
    const key = keyOf(input)
    const known = this.#remembered.get(key)
    if (known !== undefined && now - known.lastAt < sameWithinMs) {
      known.count += 1
      known.lastAt = now
      // Moved to the end: what is still going on is forgotten last.
      this.#remembered.delete(key)
      this.#remembered.set(key, known)
      this.#counts.merged += 1
      this.#schedule(known)
      return
    }
    this.#recordNew(key, input, now)
  }

  counts(): EventCounts {
    return { ...this.#counts }
  }

  async idle(): Promise<void> {
    while (this.#writing !== undefined) await this.#writing
  }

  stop(): void {
    this.#stop.abort(new Error('the recorder is stopped'))
    clearTimeout(this.#timer)
    this.#queue.length = 0
  }

  #recordNew(key: string, input: EventInput, now: number): void {
    const hasRoom = this.#queue.length < mostWaiting
    if (!hasRoom || !this.#bucketOf(input).take(now)) {
      this.#counts.dropped += 1
      this.#onLost(input, hasRoom ? 'too many events of this object' : `${mostWaiting} events wait already`)
      return
    }
    const path = collectionPath(input)
    const event: Remembered = {
      input,
      path,
      firstAt: now,
      name: this.#nextName(input),
      count: 1,
      lastAt: now,
      writtenCount: 0,
      writeAt: now,
      isWaiting: false,
    }
    this.#remembered.delete(key)
    this.#remembered.set(key, event)
    evict(this.#remembered, mostRemembered)
    this.#enqueue(event)
  }

  #bucketOf({ regarding: { kind, namespace = '', name } }: EventInput): Bucket {
    return this.#buckets.of(`${kind} ${namespace}/${name}`, this.#now())
  }

  /** Starts from the clock in nanoseconds, so that a restarted program does not use a name again. */
  #nextName(input: EventInput): string {
    const clock = BigInt(Math.trunc(this.#now())) * 1_000_000n
    this.#number = clock > this.#number ? clock : this.#number + 1n
    return nameOf(input, this.#number)
  }

  /** Sees to it that a count which grew is written, now or when its time comes. */
  #schedule(event: Remembered): void {
    if (event.isWaiting || this.#stop.signal.aborted) return
    if (this.#now() >= event.writeAt && this.#takeFor(event)) this.#enqueue(event)
    else this.#arm(event.writeAt)
  }

  /** One timer for all series, at the first time that one of them is due. */
  #arm(at: number): void {
    if (at >= this.#timerAt) return
    clearTimeout(this.#timer)
    this.#timerAt = at
    this.#timer = setTimeout(() => this.#writeDue(), Math.max(1, at - this.#now())).unref()
  }

  #writeDue(): void {
    this.#timerAt = Number.POSITIVE_INFINITY
    for (const event of this.#remembered.values()) if (isBehind(event)) this.#schedule(event)
  }

  /** A token for one more write about the object; without one it is tried again when there will be one. */
  #takeFor(event: Remembered): boolean {
    const now = this.#now()
    const bucket = this.#bucketOf(event.input)
    if (this.#queue.length < mostWaiting && bucket.take(now)) return true
    event.writeAt = now + Math.max(bucket.wait(now), seriesEveryMs)
    return false
  }

  #enqueue(event: Remembered): void {
    event.isWaiting = true
    this.#queue.push(event)
    this.#writing ??= this.#drain().finally(() => {
      this.#writing = undefined
    })
  }

  async #drain(): Promise<void> {
    // Those who record go on first.
    await Promise.resolve()
    const { signal } = this.#stop
    for (let event = this.#queue[0]; event !== undefined && !signal.aborted; event = this.#queue[0]) {
      for (let wait = this.#node.wait(this.#now()); wait > 0; wait = this.#node.wait(this.#now())) {
        await sleepUntilAborted(wait, signal)
        if (signal.aborted) return
      }
      this.#node.take(this.#now())
      await this.#deliver(event)
      this.#queue.shift()
      event.isWaiting = false
      event.writeAt = this.#now() + (event.writtenCount <= 1 ? 0 : seriesEveryMs)
      // It may have happened again meanwhile.
      if (isBehind(event)) this.#schedule(event)
    }
  }

  /** Writes one event, trying again while that may help. */
  async #deliver(event: Remembered): Promise<void> {
    const { signal } = this.#stop
    for (let attempt = 1; ; attempt++) {
      const facts: SeriesFacts = { count: event.count, lastAt: event.lastAt }
      const answer = await this.#send(event, facts)
      if (signal.aborted) return
      const { status } = answer
      if (status === 404 && event.writtenCount > 0) {
        // Expired in the API: the series goes on in a new object.
        event.writtenCount = 0
        event.name = this.#nextName(event.input)
        continue
      }
      // 409 on creation: an attempt whose answer was lost had arrived.
      if ((status >= 200 && status < 300) || (status === 409 && event.writtenCount === 0)) {
        event.writtenCount = facts.count
        this.#counts.written += 1
        return
      }
      const passes = status === 0 || status === 429 || status >= 500
      if (!passes) return this.#fail(event, 'refused', `the API server answered ${status}`)
      if (attempt === attempts) return this.#fail(event, 'dropped', 'the API server is away')
      const wait = Math.max(answer.retryAfterMs ?? 0, firstRetryMs * 2 ** (attempt - 1))
      await sleepUntilAborted(Math.min(wait, longestRetryMs), signal)
      if (signal.aborted) return
    }
  }

  async #send(event: Remembered, facts: SeriesFacts): Promise<{ status: number; retryAfterMs?: number }> {
    const { input, path, name, firstAt } = event
    try {
      if (event.writtenCount > 0) {
        const target = `${path}/${encodeURIComponent(name)}`
        return await this.#write('PATCH', target, seriesPatch(facts), this.#stop.signal)
      }
      const series = facts.count > 1 ? facts : undefined
      return await this.#write(
        'POST',
        path,
        eventObject(input, name, firstAt, this.#reporter, series),
        this.#stop.signal,
      )
    } catch {
      return { status: 0 }
    }
  }

  /** What was not written counts as known, so that it is not tried for ever; the next occurrence tries anew. */
  #fail(event: Remembered, outcome: 'refused' | 'dropped', why: string): void {
    if (event.writtenCount === 0) this.#remembered.delete(keyOf(event.input))
    else event.writtenCount = event.count
    this.#counts[outcome] += 1
    this.#onLost(event.input, why)
  }
}

/** It happened more often than the API knows, and is not on its way there. */
const isBehind = ({ isWaiting, count, writtenCount }: Remembered): boolean =>
  !isWaiting && writtenCount > 0 && count > writtenCount

const keyOf = ({ regarding, type, reason, action, note }: EventInput): string =>
  JSON.stringify([regarding.kind, regarding.namespace, regarding.name, regarding.uid, type, reason, action, note])

function sleepUntilAborted(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise(resolve => {
    const done = () => {
      clearTimeout(timer)
      signal.removeEventListener('abort', done)
      resolve()
    }
    const timer = setTimeout(done, ms).unref()
    signal.addEventListener('abort', done, { once: true })
  })
}
