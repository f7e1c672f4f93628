// The addresses of a Service port: every kind of Service address becomes one list.
import type { ServicePortRecord, ServiceRecord } from '../model/records.ts'
import { type CIDR, cidrContains, type Family, familyOf, formatCIDR, hostCIDR, type IP } from '../net/ip.ts'
import type { Frontend } from './service-port.ts'

/** An address that all ports of a Service share. */
export type ServiceAddress = Omit<Frontend, 'address' | 'port'> & { readonly address: IP }

/**
 * The addresses of a Service in one family, each once; empty if the Service has no cluster address of the family
 * (`kube-proxy.md` §1.2). ClusterIP, then external IPs, then load balancer addresses. An address of several kinds is
 * the first of them; but where load balancer source ranges restrict it, it is the load balancer's, whatever else it is:
 * as ClusterIP or external IP it would be open to the sources that the ranges shut out.
 */
export function addressesOf(service: ServiceRecord, family: Family, nodeIP: IP | undefined): readonly ServiceAddress[] {
  const ofFamily = (ip: IP): boolean => familyOf(ip) === family
  const clusterIP = service.clusterIPs.find(ofFamily)
  if (clusterIP === undefined) return []
  const first: ServiceAddress = { kind: 'ClusterIP', address: clusterIP, traffic: 'internal' }
  if (service.externalIPs.length === 0 && service.loadBalancerIPs.length === 0) return [first]

  const addresses = new Map<IP, ServiceAddress>([[clusterIP, first]])
  for (const address of service.externalIPs) {
    if (ofFamily(address) && !addresses.has(address)) {
      addresses.set(address, { kind: 'ExternalIP', address, traffic: 'external' })
    }
  }
  const vips = service.loadBalancerIPs.filter(ofFamily)
  const sourceRanges = sourceRangesOf(service.loadBalancerSourceRanges, vips, family, nodeIP)
  for (const address of vips) {
    if (sourceRanges !== undefined) {
      addresses.set(address, { kind: 'LoadBalancer', address, traffic: 'external', sourceRanges })
    } else if (!addresses.has(address)) {
      addresses.set(address, { kind: 'LoadBalancer', address, traffic: 'external' })
    }
  }
  return [...addresses.values()]
}

/**
 * Who may use the load balancer addresses; undefined: everybody (§1.2, §3.5). Ranges of the other family, and a /0 of
 * this one, restrict nothing. If a range holds this node's address, packets whose source is one of the load balancer
 * addresses may pass too: the node itself picks it as source where it is bound to an interface. Sorted, each once.
 */
export function sourceRangesOf(
  ranges: readonly CIDR[],
  vips: readonly IP[],
  family: Family,
  nodeIP: IP | undefined,
): readonly CIDR[] | undefined {
  const own = ranges.filter(range => familyOf(range.address) === family)
  if (own.length === 0 || own.some(range => range.prefix === 0)) return undefined
  const nodeMay = nodeIP !== undefined && own.some(range => cidrContains(range, nodeIP))
  return normalise(nodeMay ? [...own, ...vips.map(hostCIDR)] : own)
}

/** Each CIDR once, sorted by text: the order in the Service means nothing, and must not rewrite rules. */
function normalise(cidrs: readonly CIDR[]): readonly CIDR[] {
  const byText = new Map(cidrs.map(cidr => [formatCIDR(cidr), cidr]))
  return [...byText].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, cidr]) => cidr)
}

/** The frontends of one port: its number at every address of the Service, and its node port where it has one. */
export function frontendsOf(addresses: readonly ServiceAddress[], port: ServicePortRecord): readonly Frontend[] {
  const frontends: Frontend[] = addresses.map(address => ({ ...address, port: port.port }))
  if (port.nodePort !== 0) {
    frontends.push({ kind: 'NodePort', address: 'node-ports', port: port.nodePort, traffic: 'external' })
  }
  return frontends
}
