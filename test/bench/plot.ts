// Plots as SVG: a cost against the number of Services, both on logarithmic axes, a line for each program and mode.
import { type Measure, measures } from './measures.ts'
import type { Kind } from './options.ts'
import type { Figures } from './report.ts'

export interface Line {
  readonly name: string
  /** Another program's lines are dashed. */
  readonly isDashed: boolean
  readonly colour: string
  /** By x, ascending; both above 0. */
  readonly points: readonly (readonly [x: number, y: number])[]
}

export interface Plot {
  readonly title: string
  readonly xLabel: string
  readonly yLabel: string
  /** Writes the labels of the y axis. */
  readonly write: (value: number) => string
  readonly lines: readonly Line[]
}

const width = 740
const height = 420
const left = 80
const right = 230
const top = 44
const bottom = 56

const escaped = (text: string): string =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;')

/** 1, 2 and 5 of every decade from at most the least to at least the greatest. */
export function ticks(least: number, greatest: number): number[] {
  const all: number[] = []
  for (let decade = Math.floor(Math.log10(least)) - 1; decade <= Math.ceil(Math.log10(greatest)); decade++) {
    for (const step of [1, 2, 5]) all.push(Number((step * 10 ** decade).toPrecision(1)))
  }
  const from = all.findLastIndex(tick => tick <= least)
  const to = all.findIndex(tick => tick >= greatest)
  return all.slice(from, to + 1)
}

/** Where a value lies between two others, 0 to 1, by its logarithm. */
const share = (value: number, from: number, to: number): number => {
  const span = Math.log(to) - Math.log(from)
  return span === 0 ? 0.5 : (Math.log(value) - Math.log(from)) / span
}

