// When the next sync may start. Pure.

export interface Pace {
  /** A set minSyncPeriod is honoured; undefined waits as long as is good for the node. Milliseconds. */
  readonly minSyncPeriodMs?: number
  /** The time between a failure and the next try grows from here to `maxBackoffMs`. */
  readonly minBackoffMs: number
  readonly maxBackoffMs: number
}

/**
 * An EndpointSlice follows its Service, and both families' slices each other, within a few milliseconds. To wait longer for
 * them than the last sync took costs more than to sync twice.
 */
const longestSettleMs = 5
/** However long the syncs take, a change never waits longer than this for the one before to be digested. */
const longestRestMs = 1_000

export interface Situation {
  readonly now: number
  /** When the oldest change that is not in the kernel came. */
  readonly firstChange: number
  readonly lastEnd: number
  readonly lastDuration: number
  /** Failures in a row; 0 after a success. */
  readonly failures: number
  /** In [0, 1): spreads the retries of many nodes. */
  readonly jitter: number
}

/**
 * Milliseconds to wait before the next sync. Without minSyncPeriod: an isolated change goes at once, or where syncs take
 * long after a few milliseconds; and in a storm a sync is followed by a rest as long as it took, so that at most half of
 * the node's time goes into syncing.
 */
export function waitBeforeSync(pace: Pace, situation: Situation): number {
  const { now, firstChange, lastEnd, lastDuration, failures, jitter } = situation
  if (failures > 0) {
    const backoff = Math.min(pace.minBackoffMs * 2 ** Math.min(failures - 1, 20), pace.maxBackoffMs)
    return Math.max(0, lastEnd + backoff * (0.75 + jitter / 2) - now)
  }
  const rest = pace.minSyncPeriodMs ?? Math.min(lastDuration, longestRestMs)
  const settle = Math.min(lastDuration, longestSettleMs)
  return Math.max(0, firstChange + settle - now, lastEnd + rest - now)
}
