// How often something may be done: buckets of tokens that fill up again by themselves. No timers.

/** So many at once, and one more every so often. */
export interface Rate {
  readonly burst: number
  readonly refillMs: number
}

/** The tokens of one thing. Times are milliseconds of any one clock. */
export class Bucket {
  readonly #rate: Rate
  #tokens: number
  #at: number

  constructor(rate: Rate, now: number) {
    this.#rate = rate
    this.#tokens = rate.burst
    this.#at = now
  }

  /** Takes a token; false if there is none. */
  take(now: number): boolean {
    this.#fill(now)
    if (this.#tokens < 1) return false
    this.#tokens -= 1
    return true
  }

  /** Milliseconds until there is a token. */
  wait(now: number): number {
    this.#fill(now)
    return this.#tokens >= 1 ? 0 : Math.ceil((1 - this.#tokens) * this.#rate.refillMs)
  }

  #fill(now: number): void {
    // A clock that was set back refills nothing, and is the clock from then on.
    const gained = Math.max(0, now - this.#at) / this.#rate.refillMs
    this.#tokens = Math.min(this.#rate.burst, this.#tokens + gained)
    this.#at = now
  }
}

/** A bucket for each of many things; of those that were used longest ago, none is kept beyond `most`. */
export class Buckets {
  readonly #rate: Rate
  readonly #most: number
  readonly #buckets = new Map<string, Bucket>()

  constructor(rate: Rate, most: number) {
    this.#rate = rate
    this.#most = most
  }

  of(key: string, now: number): Bucket {
    const bucket = this.#buckets.get(key) ?? new Bucket(this.#rate, now)
    this.#buckets.delete(key)
    this.#buckets.set(key, bucket)
    evict(this.#buckets, this.#most)
    return bucket
  }
}

/** Drops the oldest entries of a map beyond so many. */
export function evict(map: Map<string, unknown>, most: number): void {
  for (const key of map.keys()) {
    if (map.size <= most) return
    map.delete(key)
  }
}
