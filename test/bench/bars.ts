// The bars the program is held to, and whether these figures meet them. A report: it fails nothing.
import { type Measure, measures, ratio, writePercent, writeRatio } from './measures.ts'
import type { Kind } from './options.ts'
import type { Figures } from './report.ts'

interface Bar {
  readonly what: string
  readonly measured: number | null
  readonly limit: number
  readonly write: (value: number) => string
}

type Limits = Partial<Readonly<Record<Kind, number>>>

/** Costs of 10,000 Services of 5 endpoints, at most. */
const absolute: readonly (readonly [measure: Measure, limits: Limits])[] = [
  [measures.programmed, { 'iptables-nft': 6_000, 'iptables-legacy': 4_000, nftables: 3_000 }],
  [measures.p50, { 'iptables-nft': 80, 'iptables-legacy': 250, nftables: 5 }],
  [measures.p99, { 'iptables-nft': 150, 'iptables-legacy': 400, nftables: 20 }],
  [measures.cpu, { 'iptables-nft': 60, 'iptables-legacy': 250, nftables: 4 }],
  [measures.burst, { 'iptables-nft': 1_000, 'iptables-legacy': 1_000, nftables: 300 }],
  [measures.rss, { 'iptables-nft': 140e6, 'iptables-legacy': 140e6, nftables: 140e6, ipvs: 140e6 }],
  [measures.peak, { 'iptables-nft': 200e6, 'iptables-legacy': 200e6, nftables: 200e6, ipvs: 200e6 }],
]

const lastToFirst: Readonly<Record<Kind, number>> = {
  'iptables-nft': 1.2,
  'iptables-legacy': 1.2,
  nftables: 1.1,
  ipvs: 1.1,
}
const mostIdlePercent = 0.1

/** IPVS is held to iptables on the same machine: faster to start, and a change at a fifth. */
function againstIptables(figures: Figures, iptables: Figures | undefined): Bar[] {
  if (figures.kind !== 'ipvs' || iptables === undefined) return []
  return ([[measures.programmed, 1] as const, [measures.p50, 5] as const, [measures.p99, 5] as const] as const).flatMap(
    ([{ label, value, write }, divisor]) => {
      const other = value(iptables)
      const what = `${label}, against iptables${divisor === 1 ? '' : ` / ${divisor}`}`
      return other === null ? [] : [{ what, measured: value(figures), limit: other / divisor, write }]
    },
  )
}

function barsOfTen(figures: Figures, iptables: Figures | undefined): Bar[] {
  const { kind, connectUs } = figures
  return [
    ...absolute.flatMap(([{ label, value, write }, limits]) => {
      const limit = limits[kind]
      return limit === undefined ? [] : [{ what: label.trim(), measured: value(figures), limit, write }]
    }),
    ...againstIptables(figures, iptables),
    {
      what: "last Service's connect time over the first's",
      measured: ratio(connectUs?.last, connectUs?.first),
      limit: lastToFirst[kind],
      write: writeRatio,
    },
    { what: 'idle CPU', measured: figures.idleCpuPercent, limit: mostIdlePercent, write: writePercent },
  ]
}

function barsOfThirty(figures: Figures, ten: Figures | undefined): Bar[] {
  const isFlat = figures.kind === 'nftables' || figures.kind === 'ipvs'
  return [
    {
      what: 'start to programmed, over that of 10000 Services',
      measured: ratio(figures.programmedMs, ten?.programmedMs),
      limit: 4,
      write: writeRatio,
    },
    ...(isFlat
      ? [
          {
            what: 'one change, p50, over that of 10000 Services',
            measured: ratio(figures.change?.p50Ms, ten?.change?.p50Ms),
            limit: 1.5,
            write: writeRatio,
          },
        ]
      : []),
    {
      what: 'event loop late at the start, p99',
      measured: figures.loopDelay?.p99Ms ?? null,
      limit: 50,
      write: measures.loopP99.write,
    },
  ]
}

function formatBar({ what, measured, limit, write }: Bar): string {
  const outcome = measured === null ? '–     ' : measured <= limit ? 'met   ' : 'MISSED'
  return `  ${outcome}  ${what}: ${measured === null ? 'not measured' : write(measured)}, at most ${write(limit)}`
}

/** One line a bar, for each case of ours that they are for: 10,000 and 30,000 Services of 5 endpoints. */
export function formatBars(all: readonly Figures[]): string {
  const own = all.filter(f => f.subject === 'penstock' && f.endpoints === 5)
  const find = (kind: Kind, services: number) => own.find(f => f.kind === kind && f.services === services)
  return own
    .flatMap(figures => {
      const bars =
        figures.services === 10_000
          ? barsOfTen(figures, find('iptables-nft', 10_000))
          : figures.services === 30_000
            ? barsOfThirty(figures, find(figures.kind, 10_000))
            : []
      if (bars.length === 0) return []
      return [`\nBars for ${figures.services} × 5, ${figures.kind}:\n${bars.map(formatBar).join('\n')}\n`]
    })
    .join('')
}
