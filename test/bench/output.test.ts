// What is made of figures: tables, bars, comparisons, JSON.
import { describe, expect, it } from 'vitest'
import { formatBars } from './bars.ts'
import { formatComparison } from './compare.ts'
import { empty, figures, machine, report } from './fixtures.ts'
import { formatReport, parseReport } from './report.ts'
import { formatGrid, formatMachine, formatMicro, formatTables } from './table.ts'

describe('a table', () => {
  it('is Markdown whose columns line up', () => {
    expect(
      formatGrid([
        ['what', 'a'],
        ['x', '1'],
        ['longer', '12345'],
      ]),
    ).toBe('| what   |     a |\n|--------|------:|\n| x      |     1 |\n| longer | 12345 |\n')
  })

  it('stands for each kind, with a column a case', () => {
    const text = formatTables([
      figures(),
      figures({ kind: 'iptables-nft', services: 1_000 }),
      figures({ subject: 'kube-proxy', restart: null, change: null, programmedMs: 20_900 }),
    ])
    const lines = text.split('\n')
    const heads = lines.filter((_, place) => lines[place + 1]?.startsWith('|--'))
    expect(heads.map(line => line.split('|').map(cell => cell.trim()))).toEqual([
      ['', 'iptables-nft', '1000 × 5, penstock', ''],
      ['', 'nftables', '10000 × 5, penstock', '10000 × 5, kube-proxy', ''],
    ])
    const cells = (label: string) =>
      lines
        .filter(line => line.startsWith(`| ${label} `))
        .map(line =>
          line
            .split('|')
            .slice(2, -1)
            .map(cell => cell.trim()),
        )
    expect(cells('start to programmed')).toEqual([['2.35 s'], ['2.35 s', '20.90 s']])
    expect(cells('one change, p50')).toEqual([['2.3 ms'], ['2.3 ms', '–']])
    expect(cells('one stream through a Service')).toEqual([['1900 MB/s'], ['1900 MB/s', '1900 MB/s']])
    expect(cells('restart: objects written')).toEqual([['0'], ['0', '–']])
  })

  it('leaves out what no case has, and says what went wrong', () => {
    const text = formatTables([empty({ problems: ['start: it ended'] })])
    expect(text).not.toContain('burst')
    expect(text).toContain('the machine otherwise busy')
    expect(text.trimEnd().split('\n').at(-1)).toBe('penstock, nftables, 10000 × 5: start: it ended')
  })

  it('names the machine in a line', () => {
    expect(formatMachine(machine)).toBe(
      '2026-11-21: 2 cores (a processor), 24 GiB, Linux 6.18.44, iptables v1.8.9, nftables v1.0.6, Node v24.21.0, penstock v0.1.0',
    )
  })

  it('has single steps in units that fit', () => {
    const text = formatMicro([{ name: 'api/decode: a slice', medianNs: 6_300, p99Ns: 1_960_000, runs: 35 }])
    expect(text.split('\n')[2]).toBe('| api/decode: a slice | 6.3 µs | 1.96 ms |   35 |')
  })
})

describe('bars', () => {
  const outcomes = (text: string) =>
    text
      .split('\n')
      .filter(line => line.startsWith('  '))
      .map(line => line.trim().split(/ {2,}/))

  it('are met, missed, or not measured', () => {
    expect(outcomes(formatBars([figures()])).map(([outcome]) => outcome)).toEqual(new Array(9).fill('met'))
    const missed = figures({
      programmedMs: 3_001,
      change: null,
      connectUs: { first: 30, middle: 30, last: 34, none: 28 },
    })
    expect(outcomes(formatBars([missed])).filter(([outcome]) => outcome !== 'met')).toEqual([
      ['MISSED', 'start to programmed: 3.00 s, at most 3.00 s'],
      ['–', 'one change, p50: not measured, at most 5.0 ms'],
      ['–', 'one change, p99: not measured, at most 20 ms'],
      ['MISSED', "last Service's connect time over the first's: 1.13 ×, at most 1.10 ×"],
    ])
  })

  it('are for our own program, and for the cases they name', () => {
    const others = [figures({ subject: 'kube-proxy' }), figures({ services: 5_000 }), figures({ endpoints: 6 })]
    expect(formatBars(others)).toBe('')
  })

  it('hold 30,000 Services to 10,000', () => {
    const ten = figures()
    const thirty = figures({
      services: 30_000,
      programmedMs: 9_000,
      change: { timed: 100, p50Ms: 3.6, p90Ms: 4, p99Ms: 9 },
      loopDelay: { p99Ms: 51, maxMs: 300 },
    })
    expect(outcomes(formatBars([ten, thirty])).slice(-3)).toEqual([
      ['met', 'start to programmed, over that of 10000 Services: 3.84 ×, at most 4.00 ×'],
      ['MISSED', 'one change, p50, over that of 10000 Services: 1.60 ×, at most 1.50 ×'],
      ['MISSED', 'event loop late at the start, p99: 51 ms, at most 50 ms'],
    ])
    expect(outcomes(formatBars([thirty]))[0]?.[0]).toBe('–')
  })

  it('hold IPVS to iptables on the same machine', () => {
    const iptables = figures({
      kind: 'iptables-nft',
      programmedMs: 4_000,
      change: { timed: 9, p50Ms: 20, p90Ms: 30, p99Ms: 40 },
    })
    const ipvs = figures({ kind: 'ipvs', programmedMs: 4_100, change: { timed: 9, p50Ms: 3.9, p90Ms: 5, p99Ms: 8.1 } })
    const against = outcomes(formatBars([ipvs, iptables])).filter(([, what]) => what?.includes('against iptables'))
    expect(against).toEqual([
      ['MISSED', 'start to programmed, against iptables: 4.10 s, at most 4.00 s'],
      ['met', 'one change, p50, against iptables / 5: 3.9 ms, at most 4.0 ms'],
      ['MISSED', 'one change, p99, against iptables / 5: 8.1 ms, at most 8.0 ms'],
    ])
  })
})

