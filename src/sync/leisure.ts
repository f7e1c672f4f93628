// Looking at the kernel for no other reason than that it is time to: that waits for a quiet moment, and whatever has a reason
// does not wait for it.

/**
 * The moment is quiet when no change came for so long: about what a look and a comparison take in iptables mode with 10,000
 * Services of 5 endpoints.
 */
const quietMs = 2_000
/** In a cluster that never rests there must be a look now and then, too. */
const longestPutOffMs = 5 * 60_000

/** Knows quiet moments, and runs work that may be put off. Times are in milliseconds. */
export class Leisure {
  readonly #now: () => number
  #lastChange = Number.NEGATIVE_INFINITY
  #stop: AbortController | undefined

  /** `now` never goes back. */
  constructor(now: () => number) {
    this.#now = now
  }

  /** A change came: puts off what is under way. Cheap. */
  changed(): void {
    this.#lastChange = this.#now()
    this.#stop?.abort()
  }

  /** When work that is due at this time may begin, unless changes come until then. */
  from(due: number): number {
    return Math.max(due, Math.min(this.#lastChange + quietMs, due + longestPutOffMs))
  }

  /**
   * Does work that was due at this time; its signal is aborted by `signal`, and by a change unless the work was put off for
   * too long. Returns undefined where it was put off; throws what it throws for any other reason.
   */
  async run<T>(
    due: number,
    signal: AbortSignal,
    work: (signal: AbortSignal) => Promise<T>,
  ): Promise<{ value: T } | undefined> {
    const stop = new AbortController()
    if (this.#now() < due + longestPutOffMs) this.#stop = stop
    try {
      return { value: await work(AbortSignal.any([signal, stop.signal])) }
    } catch (error) {
      if (!stop.signal.aborted || signal.aborted) throw error
      return undefined
    } finally {
      this.#stop = undefined
    }
  }
}
