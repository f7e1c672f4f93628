// Many random clusters, many random packets into each: where a backend answers otherwise than it must.
import type { ProxyMode } from '../../src/config/types.ts'
import type { Packet } from '../../src/net/packet.ts'
import { type RandomCluster, randomCluster } from './cluster.ts'
import { type Compiled, compiledIn, complaintAbout, eventsOf, expectedFor, viewsOf } from './modes.ts'
import { packetMaker } from './packets.ts'
import { Random } from './random.ts'

/** Packets into one cluster: compiling it is then a small part of the cost. */
export const packetsPerCluster = 800

export interface Trial {
  /** Any word. */
  readonly seed: string
  /** Clusters are numbered from 1. */
  readonly cluster: number
  /** Packets to trace, or the number of the only one, from 1. */
  readonly packets: number | { readonly only: number }
  readonly modes: readonly ProxyMode[]
  /** How a cluster becomes a program in a mode; a test may spoil it. */
  readonly compile?: typeof compiledIn
}

/** A backend that answers otherwise than it must. */
export interface Disagreement {
  readonly cluster: number
  readonly packet: number
  readonly mode: ProxyMode
  readonly sent: Packet
  readonly complaint: string
}

export interface TrialResult {
  readonly traced: number
  /** The first of each mode. */
  readonly disagreements: readonly Disagreement[]
  /** How often each verdict was given, masqueraded endpoints by themselves. */
  readonly verdicts: ReadonlyMap<string, number>
  /** Reasons of deviations, by which a mode rightly answered otherwise than the policy. */
  readonly deviated: ReadonlySet<string>
}

export const clusterOf = (seed: string, number: number): RandomCluster =>
  randomCluster(new Random(seed, number, 'cluster'))

/** Traces packets through one cluster in every mode. */
export async function runTrial(trial: Trial): Promise<TrialResult> {
  const { seed, cluster: number, packets, modes, compile = compiledIn } = trial
  const cluster = clusterOf(seed, number)
  const events = eventsOf(cluster)
  const views = viewsOf(cluster, events)
  const compiled: Compiled[] = []
  for (const mode of modes) compiled.push(await compile(mode, cluster, events))

  const random = new Random(seed, number, 'packets')
  const make = packetMaker(cluster)
  const found = new Map<ProxyMode, Disagreement>()
  const verdicts = new Map<string, number>()
  const deviated = new Set<string>()
  const [first, last] = typeof packets === 'number' ? [1, packets] : [packets.only, packets.only]
  for (let packet = 1; packet <= last; packet++) {
    const sent = make(random)
    if (packet < first) continue
    const expected = expectedFor(sent, views)
    for (const [index, { mode, trace }] of compiled.entries()) {
      const { answer, policy, reason } = expected(mode)
      const outcome = trace(sent)
      if (reason !== undefined && complaintAbout(outcome, policy) !== undefined) deviated.add(reason)
      const complaint = complaintAbout(outcome, answer)
      if (complaint !== undefined && !found.has(mode)) {
        found.set(mode, { cluster: number, packet, mode, sent, complaint })
      }
      if (index > 0) continue
      const verdict = `${outcome.verdict}${outcome.masquerade ? ', masqueraded' : ''}`
      verdicts.set(verdict, (verdicts.get(verdict) ?? 0) + 1)
    }
  }
  return { traced: last - first + 1, disagreements: [...found.values()], verdicts, deviated }
}

/** What several trials came to. */
export function summed(results: readonly TrialResult[]): TrialResult {
  const verdicts = new Map<string, number>()
  for (const result of results) {
    for (const [verdict, count] of result.verdicts) verdicts.set(verdict, (verdicts.get(verdict) ?? 0) + count)
  }
  return {
    traced: results.reduce((sum, { traced }) => sum + traced, 0),
    disagreements: results.flatMap(({ disagreements }) => disagreements),
    verdicts,
    deviated: new Set(results.flatMap(({ deviated }) => [...deviated])),
  }
}
