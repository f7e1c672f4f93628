// The conformance call: every scenario on one backend, by trace and by the incremental path against a strict kernel.
import { describe, expect, it } from 'vitest'
import { decodeEvent, removalEvent } from '../../src/api/decode.ts'
import type { Program } from '../../src/backend/backend.ts'
import { type Assembly, assemble } from '../../src/commands/assembly.ts'
import { parseCommandLine } from '../../src/config/flags.ts'
import { load } from '../../src/config/load.ts'
import type { Configuration } from '../../src/config/types.ts'
import type { Exec } from '../../src/kernel/exec.ts'
import type { ModelEvent } from '../../src/model/records.ts'
import { type Family, familyOf } from '../../src/net/ip.ts'
import { type ApiObject, refOf } from './objects.ts'
import { loadScenarios, type Scenario, type ScenarioConfig, type ScenarioPacket, type Step } from './scenario.ts'
import { world } from './world.ts'

/** Scenarios that a backend meets otherwise, and why. */
export interface Deviation {
  readonly reason: string
  /** Names of scenario files, without the ending. */
  readonly scenarios: readonly string[]
}

export interface ConformanceOptions {
  readonly mode: Configuration['mode']
  /** A machine of its own for each scenario, whose kernel is as strict as a real one. */
  readonly machine: () => Exec
  readonly deviations: readonly Deviation[]
}

const families: readonly Family[] = ['IPv4', 'IPv6']

/** Registers a test for every scenario. What deviates is registered too, as left out, with the reason in its title. */
export function conformance(name: string, options: ConformanceOptions): void {
  const reasons = new Map(
    options.deviations.flatMap(({ reason, scenarios }) => scenarios.map(scenario => [scenario, reason] as const)),
  )
  const scenarios = loadScenarios()
  describe(`conformance: ${name}`, () => {
    it('names only scenarios that exist as deviations', () => {
      const names = new Set(scenarios.map(scenario => scenario.name))
      expect([...reasons.keys()].filter(deviating => !names.has(deviating))).toEqual([])
    })
    for (const scenario of scenarios) {
      const reason = reasons.get(scenario.name)
      const title = reason === undefined ? scenario.name : `${scenario.name} (deviates: ${reason})`
      it.skipIf(reason !== undefined)(title, () => runScenario(scenario, options))
    }
  })
}

async function runScenario(scenario: Scenario, { mode, machine }: ConformanceOptions): Promise<void> {
  const configuration = configurationOf(scenario.config, mode)
  const present = new Map<string, ApiObject>()
  const incremental = node(scenario, configuration, machine())
  for (const step of scenario.steps) {
    for (const { kind, key } of step.remove) present.delete(`${kind} ${key}`)
    for (const object of step.apply) present.set(idOf(object), object)

    // At once: everything that exists now, in a node that starts with it.
    const fresh = node(scenario, configuration, machine())
    for (const object of present.values()) fresh.store.apply(eventOf(object))
    fresh.distribute()
    const desired = await compiled(fresh)
    for (const packet of step.packets) meets(fresh, desired, step, packet)

    // One event at a time, each committed before the next: the kernel must come to hold the same.
    for (const event of eventsOf(step)) {
      incremental.store.apply(event)
      incremental.distribute()
      await synced(incremental)
    }
    const held = await heldBy(incremental)
    for (const family of families) {
      expect(inOrder(held.get(family)), `${step.title}: ${family} rules in the kernel`).toEqual(
        inOrder(desired.get(family)),
      )
    }
    for (const packet of step.packets) meets(incremental, held, step, packet)
  }
}

function node(scenario: Scenario, configuration: Configuration, exec: Exec): Assembly {
  return assemble({
    configuration,
    nodeName: world.nodeName,
    families,
    exec,
    hostAddresses: scenario.nodeAddresses,
    givenAddresses: [],
    observer: {
      synced: () => undefined,
      failed: (family, error) => expect.fail(`${family}: the kernel did not take it: ${error.message}`),
      setAside: ({ servicePort, reason }) => expect.fail(`${servicePort} was set aside: ${reason}`),
      conflict: () => undefined,
    },
  })
}

const eventOf = (object: ApiObject): ModelEvent => {
  const { kind, key } = refOf(object)
  // Scenarios hold odd objects on purpose: what is reported of them is the decoder's tests' concern.
  return decodeEvent(kind, key, object, () => undefined)
}

const eventsOf = (step: Step): ModelEvent[] => [
  ...step.remove.map(({ kind, key }) => removalEvent(kind, key)),
  ...step.apply.map(eventOf),
]

const idOf = (object: ApiObject): string => {
  const { kind, key } = refOf(object)
  return `${kind} ${key}`
}

async function compiled(assembly: Assembly): Promise<ReadonlyMap<Family, Program>> {
  const programs = new Map<Family, Program>()
  for (const { family, syncer } of assembly.families) programs.set(family, await syncer.compile())
  return programs
}

async function heldBy(assembly: Assembly): Promise<ReadonlyMap<Family, Program>> {
  const programs = new Map<Family, Program>()
  for (const { family, backend } of assembly.families) {
    programs.set(family, await backend.read(new AbortController().signal))
  }
  return programs
}

async function synced(assembly: Assembly): Promise<void> {
  for (const { syncer } of assembly.families) await syncer.sync(new AbortController().signal)
}

const inOrder = (program: Program | undefined): [string, string][] =>
  [...(program ?? [])].sort(([a], [b]) => (a < b ? -1 : 1))

/** One packet, walked through the rules. */
function meets(
  assembly: Assembly,
  programs: ReadonlyMap<Family, Program>,
  step: Step,
  { packet, expect: expected }: ScenarioPacket,
): void {
  const family = familyOf(packet.dst)
  const found = assembly.families.find(candidate => candidate.family === family)
  const program = programs.get(family)
  if (found === undefined || program === undefined) expect.fail(`no rules for ${family}`)
  const outcome = found.backend.trace(program, packet, found.network())
  const where = `${step.title}: ${packet.src} → ${packet.dst} port ${packet.port}/${packet.protocol}`
  expect(outcome.verdict, where).toBe(expected.verdict)
  expect(outcome.endpoints.map(({ address }) => address).sort(), where).toEqual([...expected.endpoints].sort())
  if (outcome.verdict === 'dnat') {
    const total = outcome.endpoints.reduce((sum, { probability }) => sum + probability, 0)
    expect(total, `${where}: probabilities`).toBeCloseTo(1, 3)
  }
  if (expected.masquerade !== undefined) expect(outcome.masquerade, `${where}: masquerade`).toBe(expected.masquerade)
  if (expected.servicePort !== undefined) {
    expect(outcome.servicePort, `${where}: Service port`).toBe(expected.servicePort)
  }
}

/** The scenario's fields as a file, so that they take the same way as an operator's. */
function configurationOf(config: ScenarioConfig, mode: Configuration['mode']): Configuration {
  const { masqueradeAll, masqueradeBit, localhostNodePorts, ...general } = config
  const masquerade = { masqueradeAll, masqueradeBit }
  const file = {
    apiVersion: 'kubeproxy.config.k8s.io/v1alpha1',
    kind: 'KubeProxyConfiguration',
    mode,
    ...general,
    iptables: { ...masquerade, localhostNodePorts },
    nftables: masquerade,
  }
  return load(parseCommandLine(['--config', 'scenario']), () => JSON.stringify(file)).configuration
}