describe('a comparison', () => {
  const rowsOf = (text: string) =>
    text
      .split('\n')
      .filter(line => line.startsWith('| '))
      .map(line =>
        line
          .split('|')
          .slice(1, -1)
          .map(cell => cell.trim()),
      )

  it('has the ratio of every row of the cases that both have', () => {
    const earlier = report([figures(), figures({ services: 1_000 })])
    const now = report([
      figures({
        programmedMs: 1_172.5,
        idleCpuPercent: null,
        throughput: { serviceBytesPerSecond: 3.8e9, directBytesPerSecond: 4e9 },
      }),
      figures({ subject: 'kube-proxy' }),
    ])
    const text = formatComparison(earlier, now)
    expect(text.split('\n')[0]).toBe(`Against ${formatMachine(machine)}`)
    const rows = rowsOf(text)
    expect(rows[0]).toEqual(['penstock, nftables, 10000 × 5', 'earlier', 'now', 'ratio'])
    expect(rows).toContainEqual(['start to programmed', '2.35 s', '1.17 s', '0.50 ×'])
    expect(rows).toContainEqual(['idle CPU', '0.05 %', '–', '–'])
    expect(rows).toContainEqual(['restart: objects written', '0', '0', '='])
    expect(rows).toContainEqual(['one stream through a Service (more is better)', '1900 MB/s', '3800 MB/s', '2.00 ×'])
    expect(rows.filter(([label]) => label === 'start to programmed')).toHaveLength(1)
  })

  it('is one of single steps too', () => {
    const micro = (medianNs: number) => [{ name: 'x', medianNs, p99Ns: medianNs, runs: 9 }]
    const rows = rowsOf(formatComparison(report([], { micro: micro(1_000) }), report([], { micro: micro(250) })))
    expect(rows[1]).toEqual(['x', '1.0 µs', '250 ns', '0.25 ×'])
  })

  it('says so when there is nothing to compare', () => {
    expect(formatComparison(report([]), report([figures()]))).toContain('Nothing was measured in both.')
  })
})

describe('JSON', () => {
  it('is read as it was written', () => {
    const written = report([figures(), empty({ subject: 'kube-proxy', kind: 'ipvs', problems: ['x'] })], {
      micro: [{ name: 'x', medianNs: 1, p99Ns: 2, runs: 3 }],
    })
    expect(parseReport(formatReport(written), 'a.json')).toEqual(written)
  })

  it.each([
    ['{', 'a.json is not JSON'],
    ['[]', 'a.json was not written by hack/bench --json'],
    ['{"machine":{},"figures":[]}', 'a.json was not written by hack/bench --json'],
    ['{"schema":0}', 'a.json has schema 0; this version reads 1: measure anew'],
    [
      '{"schema":1,"machine":{},"figures":[{}],"micro":[]}',
      'a.json was not written by hack/bench --json: figures are missing',
    ],
    ['{"schema":1,"figures":[],"micro":[]}', 'a.json was not written by hack/bench --json: figures are missing'],
  ])('is refused when it is %s', (text, message) => {
    expect(() => parseReport(text, 'a.json')).toThrow(new Error(message))
  })
})
