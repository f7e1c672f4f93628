// Which of the node's addresses take NodePorts (`kube-proxy.md` §3.4).
import { type CIDR, cidrContains, type Family, familyOf, formatCIDR, hostCIDR, type IP, parseCIDR } from '../net/ip.ts'
import type { Network, NodePortAddresses } from './network.ts'

const constant = (text: string): readonly CIDR[] => [parseCIDR(text)].filter(cidr => cidr !== undefined)
const loopback: Record<Family, readonly CIDR[]> = { IPv4: constant('127.0.0.0/8'), IPv6: constant('::1/128') }
const all: NodePortAddresses = { kind: 'all' }

const isLoopback = (ip: IP): boolean => loopback[familyOf(ip)].some(cidr => cidrContains(cidr, ip))

/**
 * The addresses of one family that `nodePortAddresses` admits. Entries are CIDRs or, since v1.37 also mixed with them,
 * `primary` (the node's own address), `localhost` and `all`. As in kube-proxy, a list without an entry of the family
 * leaves the family open, and so does `primary` where the node has no address of it; nftables mode takes an empty list
 * for `primary`.
 * @param nodeIPs the node's address of each family; loopback stands for an unknown one and does not count.
 * @throws Error naming an entry that is neither a CIDR nor one of the words: to ignore it could open every address.
 */
export function nodePortAddresses(
  entries: readonly string[],
  nodeIPs: readonly IP[],
  family: Family,
  mode: 'iptables' | 'nftables' | 'ipvs',
): NodePortAddresses {
  const effective = entries.length === 0 && mode === 'nftables' ? ['primary'] : entries
  const byText = new Map<string, CIDR>()
  for (const entry of effective) {
    const admitted = admittedBy(entry, nodeIPs, family)
    if (admitted === 'all') return all
    for (const cidr of admitted) byText.set(formatCIDR(cidr), cidr)
  }
  const cidrs = [...byText].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, cidr]) => cidr)
  return cidrs.length === 0 ? all : { kind: 'cidrs', cidrs }
}

function admittedBy(entry: string, nodeIPs: readonly IP[], family: Family): readonly CIDR[] | 'all' {
  switch (entry) {
    case 'all':
      return 'all'
    case 'localhost':
      return loopback[family]
    case 'primary':
      return nodeIPs.filter(ip => familyOf(ip) === family && !isLoopback(ip)).map(hostCIDR)
    default: {
      const cidr = parseCIDR(entry)
      if (cidr === undefined) {
        throw new Error(`nodePortAddresses: "${entry}" is neither a CIDR nor one of primary, localhost, all`)
      }
      if (familyOf(cidr.address) !== family) return []
      return cidr.prefix === 0 ? 'all' : [cidr]
    }
  }
}

/** True if NodePorts may answer on a loopback address of the family: with `all`, or a CIDR that meets loopback. */
export const admitsLoopback = (addresses: NodePortAddresses, family: Family): boolean =>
  addresses.kind === 'all' ||
  addresses.cidrs.some(cidr =>
    loopback[family].some(own => cidrContains(own, cidr.address) || cidrContains(cidr, own.address)),
  )

const linkLocal = constant('fe80::/10')

/** True for IPv6 addresses of a link alone (RFC 4291): every device has one, those of pods too. */
export const isLinkLocal = (ip: IP): boolean => linkLocal.some(cidr => cidrContains(cidr, ip))

/**
 * The node's addresses that take NodePorts, for a mode that must name them one by one. Loopback and IPv6 link-local
 * addresses do not: nobody else can answer there. Sorted.
 */
export function nodePortIPs({ family, nodePortAddresses: admitted, nodeAddresses }: Network): readonly IP[] {
  return nodeAddresses
    .filter(ip => familyOf(ip) === family && !isLoopback(ip) && !isLinkLocal(ip))
    .filter(ip => admitted.kind === 'all' || admitted.cidrs.some(cidr => cidrContains(cidr, ip)))
    .sort()
}
