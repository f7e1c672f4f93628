// What the configuration and the Node object say of this node, in the terms of policy.
import type { Configuration } from '../config/types.ts'
import type { NodeRecord } from '../model/records.ts'
import { type CIDR, type Family, familyOf, formatCIDR, type IP } from '../net/ip.ts'
import { localDetector } from '../policy/detector.ts'
import type { Network } from '../policy/network.ts'
import { chooseNodeIPs, type NodeIPs, nodeView } from '../policy/node-ips.ts'
import { admitsLoopback, nodePortAddresses } from '../policy/node-ports.ts'
import type { NodeView } from '../policy/node-view.ts'

/** What is known of the node besides the configuration. */
export interface NodeFacts {
  readonly name: string
  /** The Node object; undefined while it is not known. */
  readonly record: NodeRecord | undefined
  /** Addresses of the host; `trace` takes a packet from one of them for the node's own. */
  readonly hostAddresses: readonly IP[]
  /** Addresses given on the command line stand in for a Node object that has none. */
  readonly givenAddresses: readonly IP[]
  readonly conntrackIsLiberal: boolean
  /** Of both families. */
  readonly serviceCIDRs: readonly CIDR[]
}

/** The network of one family, as a backend needs it. */
export function networkOf(configuration: Configuration, facts: NodeFacts, family: Family): Network {
  const ips = nodeIPsOf(configuration, facts)
  const entries = configuration.nodePortAddresses.map(entry => (typeof entry === 'string' ? entry : formatCIDR(entry)))
  const known = [ips.IPv4, ips.IPv6].filter(ip => ip !== undefined)
  const addresses = nodePortAddresses(entries, known, family, configuration.mode)
  return {
    family,
    detector: localDetector(
      {
        mode: configuration.detectLocalMode,
        clusterCIDR: configuration.clusterCIDRs,
        podCIDRs: facts.record?.podCIDRs ?? [],
        bridgeInterface: configuration.bridgeInterface,
        interfaceNamePrefix: configuration.interfaceNamePrefix,
      },
      family,
    ),
    masqueradeAll: configuration.masqueradeAll,
    masqueradeMark: (1 << configuration.masqueradeBit) >>> 0,
    nodePortAddresses: addresses,
    // Only iptables can, and only IPv4 has route_localnet (§3.4).
    localhostNodePorts:
      configuration.mode === 'iptables' &&
      family === 'IPv4' &&
      configuration.localhostNodePorts &&
      admitsLoopback(addresses, family),
    dropInvalid: !configuration.conntrack.tcpBeLiberal && !facts.conntrackIsLiberal,
    nodeAddresses: facts.hostAddresses.filter(ip => familyOf(ip) === family),
    // Of no use to the other modes, which a change of them must not trouble.
    ...(configuration.mode === 'nftables'
      ? { serviceCIDRs: facts.serviceCIDRs.filter(({ address }) => familyOf(address) === family) }
      : {}),
  }
}

/** The node as policy sees it in one family. */
export const nodeViewOf = (configuration: Configuration, facts: NodeFacts, family: Family): NodeView => ({
  ...nodeView(facts.name, facts.record, nodeIPsOf(configuration, facts), family),
  ...(configuration.featureGates.AllowServiceExternalIPs === false ? { ignoresExternalIPs: true } : {}),
})

function nodeIPsOf(configuration: Configuration, { record, givenAddresses }: NodeFacts): NodeIPs {
  const addresses = record === undefined || record.addresses.length === 0 ? givenAddresses : record.addresses
  return chooseNodeIPs(addresses, configuration.bindAddress)
}
