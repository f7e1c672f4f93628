// The real kernel held against `trace`: random clusters small enough for the test world are programmed by the program
// itself, read back, and met by real packets, each of which must fare as the trace of what was read back says.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Outcome, Program } from '../../src/backend/backend.ts'
import type { ProxyMode } from '../../src/config/types.ts'
import type { Exec } from '../../src/kernel/exec.ts'
import { type Family, formatAddressPort } from '../../src/net/ip.ts'
import type { Packet } from '../../src/net/packet.ts'
import { mapping } from '../conformance/check.ts'
import { type ApiObject, refOf } from '../conformance/objects.ts'
import type { Scenario, ScenarioPacket } from '../conformance/scenario.ts'
import { type Origin, originOf } from '../conformance/world.ts'
import { runScenario, unsendable } from '../kernel/run-scenario.ts'
import { inputOf } from '../support/input.ts'
import { type Variant, World } from '../support/world/world.ts'
import { type RandomCluster, randomCluster } from './cluster.ts'
import { configurationIn } from './deviations.ts'
import { assembled, eventsOf, tracerOf } from './modes.ts'
import { isOfHost, packetMaker } from './packets.ts'
import { Random } from './random.ts'

/** A mode on a kind of node. */
export interface KernelKind {
  readonly name: string
  readonly mode: ProxyMode
  /** The iptables that others on the node use. */
  readonly variant: Variant
}

/** What can be shown in namespaces of any kernel; IPVS needs one of its own. */
export const kernelKinds: readonly KernelKind[] = [
  { name: 'iptables-nft', mode: 'iptables', variant: 'nft' },
  { name: 'iptables-legacy', mode: 'iptables', variant: 'legacy' },
  { name: 'nftables', mode: 'nftables', variant: 'nft' },
]

/** Probes into one cluster, and how many of them may be such as no rule takes. */
export const probesPerCluster = 50
const mostUntaken = 10

export interface RealTrial {
  readonly seed: string
  readonly cluster: number
  readonly kind: KernelKind
  /** Emptied and used for what the program reads. */
  readonly directory: string
}

export interface RealResult {
  readonly sent: number
  readonly failures: readonly string[]
  /** Verdicts of the trace, and how many packets were sent for each. */
  readonly verdicts: ReadonlyMap<string, number>
}

/** One random cluster in the world. The program must have been built. */
export async function runRealTrial(
  world: World,
  { seed, cluster: number, kind, directory }: RealTrial,
): Promise<RealResult> {
  const cluster = randomCluster(new Random(seed, number, 'real cluster'), { small: true })
  const scenario = (packets: readonly ScenarioPacket[]): Scenario => ({
    name: `random-${number}`,
    shows: `cluster ${number} of seed ${seed}`,
    reference: [],
    config: configurationIn(kind.mode, cluster.config),
    nodeAddresses: cluster.nodeAddresses,
    real: true,
    steps: [{ title: kind.name, apply: cluster.objects, remove: [], packets }],
  })
  const programmed = await runScenario(world, scenario([]), kind.mode, directory)
  if (programmed.failures.length > 0) return { sent: 0, failures: programmed.failures, verdicts: new Map() }

  const trace = await tracerOfKernel(world, cluster, kind.mode)
  const packets = randomProbes(new Random(seed, number, 'real packets'), cluster, trace)
  const { failures, sent } = await runScenario(world, scenario(packets), kind.mode, directory)
  const verdicts = new Map<string, number>()
  for (const { expect } of packets) verdicts.set(expect.verdict, (verdicts.get(expect.verdict) ?? 0) + 1)
  return { sent, failures, verdicts }
}

