// The call by which a backend proves itself: every scenario from scratch, and event by event against a strict kernel.
import { describe, expect, test } from 'vitest'
import type { ObjectEvent } from '../../src/api/decode.ts'
import type { Outcome, Program } from '../../src/backend/backend.ts'
import { backendFor } from '../../src/backend/registry.ts'
import type { ProxyMode } from '../../src/config/types.ts'
import type { Exec } from '../../src/kernel/exec.ts'
import type { Family } from '../../src/net/ip.ts'
import { asMeantBy, type Deviation, deviationsOf } from './deviations.ts'
import { loadScenarios, type Scenario, type ScenarioPacket } from './scenario.ts'
import { complaintAbout, eventsOf, type Programs, type Subject, subjectOf } from './subject.ts'

/** A machine of its own for a test, whose kernel is as strict as a real one. */
export interface StrictMachine extends Exec {
  /** Calls that write, so far: it must stand still where nothing changes. */
  writes(): number
  /** Told after every commit that took effect; `frozen` answers reads with the state of that moment. */
  onCommit(listener: ((family: Family, frozen: Exec) => void) | undefined): void
}

export interface ConformanceOptions {
  readonly mode: ProxyMode
  readonly machine: () => StrictMachine
  /** Those written down for the mode, if left out. With a deviation, the scenario's packets meet what the mode means. */
  readonly deviations?: readonly Deviation[]
}

/** Hundreds of Services, change by change, on a machine that has more to do. */
const patienceMs = 180_000
/** With more changes than this in one step, several are taken in between two syncs. */
const singly = 40
/** Packets that are followed through every commit, at most: a scenario's own small set, not its hundreds. */
const followed = 24

/** Registers the tests of one backend: two for every scenario. */
export function conformance(name: string, options: ConformanceOptions): void {
  const { mode, machine, deviations = deviationsOf(mode) } = options
  const scenarios = loadScenarios()
  describe(`conformance: ${name}`, () => {
    test('deviations name scenarios that exist', () => {
      const known = scenarios.map(scenario => scenario.name)
      expect(deviations.flatMap(({ scenarios: named }) => named).filter(named => !known.includes(named))).toEqual([])
    })
    for (const scenario of scenarios) {
      test(`${scenario.name}: compiled from scratch`, async () => {
        expect(await fromScratch(asMeantBy(mode, scenario, deviations), mode, machine())).toEqual([])
      })
      test(`${scenario.name}: event by event`, { timeout: patienceMs }, async () => {
        await eventByEvent(asMeantBy(mode, scenario, deviations), mode, machine())
      })
    }
  })
}

/** Every step compiled anew from the objects that exist at it. Returns what is not as expected. */
async function fromScratch(scenario: Scenario, mode: ProxyMode, exec: Exec): Promise<string[]> {
  const complaints: string[] = []
  for (const [index, step] of scenario.steps.entries()) {
    const subject = await afresh(scenario, index, mode, exec)
    const programs = await subject.desired()
    complaints.push(...complaintsAbout(step.packets, subject, programs, step.title), ...subject.complaints)
  }
  return complaints
}

/** A subject that was told of everything up to a step at once. */
async function afresh(scenario: Scenario, index: number, mode: ProxyMode, exec: Exec): Promise<Subject> {
  const latest = new Map<string, ObjectEvent>()
  for (const step of scenario.steps.slice(0, index + 1)) {
    for (const event of eventsOf(step)) latest.set(`${event.kind} ${event.key}`, event)
  }
  const subject = subjectOf(scenario, mode, exec)
  subject.take([...latest.values()].filter(event => event.record !== undefined))
  return subject
}

function complaintsAbout(
  packets: readonly ScenarioPacket[],
  subject: Subject,
  programs: Programs,
  title: string,
): string[] {
  return packets.flatMap(packet => {
    const complaint = complaintAbout(packet, subject.trace(programs, packet.packet))
    return complaint === undefined ? [] : [`step "${title}": ${complaint}`]
  })
}

