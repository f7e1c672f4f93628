// The world of test/conformance/README.md as devices, addresses and routes. Pure: text for `ip -batch`, nothing is run.
import type { Configuration, Link } from '../netns/sandbox.ts'

/** The namespaces. Local pods that serve and that ask arrive on node-a by different devices. */
export const namespaces = ['node-a', 'node-b', 'router', 'pods-a', 'asks-a'] as const
export type Namespace = (typeof namespaces)[number]

const mac = {
  nodeA: '02:00:00:00:01:01',
  nodeAPort: '02:00:00:00:01:02',
  nodeB: '02:00:00:00:02:01',
  nodeBPort: '02:00:00:00:02:02',
  bridge: '02:00:00:00:03:01',
  servingHost: '02:00:00:00:04:01',
  servingPods: '02:00:00:00:04:02',
  askingHost: '02:00:00:00:05:01',
  askingPods: '02:00:00:00:05:02',
  dummy: '02:00:00:00:06:01',
  dummyPeer: '02:00:00:00:06:02',
} as const

/** eth0 is made first: its address is then what masquerading falls back on. */
export const links: readonly Link[] = [
  {
    left: { namespace: 'node-a', device: 'eth0', mac: mac.nodeA },
    right: { namespace: 'router', device: 'port-a', mac: mac.nodeAPort },
  },
  {
    left: { namespace: 'node-b', device: 'eth0', mac: mac.nodeB },
    right: { namespace: 'router', device: 'port-b', mac: mac.nodeBPort },
  },
  {
    left: { namespace: 'node-a', device: 'vethe0', mac: mac.servingHost },
    right: { namespace: 'pods-a', device: 'eth0', mac: mac.servingPods },
  },
  {
    left: { namespace: 'node-a', device: 'vethc0', mac: mac.askingHost },
    right: { namespace: 'asks-a', device: 'eth0', mac: mac.askingPods },
  },
  // A pair stands in for a dummy device, which some kernels are built without.
  {
    left: { namespace: 'node-a', device: 'dummy0', mac: mac.dummy },
    right: { namespace: 'router', device: 'dummy-peer', mac: mac.dummyPeer },
  },
]

/**
 * Written before the devices exist, so that they are born with them. No duplicate address detection, no link-local
 * addresses, no redirects, no limit on ICMP errors: each costs time or makes an answer depend on the one before.
 */
export const sysctls: Readonly<Record<string, string>> = {
  'net/ipv6/conf/all/disable_ipv6': '0',
  'net/ipv6/conf/default/disable_ipv6': '0',
  'net/ipv6/conf/default/accept_dad': '0',
  'net/ipv6/conf/default/dad_transmits': '0',
  'net/ipv6/conf/default/addr_gen_mode': '1',
  'net/ipv6/conf/default/accept_ra': '0',
  'net/ipv6/conf/default/accept_redirects': '0',
  'net/ipv6/conf/all/forwarding': '1',
  'net/ipv6/ip_nonlocal_bind': '1',
  'net/ipv6/icmp/ratelimit': '0',
  'net/ipv4/ip_forward': '1',
  'net/ipv4/icmp_ratelimit': '0',
  'net/ipv4/conf/all/rp_filter': '0',
  'net/ipv4/conf/default/rp_filter': '0',
  'net/ipv4/conf/all/send_redirects': '0',
  'net/ipv4/conf/default/send_redirects': '0',
  'net/ipv4/conf/all/accept_redirects': '0',
  'net/ipv4/conf/default/accept_redirects': '0',
}

// node-a must treat a packet from one of its own addresses as a real node does; the others send packets to themselves.
const othersSysctls = { ...sysctls, 'net/ipv4/conf/all/accept_local': '1', 'net/ipv4/conf/default/accept_local': '1' }

export const sysctlsOf = (namespace: Namespace): Readonly<Record<string, string>> =>
  namespace === 'node-a' ? { ...sysctls, 'net/ipv6/ip_nonlocal_bind': '0' } : othersSysctls

const gateway4 = '169.254.1.1'
const gateway6 = 'fe80::1'

/** 10.244.1.100 to .199. */
const askingPods4 = ['100/30', '104/29', '112/28', '128/26', '192/29'].map(part => `10.244.1.${part}`)

