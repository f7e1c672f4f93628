// The demo's network: a switch that joins two nodes and the API server's machine, a router, a client behind it. Pure.
import type { Configuration, Link } from '../support/netns/sandbox.ts'
import { controlAddress, type NodeName, nodes, type Pod, senders } from './objects.ts'

export const baseNamespaces = ['router', 'node-a', 'node-b', 'control', 'client'] as const
type BaseNamespace = (typeof baseNamespaces)[number]

let lastMac = 0
const mac = (): string =>
  `02:00:00:00:${[++lastMac >> 8, lastMac & 255].map(n => n.toString(16).padStart(2, '0')).join(':')}`

const cable = (namespace: string): Link => ({
  left: { namespace, device: 'eth0', mac: mac() },
  right: { namespace: 'router', device: namespace, mac: mac() },
})

export const baseLinks: readonly Link[] = ['node-a', 'node-b', 'control', 'client'].map(cable)

/** Written before the devices exist, so that they are born with them. */
export const sysctls: Readonly<Record<string, string>> = {
  'net/ipv4/ip_forward': '1',
  'net/ipv4/icmp_ratelimit': '0',
  'net/ipv4/conf/all/rp_filter': '0',
  'net/ipv4/conf/default/rp_filter': '0',
  'net/ipv4/conf/all/send_redirects': '0',
  'net/ipv4/conf/default/send_redirects': '0',
  'net/ipv6/conf/all/disable_ipv6': '1',
  'net/ipv6/conf/default/disable_ipv6': '1',
}

function nodeConfiguration(name: NodeName, other: NodeName): Configuration {
  return {
    ip: [
      'link set lo up',
      'link set eth0 up',
      `addr add ${nodes[name].address}/24 dev eth0`,
      `route add ${nodes[other].podCIDR} via ${nodes[other].address}`,
      'route add default via 192.168.100.254',
    ],
  }
}

export const baseConfigurations: Readonly<Record<BaseNamespace, Configuration>> = {
  router: {
    ip: [
      'link add br0 type bridge',
      ...['node-a', 'node-b', 'control'].flatMap(port => [`link set ${port} master br0`, `link set ${port} up`]),
      ...['lo', 'br0', 'client'].map(device => `link set ${device} up`),
      'addr add 192.168.100.254/24 dev br0',
      'addr add 198.51.100.1/24 dev client',
      // The load balancer of this cluster: its addresses are led to one node.
      `route add 203.0.113.0/24 via ${nodes['node-a'].address}`,
      // Cluster addresses that a node sends away untranslated end here.
      'route add blackhole default',
    ],
  },
  'node-a': nodeConfiguration('node-a', 'node-b'),
  'node-b': nodeConfiguration('node-b', 'node-a'),
  control: { ip: ['link set lo up', 'link set eth0 up', `addr add ${controlAddress}/24 dev eth0`] },
  client: {
    ip: [
      'link set lo up',
      'link set eth0 up',
      `addr add ${senders.client.address}/24 dev eth0`,
      `addr add ${senders.stranger.address}/24 dev eth0`,
      'route add default via 198.51.100.1',
    ],
  },
}

/** A pod's cable, and what to do at both ends of it, as a CNI plugin would. */
export function podNetwork(pod: Pod): { link: Link; inPod: Configuration; onNode: Configuration } {
  const device = `veth-${pod.name}`
  const link: Link = {
    left: { namespace: pod.name, device: 'eth0', mac: mac() },
    right: { namespace: pod.node, device, mac: mac() },
  }
  return {
    link,
    inPod: {
      ip: [
        'link set lo up',
        'link set eth0 up',
        `addr add ${pod.address}/32 dev eth0`,
        `neigh add 169.254.1.1 lladdr ${link.right.mac} dev eth0 nud permanent`,
        'route add default via 169.254.1.1 dev eth0 onlink',
      ],
    },
    onNode: {
      ip: [
        `link set ${device} up`,
        `neigh add ${pod.address} lladdr ${link.left.mac} dev ${device} nud permanent`,
        `route add ${pod.address}/32 dev ${device} src ${nodes[pod.node].address}`,
      ],
    },
  }
}
