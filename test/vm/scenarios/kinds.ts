// The kinds of node that the scenarios run on in the virtual machine, and what each takes of the machine.
import { backends } from '../../../src/backend/registry.ts'
import type { ProxyMode } from '../../../src/config/types.ts'
import type { Variant } from '../../support/world/world.ts'

export interface Kind {
  readonly name: string
  readonly mode: ProxyMode
  /** The iptables that others on the node use. */
  readonly variant: Variant
  /** The machine that the other tests run on has no kernel for it. */
  readonly onlyHere: boolean
  /** Kernel modules that must be there before the settings are. */
  readonly modules: readonly string[]
  /** Settings of node-a, by their path below /proc/sys. */
  readonly sysctls: Readonly<Record<string, string>>
}

/**
 * What kube-proxy sets in ipvs mode, too: connections of IPVS are seen by connection tracking, which the masquerading of
 * them needs (§6 of the reference); those of endpoints that are gone end at once instead of hanging; and affinity to an
 * endpoint of weight 0 ends.
 */
const ipvsSysctls = {
  // A late packet of a flow that was forgotten between two scenarios must not count as a new one, which is not masqueraded.
  'net/netfilter/nf_conntrack_tcp_loose': '0',
  'net/ipv4/vs/conntrack': '1',
  'net/ipv4/vs/expire_nodest_conn': '1',
  'net/ipv4/vs/expire_quiescent_template': '1',
}

export const kinds: readonly Kind[] = [
  { name: 'iptables-nft', mode: 'iptables', variant: 'nft', onlyHere: false, modules: [], sysctls: {} },
  { name: 'iptables-legacy', mode: 'iptables', variant: 'legacy', onlyHere: false, modules: [], sysctls: {} },
  { name: 'nftables', mode: 'nftables', variant: 'nft', onlyHere: false, modules: [], sysctls: {} },
  { name: 'ipvs', mode: 'ipvs', variant: 'nft', onlyHere: true, modules: ['ip_vs'], sysctls: ipvsSysctls },
]

/** A sentence where this version of the program has no backend for the kind. */
export const missing = ({ name, mode }: Kind): string | undefined =>
  backends[mode] === undefined ? `${name} is left out: there is no backend for the mode ${mode} yet` : undefined
