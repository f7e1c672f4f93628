// What is made of what was seen: whether a fault explains it, and whether memory stays level. Pure.
import type { Moment, Reading } from './scraper-worker.ts'

/** A time in which something was broken on purpose; milliseconds since the epoch. */
export interface Window {
  readonly from: number
  /** Undefined while it lasts. */
  to?: number
}

/** Moments that lie in no window, nor within so many milliseconds after one. */
export const unexplained = (moments: readonly Moment[], windows: readonly Window[], graceMs: number): Moment[] =>
  moments.filter(({ at }) => !windows.some(({ from, to }) => at >= from && (to === undefined || at <= to + graceMs)))

/** Shorter lives tell nothing: the compiler is at work yet, and the heap has not found its size. Milliseconds. */
const shortestLifeMs = 20_000
/** From here on a line through the readings says more than two medians. Milliseconds. */
const longLifeMs = 300_000

/**
 * How much more memory a process may hold at the end of its life than after it has warmed up. Node lets the heap grow and
 * shrink by some 10 MB between collections with the same objects in it, and is not done warming up within a minute. It bounds
 * the sum, not the rate: what leaks at all outgrows it if only the soak is long enough; in a night of eight hours that is 2 MB
 * an hour.
 */
export const mostGrowthBytes = (lastedMs: number): number => (lastedMs < longLifeMs ? 25_000_000 : 15_000_000)

export interface Growth {
  readonly readings: number
  readonly lastedMs: number
  readonly residentBytes: number
  /** What it grew by after it had warmed up; undefined where the life was too short to tell. */
  readonly grownBytes: number | undefined
}

/** The growth of each process, oldest first. */
export function growthOf(readings: readonly Reading[]): Growth[] {
  const lives = Map.groupBy(readings, ({ life }) => life)
  return [...lives.values()].map(life => {
    const lastedMs = (life.at(-1)?.at ?? 0) - (life[0]?.at ?? 0)
    const residentBytes = life.at(-1)?.residentBytes ?? 0
    const grownBytes =
      lastedMs < shortestLifeMs ? undefined : lastedMs < longLifeMs ? betweenQuarters(life) : alongLine(life)
    return { readings: life.length, lastedMs, residentBytes, grownBytes }
  })
}

/** From the second quarter of a life, when it is warm, to the last. */
function betweenQuarters(life: readonly Reading[]): number {
  const quarter = life.length >> 2
  return median(life.slice(-quarter)) - median(life.slice(quarter, 2 * quarter))
}

function median(readings: readonly Reading[]): number {
  const sizes = readings.map(({ residentBytes }) => residentBytes).sort((a, b) => a - b)
  return sizes[sizes.length >> 1] ?? 0
}

/** Least squares through all but the first quarter, from its beginning to the end. */
function alongLine(life: readonly Reading[]): number {
  const warm = life.slice(life.length >> 2)
  const mean = (of: (reading: Reading) => number): number =>
    warm.reduce((sum, reading) => sum + of(reading), 0) / warm.length
  const middle = mean(({ at }) => at)
  const size = mean(({ residentBytes }) => residentBytes)
  const slope =
    mean(({ at, residentBytes }) => (at - middle) * (residentBytes - size)) / mean(({ at }) => (at - middle) ** 2)
  return slope * ((warm.at(-1)?.at ?? 0) - (warm[0]?.at ?? 0))
}
