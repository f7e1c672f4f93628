// Plots: documents that a browser takes, with everything on them that was measured.
import { describe, expect, it } from 'vitest'
import { empty, figures } from './fixtures.ts'
import { formatPlot, formatPlots, type Plot, ticks } from './plot.ts'

/** Names of the elements of an XML document in the order of their ends. Throws where a tag is not closed or not opened. */
function elementsOf(text: string): string[] {
  const open: string[] = []
  const found: string[] = []
  const rest = text.replaceAll(/<(\/?)([a-z]+)((?: [a-zA-Z-]+="[^"<&]*")*)(\/?)>/g, (_, end, name, __, empty) => {
    if (end === '/') expect(open.pop()).toBe(name)
    else if (empty === '') open.push(name)
    if (end === '/' || empty === '/') found.push(name)
    return ''
  })
  expect(open).toEqual([])
  // Text between tags holds no bare markup.
  expect(rest.replaceAll(/&(?:amp|lt|gt|quot);/g, '')).not.toMatch(/[<>&]/)
  return found
}

const textsOf = (svg: string): string[] => [...svg.matchAll(/<text[^>]*>([^<]*)<\/text>/g)].map(([, text = '']) => text)

const polylines = (svg: string): number[][][] =>
  [...svg.matchAll(/<polyline points="([^"]*)"/g)].map(([, points = '']) =>
    points.split(' ').map(point => point.split(',').map(Number)),
  )

const plot: Plot = {
  title: 'A <title> & more',
  xLabel: 'number of Services',
  yLabel: 'time',
  write: ms => `${ms} ms`,
  lines: [
    {
      name: 'one',
      isDashed: false,
      colour: '#000',
      points: [
        [1_000, 20],
        [10_000, 40],
        [30_000, 900],
      ],
    },
    { name: 'other', isDashed: true, colour: '#00f', points: [[1_000, 3]] },
  ],
}

describe('a plot', () => {
  const svg = formatPlot(plot)

  it('is well-formed, with a polyline for each line and a mark for each point', () => {
    const elements = elementsOf(svg)
    expect(elements.at(-1)).toBe('svg')
    expect(elements.filter(name => name === 'polyline')).toHaveLength(2)
    expect(elements.filter(name => name === 'circle')).toHaveLength(4)
    expect(svg.match(/<polyline[^>]*stroke-dasharray/g)).toHaveLength(1)
  })

  it('says what the axes are, and in which units', () => {
    const texts = textsOf(svg)
    expect(texts).toEqual(
      expect.arrayContaining(['A &lt;title&gt; &amp; more', 'number of Services', 'time', 'one', 'other']),
    )
    expect(texts).toEqual(expect.arrayContaining(['1,000', '10,000', '30,000', '2 ms', '1000 ms']))
  })

  it('has more to the right and above, within its bounds, on logarithmic axes', () => {
    const [points = []] = polylines(svg)
    const [[x1 = 0, y1 = 0] = [], [x2 = 0, y2 = 0] = [], [x3 = 0, y3 = 0] = []] = points
    expect(x1).toBeLessThan(x2)
    expect(x2).toBeLessThan(x3)
    expect(y1).toBeGreaterThan(y2)
    expect(y2).toBeGreaterThan(y3)
    expect((x2 - x1) / (x3 - x1)).toBeCloseTo(Math.log(10) / Math.log(30), 2)
    for (const [x = -1, y = -1] of points) {
      expect(x).toBeGreaterThan(0)
      expect(x).toBeLessThan(740)
      expect(y).toBeGreaterThan(0)
      expect(y).toBeLessThan(420)
    }
  })

  it('can be of a single point, and not of none', () => {
    expect(
      polylines(formatPlot({ ...plot, lines: plot.lines.slice(1) }))
        .flat(2)
        .every(Number.isFinite),
    ).toBe(true)
    expect(() => formatPlot({ ...plot, lines: [] })).toThrow('nothing to plot for: A <title> & more')
  })

  it('has ticks that hold everything', () => {
    expect(ticks(3, 900)).toEqual([2, 5, 10, 20, 50, 100, 200, 500, 1_000])
    expect(ticks(0.12, 0.3)).toEqual([0.1, 0.2, 0.5])
    expect(ticks(10, 10)).toEqual([10])
  })
})

describe('plots of figures', () => {
  it('have a line for each program and mode, and none for what was not measured', () => {
    const plots = formatPlots([
      figures(),
      figures({ services: 1_000, programmedMs: 500 }),
      figures({ kind: 'iptables-nft' }),
      figures({ subject: 'kube-proxy', programmedMs: 20_900 }),
      figures({ subject: 'kube-proxy', kind: 'iptables-nft', programmedMs: null }),
      figures({ services: 1, endpoints: 10_000, programmedMs: 1 }),
    ])
    expect([...plots.keys()]).toEqual(['start.svg', 'change.svg', 'cpu.svg', 'burst.svg', 'memory.svg', 'connect.svg'])
    const start = plots.get('start.svg') ?? ''
    expect(polylines(start).map(points => points.length)).toEqual([2, 1, 1])
    expect(textsOf(start)).toEqual(
      expect.arrayContaining(['penstock, nftables', 'penstock, iptables-nft', 'kube-proxy, nftables']),
    )
    expect(textsOf(start)).toEqual(expect.arrayContaining(['500 ms', '2 s', '50 s']))
    expect(textsOf(start)).toContain('number of Services, of 5 endpoints each')
    for (const svg of plots.values()) expect(elementsOf(svg).at(-1)).toBe('svg')
  })

  it('are none where nothing was measured', () => {
    expect(formatPlots([empty()]).size).toBe(0)
  })
})
