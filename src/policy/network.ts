// What a backend must know of the node and the configuration besides the Service ports. One value per address family.
import type { CIDR, Family, IP } from '../net/ip.ts'

/** How traffic of this node's pods is told from other traffic (`kube-proxy.md` §3.2). */
export type LocalDetector =
  | { readonly kind: 'none' }
  | { readonly kind: 'source-cidr'; readonly cidr: CIDR }
  | { readonly kind: 'interface'; readonly name: string }
  | { readonly kind: 'interface-prefix'; readonly prefix: string }

/** Which of the node's addresses accept NodePorts (`kube-proxy.md` §3.4). */
export type NodePortAddresses =
  /** Every address the kernel calls local, loopback aside. */
  | { readonly kind: 'all' }
  /** Local addresses inside these CIDRs. */
  | { readonly kind: 'cidrs'; readonly cidrs: readonly CIDR[] }

export interface Network {
  readonly family: Family
  readonly detector: LocalDetector
  readonly masqueradeAll: boolean
  /** The mark bit as a value, `0x4000` for bit 14. Unsigned. */
  readonly masqueradeMark: number
  readonly nodePortAddresses: NodePortAddresses
  /** NodePorts answer on 127.0.0.0/8 too: iptables mode, IPv4 only. */
  readonly localhostNodePorts: boolean
  /** Packets that conntrack calls INVALID are dropped when forwarded; false with tcpBeLiberal. */
  readonly dropInvalid: boolean
  /** All cluster addresses, assigned or not, where they are known; nftables mode drops packets to unassigned ones (§14.4). */
  readonly serviceCIDRs?: readonly CIDR[]
  /** Addresses of the host, for `trace`, where they must not be read from the machine. Loopback need not be listed. */
  readonly nodeAddresses: readonly IP[]
}
