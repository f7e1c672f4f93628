// Go's notation of a length of time, to and from milliseconds.

const nanosecondsOf: Readonly<Record<string, bigint>> = {
  ns: 1n,
  us: 1_000n,
  µs: 1_000n,
  μs: 1_000n,
  ms: 1_000_000n,
  s: 1_000_000_000n,
  m: 60_000_000_000n,
  h: 3_600_000_000_000n,
}

const wellFormed = /^[+-]?(?:(?:\d+(?:\.\d*)?|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+$/
const term = /(\d*)(?:\.(\d*))?(ns|us|µs|μs|ms|s|m|h)/g

/** The longest duration that Go can hold: 2^63 - 1 nanoseconds, about 292 years. */
const longest = (1n << 63n) - 1n

/**
 * Milliseconds of a Go duration (`1h2m3.5s`, `100ms`, `-1s`; `0` needs no unit), to the nanosecond. Undefined if the
 * text is not one or is longer than Go can hold.
 */
export function parseDuration(text: string): number | undefined {
  if (/^[+-]?0$/.test(text)) return 0
  if (!wellFormed.test(text)) return undefined
  let total = 0n
  for (const [, whole = '', fraction = '', unit = ''] of text.matchAll(term)) {
    const size = nanosecondsOf[unit] ?? 0n
    total += BigInt(whole) * size
    // Go truncates what is finer than a nanosecond.
    if (fraction !== '') total += (BigInt(fraction) * size) / 10n ** BigInt(fraction.length)
  }
  if (total > longest) return undefined
  const milliseconds = millisecondsOf(total)
  return text.startsWith('-') && milliseconds !== 0 ? -milliseconds : milliseconds
}

/** Milliseconds of a number of nanoseconds. */
export function millisecondsOf(nanoseconds: bigint): number {
  return Number(nanoseconds / 1_000_000n) + Number(nanoseconds % 1_000_000n) / 1e6
}

/** A duration in milliseconds as Go prints it: `24h0m0s`, `1.5s`, `100ms`, `0s`. Parsing it gives the number back. */
export function formatDuration(milliseconds: number): string {
  if (milliseconds < 0) return `-${formatDuration(-milliseconds)}`
  const whole = Math.trunc(milliseconds)
  const nanoseconds = BigInt(whole) * 1_000_000n + BigInt(Math.round((milliseconds - whole) * 1e6))
  if (nanoseconds === 0n) return '0s'
  if (nanoseconds < 1_000n) return `${nanoseconds}ns`
  if (nanoseconds < 1_000_000n) return `${decimal(nanoseconds, 3)}µs`
  if (nanoseconds < 1_000_000_000n) return `${decimal(nanoseconds, 6)}ms`
  const minutes = nanoseconds / 60_000_000_000n
  const seconds = `${decimal(nanoseconds % 60_000_000_000n, 9)}s`
  if (minutes === 0n) return seconds
  return minutes < 60n ? `${minutes}m${seconds}` : `${minutes / 60n}h${minutes % 60n}m${seconds}`
}

function decimal(value: bigint, places: number): string {
  const digits = value.toString().padStart(places + 1, '0')
  return `${digits.slice(0, -places)}.${digits.slice(-places)}`.replace(/\.?0+$/, '')
}
