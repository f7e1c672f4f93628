// Figures as a table that a person can read.
import type { Figures, Kind } from './measure.ts'

/** The machine the figures are of. */
export interface Machine {
  readonly date: string
  readonly cores: number
  readonly memoryGiB: number
  readonly kernel: string
  readonly iptables: string
  readonly node: string
}

const seconds = (ms: number): string => `${(ms / 1000).toFixed(2)} s`
const ms = (value: number): string => `${value.toFixed(0)} ms`
const mb = (value: number): string => `${(value / 1e6).toFixed(0)} MB`
const us = (value: number): string => `${value.toFixed(1)} µs`

const percent = (value: number): string => `${value.toFixed(1)} %`

const orDash = (value: number | null | undefined, write: (value: number) => string): string =>
  value === null || value === undefined ? '–' : write(value)

const rows: readonly (readonly [label: string, write: (figures: Figures) => string])[] = [
  ['Services × endpoints', ({ services, endpoints }) => `${services} × ${endpoints}`],
  ['mode', ({ kind }) => kind],
  ['the machine otherwise busy', f => percent(f.otherwiseBusyPercent)],
  ['start to programmed', f => orDash(f.programmedMs, seconds)],
  ['  CPU for that', f => orDash(f.startCpuMs, seconds)],
  ['one change, p50', f => orDash(f.change?.p50Ms, ms)],
  ['one change, p90', f => orDash(f.change?.p90Ms, ms)],
  ['one change, p99', f => orDash(f.change?.p99Ms, ms)],
  ['CPU per change', f => orDash(f.cpuPerChangeMs, ms)],
  ['  of it the tools', f => orDash(f.toolsPerChangeMs, ms)],
  ['resident memory', f => orDash(f.rssBytes, mb)],
  ['  at its peak', f => orDash(f.peakBytes, mb)],
  ['idle CPU', f => orDash(f.idleCpuPercent, percent)],
  ['connect: first Service', f => orDash(f.connectUs?.first, us)],
  ['connect: middle Service', f => orDash(f.connectUs?.middle, us)],
  ['connect: last Service', f => orDash(f.connectUs?.last, us)],
  ['connect: no Service', f => orDash(f.connectUs?.none, us)],
  ['restart: compared after', f => orDash(f.restart?.ms, seconds)],
  ['  of it the sync', f => orDash(f.restart?.syncMs, seconds)],
  ['restart: objects written', f => orDash(f.restart?.written, String)],
  [
    'restart: failed connects',
    f => (f.restart === null ? '–' : `${f.restart.failedConnects} of ${f.restart.connects}`),
  ],
]

/** The machine in a line, then one column for each case. */
export function formatTable(machine: Machine, all: readonly Figures[]): string {
  const { date, cores, memoryGiB, kernel, iptables, node } = machine
  const head = `${date}: ${cores} cores, ${memoryGiB.toFixed(0)} GiB, Linux ${kernel}, ${iptables}, Node ${node}`
  const cells = rows.map(([label, write]) => [label, ...all.map(write)])
  const widths = (cells[0] ?? []).map((_, column) => Math.max(...cells.map(row => row[column]?.length ?? 0)))
  const lines = cells.map(row =>
    row
      .map((cell, column) => (column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0)))
      .join('   ')
      .trimEnd(),
  )
  return `${[head, '', ...lines].join('\n')}\n`
}

interface Bar {
  readonly what: string
  readonly value: (figures: Figures) => number | null
  readonly write: (value: number) => string
  /** At most, by kind. */
  readonly limits: Partial<Readonly<Record<Kind, number>>>
}

/** What is to be met by 10,000 Services of 5 endpoints. */
const bars: readonly Bar[] = [
  {
    what: 'start to programmed',
    value: f => f.programmedMs,
    write: seconds,
    limits: { 'iptables-nft': 8_000, nftables: 6_000 },
  },
  {
    what: 'one change, p50',
    value: f => f.change?.p50Ms ?? null,
    write: ms,
    limits: { 'iptables-nft': 120, nftables: 60 },
  },
  { what: 'resident memory', value: f => f.rssBytes, write: mb, limits: { 'iptables-nft': 180e6, nftables: 180e6 } },
  {
    what: "last Service's connect time over the first's",
    value: f => (f.connectUs === null ? null : f.connectUs.last / f.connectUs.first),
    write: value => value.toFixed(2),
    limits: { 'iptables-nft': 1.3, nftables: 1.3 },
  },
]

/** One line a bar, for each case they are for. */
export function formatBars(all: readonly Figures[]): string {
  return all
    .filter(f => f.services === 10_000 && f.endpoints === 5)
    .map(figures => {
      const lines = bars.flatMap(({ what, limits, value, write }) => {
        const limit = limits[figures.kind]
        if (limit === undefined) return []
        const measured = value(figures)
        const met = measured !== null && measured <= limit
        return [`  ${met ? 'met   ' : 'MISSED'}  ${what}: ${orDash(measured, write)}, at most ${write(limit)}`]
      })
      return lines.length === 0 ? '' : `\nBars for 10000 × 5, ${figures.kind}:\n${lines.join('\n')}\n`
    })
    .join('')
}