/** Each change by itself through the syncer into the kernel; then a restart, which must find nothing to do. */
async function eventByEvent(scenario: Scenario, mode: ProxyMode, machine: StrictMachine): Promise<void> {
  const subject = subjectOf(scenario, mode, machine)
  let held = await subject.held()
  const packets = scenario.steps.flatMap(step => step.packets).slice(0, followed)
  for (const [index, step] of scenario.steps.entries()) {
    const events = eventsOf(step)
    const atOnce = events.length > singly ? Math.ceil(events.length / 10) : 1
    for (let at = 0; at < events.length; at += atOnce) {
      held = await followedSync(subject, held, events.slice(at, at + atOnce), packets, machine, mode)
    }
    expect(subject.complaints, step.title).toEqual([])
    const scratch = await (await afresh(scenario, index, mode, machine)).desired()
    expect(asText(held), `what the kernel holds after "${step.title}"`).toEqual(asText(await subject.desired()))
    expect(asText(held), `the same from scratch after "${step.title}"`).toEqual(asText(scratch))
    expect(complaintsAbout(step.packets, subject, held, step.title)).toEqual([])
  }
  // What goes on by itself ends with the process, as draining does.
  for (const { backend } of subject.assembly.families) backend.stop?.()
  const before = machine.writes()
  const restarted = await afresh(scenario, scenario.steps.length - 1, mode, machine)
  await restarted.sync()
  expect(machine.writes() - before, 'writes of a restart').toBe(0)
}

/**
 * Takes changes in and syncs; a packet with an endpoint before and after must have one of them at every commit between.
 * Returns what the kernel then holds.
 */
async function followedSync(
  subject: Subject,
  before: Programs,
  events: readonly ObjectEvent[],
  packets: readonly ScenarioPacket[],
  machine: StrictMachine,
  mode: ProxyMode,
): Promise<Programs> {
  const between: { family: Family; frozen: Exec }[] = []
  machine.onCommit((family, frozen) => between.push({ family, frozen }))
  subject.take(events)
  await subject.sync()
  machine.onCommit(undefined)
  const after = await subject.held()
  const served = packets.flatMap(({ packet }) => {
    const [first, last] = [before, after].map(programs => subject.trace(programs, packet))
    return first?.verdict === 'dnat' && last?.verdict === 'dnat' ? [{ packet, allowed: addressesOf(first, last) }] : []
  })
  for (const { family, frozen } of between) {
    // Reading is dear.
    if (!served.some(({ packet }) => packet.dst.includes(':') === (family === 'IPv6'))) continue
    const programs = new Map([[family, await readFrozen(mode, family, frozen)]])
    for (const { packet, allowed } of served) {
      if (packet.dst.includes(':') !== (family === 'IPv6')) continue
      const { verdict, endpoints } = subject.trace(programs, packet)
      const astray = endpoints.filter(({ address }) => !allowed.has(address))
      const what = `${packet.src} → ${packet.dst} port ${packet.port} in the middle of a sync`
      expect({ verdict, astray }, what).toEqual({ verdict: 'dnat', astray: [] })
    }
  }
  return after
}

async function readFrozen(mode: ProxyMode, family: Family, frozen: Exec): Promise<Program> {
  const backend = backendFor(mode, { family, exec: frozen })
  if (backend === undefined) throw new Error(`there is no backend for ${mode}`)
  return backend.read(new AbortController().signal)
}

const addressesOf = (...outcomes: readonly Outcome[]): ReadonlySet<string> =>
  new Set(outcomes.flatMap(({ endpoints }) => endpoints.map(({ address }) => address)))

/** Comparable, and readable where it differs. */
const asText = (programs: Programs): readonly string[] =>
  [...programs].flatMap(([family, program]) => [...program].map(([key, value]) => `${family} ${key}\n${value}`).sort())
