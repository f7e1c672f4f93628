// Which backends there are. A further one is a folder and a line here.
import type { Exec } from '../kernel/exec.ts'
import type { Family } from '../net/ip.ts'
import type { Backend } from './backend.ts'
import { iptablesBackend } from './iptables/index.ts'
import { ipvsBackend } from './ipvs/index.ts'
import type { IpvsSettings } from './ipvs/settings.ts'
import { nftablesBackend } from './nftables/index.ts'

export interface BackendOptions {
  readonly family: Family
  readonly exec: Exec
  /** For IPVS mode; left out: kube-proxy's defaults. */
  readonly ipvs?: IpvsSettings
}

/** By the name of the proxy mode; each call makes the backend of one address family. */
export const backends: Readonly<Record<string, (options: BackendOptions) => Backend>> = {
  iptables: iptablesBackend,
  nftables: nftablesBackend,
  ipvs: ({ family, exec, ipvs }) => ipvsBackend({ family, exec, ...(ipvs === undefined ? {} : { settings: ipvs }) }),
}

/** The backend of a mode; undefined when this version has none for it. */
export const backendFor = (mode: string, options: BackendOptions): Backend | undefined => backends[mode]?.(options)