/** Traces through what the kernel of node-a holds. */
async function tracerOfKernel(
  world: World,
  cluster: RandomCluster,
  mode: ProxyMode,
): Promise<(packet: Packet) => Outcome> {
  const exec: Exec = {
    async run(command, args, options = {}) {
      const input = await inputOf(options)
      const outcome = await world.sandbox.exec({
        namespace: 'node-a',
        argv: [command, ...args],
        ...(input === undefined ? {} : { input }),
      })
      return { ...outcome, notFound: false }
    },
  }
  const assembly = assembled(cluster, mode, eventsOf(cluster), exec)
  const held = new Map<Family, Program>()
  for (const { family, backend } of assembly.families) {
    held.set(family, await backend.read(new AbortController().signal))
  }
  return tracerOf(assembly, held)
}

/** Packets that can be sent, with what the trace says of them. */
function randomProbes(random: Random, cluster: RandomCluster, trace: (packet: Packet) => Outcome): ScenarioPacket[] {
  const make = packetMaker(cluster)
  const sticky = new Set(cluster.objects.filter(hasAffinity).map(object => refOf(object).key))
  const seen = new Set<string>()
  const probes: ScenarioPacket[] = []
  let untaken = 0
  for (let tries = 0; probes.length < probesPerCluster && tries < 5_000; tries++) {
    const packet = make(random)
    const origin = originIn(cluster, packet)
    if (origin === undefined) continue
    const { verdict, endpoints, masquerade, servicePort } = trace(packet)
    const isSticky = servicePort !== null && sticky.has(servicePort.replace(/:.*/, ''))
    // Two at a time from one source would race for which endpoint it is remembered by.
    const { src, dst, port, protocol } = packet
    const key = isSticky ? `${src} ${servicePort}` : `${protocol} ${src} ${formatAddressPort(dst, port)}`
    if (seen.has(key)) continue
    seen.add(key)
    const expected =
      verdict === 'dnat'
        ? { verdict, endpoints: endpoints.map(({ address }) => address), masquerade, sticky: isSticky }
        : { verdict, endpoints: [], sticky: false }
    const probe: ScenarioPacket = { packet, origin, expect: expected, real: true }
    if (unsendable(probe) !== undefined || (verdict === 'none' && untaken === mostUntaken)) continue
    if (verdict === 'none') untaken++
    probes.push(probe)
  }
  return probes
}

const hasAffinity = ({ spec }: ApiObject): boolean =>
  spec !== undefined && mapping(spec, 'spec').sessionAffinity === 'ClientIP'

/** Who in the world would send it; undefined if nobody can. */
function originIn({ nodeAddresses }: RandomCluster, { src, dst }: Packet): Origin | undefined {
  // Between loopback and the rest of the world the kernel's own routing comes first.
  if (isOfHost(src, []) !== isOfHost(dst, [])) return undefined
  try {
    return originOf(src, nodeAddresses)
  } catch {
    return undefined
  }
}

/** A seed that anybody gets who names none. */
export const defaultSeed = 'penstock'

/** Clusters of a run, when none are named. */
export const usualRealClusters = 6

export interface RealOptions {
  readonly seed: string
  readonly first: number
  readonly last: number
  readonly kinds?: readonly KernelKind[]
  readonly say: (line: string) => void
}

/** All of these clusters in each kind; true if every packet fares as it is traced. */
export async function realDifferential({ seed, first, last, kinds = kernelKinds, say }: RealOptions): Promise<boolean> {
  let good = true
  const directory = await mkdtemp(join(tmpdir(), 'penstock-differential-'))
  try {
    for (const kind of kinds) {
      const world = await World.open(kind.variant)
      try {
        for (let cluster = first; cluster <= last; cluster++) {
          const result = await runRealTrial(world, { seed, cluster, kind, directory: join(directory, 'cluster') })
          const counts = [...result.verdicts].map(([verdict, count]) => `${count} ${verdict}`).join(', ')
          say(`${kind.name}, seed ${seed}, cluster ${cluster}: ${result.sent} packets sent (${counts})`)
          for (const failure of result.failures) say(`  ${failure}`)
          if (result.failures.length > 0)
            say(`  again: hack/differential --kernel --seed ${seed} --clusters ${cluster}`)
          good &&= result.failures.length === 0
        }
      } finally {
        await world.close()
      }
    }
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
  return good
}
