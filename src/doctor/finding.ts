// What a check has found, and how findings are printed. Pure.

/** `unknown`: it could not be looked at, and the title says why. */
export type Severity = 'problem' | 'warning' | 'unknown' | 'ok'

export interface Finding {
  /** Stable, for programs: `rp-filter`. */
  readonly id: string
  readonly severity: Severity
  /** What was found, as a sentence. */
  readonly title: string
  /** What that means for Services; empty where all is well. */
  readonly meaning: string
  /** The command that mends it, or says more; empty where there is none. */
  readonly mend: string
}

export const ok = (id: string, title: string): Finding => ({ id, severity: 'ok', title, meaning: '', mend: '' })

export const unknown = (id: string, title: string): Finding => ({
  id,
  severity: 'unknown',
  title,
  meaning: '',
  mend: '',
})

const order: readonly Severity[] = ['problem', 'warning', 'unknown', 'ok']

/** The worst first; among equals as they were found. */
export const sorted = (findings: readonly Finding[]): Finding[] =>
  findings.toSorted((a, b) => order.indexOf(a.severity) - order.indexOf(b.severity))

/** Exit status: 1 if there is a problem. Warnings are for people to weigh, and must not fail a script. */
export const exitStatus = (findings: readonly Finding[]): number =>
  findings.some(({ severity }) => severity === 'problem') ? 1 : 0

const labels: Readonly<Record<Severity, string>> = {
  problem: 'PROBLEM',
  warning: 'warning',
  unknown: 'unknown',
  ok: 'ok',
}

/** What a person reads: the worst first, what it means and what mends it below each. */
export function findingsText(findings: readonly Finding[]): string {
  const lines = sorted(findings).flatMap(({ id, severity, title, meaning, mend }) => [
    `${labels[severity].padEnd(8)} ${id}: ${title}`,
    ...(meaning === '' ? [] : [`         ${meaning}`]),
    ...(mend === '' ? [] : [`         mend: ${mend}`]),
  ])
  const count = (severity: Severity): number => findings.filter(item => item.severity === severity).length
  const total = `${count('problem')} problems, ${count('warning')} warnings, ${count('unknown')} not looked at, ${count('ok')} ok`
  return `${[...lines, '', total].join('\n')}\n`
}

export const findingsJson = (findings: readonly Finding[]): unknown => ({
  healthy: exitStatus(findings) === 0,
  findings: sorted(findings),
})
