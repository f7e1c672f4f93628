// Every number a case yields: its label, how it is read out of the figures, and how it is written.
import type { Figures } from './report.ts'

export interface Measure {
  readonly label: string
  /** Null: not measured. */
  readonly value: (figures: Figures) => number | null
  readonly write: (value: number) => string
  /** More is better; without this, less is. */
  readonly isRate?: boolean
  /** Tells of the machine or of the other numbers, and is no cost. */
  readonly isContext?: boolean
}

/** `1.23 s`, `45 ms`, `4.5 ms`. */
export function writeMs(ms: number): string {
  if (ms >= 1_000) return `${(ms / 1_000).toFixed(2)} s`
  return ms >= 20 ? `${ms.toFixed(0)} ms` : `${ms.toFixed(1)} ms`
}
export const writeMB = (bytes: number): string => `${(bytes / 1e6).toFixed(0)} MB`
export const writeUs = (us: number): string => `${us.toFixed(1)} µs`
export const writePercent = (percent: number): string => `${percent.toFixed(percent < 1 ? 2 : 1)} %`
export const writeRatio = (ratio: number): string => `${ratio.toFixed(2)} ×`
const writeCount = (count: number): string => String(count)
const writeRounded = (count: number): string => count.toFixed(0)
const writeRate = (bytes: number): string => `${(bytes / 1e6).toFixed(0)} MB/s`

/** Null if either is. */
export const ratio = (a: number | null | undefined, b: number | null | undefined): number | null =>
  a === null || a === undefined || b === null || b === undefined || b === 0 ? null : a / b

const worst = (values: readonly number[] | undefined): number | null =>
  values === undefined || values.length === 0 ? null : Math.max(...values)

export const measures = {
  busy: {
    label: 'the machine otherwise busy',
    value: f => f.otherwiseBusyPercent,
    write: writePercent,
    isContext: true,
  },
  stolen: {
    label: '  and stolen by its host',
    value: f => f.stolenPercent ?? null,
    write: writePercent,
    isContext: true,
  },
  programmed: { label: 'start to programmed', value: f => f.programmedMs, write: writeMs },
  startCpu: { label: '  CPU for that', value: f => f.startCpuMs, write: writeMs },
  loopP99: { label: '  event loop late, p99', value: f => f.loopDelay?.p99Ms ?? null, write: writeMs },
  loopMax: { label: '  event loop late, at most', value: f => f.loopDelay?.maxMs ?? null, write: writeMs },
  timed: { label: 'changes timed', value: f => f.change?.timed ?? null, write: writeCount, isContext: true },
  p50: { label: 'one change, p50', value: f => f.change?.p50Ms ?? null, write: writeMs },
  p90: { label: 'one change, p90', value: f => f.change?.p90Ms ?? null, write: writeMs },
  p99: { label: 'one change, p99', value: f => f.change?.p99Ms ?? null, write: writeMs },
  cpu: { label: 'CPU per change', value: f => f.cpuPerChangeMs, write: writeMs },
  tools: { label: '  of it the tools', value: f => f.toolsPerChangeMs, write: writeMs },
  burst: { label: 'burst of changes, all in the kernel', value: f => f.burst?.ms ?? null, write: writeMs },
  burstCpu: { label: '  CPU for that', value: f => f.burst?.cpuMs ?? null, write: writeMs },
  rolling: {
    label: 'a quarter of one Service replaced, worst of 4',
    value: f => worst(f.rolling?.stepMs),
    write: writeMs,
  },
  rollingCpu: { label: '  CPU for all four', value: f => f.rolling?.cpuMs ?? null, write: writeMs },
  stormRate: {
    label: 'storm: changes a second',
    value: f => (f.storm === null ? null : (1_000 * f.storm.sent) / f.storm.tookMs),
    write: writeRounded,
    isContext: true,
  },
  stormLag: { label: 'storm: behind, p50', value: f => f.storm?.lag?.p50Ms ?? null, write: writeMs },
  stormLagMax: { label: 'storm: behind, at most', value: f => f.storm?.lag?.maxMs ?? null, write: writeMs },
  stormInStep: { label: 'storm: in step after its end', value: f => f.storm?.inStepMs ?? null, write: writeMs },
  stormCpu: { label: 'storm: CPU', value: f => f.storm?.cpuPercent ?? null, write: writePercent },
  stormRss: { label: 'storm: resident memory', value: f => f.storm?.rssBytes ?? null, write: writeMB },
  stormPeak: { label: 'storm: at its peak', value: f => f.storm?.peakBytes ?? null, write: writeMB },
  rss: { label: 'resident memory', value: f => f.rssBytes, write: writeMB },
  peak: { label: '  at its peak, ended tools left out', value: f => f.peakBytes, write: writeMB },
  idle: { label: 'idle CPU', value: f => f.idleCpuPercent, write: writePercent },
  first: { label: 'connect: first Service', value: f => f.connectUs?.first ?? null, write: writeUs },
  middle: { label: 'connect: middle Service', value: f => f.connectUs?.middle ?? null, write: writeUs },
  last: { label: 'connect: last Service', value: f => f.connectUs?.last ?? null, write: writeUs },
  none: { label: 'connect: no Service', value: f => f.connectUs?.none ?? null, write: writeUs },
  throughput: {
    label: 'one stream through a Service',
    value: f => f.throughput?.serviceBytesPerSecond ?? null,
    write: writeRate,
    isRate: true,
  },
  throughputShare: {
    label: '  of one without',
    value: f => ratio(f.throughput?.serviceBytesPerSecond, f.throughput?.directBytesPerSecond),
    write: writeRatio,
    isRate: true,
  },
  restart: { label: 'restart: compared after', value: f => f.restart?.comparedMs ?? null, write: writeMs },
  written: { label: 'restart: objects written', value: f => f.restart?.written ?? null, write: writeCount },
  caughtUp: {
    label: 'restart: a change meanwhile is in after',
    value: f => f.restart?.caughtUpMs ?? null,
    write: writeMs,
  },
  failed: { label: 'restart: failed connects', value: f => f.restart?.failedConnects ?? null, write: writeCount },
  connects: { label: '  of', value: f => f.restart?.connects ?? null, write: writeCount, isContext: true },
} as const satisfies Readonly<Record<string, Measure>>

/** All of them, in the order of the table. */
export const allMeasures: readonly Measure[] = Object.values(measures)
