// From EndpointSlices to the endpoints a Service port may use on this node (`kube-proxy.md` §1.3, §2.2).
import type { EndpointRecord, EndpointSliceRecord, ServiceRecord } from '../model/records.ts'
import { type Family, familyOf, formatAddressPort, type IP } from '../net/ip.ts'
import type { Protocol } from '../net/protocol.ts'
import type { NodeView } from './node-view.ts'
import type { Endpoint } from './service-port.ts'
import { isNear, topologyMode } from './topology.ts'

/** One endpoint of a Service port, whatever its state. */
export interface Candidate {
  /** `ip:port`. */
  readonly text: string
  readonly port: number
  readonly record: EndpointRecord
}

/** The endpoints a Service port may use here. Sorted as `mergeEndpoints` sorts. */
export interface Selection {
  /** Policy Cluster. */
  readonly cluster: readonly Endpoint[]
  /** Policy Local. */
  readonly local: readonly Endpoint[]
}

/**
 * All endpoints of one Service port, from all its slices: matched by port name and protocol, never by number, one for
 * each `ip:port`. Sorted by the text `ip:port`, character by character, as kube-proxy does (so `10.0.0.10:80` comes
 * before `10.0.0.9:80`): rules keep their order when endpoints come and go. The order of slices does not matter.
 */
export function mergeEndpoints(
  slices: Iterable<EndpointSliceRecord>,
  name: string,
  protocol: Protocol,
  family: Family,
): readonly Candidate[] {
  const merged = new Map<string, Candidate>()
  for (const slice of slices) {
    if (slice.family !== family) continue
    for (const { name: portName, protocol: portProtocol, port } of slice.ports) {
      if (portName !== name || portProtocol !== protocol || port === 0) continue
      for (const record of slice.endpoints) {
        // An IPv4-mapped address in an IPv6 slice is IPv4, and would be in nobody's table.
        if (familyOf(record.address) !== family) continue
        const text = formatAddressPort(record.address, port)
        const twin = merged.get(text)
        if (twin === undefined || supersedes(record, twin.record)) merged.set(text, { text, port, record })
      }
    }
  }
  return [...merged.values()].sort((a, b) => (a.text < b.text ? -1 : 1))
}

/**
 * Which of two entries for one address is true. One that is not terminating beats one that is: a running pod that got
 * the address of a dying one. kube-proxy leaves other ties to the order in which slices happen to be visited; here the
 * ready one wins (a slice that lags behind is not ready yet), then one that serves, and then an order that means
 * nothing but is always the same.
 */
function supersedes(a: EndpointRecord, b: EndpointRecord): boolean {
  if (a.terminating !== b.terminating) return !a.terminating
  if (a.ready !== b.ready) return a.ready
  if (a.serving !== b.serving) return a.serving
  const placement = ({ nodeName, zoneHints, nodeHints }: EndpointRecord) =>
    JSON.stringify([nodeName ?? null, zoneHints ?? [], nodeHints ?? []])
  return placement(a) < placement(b)
}

const isLocal = (record: EndpointRecord, node: NodeView): boolean => node.name !== '' && record.nodeName === node.name

/**
 * The sets of both policies. Each is made of ready endpoints, and only if it has none, of terminating ones that still
 * serve (KEP-1669); the two fall back independently. Topology narrows the Cluster set alone, and only its ready part.
 * Since neither narrowing nor fallback ever empties it, the Cluster set is empty only if no endpoint anywhere can be
 * used: it alone tells reject from drop.
 */
export function selectEndpoints(candidates: readonly Candidate[], node: NodeView): Selection {
  const ready: Candidate[] = []
  const dying: Candidate[] = []
  for (const candidate of candidates) {
    const { record } = candidate
    if (record.ready) ready.push(candidate)
    else if (record.serving && record.terminating) dying.push(candidate)
  }
  const use = ({ record, port }: Candidate): Endpoint => ({
    address: record.address,
    port,
    isLocal: isLocal(record, node),
    isTerminating: record.terminating,
  })
  const here = ({ record }: Candidate): boolean => isLocal(record, node)

  const records = ready.map(({ record }) => record)
  const mode = topologyMode(records, node)
  const near = mode === 'none' ? ready : ready.filter(({ record }) => isNear(record, mode, node))
  const readyHere = ready.filter(here)
  return {
    cluster: (near.length > 0 ? near : dying).map(use),
    local: (readyHere.length > 0 ? readyHere : dying.filter(here)).map(use),
  }
}

/**
 * How many of a Service's endpoints on this node are ready: distinct addresses over all its ports. What the load
 * balancer is told (§2.3); endpoints that terminate are not counted even while they still serve (KEP-1669).
 */
export function countLocalReady(
  service: ServiceRecord,
  slices: Iterable<EndpointSliceRecord>,
  node: NodeView,
  family: Family,
): number {
  const all = [...slices]
  const addresses = new Set<IP>()
  for (const { name, protocol } of service.ports) {
    for (const { record } of mergeEndpoints(all, name, protocol, family)) {
      if (record.ready && isLocal(record, node)) addresses.add(record.address)
    }
  }
  return addresses.size
}
