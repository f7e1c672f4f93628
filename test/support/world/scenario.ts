// One scenario in the world with real packets: after each step what is written is met by probes, and must read back as it
// was meant.
import { type ApiObject, refOf } from '../../conformance/objects.ts'
import type { Scenario, ScenarioPacket, Step } from '../../conformance/scenario.ts'
import { world as places } from '../../conformance/world.ts'
import type { Worker } from '../netns/sandbox.ts'
import { complaintAbout, listenersFor, listenersOf, type Pace, questionFor, unsendable } from './packets.ts'
import type { Beginning, SubjectMethods } from './subject.ts'
import type { World } from './world.ts'

/** How the program under test is brought to each step of a scenario. Complaints are sentences. */
export interface Driver {
  begin(): Promise<void>
  /** Makes the program write what the step of that number asks for, and forgets all flows. Returns what went wrong. */
  step(index: number, present: readonly ApiObject[]): Promise<readonly string[]>
  /** Reads back what the kernel holds. Returns how it differs from what is wanted. */
  compare(): Promise<readonly string[]>
}

/** The program as a process that stays: each step is a change to what runs. */
export const subjectDriver = (subject: Worker<SubjectMethods>, beginning: Beginning): Driver => ({
  begin: () => subject.call('begin', beginning),
  step: index => subject.call('step', { index }),
  compare: () => subject.call('compare', undefined as never),
})

/** What a scenario came to. */
export interface Report {
  /** A sentence for every packet or check that went wrong. */
  readonly failures: readonly string[]
  /** How many packets were sent, however often each. */
  readonly sent: number
  /** How many were not, by reason. */
  readonly leftOut: Readonly<Record<string, number>>
}

/** Runs all steps of a scenario; the first that the program cannot take is the last. */
export async function sendScenario(world: World, driver: Driver, scenario: Scenario, pace: Pace): Promise<Report> {
  const failures: string[] = []
  const leftOut: Record<string, number> = {}
  const objects = new Map<string, ApiObject>()
  let sent = 0
  await Promise.all([
    world.setFurtherAddresses(scenario.nodeAddresses.filter(address => !places.nodeAddresses.includes(address))),
    driver.begin(),
  ])
  for (const [index, step] of scenario.steps.entries()) {
    change(objects, step)
    const present = [...objects.values()]
    const fail = (what: string): void => void failures.push(`step "${step.title}": ${what}`)
    const [wrong] = await Promise.all([
      driver.step(index, present),
      world.serve([...listenersOf(present), ...listenersFor(step)]),
    ])
    wrong.forEach(fail)
    if (wrong.length > 0) break
    const sendable: ScenarioPacket[] = []
    for (const packet of step.packets) {
      const why = unsendable(packet)
      if (why === undefined) sendable.push(packet)
      else leftOut[why] = (leftOut[why] ?? 0) + 1
    }
    // Packets that must be dropped are waited for: time enough to read the rules back.
    const [differences, results] = await Promise.all([
      driver.compare(),
      world.ask(
        sendable.map(packet => questionFor(packet, pace)),
        pace.parallel,
      ),
    ])
    sent += sendable.length
    differences.forEach(fail)
    for (const [at, packet] of sendable.entries()) {
      const complaint = complaintAbout(packet, results[at] ?? [], address => world.ownsAddress(address))
      if (complaint !== undefined) fail(complaint)
    }
  }
  return { failures, sent, leftOut }
}

function change(objects: Map<string, ApiObject>, step: Step): void {
  for (const ref of step.remove) objects.delete(`${ref.kind}/${ref.key}`)
  for (const object of step.apply) {
    const { kind, key } = refOf(object)
    objects.set(`${kind}/${key}`, object)
  }
}
