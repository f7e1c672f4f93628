// Equality of records: an update that changes nothing we keep is no update (kube-proxy compares whole slices instead).

import type { CIDR } from '../net/ip.ts'
import type {
  EndpointPortRecord,
  EndpointRecord,
  EndpointSliceRecord,
  NodeRecord,
  ServiceCIDRRecord,
  ServicePortRecord,
  ServiceRecord,
} from './records.ts'

type Equal<T> = (a: T, b: T) => boolean
type Fields<T> = { readonly [F in keyof T]-?: Equal<T[F]> }

const same = <T>(a: T, b: T): boolean => a === b
const ignored = (): boolean => true

function listOf<T>(equal: Equal<T>): Equal<readonly T[]> {
  return (a, b) => {
    if (a === b) return true
    if (a.length !== b.length) return false
    for (let i = 0; i < a.length; i++) {
      const left = a[i]
      const right = b[i]
      if (left === undefined || right === undefined || !equal(left, right)) return false
    }
    return true
  }
}

/** For lists that are kept in another form than they came in. */
function sequenceOf<T>(equal: Equal<T>): Equal<Iterable<T> & { readonly length: number }> {
  return (a, b) => {
    if (a === b) return true
    if (a.length !== b.length) return false
    const others = b[Symbol.iterator]()
    for (const item of a) {
      const other = others.next()
      if (other.done === true || !equal(item, other.value)) return false
    }
    return true
  }
}

function maybe<T>(equal: Equal<T>): Equal<T | undefined> {
  return (a, b) => (a === undefined || b === undefined ? a === b : equal(a, b))
}

/** One comparison for each field: a field added to a record does not compile until it is compared here too. */
function recordOf<T>(fields: Fields<T>): Equal<T> {
  const names = Object.keys(fields) as (keyof T)[]
  return (a, b) => a === b || names.every(name => fields[name](a[name], b[name]))
}

const strings = listOf<string>(same)
const cidr = recordOf<CIDR>({ address: same, prefix: same })
const servicePort = recordOf<ServicePortRecord>({ name: same, protocol: same, port: same, nodePort: same })
const endpointPort = recordOf<EndpointPortRecord>({ name: same, protocol: same, port: same })

const endpoint = recordOf<EndpointRecord>({
  address: same,
  ready: same,
  serving: same,
  terminating: same,
  nodeName: same,
  zoneHints: maybe(strings),
  nodeHints: maybe(strings),
})

/** True if two Service records are the same in every field. */
export const equalServices: Equal<ServiceRecord> = recordOf<ServiceRecord>({
  namespace: same,
  name: same,
  uid: same,
  createdAt: same,
  type: same,
  clusterIPs: strings,
  ports: listOf(servicePort),
  externalIPs: strings,
  loadBalancerIPs: strings,
  loadBalancerSourceRanges: listOf(cidr),
  affinitySeconds: same,
  scheduler: same,
  internalTrafficPolicy: same,
  externalTrafficPolicy: same,
  healthCheckNodePort: same,
})

/**
 * True if two EndpointSlice records mean the same. The trigger time is not compared: it is written with every change of
 * the endpoints, and where it alone differs there is nothing to program and so no latency to measure.
 */
export const equalSlices: Equal<EndpointSliceRecord> = recordOf<EndpointSliceRecord>({
  namespace: same,
  name: same,
  service: same,
  family: same,
  ports: listOf(endpointPort),
  endpoints: sequenceOf(endpoint),
  triggeredAt: ignored,
})

/** True if two Node records are the same in every field. */
export const equalNodes: Equal<NodeRecord> = recordOf<NodeRecord>({
  name: same,
  addresses: strings,
  podCIDRs: listOf(cidr),
  zone: same,
  eligible: same,
})

/** True if two ServiceCIDR records are the same in every field. */
export const equalServiceCIDRs: Equal<ServiceCIDRRecord> = recordOf<ServiceCIDRRecord>({
  name: same,
  cidrs: listOf(cidr),
})

/** Two records of one kind, either of which may be absent. */
export type RecordPair =
  | { readonly kind: 'Service'; readonly a: ServiceRecord | undefined; readonly b: ServiceRecord | undefined }
  | {
      readonly kind: 'EndpointSlice'
      readonly a: EndpointSliceRecord | undefined
      readonly b: EndpointSliceRecord | undefined
    }
  | { readonly kind: 'Node'; readonly a: NodeRecord | undefined; readonly b: NodeRecord | undefined }
  | {
      readonly kind: 'ServiceCIDR'
      readonly a: ServiceCIDRRecord | undefined
      readonly b: ServiceCIDRRecord | undefined
    }

/** True if both records are absent, or both are there and mean the same. */
export function equalRecords(pair: RecordPair): boolean {
  switch (pair.kind) {
    case 'Service':
      return maybe(equalServices)(pair.a, pair.b)
    case 'EndpointSlice':
      return maybe(equalSlices)(pair.a, pair.b)
    case 'Node':
      return maybe(equalNodes)(pair.a, pair.b)
    case 'ServiceCIDR':
      return maybe(equalServiceCIDRs)(pair.a, pair.b)
  }
}
