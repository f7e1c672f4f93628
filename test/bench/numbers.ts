// Arithmetic on samples.

/**
 * The nearest-rank percentile: the smallest sample that at least `share` (0 to 1) of all samples do not exceed. NaN without
 * samples. Of fewer than 100 samples the 0.99 one is their maximum.
 */
export function percentile(samples: readonly number[], share: number): number {
  const sorted = [...samples].sort((a, b) => a - b)
  const rank = Math.ceil(share * sorted.length)
  return sorted[Math.min(sorted.length, Math.max(1, rank)) - 1] ?? Number.NaN
}

/** The median, by nearest rank. NaN without samples. */
export const median = (samples: readonly number[]): number => percentile(samples, 0.5)

/** `count` whole numbers spread evenly over 0 … size − 1, each in the middle of its part. Fewer if there are not so many. */
export function spread(count: number, size: number): number[] {
  const parts = Math.min(count, size)
  return Array.from({ length: parts }, (_, part) => Math.floor(((part + 0.5) * size) / parts))
}
