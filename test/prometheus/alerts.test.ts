// Each alert, evaluated by Debian's promtool: it fires when it should, says what it should, and is quiet otherwise. And each
// has its page in the runbook.
import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type AlertCase, alertCases } from './alert-cases.ts'
import { type AlertRule, alertRules, dashboard, ruleFile } from './files.ts'
import { findPrometheus } from './programs.ts'

const root = resolve(import.meta.dirname, '../..')
const programs = findPrometheus()
if (typeof programs === 'string') console.warn(`${programs} Its tests are left out.`)

const ruleOf = (name: string): AlertRule => {
  const rule = alertRules.find(({ alert }) => alert === name)
  if (rule === undefined) throw new Error(`there is no alert ${name}`)
  return rule
}

const seriesOf = (values: Readonly<Record<string, string>>) =>
  Object.entries(values).map(([series, values]) => ({ series, values }))

/** Firing at `at`, and quiet there with the other series. */
function promtoolTests({ alert, fires, at, labels, summary, description, quiet }: AlertCase) {
  const rule = ruleOf(alert)
  const fired = {
    exp_labels: { ...labels, ...rule.labels },
    exp_annotations: { ...rule.annotations, summary, description: description ?? rule.annotations.description },
  }
  const looking = (values: Readonly<Record<string, string>>, expected: readonly object[]) => ({
    interval: '30s',
    input_series: seriesOf(values),
    alert_rule_test: [{ eval_time: at, alertname: alert, exp_alerts: expected }],
  })
  return [looking(fires, [fired]), looking(quiet, [])]
}

describe.runIf(typeof programs !== 'string')('promtool', () => {
  let directory: string
  const promtool = (...args: readonly string[]): string => {
    if (typeof programs === 'string') throw new Error(programs)
    const { status, stdout, stderr } = spawnSync(programs.promtool, args, { cwd: directory, encoding: 'utf8' })
    return status === 0 ? '' : stdout + stderr
  }
  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), 'penstock-alerts-'))
    writeFileSync(join(directory, 'rules.yaml'), ruleFile)
  })
  afterAll(() => rmSync(directory, { recursive: true, force: true }))

  test('finds nothing wrong with the rules', () => {
    expect(promtool('check', 'rules', '--lint=all', '--lint-fatal', 'rules.yaml')).toBe('')
  })

  test.each(alertCases)('$alert fires: $summary', alertCase => {
    const file = { rule_files: ['rules.yaml'], evaluation_interval: '30s', tests: promtoolTests(alertCase) }
    writeFileSync(join(directory, 'tests.yaml'), JSON.stringify(file))
    expect(promtool('test', 'rules', 'tests.yaml')).toBe('')
  })
})

test('every alert has a case', () => {
  expect([...new Set(alertCases.map(({ alert }) => alert))]).toEqual(alertRules.map(({ alert }) => alert))
})

/** A heading's anchor, as Git hosts make it. */
const anchorOf = (heading: string): string =>
  heading
    .toLowerCase()
    .replaceAll(/[^\w -]/g, '')
    .replaceAll(' ', '-')

test.each(alertRules)('$alert has a severity, and its page in the runbook', ({ alert, labels, annotations }) => {
  expect(['warning', 'critical']).toContain(labels.severity)
  const [file = '', anchor] = annotations.runbook.split('#')
  expect(existsSync(join(root, file)), file).toBe(true)
  const headings = [...readFileSync(join(root, file), 'utf8').matchAll(/^## (.+)$/gm)].map(
    ([, heading = '']) => heading,
  )
  expect(headings).toContain(alert)
  expect(headings.map(anchorOf)).toContain(anchor)
})

describe('the dashboard', () => {
  test('has panels that do not overlap, each with a number of its own and a sentence', () => {
    const cells = dashboard.panels.flatMap(({ gridPos: { x, y, w, h } }) =>
      Array.from({ length: w * h }, (_, at) => `${x + (at % w)},${y + Math.floor(at / w)}`),
    )
    expect(new Set(cells).size).toBe(cells.length)
    expect(new Set(dashboard.panels.map(({ id }) => id)).size).toBe(dashboard.panels.length)
    for (const { type, title, description, gridPos } of dashboard.panels) {
      expect(gridPos.x + gridPos.w, title).toBeLessThanOrEqual(24)
      if (type !== 'row') expect(description, title).toMatch(/\.$/)
    }
  })

  test('asks the data source that is chosen, and only for the nodes that are chosen', () => {
    for (const { title, targets = [] } of dashboard.panels) {
      for (const { datasource, expr } of targets) {
        expect(datasource.uid, title).toMatch(/^\$\{datasource\}$/)
        expect(expr, title).toContain('instance=~"$instance"')
      }
    }
    expect(dashboard.templating.list.map(({ name }) => name)).toEqual(['datasource', 'instance'])
  })
})
