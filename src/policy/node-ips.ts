// Which address is the node's own, by family: for the source-range exception and for `primary` (§11.2, §11.3).
import type { NodeRecord } from '../model/records.ts'
import { type Family, familyOf, type IP } from '../net/ip.ts'
import type { NodeView } from './node-view.ts'

/** The node's address of each family, where it has one, and which family comes first. */
export interface NodeIPs {
  readonly primaryFamily: Family
  readonly IPv4?: IP
  readonly IPv6?: IP
}

/**
 * Chooses among a Node's addresses (InternalIPs, then ExternalIPs, in the object's order): the first, and the first of
 * the other family. `bindAddress`, unless it is 0.0.0.0 or ::, takes the place of the address of its family and makes
 * that family the primary one. kube-proxy puts 127.0.0.1 or ::1 where a family has no address; here it has none, so that
 * a source range around loopback opens nothing.
 */
export function chooseNodeIPs(addresses: readonly IP[], bindAddress?: IP): NodeIPs {
  const override = bindAddress === '0.0.0.0' || bindAddress === '::' ? undefined : bindAddress
  const candidates = override === undefined ? addresses : [override, ...addresses]
  const [first] = candidates
  const ipv4 = candidates.find(ip => familyOf(ip) === 'IPv4')
  const ipv6 = candidates.find(ip => familyOf(ip) === 'IPv6')
  return {
    primaryFamily: first === undefined ? 'IPv4' : familyOf(first),
    ...(ipv4 === undefined ? {} : { IPv4: ipv4 }),
    ...(ipv6 === undefined ? {} : { IPv6: ipv6 }),
  }
}

/** What policy sees of this node in one family. The name counts even when the Node object is not there. */
export function nodeView(name: string, node: NodeRecord | undefined, ips: NodeIPs, family: Family): NodeView {
  const nodeIP = ips[family]
  return {
    name,
    ...(node?.zone === undefined ? {} : { zone: node.zone }),
    ...(nodeIP === undefined ? {} : { nodeIP }),
  }
}
