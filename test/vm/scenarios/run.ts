// One kind of node in a world of its own: all its scenarios one after another, with real packets.
import { readFileSync } from 'node:fs'
import { type ApiObject, refOf } from '../../conformance/objects.ts'
import type { Scenario, ScenarioPacket, Step } from '../../conformance/scenario.ts'
import { world as places } from '../../conformance/world.ts'
import { complaintAbout, listenersFor, listenersOf, type Pace, questionFor, unsendable } from './packets.ts'
import type { Line, PlannedKind, PlannedScenario, Report } from './plan.ts'
import { SlowWorld } from './world.ts'

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
}

/** Probes of one step under way at once. */
const parallelProbes = 48

/** Opens a world, runs all scenarios in it and tells of each. Throws where the world cannot be made or breaks. */
export async function runKind(kind: PlannedKind, tell: (line: Line) => void): Promise<void> {
  const began = performance.now()
  const world = await SlowWorld.open(kind)
  try {
    tell({ event: 'ready', kind: kind.name, seconds: secondsSince(began) })
    for (const planned of kind.scenarios) {
      const report = await runScenario(world, kind, planned)
      tell({ event: 'scenario', kind: kind.name, scenario: planned.name, ...report })
    }
  } finally {
    await world.close()
  }
  tell({ event: 'done', kind: kind.name, seconds: secondsSince(began) })
}

async function runScenario(world: SlowWorld, { mode }: PlannedKind, { file }: PlannedScenario): Promise<Report> {
  const began = performance.now()
  const { subject } = world
  const scenario: Scenario = JSON.parse(readFileSync(file, 'utf8'))
  const failures: string[] = []
  const leftOut: Record<string, number> = {}
  const objects = new Map<string, ApiObject>()
  let sent = 0
  await Promise.all([
    world.setFurtherAddresses(scenario.nodeAddresses.filter(address => !places.nodeAddresses.includes(address))),
    subject.call('begin', { file, mode }),
  ])
  for (const [index, step] of scenario.steps.entries()) {
    change(objects, step)
    const fail = (what: string): void => void failures.push(`step "${step.title}": ${what}`)
    const [wrong] = await Promise.all([
      subject.call('step', { index }),
      world.serve([...listenersOf([...objects.values()]), ...listenersFor(step)]),
    ])
    wrong.forEach(fail)
    const sendable: ScenarioPacket[] = []
    for (const packet of step.packets) {
      const why = unsendable(packet)
      if (why === undefined) sendable.push(packet)
      else leftOut[why] = (leftOut[why] ?? 0) + 1
    }
    const questions = sendable.map(packet => questionFor(packet, pace))
    const [differences, results] = await Promise.all([
      subject.call('compare', undefined as never),
      world.ask(questions, parallelProbes),
    ])
    sent += sendable.length
    differences.forEach(fail)
    for (const [at, packet] of sendable.entries()) {
      const complaint = complaintAbout(packet, results[at] ?? [], address => world.ownsAddress(address))
      if (complaint !== undefined) fail(complaint)
    }
  }
  return { failures, sent, leftOut, seconds: secondsSince(began) }
}

function change(objects: Map<string, ApiObject>, step: Step): void {
  for (const ref of step.remove) objects.delete(`${ref.kind}/${ref.key}`)
  for (const object of step.apply) {
    const { kind, key } = refOf(object)
    objects.set(`${kind}/${key}`, object)
  }
}

/** Rounded to tenths. */
export const secondsSince = (began: number): number => Math.round((performance.now() - began) / 100) / 10
