// Figures for tests of what is made of them.
import { type Figures, type Machine, nothing, type Report, schema } from './report.ts'

/** A case of 10,000 × 5 in mode nftables that meets every bar, all of it measured. */
export const figures = (over: Partial<Figures> = {}): Figures => ({
  subject: 'penstock',
  kind: 'nftables',
  services: 10_000,
  endpoints: 5,
  otherwiseBusyPercent: 2,
  stolenPercent: 0.5,
  programmedMs: 2_345,
  startCpuMs: 3_000,
  loopDelay: { p99Ms: 12, maxMs: 40 },
  change: { timed: 100, p50Ms: 2.25, p90Ms: 3, p99Ms: 9 },
  cpuPerChangeMs: 3.5,
  toolsPerChangeMs: 0,
  idleCpuPercent: 0.05,
  rssBytes: 130e6,
  peakBytes: 190e6,
  connectUs: { first: 30, middle: 30, last: 31, none: 28 },
  throughput: { serviceBytesPerSecond: 1.9e9, directBytesPerSecond: 2e9 },
  burst: { changes: 500, ms: 120, putMs: 30, cpuMs: 150 },
  rolling: { endpoints: 1_000, stepMs: [20, 30, 25, 22], cpuMs: 90 },
  storm: {
    rate: 1_000,
    seconds: 60,
    sent: 60_000,
    tookMs: 60_010,
    lag: { seen: 900, p50Ms: 20, p99Ms: 40, maxMs: 55 },
    cpuPercent: 30,
    inStepMs: 25,
    rssBytes: 140e6,
    peakBytes: 195e6,
  },
  restart: { comparedMs: 1_500, written: 0, caughtUpMs: 1_800, connects: 400, failedConnects: 0 },
  problems: [],
  ...over,
})

/** A case of which nothing could be measured. */
export const empty = (over: Partial<Figures> = {}): Figures => figures({ ...nothing, ...over })

export const machine: Machine = {
  date: '2026-11-21',
  processor: 'a processor',
  cores: 2,
  memoryGiB: 24,
  kernel: '6.18.44',
  iptables: 'iptables v1.8.9',
  nft: 'nftables v1.0.6',
  node: 'v24.21.0',
  penstock: 'v0.1.0',
}

export const report = (all: readonly Figures[], over: Partial<Report> = {}): Report => ({
  schema,
  machine,
  figures: all,
  micro: [],
  ...over,
})
