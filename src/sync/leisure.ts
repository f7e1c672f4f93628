// Looking at the kernel for no other reason than that it is time to: that waits for a quiet moment, and whatever has a reason
// does not wait for it.

/**
 * The moment is quiet when no change came for so long: about what a look and a comparison take in iptables mode with 10,000
 * Services of 5 endpoints.
 */
const quietMs = 2_000
/**
 * In a cluster that never rests there must be a look now and then, too; changes wait for it then. The longer it takes the rarer
 * that is: a thousandth of the time, as long as it is at least hourly.
 */
const shortestPutOffMs = 5 * 60_000
const longestPutOffMs = 60 * 60_000
const putOffPerWork = 1_000

/** Knows quiet moments, and runs work that may be put off. Times are in milliseconds. */
export class Leisure {
  readonly #now: () => number
  #lastChange = Number.NEGATIVE_INFINITY
  #stop: AbortController | undefined
  /** How long the last work took, or had taken when it was put off. */
  #took = 0

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
    return Math.max(due, Math.min(this.#lastChange + quietMs, due + this.#patience))
  }

  /** True if work that was due at this time was put off for so long that changes wait for it. */
  isOverdue(due: number): boolean {
    return this.#now() >= due + this.#patience
  }

  get #patience(): number {
    return Math.min(Math.max(shortestPutOffMs, this.#took * putOffPerWork), longestPutOffMs)
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
    if (!this.isOverdue(due)) this.#stop = stop
    const start = this.#now()
    try {
      const value = await work(AbortSignal.any([signal, stop.signal]))
      this.#took = this.#now() - start
      return { value }
    } catch (error) {
      if (!stop.signal.aborted || signal.aborted) throw error
      this.#took = Math.max(this.#took, this.#now() - start)
      return undefined
    } finally {
      this.#stop = undefined
    }
  }
}
