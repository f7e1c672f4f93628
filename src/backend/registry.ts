// Which backends there are. A further one is a folder and a line here.
import type { Exec } from '../kernel/exec.ts'
import type { NftConnection } from '../kernel/netlink/nft-connection.ts'
import type { Family } from '../net/ip.ts'
import type { Backend } from './backend.ts'
import { iptablesBackend } from './iptables/index.ts'
import { ipvsBackend } from './ipvs/index.ts'
import type { IpvsNetlink } from './ipvs/netlink.ts'
import type { IpvsSettings } from './ipvs/settings.ts'
import { nftablesBackend } from './nftables/index.ts'

/** Opens connections to the kernel; each call makes one. Undefined where that cannot be: then programs do the same. */
export interface Netlink {
  nft(): Promise<NftConnection | undefined>
  ipvs(): Promise<IpvsNetlink | undefined>
}

export interface BackendOptions {
  readonly family: Family
  readonly exec: Exec
  /** For IPVS mode; left out: kube-proxy's defaults. */
  readonly ipvs?: IpvsSettings
  /** In the network namespace where `exec` runs programs. Left out: programs do it all. */
  readonly netlink?: Netlink
  /** What is written stays this process's alone, where the kernel can see to that. For what keeps the rules. */
  readonly own?: boolean
}

/** By the name of the proxy mode; each call makes the backend of one address family. */
export const backends: Readonly<Record<string, (options: BackendOptions) => Backend>> = {
  iptables: ({ family, exec }) => iptablesBackend({ family, exec }),
  nftables: ({ family, exec, netlink, own = false }) =>
    nftablesBackend({ family, exec, own, ...(netlink === undefined ? {} : { netlink: netlink.nft }) }),
  ipvs: ({ family, exec, ipvs, netlink }) =>
    ipvsBackend({
      family,
      exec,
      ...(ipvs === undefined ? {} : { settings: ipvs }),
      ...(netlink === undefined ? {} : { netlink: netlink.ipvs }),
    }),
}

/** The backend of a mode; undefined when this version has none for it. */
export const backendFor = (mode: string, options: BackendOptions): Backend | undefined => backends[mode]?.(options)
