// The program under test, put together as it is in production, fed with a scenario's objects and without a machine.

import { decodeEvent, modelKinds, type ObjectEvent, removalEvent } from '../../src/api/decode.ts'
import { DecodeError } from '../../src/api/fields.ts'
import type { Outcome, Program } from '../../src/backend/backend.ts'
import type { Netlink } from '../../src/backend/registry.ts'
import { type Assembly, assemble } from '../../src/commands/assembly.ts'
import type { ProxyMode } from '../../src/config/types.ts'
import type { Exec } from '../../src/kernel/exec.ts'
import { type Family, familyOf } from '../../src/net/ip.ts'
import type { Packet } from '../../src/net/packet.ts'
import { configurationOf } from './configuration.ts'
import { refOf } from './objects.ts'
import type { Scenario, ScenarioPacket, Step } from './scenario.ts'
import { world } from './world.ts'

export const families: readonly Family[] = ['IPv4', 'IPv6']

/** What both families hold. */
export type Programs = ReadonlyMap<Family, Program>

export interface Subject {
  readonly assembly: Assembly
  /** Failures and rules set aside, as sentences; none are expected. */
  readonly complaints: readonly string[]
  /** Takes events in and hands them on, writing nothing. */
  take(events: readonly ObjectEvent[]): void
  /** Writes what is pending in both families. */
  sync(): Promise<void>
  /** What the model asks for. */
  desired(): Promise<Programs>
  /** What the kernel holds. */
  held(): Promise<Programs>
  trace(programs: Programs, packet: Packet): Outcome
}

/** A program that knows nothing yet, on a machine that may hold something already. */
export function subjectOf(scenario: Scenario, mode: ProxyMode, exec: Exec, netlink?: Netlink): Subject {
  const complaints: string[] = []
  const assembly = assemble({
    configuration: configurationOf(scenario.config, mode),
    nodeName: world.nodeName,
    families,
    exec,
    netlink,
    hostAddresses: scenario.nodeAddresses,
    givenAddresses: [],
    observer: {
      synced: () => undefined,
      failed: (family, error) => complaints.push(`${family}: ${error.kind}: ${error.message}`),
      setAside: item => complaints.push(`${item.family}: ${item.servicePort} is set aside: ${item.reason}`),
      conflict: () => undefined,
      degraded: (family, lost) => complaints.push(`${family}: ${lost}`),
    },
  })
  for (const of of modelKinds) assembly.store.apply({ kind: 'synced', of })
  const { signal } = new AbortController()
  const each = async (read: (part: Assembly['families'][number]) => Promise<Program>): Promise<Programs> => {
    const found = new Map<Family, Program>()
    for (const part of assembly.families) found.set(part.family, await read(part))
    return found
  }
  return {
    assembly,
    complaints,
    take(events) {
      for (const event of events) assembly.store.apply(event)
      assembly.distribute()
    },
    async sync() {
      for (const { syncer } of assembly.families) await syncer.sync(signal)
    },
    desired: () => each(({ syncer }) => syncer.compile()),
    held: () => each(({ backend }) => backend.read(signal)),
    trace(programs, packet) {
      const family = familyOf(packet.dst)
      const part = assembly.families.find(candidate => candidate.family === family)
      const program = programs.get(family)
      if (part === undefined || program === undefined) throw new Error(`nothing is programmed for ${family}`)
      return part.backend.trace(program, packet, part.network())
    },
  }
}

/** A step's changes in order: deletions, then what is created or replaced. Objects that cannot be used change nothing. */
export function eventsOf(step: Step): ObjectEvent[] {
  const removals = step.remove.map(({ kind, key }) => removalEvent(kind, key))
  return [
    ...removals,
    ...step.apply.flatMap(object => {
      const { kind, key } = refOf(object)
      try {
        return [decodeEvent(kind, key, object, () => undefined)]
      } catch (error) {
        if (error instanceof DecodeError) return []
        throw error
      }
    }),
  ]
}

/** Says how an outcome is not the expected one; undefined if it is. */
export function complaintAbout({ packet, expect }: ScenarioPacket, outcome: Outcome): string | undefined {
  const problems: string[] = []
  const differ = (what: string, expected: unknown, found: unknown): void => {
    if (JSON.stringify(expected) !== JSON.stringify(found)) {
      problems.push(`${what} ${JSON.stringify(found)} instead of ${JSON.stringify(expected)}`)
    }
  }
  const addresses = outcome.endpoints.map(({ address }) => address).sort()
  differ('verdict', expect.verdict, outcome.verdict)
  differ('endpoints', expect.endpoints, addresses)
  if (expect.masquerade !== undefined) differ('masquerade', expect.masquerade, outcome.masquerade)
  if (expect.servicePort !== undefined) differ('servicePort', expect.servicePort, outcome.servicePort)
  // Six decimals are shown.
  const uneven = outcome.endpoints.some(({ probability }) => Math.abs(probability - 1 / addresses.length) > 1e-6)
  if (uneven) problems.push(`uneven: ${outcome.endpoints.map(({ probability }) => probability).join(' ')}`)
  if (problems.length === 0) return undefined
  const from = `${packet.src}${packet.interface === undefined ? '' : ` by ${packet.interface}`}`
  return `${packet.protocol} ${from} → ${packet.dst} port ${packet.port}: ${problems.join('; ')}`
}
