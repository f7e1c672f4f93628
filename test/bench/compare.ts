// Two reports side by side: how much of the earlier cost is left.
import { allMeasures } from './measures.ts'
import type { Figures, Micro, Report } from './report.ts'
import { formatGrid, formatMachine, writeNs } from './table.ts'

const sameCase = (a: Figures, b: Figures): boolean =>
  a.subject === b.subject && a.kind === b.kind && a.services === b.services && a.endpoints === b.endpoints

/** Neither is a ratio: nothing before, or something where nothing was. */
function ratioOf(before: number, after: number): string {
  if (before === 0) return after === 0 ? '=' : '–'
  return `${(after / before).toFixed(2)} ×`
}

function compareCase(earlier: Figures, now: Figures): string {
  const rows = allMeasures.flatMap(({ label, value, write, isRate, isContext }) => {
    const before = value(earlier)
    const after = value(now)
    if (isContext === true || (before === null && after === null)) return []
    const cell = (measured: number | null): string => (measured === null ? '–' : write(measured))
    const name = isRate === true ? `${label} (more is better)` : label
    return [[name, cell(before), cell(after), before === null || after === null ? '–' : ratioOf(before, after)]]
  })
  return formatGrid([
    [`${now.subject}, ${now.kind}, ${now.services} × ${now.endpoints}`, 'earlier', 'now', 'ratio'],
    ...rows,
  ])
}

function compareMicro(earlier: readonly Micro[], now: readonly Micro[]): string[] {
  const rows = now.flatMap(({ name, medianNs }) => {
    const before = earlier.find(item => item.name === name)
    if (before === undefined) return []
    return [[name, writeNs(before.medianNs), writeNs(medianNs), ratioOf(before.medianNs, medianNs)]]
  })
  return rows.length === 0 ? [] : [formatGrid([['step, median', 'earlier', 'now', 'ratio'], ...rows])]
}

/**
 * One table for each case that both have, with the ratio of every row: below 1, it costs less than it did. Ratios across
 * different machines say nothing, so the earlier machine stands above.
 */
export function formatComparison(earlier: Report, now: Report): string {
  const tables = now.figures.flatMap(figures => {
    const before = earlier.figures.find(other => sameCase(other, figures))
    return before === undefined ? [] : [compareCase(before, figures)]
  })
  const all = [...tables, ...compareMicro(earlier.micro, now.micro)]
  const head = `Against ${formatMachine(earlier.machine)}\n`
  return [head, ...(all.length === 0 ? ['Nothing was measured in both.\n'] : all)].join('\n')
}