const nodeA: Configuration = {
  ip: [
    ...['lo', 'eth0', 'vethe0', 'vethc0', 'dummy0'].map(device => `link set ${device} up`),
    'addr add 192.168.100.1/24 dev eth0',
    'addr add fd00:100::1/64 dev eth0 nodad',
    'addr add 172.20.0.1/24 dev dummy0',
    'addr add fd00:200::1/64 dev dummy0 nodad',
    ...neighbours('vethe0', mac.servingPods, [gateway4, gateway6]),
    ...neighbours('vethc0', mac.askingPods, [gateway4, gateway6]),
    ...neighbours('eth0', mac.nodeB, ['192.168.100.2', 'fd00:100::2']),
    ...neighbours('eth0', mac.bridge, ['192.168.100.254', 'fd00:100::fe']),
    `route add 10.244.1.0/24 via ${gateway4} dev vethe0 onlink src 192.168.100.1`,
    `route add fd00:10:244:1::/64 via ${gateway6} dev vethe0 src fd00:100::1`,
    ...askingPods4.map(cidr => `route add ${cidr} via ${gateway4} dev vethc0 onlink src 192.168.100.1`),
    `route add fd00:10:244:1::100/120 via ${gateway6} dev vethc0 src fd00:100::1`,
    'route add 10.244.2.0/24 via 192.168.100.2',
    'route add fd00:10:244:2::/64 via fd00:100::2 src fd00:100::1',
    'route add default via 192.168.100.254',
    'route add ::/0 via fd00:100::fe src fd00:100::1',
  ],
}

/**
 * Everything a namespace sends goes to node-a, also what is meant for an address of its own: replies then pass the node
 * that translated the request. The local table is looked up for what arrives, and for what is sent only after that.
 */
function sendsToNode(device: string, local: readonly string[], via: readonly [string, string]): Configuration {
  const [via4, via6] = via
  return {
    ip: [
      `route add default via ${via4} dev ${device} onlink table 100`,
      `route add ::/0 via ${via6} dev ${device} onlink table 100`,
      ...local.map(cidr => `route add local ${cidr} dev lo`),
      'rule add pref 10 iif lo lookup 100',
      'rule add pref 100 lookup local',
      'rule del pref 0',
    ],
    ip6: ['rule add pref 10 iif lo lookup 100', 'rule add pref 100 lookup local', 'rule del pref 0'],
  }
}

function podsOn(nodeMac: string): Configuration {
  const rest = sendsToNode('eth0', ['10.244.1.0/24', 'fd00:10:244:1::/64'], [gateway4, gateway6])
  const ip = ['link set lo up', 'link set eth0 up', ...neighbours('eth0', nodeMac, [gateway4, gateway6])]
  return { ...rest, ip: [...ip, ...(rest.ip ?? [])] }
}

function nodeB(): Configuration {
  const rest = sendsToNode('eth0', ['10.244.2.0/24', 'fd00:10:244:2::/64'], ['192.168.100.1', 'fd00:100::1'])
  const ip = [
    'link set lo up',
    'link set eth0 up',
    'addr add 192.168.100.2/24 dev eth0',
    'addr add fd00:100::2/64 dev eth0 nodad',
    ...neighbours('eth0', mac.nodeA, ['192.168.100.1', 'fd00:100::1']),
  ]
  return { ...rest, ip: [...ip, ...(rest.ip ?? [])] }
}

function router(): Configuration {
  const rest = sendsToNode('br0', ['198.51.100.0/24', '2001:db8:51::/64'], ['192.168.100.1', 'fd00:100::1'])
  const ip = [
    `link add br0 address ${mac.bridge} type bridge`,
    ...['port-a', 'port-b'].flatMap(port => [`link set ${port} master br0`, `link set ${port} up`]),
    ...['lo', 'br0', 'dummy-peer'].map(device => `link set ${device} up`),
    'addr add 192.168.100.254/24 dev br0',
    'addr add fd00:100::fe/64 dev br0 nodad',
    ...neighbours('br0', mac.nodeA, ['192.168.100.1', 'fd00:100::1']),
    // What node-a does not translate ends here, without an answer, instead of coming back to it.
    'route add blackhole default',
    'route add blackhole ::/0',
  ]
  return { ...rest, ip: [...ip, ...(rest.ip ?? [])] }
}

function neighbours(device: string, lladdr: string, addresses: readonly string[]): string[] {
  return addresses.map(address => `neigh add ${address} lladdr ${lladdr} dev ${device} nud permanent`)
}

/** Devices, addresses and routes of each namespace. */
export const configurations: Readonly<Record<Namespace, Configuration>> = {
  'node-a': nodeA,
  'node-b': nodeB(),
  router: router(),
  'pods-a': podsOn(mac.servingHost),
  'asks-a': podsOn(mac.askingHost),
}
