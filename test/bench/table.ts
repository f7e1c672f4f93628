// Figures as tables that a person can read in a terminal and a Markdown page shows as such.
import { allMeasures } from './measures.ts'
import { kinds } from './options.ts'
import type { Figures, Machine, Micro } from './report.ts'

/** The machine in a line. */
export function formatMachine(machine: Machine): string {
  const { date, processor, cores, memoryGiB, kernel, iptables, nft, node, penstock } = machine
  return (
    `${date}: ${cores} cores (${processor}), ${memoryGiB.toFixed(0)} GiB, Linux ${kernel}, ` +
    `${iptables}, ${nft}, Node ${node}, penstock ${penstock}`
  )
}

/** A Markdown table whose columns line up; all columns but the first to the right. The first row is the head. */
export function formatGrid(rows: readonly (readonly string[])[]): string {
  const [head = []] = rows
  const widths = head.map((_, column) => Math.max(3, ...rows.map(row => row[column]?.length ?? 0)))
  const line = (row: readonly string[]): string =>
    `| ${widths
      .map((width, column) => {
        const cell = row[column] ?? ''
        return column === 0 ? cell.padEnd(width) : cell.padStart(width)
      })
      .join(' | ')} |`
  const rule = `|${widths.map((width, column) => (column === 0 ? '-'.repeat(width + 2) : `${'-'.repeat(width + 1)}:`)).join('|')}|`
  return `${[line(head), rule, ...rows.slice(1).map(line)].join('\n')}\n`
}

/** One table for each kind, a column for each case; rows that no case of it has are left out. Then what went wrong. */
export function formatTables(all: readonly Figures[]): string {
  const tables = kinds.flatMap(kind => {
    const own = all.filter(figures => figures.kind === kind)
    if (own.length === 0) return []
    const head = [kind, ...own.map(f => `${f.services} × ${f.endpoints}, ${f.subject}`)]
    const rows = allMeasures
      .filter(({ value }) => own.some(f => value(f) !== null))
      .map(({ label, value, write }) => [
        // Leading spaces would be lost in Markdown.
        label.replace(/^ +/, indent => '\u00a0'.repeat(indent.length)),
        ...own.map(f => {
          const measured = value(f)
          return measured === null ? '–' : write(measured)
        }),
      ])
    return [formatGrid([head, ...rows])]
  })
  const problems = all.flatMap(f =>
    f.problems.map(problem => `${f.subject}, ${f.kind}, ${f.services} × ${f.endpoints}: ${problem}\n`),
  )
  return [...tables, ...(problems.length === 0 ? [] : [problems.join('')])].join('\n')
}

/** Nanoseconds in a unit that fits. */
export function writeNs(ns: number): string {
  if (ns < 1e3) return `${ns.toFixed(0)} ns`
  if (ns < 1e6) return `${(ns / 1e3).toFixed(1)} µs`
  return `${(ns / 1e6).toFixed(2)} ms`
}

/** Micro-benchmarks, one a row. */
export const formatMicro = (all: readonly Micro[]): string =>
  formatGrid([
    ['step', 'median', 'p99', 'runs'],
    ...all.map(({ name, medianNs, p99Ns, runs }) => [name, writeNs(medianNs), writeNs(p99Ns), String(runs)]),
  ])