/** The SVG document. Throws an Error without a single point. */
export function formatPlot({ title, xLabel, yLabel, write, lines }: Plot): string {
  const points = lines.flatMap(line => line.points)
  if (points.length === 0) throw new Error(`nothing to plot for: ${title}`)
  const xs = [...new Set(points.map(([x]) => x))].sort((a, b) => a - b)
  const ys = ticks(Math.min(...points.map(([, y]) => y)), Math.max(...points.map(([, y]) => y)))
  const x = (value: number): number => left + share(value, xs[0] ?? 1, xs.at(-1) ?? 1) * (width - left - right)
  const y = (value: number): number =>
    height - bottom - share(value, ys[0] ?? 1, ys.at(-1) ?? 1) * (height - top - bottom)
  const at = (px: number, py: number): string => `x="${px.toFixed(1)}" y="${py.toFixed(1)}"`
  const rule = (x1: number, y1: number, x2: number, y2: number): string =>
    `<path d="M${x1.toFixed(1)} ${y1.toFixed(1)}L${x2.toFixed(1)} ${y2.toFixed(1)}" stroke="#ddd"/>`
  const bottomY = height - bottom
  const grid = [
    ...ys.map(tick => rule(left, y(tick), width - right, y(tick))),
    ...xs.map(tick => rule(x(tick), top, x(tick), bottomY)),
    ...ys.map(tick => `<text ${at(left - 8, y(tick) + 4)} text-anchor="end">${escaped(write(tick))}</text>`),
    ...xs.map(tick => `<text ${at(x(tick), bottomY + 18)} text-anchor="middle">${tick.toLocaleString('en')}</text>`),
  ]
  const middle = (top + bottomY) / 2
  const drawn = lines.flatMap(({ colour, isDashed, points: own }) => {
    const places = own.map(([px, py]) => `${x(px).toFixed(1)},${y(py).toFixed(1)}`).join(' ')
    const dash = isDashed ? ' stroke-dasharray="6 4"' : ''
    return [
      `<polyline points="${places}" fill="none" stroke="${colour}" stroke-width="2"${dash}/>`,
      ...own.map(([px, py]) => `<circle cx="${x(px).toFixed(1)}" cy="${y(py).toFixed(1)}" r="3" fill="${colour}"/>`),
    ]
  })
  const legend = lines.flatMap(({ name, colour, isDashed }, place) => {
    const ly = top + 10 + place * 20
    const dash = isDashed ? ' stroke-dasharray="6 4"' : ''
    return [
      `<path d="M${width - right + 14} ${ly}h24" stroke="${colour}" stroke-width="2"${dash}/>`,
      `<text ${at(width - right + 44, ly + 4)}>${escaped(name)}</text>`,
    ]
  })
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="12">`,
    `<title>${escaped(title)}</title>`,
    `<rect width="${width}" height="${height}" fill="#fff"/>`,
    `<text ${at(left, 24)} font-size="15" font-weight="bold">${escaped(title)}</text>`,
    ...grid,
    `<text ${at((left + width - right) / 2, height - 14)} text-anchor="middle">${escaped(xLabel)}</text>`,
    `<text ${at(18, middle)} text-anchor="middle" transform="rotate(-90 18 ${middle.toFixed(1)})">${escaped(yLabel)}</text>`,
    ...drawn,
    ...legend,
    '</svg>',
    '',
  ].join('\n')
}

/** `2.00 s` is `2 s` on an axis. */
const short = (text: string): string => text.replace(/\.0+(?=\s|$)|(\.\d*[1-9])0+(?=\s|$)/, '$1')

/** Told apart by those who do not see all colours, too (Okabe and Ito). */
const colours: Readonly<Record<Kind, string>> = {
  'iptables-nft': '#0072b2',
  'iptables-legacy': '#d55e00',
  nftables: '#009e73',
  ipvs: '#cc79a7',
}

/** What is plotted, by the name of the file. */
const plotted: Readonly<Record<string, { measure: Measure; title: string; yLabel: string }>> = {
  start: {
    measure: measures.programmed,
    title: 'Start of the process until Services at both ends and between answer',
    yLabel: 'time',
  },
  change: { measure: measures.p50, title: 'One EndpointSlice changed until a packet follows it, p50', yLabel: 'time' },
  cpu: { measure: measures.cpu, title: 'CPU per change, all processes', yLabel: 'CPU time' },
  burst: {
    measure: measures.burst,
    title: '500 Services changed at once, until all are in the kernel',
    yLabel: 'time',
  },
  memory: { measure: measures.rss, title: 'Resident memory between changes', yLabel: 'memory' },
  connect: { measure: measures.last, title: 'Connect to the last Service, median', yLabel: 'time of one connect call' },
}

/** One line for each program and mode that has the measure. Values of zero have no place on a logarithmic axis. */
function linesOf(measure: Measure, all: readonly Figures[]): Line[] {
  const names = new Map(all.map(f => [`${f.subject}, ${f.kind}`, f]))
  return [...names].flatMap(([name, { subject, kind }]) => {
    const points = all
      .filter(f => f.subject === subject && f.kind === kind)
      .flatMap((f): (readonly [number, number])[] => {
        const value = measure.value(f)
        return value === null || value <= 0 ? [] : [[f.services, value]]
      })
      .sort(([a], [b]) => a - b)
    return points.length === 0 ? [] : [{ name, isDashed: subject !== 'penstock', colour: colours[kind], points }]
  })
}

/** Plots by file name, without those that have no points. The case of one large Service is in none of them. */
export function formatPlots(all: readonly Figures[]): Map<string, string> {
  const many = all.filter(f => f.services > 1)
  const xLabel = `number of Services, of ${[...new Set(many.map(f => f.endpoints))].join(' or ')} endpoints each`
  const found = new Map<string, string>()
  for (const [name, { measure, title, yLabel }] of Object.entries(plotted)) {
    const lines = linesOf(measure, many)
    if (lines.length > 0) {
      found.set(
        `${name}.svg`,
        formatPlot({ title, xLabel, yLabel, write: value => short(measure.write(value)), lines }),
      )
    }
  }
  return found
}
