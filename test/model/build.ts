// Records for tests, with what a plain cluster would put in the fields that are not named.
import type {
  EndpointRecord,
  EndpointSliceRecord,
  ModelEvent,
  NodeRecord,
  ServicePortRecord,
  ServiceRecord,
} from '../../src/model/records.ts'
import { type CIDR, familyOf, type IP, parseCIDR, parseIP } from '../../src/net/ip.ts'

/** Parses an address. Throws if it is none. */
export function ip(text: string): IP {
  const parsed = parseIP(text)
  if (parsed === undefined) throw new Error(`${text} is not an address`)
  return parsed
}

/** Parses a CIDR. Throws if it is none. */
export function cidr(text: string): CIDR {
  const parsed = parseCIDR(text)
  if (parsed === undefined) throw new Error(`${text} is not a CIDR`)
  return parsed
}

/** `http`, TCP 80, without a node port. */
export const port = (over: Partial<ServicePortRecord> = {}): ServicePortRecord => ({
  name: 'http',
  protocol: 'TCP',
  port: 80,
  nodePort: 0,
  ...over,
})

/** `shop/web` at 10.96.0.20, one port. */
export const service = (over: Partial<ServiceRecord> = {}): ServiceRecord => ({
  namespace: 'shop',
  name: 'web',
  uid: 'u1',
  createdAt: 1000,
  type: 'ClusterIP',
  clusterIPs: [ip('10.96.0.20')],
  ports: [port()],
  externalIPs: [],
  loadBalancerIPs: [],
  loadBalancerSourceRanges: [],
  internalTrafficPolicy: 'Cluster',
  externalTrafficPolicy: 'Cluster',
  healthCheckNodePort: 0,
  ...over,
})

/** An endpoint; ready and serving unless said otherwise. */
export const endpoint = (address: string, over: Partial<Omit<EndpointRecord, 'address'>> = {}): EndpointRecord => ({
  address: ip(address),
  ready: true,
  serving: true,
  terminating: false,
  ...over,
})

/** A terminating endpoint that still serves. */
export const dying = (address: string, over: Partial<Omit<EndpointRecord, 'address'>> = {}): EndpointRecord =>
  endpoint(address, { ready: false, terminating: true, ...over })

/** A slice of `shop/web` for `http` on 8080; the family is that of the first endpoint. */
export function slice(
  endpoints: readonly EndpointRecord[],
  over: Partial<EndpointSliceRecord> = {},
): EndpointSliceRecord {
  const [first] = endpoints
  return {
    namespace: 'shop',
    name: 'web-1',
    service: 'web',
    family: first === undefined ? 'IPv4' : familyOf(first.address),
    ports: [{ name: 'http', protocol: 'TCP', port: 8080 }],
    endpoints,
    ...over,
  }
}

/** `node-a` in zone-a at 192.168.100.1. */
export const node = (over: Partial<NodeRecord> = {}): NodeRecord => ({
  name: 'node-a',
  addresses: [ip('192.168.100.1')],
  podCIDRs: [cidr('10.244.1.0/24')],
  zone: 'zone-a',
  eligible: true,
  ...over,
})

/** The events that bring records in. */
export const serviceEvent = (record: ServiceRecord): ModelEvent => ({
  kind: 'Service',
  key: `${record.namespace}/${record.name}`,
  record,
})
export const sliceEvent = (record: EndpointSliceRecord): ModelEvent => ({
  kind: 'EndpointSlice',
  key: `${record.namespace}/${record.name}`,
  record,
})
export const nodeEvent = (record: NodeRecord): ModelEvent => ({ kind: 'Node', key: record.name, record })

/** The event that takes an object away. */
export const gone = (kind: 'Service' | 'EndpointSlice' | 'Node' | 'ServiceCIDR', key: string): ModelEvent => ({
  kind,
  key,
  record: undefined,
})
