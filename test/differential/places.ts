// The addresses that random clusters are made of: those of the test world (test/conformance/README.md), and their edges.
import { type CIDR, type Family, familyOf, formatCIDR, type IP } from '../../src/net/ip.ts'
import { ip, world } from '../conformance/world.ts'

/** The addresses of one family. */
export interface Places {
  readonly nodeAddresses: readonly IP[]
  readonly otherNode: IP
  readonly loopback: readonly IP[]
  /** Pods of this node that have endpoints. */
  readonly localPods: readonly IP[]
  readonly remotePods: readonly IP[]
  /** Pods that have no endpoint. */
  readonly clients: readonly IP[]
  readonly outside: readonly IP[]
  /** Sources that nobody in the world has: just outside of ranges, and of the pods of other nodes. */
  readonly strangers: readonly IP[]
  readonly clusterIPs: readonly IP[]
  readonly serviceCIDR: string
  readonly externalIPs: readonly IP[]
  readonly vips: readonly IP[]
  /** Load balancer source ranges: nested, adjacent, of a prefix between two digits, and both halves of everything. */
  readonly ranges: readonly string[]
}

const upTo = (count: number, address: (n: number) => string): IP[] =>
  Array.from({ length: count }, (_, n) => ip(address(n)))
const hex = (n: number): string => n.toString(16)
const own = (family: Family, addresses: readonly IP[]): IP[] =>
  addresses.filter(address => familyOf(address) === family)
const textOf = (family: Family, cidrs: readonly CIDR[]): string =>
  cidrs.filter(({ address }) => familyOf(address) === family).map(formatCIDR)[0] ?? ''

/** Spread so that trees of addresses branch at several depths. */
const clusterNumbers = [0x0014, 0x0015, 0x0016, 0x0024, 0x0114, 0x1114, 0xff14, 0xff15]
const crowdNumbers = Array.from({ length: 90 }, (_, n) => 0x2000 + n * 3)

export const places: Readonly<Record<Family, Places>> = {
  IPv4: {
    nodeAddresses: own('IPv4', world.nodeAddresses),
    otherNode: ip('192.168.100.2'),
    loopback: [ip('127.0.0.1'), ip('127.8.9.10')],
    localPods: upTo(60, n => `10.244.1.${n + 10}`),
    remotePods: upTo(90, n => `10.244.2.${n + 10}`),
    clients: [ip('10.244.1.100'), ip('10.244.1.127'), ip('10.244.1.128'), ip('10.244.2.150')],
    outside: [ip('198.51.100.10'), ip('198.51.100.31'), ip('198.51.100.32'), ip('198.51.100.80')],
    strangers: [ip('198.51.99.255'), ip('198.51.101.0'), ip('10.243.255.255'), ip('10.245.0.0'), ip('10.244.3.7')],
    clusterIPs: [...clusterNumbers, ...crowdNumbers].map(n => ip(`10.96.${n >> 8}.${n & 255}`)),
    serviceCIDR: textOf('IPv4', world.clusterIPs),
    externalIPs: upTo(4, n => `192.0.2.${n + 1}`),
    vips: upTo(5, n => `203.0.113.${n + 1}`),
    ranges: [
      ...['198.51.100.0/24', '198.51.100.0/26', '198.51.100.32/27', '198.51.100.10/32', '198.51.100.8/29'],
      ...['192.168.100.0/24', '192.168.100.1/32', '10.244.0.0/16', '10.244.1.0/25', '203.0.113.0/29'],
      ...['0.0.0.0/1', '128.0.0.0/1'],
    ],
  },
  IPv6: {
    nodeAddresses: own('IPv6', world.nodeAddresses),
    otherNode: ip('fd00:100::2'),
    loopback: [ip('::1')],
    localPods: upTo(60, n => `fd00:10:244:1::${n + 10}`),
    remotePods: upTo(90, n => `fd00:10:244:2::${n + 10}`),
    clients: ['1::100', '1::127', '1::128', '2::150'].map(end => ip(`fd00:10:244:${end}`)),
    outside: ['10', '31', '32', '80'].map(end => ip(`2001:db8:51::${end}`)),
    strangers: ['2001:db8:50:ffff::1', '2001:db8:52::', 'fd00:10:243::1', 'fd00:10:245::', 'fd00:10:244:3::7'].map(ip),
    clusterIPs: [...clusterNumbers, ...crowdNumbers].map(n => ip(`fd00:10:96::${hex(n)}`)),
    serviceCIDR: textOf('IPv6', world.clusterIPs),
    externalIPs: upTo(4, n => `2001:db8:2::${n + 1}`),
    vips: upTo(5, n => `2001:db8:113::${n + 1}`),
    ranges: [
      ...['2001:db8:51::/64', '2001:db8:51::/122', '2001:db8:51::20/123', '2001:db8:51::10/128', '2001:db8:51::8/125'],
      ...['fd00:100::/64', 'fd00:100::1/128', 'fd00:10:244::/56', 'fd00:10:244:1::/65', '2001:db8:113::/125'],
      ...['::/1', '8000::/1'],
    ],
  },
}
