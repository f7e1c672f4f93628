// Looking at the kernel for no other reason than that it is time to: whatever has a reason need not wait for it.

/** So often in a row at most: in a cluster that never rests there must be a look now and then, too. */
const mostInterruptions = 5

/** Runs work that may be put off. */
export class Interruptible {
  #stop: AbortController | undefined
  #interruptions = 0

  /** Puts off what is under way. Cheap. */
  interrupt(): void {
    this.#stop?.abort()
  }

  /**
   * Does the work, whose signal is aborted by `signal` or an interruption. Returns undefined where it was put off; throws
   * what it throws for any other reason.
   */
  async run<T>(signal: AbortSignal, work: (signal: AbortSignal) => Promise<T>): Promise<{ value: T } | undefined> {
    const stop = new AbortController()
    if (this.#interruptions < mostInterruptions) this.#stop = stop
    try {
      const value = await work(AbortSignal.any([signal, stop.signal]))
      this.#interruptions = 0
      return { value }
    } catch (error) {
      if (!stop.signal.aborted || signal.aborted) throw error
      this.#interruptions++
      return undefined
    } finally {
      this.#stop = undefined
    }
  }
}
