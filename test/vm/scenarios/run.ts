// One kind of node in a world of its own: all its scenarios one after another, with real packets.
import { readFileSync } from 'node:fs'
import type { Scenario } from '../../conformance/scenario.ts'
import type { Pace } from '../../support/world/packets.ts'
import { sendScenario, subjectDriver } from '../../support/world/scenario.ts'
import { World } from '../../support/world/world.ts'
import type { Line, PlannedKind } from './plan.ts'

/**
 * For an emulated machine, where everything takes fifteen times as long. That no endpoint too many is chosen is looked for
 * with many more connections where the same scenarios run outside; here each set is asked until all of it has answered. With
 * n endpoints one of them stays unseen through 25 n connections once in 10^10 times.
 */
const pace: Pace = {
  silenceMs: 1_500,
  lateSilenceMs: 2_500,
  patienceMs: 20_000,
  attemptsFor: endpoints => ({
    atLeast: endpoints + 2,
    attempts: 25 * endpoints + 16,
    parallel: Math.min(8, endpoints + 2),
  }),
  parallel: 48,
}

/** Opens a world, runs all scenarios in it and tells of each. Throws where the world cannot be made or breaks. */
export async function runKind(kind: PlannedKind, tell: (line: Line) => void): Promise<void> {
  const began = performance.now()
  const world = await World.open(kind.variant, kind)
  try {
    const subject = await world.startSubject()
    tell({ event: 'ready', kind: kind.name, seconds: secondsSince(began) })
    for (const { name, file } of kind.scenarios) {
      const start = performance.now()
      const scenario: Scenario = JSON.parse(readFileSync(file, 'utf8'))
      const driver = subjectDriver(subject, { file, mode: kind.mode, starts: 'by shells' })
      const report = await sendScenario(world, driver, scenario, pace)
      tell({ event: 'scenario', kind: kind.name, scenario: name, ...report, seconds: secondsSince(start) })
    }
  } finally {
    await world.close()
  }
  tell({ event: 'done', kind: kind.name, seconds: secondsSince(began) })
}

/** Rounded to tenths. */
export const secondsSince = (began: number): number => Math.round((performance.now() - began) / 100) / 10
