// Every conformance scenario with real packets on one kind of node: the program in a node's namespace, then connections and
// datagrams from everywhere in the world. All of them with a program that stays and takes each step as a change; those that
// together show every behaviour also by the command line, shared out among the kinds. With WHOLE_SCENARIOS=1 every kind runs
// every scenario both ways.
import { execFile } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { ProxyMode } from '../../../src/config/types.ts'
import { asMeantBy } from '../../conformance/deviations.ts'
import { loadScenarios, type Scenario } from '../../conformance/scenario.ts'
import type { Worker } from '../../support/netns/sandbox.ts'
import { type Report, sendScenario, subjectDriver } from '../../support/world/scenario.ts'
import type { SubjectMethods } from '../../support/world/subject.ts'
import { type Variant, World } from '../../support/world/world.ts'
import { coverOf } from '../../vm/scenarios/choose.ts'
import { pace, runScenario } from '../run-scenario.ts'

interface Kind {
  readonly mode: ProxyMode
  /** The iptables that others on the node use. */
  readonly variant: Variant
}

const kinds = {
  'iptables-nft': { mode: 'iptables', variant: 'nft' },
  'iptables-legacy': { mode: 'iptables', variant: 'legacy' },
  nftables: { mode: 'nftables', variant: 'nft' },
} as const satisfies Readonly<Record<string, Kind>>

type KindName = keyof typeof kinds

const scenarios = loadScenarios()
const real = scenarios.filter(scenario => scenario.real)
const whole = process.env.WHOLE_SCENARIOS === '1'

/** The scenarios that a kind runs by the command line. */
function byCommandLine(name: KindName): readonly Scenario[] {
  if (whole) return real
  const names = Object.keys(kinds)
  return coverOf(real).filter((_, index) => index % names.length === names.indexOf(name))
}

const named = (of: readonly Scenario[]) => of.map(scenario => [scenario.name, scenario] as const)

/** Declares the tests. One file a kind: most of their time is waiting, and files run side by side. */
export function sendScenarios(name: KindName): void {
  const { mode, variant } = kinds[name]
  let world: World
  let subject: Worker<SubjectMethods>
  let directory: string
  let sent = 0
  const leftOut = new Map<string, number>()

  beforeAll(async () => {
    await promisify(execFile)(process.execPath, [join(import.meta.dirname, '../../../hack/build.mjs')])
    directory = await mkdtemp(join(tmpdir(), 'penstock-kernel-'))
    world = await World.open(variant)
    subject = await world.startSubject()
  })
  afterAll(async () => {
    await world?.close()
    await rm(directory, { recursive: true, force: true })
    const reasons = [...leftOut].map(([why, count]) => `${count} packets: ${why}`)
    const unreal = scenarios.filter(scenario => !scenario.real).map(({ name, why }) => `${name}: ${why}`)
    console.info([`${name}: ${sent} packets sent; not sent:`, ...reasons, ...unreal].join('\n  '))
  })

  const check = (report: Report): void => {
    sent += report.sent
    for (const [why, count] of Object.entries(report.leftOut)) leftOut.set(why, (leftOut.get(why) ?? 0) + count)
    expect(report.failures).toEqual([])
    expect(report.sent).toBeGreaterThan(0)
  }

  describe('each step a change', () => {
    test.each(named(real))('%s', async (_name, of) => {
      const scenario = asMeantBy(mode, of)
      const file = join(directory, 'scenario.json')
      await writeFile(file, JSON.stringify(scenario))
      check(await sendScenario(world, subjectDriver(subject, { file, mode, starts: 'directly' }), scenario, pace))
    })
  })

  describe('each step by the command line', () => {
    test.each(named(byCommandLine(name)))('%s', async (_name, of) => {
      check(await runScenario(world, asMeantBy(mode, of), mode, join(directory, 'scenario')))
    })
  })
}
