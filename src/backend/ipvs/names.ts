// Names and keys of what IPVS mode keeps in the kernel: virtual servers, local routes, sets and the chains of the glue.
import { type Family, formatAddressPort, type IP } from '../../net/ip.ts'
import type { Protocol } from '../../net/protocol.ts'

/**
 * By what our routes are told from those of others: the protocol (RTPROT_*, linux/rtnetlink.h; iproute2's rt_protos knows none
 * of that number), and the metric. To IPv6 a route with the metric that `ip` gives if none is said, 1024, would be the very
 * same as ours, whoever made it (rt6_duplicate_nexthop). The kernel's own have 0 and go first.
 */
export const routeMark = { protocol: 112, metric: 112 } as const

/**
 * kube-proxy's device for the addresses of Services. Ours is empty: CNIs tell by its being there that packets are forwarded by
 * IPVS. Calico's Felix (ifacemonitor.IsInterfacePresent, KubeIPVSSupportEnabled) applies an endpoint's policies to them only
 * then.
 */
export const device = 'kube-ipvs0'

/** Chains with this prefix are ours. It is not the one of iptables mode, so that either can be removed beside the other. */
export const chainPrefix = 'PENSTOCKVS-'

/** Static chains; there are no others. */
export const chains = {
  /** mangle, from INPUT and OUTPUT: what must be dropped, masqueraded, or scheduled by mark. */
  services: 'PENSTOCKVS-SERVICES',
  /** mangle: sends this node and its pods to the virtual server with all endpoints. */
  fromNode: 'PENSTOCKVS-FROM-NODE',
  /** mangle: a packet that IPVS has scheduled by mark gives the mark up. */
  scheduled: 'PENSTOCKVS-SCHEDULED',
  /** nat, from POSTROUTING: masquerades what is marked, and hairpin. */
  postrouting: 'PENSTOCKVS-POSTROUTING',
  /** filter, from INPUT: keeps the host's own ports from being reached by Service addresses. */
  input: 'PENSTOCKVS-INPUT',
  /** filter, from FORWARD: lets answers pass a FORWARD policy of DROP. */
  forward: 'PENSTOCKVS-FORWARD',
} as const

/** What the sets are for. */
export const setRoles = [
  /** Internal frontends: masqueraded unless they come from a pod of this node. */
  'INTERNAL',
  /** External frontends under policy Cluster: always masqueraded. */
  'EXTERNAL',
  /** External frontends under policy Local: masqueraded only when they come from the node itself. */
  'LOCAL',
  /** Frontends whose packets are dropped: policy Local without an endpoint here. */
  'DROP',
  /** Frontends that only some sources may use, */
  'RANGED',
  /** and those sources. */
  'RANGES',
  /** Frontends for which this node and its pods have a virtual server of their own, and its mark. */
  'MARK',
  /** Addresses of Services, for which there are routes. */
  'ADDRESS',
  /** Ports of health checks. */
  'HEALTH',
] as const

export type SetRole = (typeof setRoles)[number]

/** Sets with these prefixes are ours. */
const setPrefix: Readonly<Record<Family, string>> = { IPv4: 'PENSTOCK-', IPv6: 'PENSTOCK-6-' }

export const setName = (family: Family, role: SetRole): string => setPrefix[family] + role

/** The role of a set of ours; undefined for any other set. */
export function roleOf(family: Family, name: string): SetRole | undefined {
  return setRoles.find(role => setName(family, role) === name)
}

/** How a virtual server is told from others: `tcp 10.96.0.20:80`, or `mark 0x5ea00010`. */
export type VirtualServer = string

export const virtualServer = (protocol: Protocol, address: IP, port: number): VirtualServer =>
  `${protocol.toLowerCase()} ${formatAddressPort(address, port)}`

export const markServer = (mark: number): VirtualServer => `mark ${markHex(mark)}`

export const markHex = (mark: number): string => `0x${(mark >>> 0).toString(16)}`

/**
 * Marks by which IPVS finds a virtual server. It compares all 32 bits, so the whole mark is set, just before IPVS looks,
 * and given up just after. The number leaves out bits 14 and 15, which kube-proxy and kubelet use.
 */
export const markSignature = 0x5ea00000
export const markMask = 0xfff00000

const markProtocols: readonly Protocol[] = ['TCP', 'UDP', 'SCTP']

/** The mark of a number below 2^16; it tells the protocol, too. */
export function markOf(number: number, protocol: Protocol): number {
  const bits = (number << 2) | markProtocols.indexOf(protocol)
  return (markSignature | ((bits >>> 14) << 16) | (bits & 0x3fff)) >>> 0
}

/** The protocol of a virtual server; undefined if it is not ours. */
export function protocolOfServer(server: VirtualServer): Protocol | undefined {
  const [kind = '', mark = ''] = server.split(' ')
  return kind === 'mark' ? markProtocols[Number(mark) & 3] : markProtocols.find(name => name.toLowerCase() === kind)
}

/** Key of a virtual server; its value is its options, then its real servers, one a line (`servers.ts`). */
export const serverKey = (server: VirtualServer): string => `virtual ${server}`

/** Key of a set; its value is its type (`sets.ts`). */
export const setKey = (name: string): string => `set ${name}`

/** Key of a member of a set; its value is what comes with it, a comment or a mark. */
export const memberKey = (set: string, element: string): string => `member ${set} ${element}`

/** Key of an address that is made the machine's by a local route; its value is empty. */
export const addressKey = (address: IP): string => `${addressKeyPrefix}${address}`
export const addressKeyPrefix = 'address '

/** Key of the device; its value is its type. */
export const deviceKey = `device ${device}`

/** What a key stands for; keys of the glue's chains and jumps are those of `xtables`. */
export type ParsedKey =
  | { readonly kind: 'virtual'; readonly server: VirtualServer }
  | { readonly kind: 'set'; readonly name: string }
  | { readonly kind: 'member'; readonly set: string; readonly element: string }
  | { readonly kind: 'address'; readonly address: string }
  | { readonly kind: 'device' }
  | { readonly kind: 'glue' }

/** True for keys of the glue, and of what is not ours at all. */
export const isGlue = (key: string): boolean => !/^(?:virtual|set|member|address|device) /.test(key)

/** Takes a key apart. */
export function parseKey(key: string): ParsedKey {
  if (isGlue(key)) return { kind: 'glue' }
  const end = key.indexOf(' ')
  const rest = key.slice(end + 1)
  switch (key.slice(0, end)) {
    case 'virtual':
      return { kind: 'virtual', server: rest }
    case 'set':
      return { kind: 'set', name: rest }
    case 'member': {
      const next = rest.indexOf(' ')
      return { kind: 'member', set: rest.slice(0, next), element: rest.slice(next + 1) }
    }
    case 'address':
      return { kind: 'address', address: rest }
    default:
      return { kind: 'device' }
  }
}
