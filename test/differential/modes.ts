// One cluster in every mode: what each backend compiles from it, what each answers to a packet, and what it should.
import { decodeEvent, modelKinds, type ObjectEvent } from '../../src/api/decode.ts'
import { DecodeError } from '../../src/api/fields.ts'
import type { Outcome, Program } from '../../src/backend/backend.ts'
import { backends } from '../../src/backend/registry.ts'
import { type Assembly, assemble } from '../../src/commands/assembly.ts'
import { type NodeFacts, nodeViewOf } from '../../src/commands/node.ts'
import type { ProxyMode } from '../../src/config/types.ts'
import type { Exec } from '../../src/kernel/exec.ts'
import { type Family, familyOf } from '../../src/net/ip.ts'
import type { Packet } from '../../src/net/packet.ts'
import { Claims } from '../../src/policy/claims.ts'
import type { NodeView } from '../../src/policy/node-view.ts'
import { resolve } from '../../src/policy/resolve.ts'
import type { ServicePort } from '../../src/policy/service-port.ts'
import { configurationOf } from '../conformance/configuration.ts'
import { refOf } from '../conformance/objects.ts'
import { world } from '../conformance/world.ts'
import { families, type RandomCluster } from './cluster.ts'
import { configurationIn, type Expected, expectedIn } from './deviations.ts'
import { type Answer, answerOf, type View, viewOf } from './oracle.ts'

/** The mode whose policy the others are held against. */
const referenceMode = 'iptables'

const isMode = (name: string): name is ProxyMode => name === 'iptables' || name === 'nftables' || name === 'ipvs'

/** All modes of this version. */
export const modes: readonly ProxyMode[] = Object.keys(backends).filter(isMode)

/** Nothing is read or written here. */
const noMachine: Exec = {
  run: command => Promise.reject(new Error(`${command} is not to be run: nothing here touches a kernel`)),
}

/** A cluster compiled in one mode. */
export interface Compiled {
  readonly mode: ProxyMode
  readonly trace: (packet: Packet) => Outcome
}

/** A cluster as the policy reads it. */
export type Views = Readonly<Record<Family, View>>

/** Decoded once for all modes. An object that cannot be used changes nothing. */
export function eventsOf({ objects }: RandomCluster): ObjectEvent[] {
  return objects.flatMap(object => {
    const { kind, key } = refOf(object)
    try {
      return [decodeEvent(kind, key, object, () => undefined)]
    } catch (error) {
      if (error instanceof DecodeError) return []
      throw error
    }
  })
}

/** The program's parts in one mode, told of everything. */
export function assembled(
  cluster: RandomCluster,
  mode: ProxyMode,
  events: readonly ObjectEvent[],
  exec = noMachine,
): Assembly {
  const unexpected = (what: string) => (): never => {
    throw new Error(`a program that is only compiled has ${what}`)
  }
  const assembly = assemble({
    configuration: configurationOf(configurationIn(mode, cluster.config), mode),
    nodeName: world.nodeName,
    families,
    exec,
    hostAddresses: cluster.nodeAddresses,
    givenAddresses: [],
    observer: {
      synced: () => undefined,
      failed: unexpected('failed to sync'),
      setAside: unexpected('set a Service port aside'),
      conflict: () => undefined,
    },
  })
  for (const of of modelKinds) assembly.store.apply({ kind: 'synced', of })
  for (const event of events) assembly.store.apply(event)
  assembly.distribute()
  return assembly
}

/** Compiles a cluster in one mode. */
export async function compiledIn(
  mode: ProxyMode,
  cluster: RandomCluster,
  events: readonly ObjectEvent[],
): Promise<Compiled> {
  const assembly = assembled(cluster, mode, events)
  const programs = new Map<Family, Program>()
  for (const { family, syncer } of assembly.families) programs.set(family, await syncer.compile())
  return { mode, trace: tracerOf(assembly, programs) }
}

/** Traces through programs that were compiled, or read back. */
export function tracerOf(assembly: Assembly, programs: ReadonlyMap<Family, Program>): (packet: Packet) => Outcome {
  return packet => {
    const family = familyOf(packet.dst)
    const part = assembly.families.find(candidate => candidate.family === family)
    const program = programs.get(family)
    if (part === undefined || program === undefined) throw new Error(`nothing is programmed for ${family}`)
    return part.backend.trace(program, packet, part.network())
  }
}

/** What the policy says of a cluster in both families. */
export function viewsOf(cluster: RandomCluster, events: readonly ObjectEvent[]): Views {
  const configuration = configurationOf(cluster.config, referenceMode)
  const assembly = assembled(cluster, referenceMode, events)
  const facts: NodeFacts = {
    name: world.nodeName,
    record: assembly.store.node(),
    hostAddresses: cluster.nodeAddresses,
    givenAddresses: [],
    conntrackIsLiberal: false,
    serviceCIDRs: assembly.store.serviceCIDRs(),
  }
  const view = (family: Family): View => {
    const part = assembly.families.find(candidate => candidate.family === family)
    if (part === undefined) throw new Error(`nothing is assembled for ${family}`)
    const ports = grantedIn(assembly, nodeViewOf(configuration, facts, family), family)
    const serviceCIDRs = facts.serviceCIDRs.filter(({ address }) => familyOf(address) === family)
    return viewOf(part.network(), ports, serviceCIDRs)
  }
  return { IPv4: view('IPv4'), IPv6: view('IPv6') }
}

/** Every Service claims twice: by then each knows who else wants what it wants. */
function grantedIn({ store }: Assembly, node: NodeView, family: Family): ServicePort[] {
  const claims = new Claims()
  const claimAll = (): ServicePort[] =>
    [...store.keys()].flatMap(key => {
      const service = store.service(key)
      if (service === undefined) return []
      return claims.claim(key, service.createdAt, resolve(service, store.slices(key), node, family)).granted
    })
  claimAll()
  return claimAll()
}

/** What every mode must answer to a packet. */
export function expectedFor(packet: Packet, views: Views): (mode: ProxyMode) => Expected {
  const view = views[familyOf(packet.dst)]
  const policy = answerOf(packet, view)
  return mode => expectedIn(mode, policy, packet, view)
}

/** A sentence if an outcome is not the answer that it must be. */
export function complaintAbout(outcome: Outcome, expected: Answer | 'any'): string | undefined {
  if (expected === 'any') return undefined
  const found: Answer = {
    verdict: outcome.verdict,
    endpoints: outcome.endpoints
      .map(({ address, masquerade }) => `${address}${masquerade ? ' masqueraded' : ''}`)
      .sort(),
    // What is not for a Service may have met the rule of one all the same, such as that of its health checks.
    servicePort: expected.servicePort === null ? null : outcome.servicePort,
  }
  const problems = (['verdict', 'endpoints', 'servicePort'] as const).flatMap(field => {
    const [is, should] = [JSON.stringify(found[field]), JSON.stringify(expected[field])]
    return is === should ? [] : [`${field} is ${is}, expected ${should}`]
  })
  // Six decimals are shown.
  const share = 1 / outcome.endpoints.length
  const uneven = outcome.endpoints.filter(({ probability }) => Math.abs(probability - share) > 2e-6)
  for (const { address, probability } of uneven)
    problems.push(`${address} has the probability ${probability} and not ${share}`)
  if (outcome.masquerade !== outcome.endpoints.some(({ masquerade }) => masquerade)) {
    problems.push(`masquerade is ${outcome.masquerade}, which is not what its endpoints say`)
  }
  return problems.length === 0 ? undefined : problems.join('; ')
}
