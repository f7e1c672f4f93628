// The one small network that every scenario lives in: who has which address, and by which interface its packets arrive.
import { type CIDR, cidrContains, familyOf, type IP, parseCIDR, parseIP } from '../../src/net/ip.ts'

/** Parses an address that is known to be well formed. Throws if it is not. */
export function ip(text: string): IP {
  const parsed = parseIP(text)
  if (parsed === undefined) throw new Error(`${text} is not an IP address`)
  return parsed
}

/** Parses a CIDR that is known to be well formed. Throws if it is not. */
export function cidr(text: string): CIDR {
  const parsed = parseCIDR(text)
  if (parsed === undefined) throw new Error(`${text} is not a CIDR`)
  return parsed
}

/** Who sends a packet, by where its source address lies. */
export type Origin = 'node' | 'localhost' | 'serving-pod' | 'asking-pod' | 'remote-pod' | 'other-node' | 'outside'

/** The node under test and its surroundings; README.md has the same as a table. */
export const world = {
  nodeName: 'node-a',
  otherNodeName: 'node-b',
  zone: 'zone-a',
  clusterCIDR: '10.244.0.0/16,fd00:10:244::/56',
  /** InternalIPs of node-a's Node object. */
  nodeIPs: [ip('192.168.100.1'), ip('fd00:100::1')],
  /** Everything node-a owns besides loopback; the last two are on a dummy device. */
  nodeAddresses: [ip('192.168.100.1'), ip('fd00:100::1'), ip('172.20.0.1'), ip('fd00:200::1')],
  otherNodeAddresses: [ip('192.168.100.2'), ip('fd00:100::2')],
  podCIDRs: [cidr('10.244.1.0/24'), cidr('fd00:10:244:1::/64')],
  otherPodCIDRs: [cidr('10.244.2.0/24'), cidr('fd00:10:244:2::/64')],
  loopback: [cidr('127.0.0.0/8'), cidr('::1/128')],
  outside: [cidr('198.51.100.0/24'), cidr('2001:db8:51::/64')],
  clusterIPs: [cidr('10.96.0.0/16'), cidr('fd00:10:96::/112')],
  loadBalancerIPs: [cidr('203.0.113.0/24'), cidr('2001:db8:113::/64')],
  externalIPs: [cidr('192.0.2.0/24'), cidr('2001:db8:2::/64')],
} as const

/** Interfaces of node-a that packets arrive by. */
export const interfaces = { underlay: 'eth0', servingPods: 'vethe0', askingPods: 'vethc0' } as const

const contains = (cidrs: readonly CIDR[], address: IP): boolean => cidrs.some(range => cidrContains(range, address))

/** Where a source address is in the world. Throws if nobody in the world has it. */
export function originOf(source: IP, furtherNodeAddresses: readonly IP[] = []): Origin {
  if (contains(world.loopback, source)) return 'localhost'
  if (world.nodeAddresses.includes(source) || furtherNodeAddresses.includes(source)) return 'node'
  if (world.otherNodeAddresses.includes(source)) return 'other-node'
  if (contains(world.podCIDRs, source)) return hostNumber(source) < 100 ? 'serving-pod' : 'asking-pod'
  if (contains(world.otherPodCIDRs, source)) return 'remote-pod'
  if (contains(world.outside, source)) return 'outside'
  throw new Error(`nobody in the world has the address ${source}`)
}

/** The interface by which packets of an origin reach node-a; undefined for packets that start on it. */
export function interfaceOf(origin: Origin): string | undefined {
  switch (origin) {
    case 'node':
    case 'localhost':
      return undefined
    case 'serving-pod':
      return interfaces.servingPods
    case 'asking-pod':
      return interfaces.askingPods
    case 'remote-pod':
    case 'other-node':
    case 'outside':
      return interfaces.underlay
  }
}

/** The last part of an address as it is written: pods are numbered 10 to 199 in both families. */
function hostNumber(address: IP): number {
  const separator = familyOf(address) === 'IPv4' ? '.' : ':'
  return Number(address.slice(address.lastIndexOf(separator) + 1))
}
