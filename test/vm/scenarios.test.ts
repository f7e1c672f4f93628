// Conformance scenarios with real packets on Debian's kernel, in one virtual machine, on every kind of node. The machine runs
// them all by itself; each test here waits for the line about its scenario. With WHOLE_SCENARIOS=1 every scenario on every kind.
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { loadScenarios } from '../conformance/scenario.ts'
import { chosenFor } from './scenarios/choose.ts'
import { kinds, missing } from './scenarios/kinds.ts'
import type { Line, Report } from './scenarios/plan.ts'
import { runScenarios } from './scenarios/start.ts'

const whole = process.env.WHOLE_SCENARIOS === '1'
const real = loadScenarios().filter(scenario => scenario.real)
const present = kinds.filter(kind => missing(kind) === undefined)

const reports = new Map<string, PromiseWithResolvers<Report>>()
const reportOf = (kind: string, scenario: string): PromiseWithResolvers<Report> => {
  const key = `${kind} ${scenario}`
  const report = reports.get(key) ?? Promise.withResolvers<Report>()
  // A test that has not begun to wait must not end the process.
  report.promise.catch(() => undefined)
  reports.set(key, report)
  return report
}

const ends = new Map<string, string>()

function hear(line: Line): void {
  switch (line.event) {
    case 'scenario':
      reportOf(line.kind, line.scenario).resolve(line)
      break
    case 'broken':
      for (const { name } of real) reportOf(line.kind, name).reject(new Error(line.reason))
      break
    case 'ready':
    case 'done':
      ends.set(`${line.kind} ${line.event}`, `${line.kind}: ${line.event} after ${line.seconds} s`)
      break
    case 'summary':
      break
  }
}

const stop = new AbortController()
let running: Promise<void> | undefined

beforeAll(() => {
  // Not waited for: the tests do that, one by one, and show how far it is.
  running = runScenarios({ whole, signal: stop.signal }, hear)
    .then(({ status, stderr }) => new Error(`no line about this scenario; status ${status}, stderr:\n${stderr}`))
    .catch((error: unknown) => error)
    .then(reason => {
      for (const kind of present) for (const { name } of real) reportOf(kind.name, name).reject(reason)
    })
})
// A part of the tests is done before the run is.
afterAll(async () => {
  stop.abort()
  await running
  console.info([...ends.values(), ...kinds.flatMap(kind => missing(kind) ?? [])].join('\n'))
})

describe.each(present)('$name', of => {
  const { name: kind } = of
  let sent = 0
  const leftOut = new Map<string, number>()

  afterAll(() => {
    const reasons = [...leftOut].map(([why, count]) => `${count} packets: ${why}`)
    console.info([`${kind}: ${sent} packets sent; not sent:`, ...reasons].join('\n  '))
  })

  test.each(chosenFor(of, real, whole).map(scenario => scenario.name))('%s', async name => {
    const report = await reportOf(kind, name).promise
    sent += report.sent
    for (const [why, count] of Object.entries(report.leftOut)) leftOut.set(why, (leftOut.get(why) ?? 0) + count)
    expect(report.failures).toEqual([])
    expect(report.sent).toBeGreaterThan(0)
  })
})
