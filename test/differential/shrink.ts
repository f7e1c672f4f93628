// The smallest cluster that still shows a disagreement: whatever can be left out is left out.
import type { ProxyMode } from '../../src/config/types.ts'
import type { Packet } from '../../src/net/packet.ts'
import { type Fields, list } from '../conformance/check.ts'
import type { ApiObject } from '../conformance/objects.ts'
import type { ScenarioConfig } from '../conformance/scenario.ts'
import { world } from '../conformance/world.ts'
import type { RandomCluster } from './cluster.ts'
import { compiledIn, complaintAbout, eventsOf, expectedFor, viewsOf } from './modes.ts'

/** What an administrator who has written nothing gets. */
const defaults: ScenarioConfig = {
  clusterCIDR: world.clusterCIDR,
  detectLocalMode: 'ClusterCIDR',
  detectLocal: { bridgeInterface: '', interfaceNamePrefix: '' },
  nodePortAddresses: [],
  masqueradeAll: false,
  masqueradeBit: 14,
  localhostNodePorts: true,
}

export interface Shrunk {
  readonly cluster: RandomCluster
  /** Of the smallest cluster. */
  readonly complaint: string
}

/** Clusters that are tried, at most: some seconds. */
const mostTries = 2_000

/**
 * Leaves objects, then parts of them, out of a cluster for as long as the mode's answer to the packet is still wrong.
 * Undefined if it is not wrong to begin with.
 */
export async function shrink(
  cluster: RandomCluster,
  mode: ProxyMode,
  packet: Packet,
  compile: typeof compiledIn = compiledIn,
): Promise<Shrunk | undefined> {
  const complaintIn = async (candidate: RandomCluster): Promise<string | undefined> => {
    const events = eventsOf(candidate)
    const expected = expectedFor(packet, viewsOf(candidate, events))
    const { trace } = await compile(mode, candidate, events)
    return complaintAbout(trace(packet), expected(mode).answer)
  }
  const complaint = await complaintIn(cluster)
  if (complaint === undefined) return undefined
  let best: Shrunk = { cluster, complaint }
  let tries = 0
  for (let better = true; better; ) {
    better = false
    for (const candidate of smallerClusters(best.cluster)) {
      if (++tries > mostTries) return best
      // An object may have lost something it cannot be without.
      const still = await complaintIn(candidate).catch(() => undefined)
      if (still === undefined) continue
      best = { cluster: candidate, complaint: still }
      better = true
      break
    }
  }
  return best
}

function* smallerClusters(cluster: RandomCluster): Iterable<RandomCluster> {
  const { objects, nodeAddresses, config } = cluster
  for (const fewer of shorter(objects)) yield { ...cluster, objects: fewer }
  const bound = nodeAddresses.filter(address => !world.nodeAddresses.includes(address))
  for (const fewer of shorter(bound)) yield { ...cluster, nodeAddresses: [...world.nodeAddresses, ...fewer] }
  for (const [key, value] of Object.entries(defaults)) {
    const changed = { ...config, [key]: value }
    if (JSON.stringify(changed) !== JSON.stringify(config)) yield { ...cluster, config: changed }
  }
  for (const [index, object] of objects.entries()) {
    for (const smaller of smallerObjects(object)) yield { ...cluster, objects: objects.with(index, smaller) }
  }
}

/** Names and kinds stay. */
function* smallerObjects(object: ApiObject): Iterable<ApiObject> {
  const { apiVersion, kind, metadata, ...rest } = object
  for (const fields of smallerFields(rest)) yield { ...fields, apiVersion, kind, metadata }
}

function* smallerFields(fields: Fields): Iterable<Fields> {
  for (const key of Object.keys(fields)) {
    const { [key]: value, ...others } = fields
    yield others
    for (const smaller of smallerValues(value)) yield { ...fields, [key]: smaller }
  }
}

function* smallerValues(value: unknown): Iterable<unknown> {
  if (Array.isArray(value)) {
    const items = list(value, 'list')
    yield* shorter(items)
    for (const [index, item] of items.entries()) {
      for (const smaller of smallerValues(item)) yield items.with(index, smaller)
    }
  } else if (typeof value === 'object' && value !== null) {
    yield* smallerFields({ ...value })
  }
}

/** Without each half, each quarter, … each single one. */
function* shorter<T>(items: readonly T[]): Iterable<T[]> {
  for (let size = Math.ceil(items.length / 2); size >= 1; size = size === 1 ? 0 : Math.ceil(size / 2)) {
    for (let at = 0; at < items.length; at += size) yield items.toSpliced(at, size)
  }
}
