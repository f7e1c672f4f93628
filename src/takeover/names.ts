// What is kube-proxy's in the kernel, by name: of all its modes, old and new (`kube-proxy.md` §4.9, §5.4, §5.5, §6.2).
import type { Table } from '../backend/xtables/names.ts'
import type { Family } from '../net/ip.ts'

/** Chains of its mode ipvs alone. */
export const ipvsChains: readonly string[] = [
  'KUBE-NODE-PORT',
  'KUBE-LOAD-BALANCER',
  'KUBE-SOURCE-RANGES-FIREWALL',
  'KUBE-IPVS-FILTER',
  'KUBE-IPVS-OUT-FILTER',
]

const staticChains: ReadonlySet<string> = new Set([
  'KUBE-SERVICES',
  'KUBE-EXTERNAL-SERVICES',
  'KUBE-NODEPORTS',
  'KUBE-POSTROUTING',
  'KUBE-FORWARD',
  'KUBE-PROXY-FIREWALL',
  'KUBE-PROXY-CANARY',
  'KUBE-MARK-MASQ',
  ...ipvsChains,
])

/** One a Service port or endpoint: `KUBE-SVC-` and 16 characters of base32. KUBE-XLB was KUBE-EXT's name before v1.24. */
const dynamicChain = /^KUBE-(?:SVC|SVL|SEP|EXT|FW|XLB)-[A-Z2-7]{16}$/

/**
 * True for chains that kube-proxy makes. kubelet's are none: KUBE-FIREWALL, KUBE-MARK-DROP, KUBE-KUBELET-CANARY and
 * KUBE-IPTABLES-HINT (KEP-3178), nor are kube-router's KUBE-ROUTER- and KUBE-POD-FW- chains.
 */
export const isProxyChain = (name: string): boolean => staticChains.has(name) || dynamicChain.test(name)

/** Chains that others use too: CNIs and kubelet before v1.28 mark what is to be masqueraded, and count on the latter to do it. */
export const sharedChains: readonly string[] = ['KUBE-MARK-MASQ', 'KUBE-POSTROUTING']

/** In the nat table kubelet's own until v1.27; where it is, kubelet keeps `sharedChains` up, and puts them back once a minute. */
export const oldKubeletChain = 'KUBE-MARK-DROP'

/** kube-proxy makes it at each of its starts, and whoever has it has or had a kube-proxy. */
export const mainChain = 'KUBE-SERVICES'

/** Chains that tell whether kube-proxy ever was here: in each of its modes with iptables it makes several of them at every start. */
export const telltales: readonly (readonly [table: Table, chain: string])[] = [
  ['nat', mainChain],
  ['nat', 'KUBE-POSTROUTING'],
  ['filter', mainChain],
  ['filter', 'KUBE-FORWARD'],
  ['mangle', 'KUBE-PROXY-CANARY'],
]

/** The table of its mode nftables, as nft names it. */
export const nftTable = (family: Family): string => (family === 'IPv4' ? 'ip kube-proxy' : 'ip6 kube-proxy')

const setNames: readonly string[] = [
  'LOOP-BACK',
  'CLUSTER-IP',
  'EXTERNAL-IP',
  'EXTERNAL-IP-LOCAL',
  'LOAD-BALANCER',
  'LOAD-BALANCER-LOCAL',
  'LOAD-BALANCER-FW',
  'LOAD-BALANCER-SOURCE-CIDR',
  'LOAD-BALANCER-SOURCE-IP',
  'NODE-PORT-TCP',
  'NODE-PORT-LOCAL-TCP',
  'NODE-PORT-UDP',
  'NODE-PORT-LOCAL-UDP',
  'NODE-PORT-SCTP-HASH',
  'NODE-PORT-LOCAL-SCTP-HASH',
  'HEALTH-CHECK-NODE-PORT',
  'IPVS-IPS',
]

/** The kernel's limit on names of sets (IPSET_MAXNAMELEN less its end). */
const maxSetName = 31

/** Name of a set of its mode ipvs, by its role. */
export const proxySet = (family: Family, role: string): string =>
  `${family === 'IPv4' ? 'KUBE-' : 'KUBE-6-'}${role}`.slice(0, maxSetName)

/** All sets of its mode ipvs. Names that merely begin like them are others': kube-router has KUBE-SRC- and KUBE-DST- sets. */
export const proxySets = (family: Family): ReadonlySet<string> => new Set(setNames.map(role => proxySet(family, role)))
