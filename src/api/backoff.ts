// How long to wait before the next attempt. It never gives up, and never grows past a few seconds.

export interface BackoffOptions {
  /** Milliseconds of the first wait, before jitter. */
  readonly baseMs: number
  /** Milliseconds that a wait never exceeds, Retry-After aside. */
  readonly capMs: number
  readonly random: () => number
}

/** With 4 s, and 4 s to connect, a client is in step within 10 s of the API's return; kube-proxy took 22 s, measured. */
export const defaultBackoff: BackoffOptions = { baseMs: 400, capMs: 4_000, random: Math.random }

/** A server that asks for longer than this is not believed. */
const retryAfterCapMs = 120_000

export interface Backoff {
  /** Milliseconds to wait before the next attempt; longer with every call until `reset`. */
  next(retryAfterMs?: number): number
  reset(): void
}

/** Exponential, with the upper half random: many nodes that lost one server do not come back in the same instant. */
export function createBackoff(options: BackoffOptions): Backoff {
  let failures = 0
  return {
    next(retryAfterMs = 0) {
      const ceiling = Math.min(options.capMs, options.baseMs * 2 ** Math.min(failures, 16))
      failures += 1
      const wait = ceiling * (0.5 + options.random() / 2)
      if (retryAfterMs <= 0) return wait
      // Never earlier than asked, and not all at the same moment after it.
      return Math.max(wait, Math.min(retryAfterMs, retryAfterCapMs) + options.random() * options.baseMs)
    },
    reset() {
      failures = 0
    },
  }
}
