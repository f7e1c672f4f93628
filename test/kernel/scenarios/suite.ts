// Every conformance scenario with real packets on one kind of node: the program's own command line in a node's namespace,
// then connections and datagrams from everywhere in the world.
import { execFile } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { ProxyMode } from '../../../src/config/types.ts'
import { asMeantBy } from '../../conformance/deviations.ts'
import { loadScenarios } from '../../conformance/scenario.ts'
import { type Variant, World } from '../../support/world/world.ts'
import { runScenario } from '../run-scenario.ts'

const scenarios = loadScenarios()
const real = scenarios.filter(scenario => scenario.real)

export interface Kind {
  readonly name: string
  readonly mode: ProxyMode
  /** The iptables that others on the node use. */
  readonly variant: Variant
}

/** Declares the tests. One file a kind: most of their time is waiting, and files run side by side. */
export function sendScenarios({ name: kind, mode, variant }: Kind): void {
  let world: World
  let directory: string
  let sent = 0
  const leftOut = new Map<string, number>()

  beforeAll(async () => {
    await promisify(execFile)(process.execPath, [join(import.meta.dirname, '../../../hack/build.mjs')])
    directory = await mkdtemp(join(tmpdir(), 'penstock-kernel-'))
    world = await World.open(variant)
  })
  afterAll(async () => {
    await world?.close()
    await rm(directory, { recursive: true, force: true })
    const reasons = [...leftOut].map(([why, count]) => `${count} packets: ${why}`)
    const whole = scenarios.filter(scenario => !scenario.real).map(({ name, why }) => `${name}: ${why}`)
    console.info([`${kind}: ${sent} packets sent; not sent:`, ...reasons, ...whole].join('\n  '))
  })

  test.each(real.map(scenario => [scenario.name, scenario] as const))('%s', async (_name, scenario) => {
    const report = await runScenario(world, asMeantBy(mode, scenario), mode, join(directory, 'scenario'))
    sent += report.sent
    for (const why of report.leftOut) leftOut.set(why, (leftOut.get(why) ?? 0) + 1)
    expect(report.failures).toEqual([])
    expect(report.sent).toBeGreaterThan(0)
  })
}
