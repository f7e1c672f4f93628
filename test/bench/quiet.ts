// Whether the machine has anything else to do, and is there at all: times measured beside another build say nothing.
import { readFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'

const quietPercent = 10

interface Spent {
  readonly busy: number
  readonly all: number
}

function spent(): Spent {
  let busy = 0
  let all = 0
  for (const { times } of cpus()) {
    const total = times.user + times.nice + times.sys + times.idle + times.irq
    all += total
    busy += total - times.idle
  }
  return { busy, all }
}

/** Waits for a quiet machine, so many seconds at most. Returns how busy it was in the last second, in percent of all cores. */
export async function untilQuiet(waitSeconds: number, say: (line: string) => void): Promise<number> {
  const began = performance.now()
  for (let told = false; ; ) {
    const before = spent()
    await sleep(1_000)
    const after = spent()
    const percent = (100 * (after.busy - before.busy)) / Math.max(1, after.all - before.all)
    if (percent <= quietPercent || performance.now() - began > waitSeconds * 1000) return percent
    if (!told)
      say(
        `  others keep this machine ${percent.toFixed(0)} % busy; waiting up to ${waitSeconds} s for a quiet moment …`,
      )
    told = true
  }
}

/** Of all cores since the machine's start, in ticks. */
export interface ProcessorTime {
  readonly all: number
  /** Wanted, and given to another machine by the host. */
  readonly stolen: number
}

/** Reads the first line of /proc/stat. */
export const processorTime = (): ProcessorTime => parseProcessorTime(readFileSync('/proc/stat', 'latin1'))

/** `cpu  user nice system idle iowait irq softirq steal guest guest_nice`: proc(5). Guest time is part of user time. */
export function parseProcessorTime(stat: string): ProcessorTime {
  const fields = (stat.split('\n', 1)[0] ?? '').trim().split(/\s+/).slice(1, 9).map(Number)
  return { all: fields.reduce((sum, ticks) => sum + ticks, 0), stolen: fields[7] ?? 0 }
}

/** Percent of all cores' time between the two. */
export const stolenPercent = (before: ProcessorTime, after: ProcessorTime): number =>
  (100 * (after.stolen - before.stolen)) / Math.max(1, after.all - before.all)

/** More than that, of all cores, and tails of latency are the host's. */
export const mostStolenPercent = 0.5

interface Attempt {
  readonly stolenPercent?: number
  readonly problems: readonly string[]
}

/** Measures up to `tries` times, until little was stolen and nothing failed; returns the best attempt. */
export async function leastDisturbed<T extends Attempt>(
  tries: number,
  measure: () => Promise<T>,
  say: (line: string) => void,
): Promise<T> {
  let best = await measure()
  for (let attempt = 2; attempt <= tries; attempt++) {
    const { stolenPercent: stolen = 0, problems } = best
    if (problems.length === 0 && stolen <= mostStolenPercent) break
    say(`  the host took ${stolen.toFixed(1)} % of this machine: try ${attempt} of ${tries}`)
    best = better(best, await measure())
  }
  return best
}

function better<T extends Attempt>(a: T, b: T): T {
  if (a.problems.length !== b.problems.length) return a.problems.length < b.problems.length ? a : b
  return (b.stolenPercent ?? 0) < (a.stolenPercent ?? 0) ? b : a
}
