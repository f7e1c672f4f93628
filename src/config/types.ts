// What the program is told: the effective configuration, in the units the rest of the program counts in.
import type { CIDR, IP } from '../net/ip.ts'

export const proxyModes = ['iptables', 'ipvs', 'nftables'] as const
export type ProxyMode = (typeof proxyModes)[number]

export const detectLocalModes = ['ClusterCIDR', 'NodeCIDR', 'BridgeInterface', 'InterfaceNamePrefix'] as const
export type DetectLocalMode = (typeof detectLocalModes)[number]

export const logFormats = ['text', 'json'] as const
export type LogFormat = (typeof logFormats)[number]

export const nodePortKeywords = ['primary', 'localhost', 'all'] as const
/** An entry of nodePortAddresses: a CIDR, or one of the words that stand for some (two of them since v1.37). */
export type NodePortAddress = (typeof nodePortKeywords)[number] | CIDR

export interface AddressPort {
  readonly address: IP
  readonly port: number
}

/** Where a server listens; `disabled` when it does not. */
export type ListenAddress = AddressPort | 'disabled'

/** Verbosity of one source file, as klog's vmodule has it. */
export interface VModule {
  readonly filePattern: string
  readonly verbosity: number
}

/** How one log format divides its output. */
export interface LogOutput {
  readonly splitStream: boolean
  /** Bytes. */
  readonly infoBufferSize: number
}

/**
 * The effective configuration: KubeProxyConfiguration v1alpha1 after defaults and validation, with the active mode's
 * section chosen as kube-proxy chooses it (`kube-proxy.md` §9.1). Durations are in milliseconds. An empty string means
 * that the field is not set.
 */
export interface Configuration {
  readonly mode: ProxyMode
  /** How long to wait before retrying a failed sync, at least. Above 0. */
  readonly syncPeriod: number
  /**
   * The shortest time between two syncs. Absent when it is not set or 0: how long to wait is then decided by the load.
   * kubeadm writes `0s`, and kube-proxy's own default of 1 s makes a single change wait without need.
   */
  readonly minSyncPeriod?: number
  readonly masqueradeAll: boolean
  /** Bit of the packet mark, 0 to 31. */
  readonly masqueradeBit: number
  /** NodePorts answer on 127.0.0.0/8 too; iptables mode and IPv4 only. */
  readonly localhostNodePorts: boolean
  readonly detectLocalMode: DetectLocalMode
  readonly bridgeInterface: string
  readonly interfaceNamePrefix: string
  /** At most one an address family when detectLocalMode is ClusterCIDR. */
  readonly clusterCIDRs: readonly CIDR[]
  /** Empty: every local address. */
  readonly nodePortAddresses: readonly NodePortAddress[]
  /** Name of this node, trimmed and in lower case; empty: the machine's host name. */
  readonly hostnameOverride: string
  /** Not bound to: unless unspecified (0.0.0.0 or ::) it overrides the node's primary address and family. */
  readonly bindAddress: IP
  readonly healthzBindAddress: ListenAddress
  readonly metricsBindAddress: ListenAddress
  readonly bindAddressHardFail: boolean
  readonly enableProfiling: boolean
  readonly showHiddenMetricsForVersion: string
  readonly clientConnection: {
    /** Path; empty: the in-cluster service account. */
    readonly kubeconfig: string
    readonly acceptContentTypes: string
    readonly contentType: string
    /** Requests a second. */
    readonly qps: number
    readonly burst: number
  }
  readonly logging: {
    readonly format: LogFormat
    readonly flushFrequency: number
    readonly verbosity: number
    readonly vmodule: readonly VModule[]
    readonly options: { readonly text: LogOutput; readonly json: LogOutput }
  }
  readonly conntrack: {
    readonly maxPerCore: number
    readonly min: number
    readonly tcpEstablishedTimeout: number
    readonly tcpCloseWaitTimeout: number
    readonly tcpBeLiberal: boolean
    readonly udpTimeout: number
    readonly udpStreamTimeout: number
  }
  readonly ipvs: {
    /** Empty: `rr`. */
    readonly scheduler: string
    readonly excludeCIDRs: readonly CIDR[]
    readonly strictARP: boolean
    /** 0 keeps the kernel's value; so do the two below. */
    readonly tcpTimeout: number
    readonly tcpFinTimeout: number
    readonly udpTimeout: number
  }
  readonly oomScoreAdj: number
  readonly configSyncPeriod: number
  readonly portRange: string
  readonly featureGates: Readonly<Record<string, boolean>>
  readonly winkernel: {
    readonly networkName: string
    readonly sourceVip: string
    readonly enableDSR: boolean
    readonly rootHnsEndpointName: string
    readonly forwardHealthCheckVip: boolean
  }
  readonly windowsRunAsService: boolean
}

/** The configuration cannot be used. The message lists every problem found, one a line. Exit status 1. */
export class ConfigError extends Error {
  readonly problems: readonly string[]
  constructor(heading: string, problems: readonly string[]) {
    super(listing(heading, problems))
    this.name = 'ConfigError'
    this.problems = problems
  }
}

/** The command line cannot be understood. The message lists every problem found, one a line. Exit status 2. */
export class UsageError extends Error {
  readonly problems: readonly string[]
  constructor(problems: readonly string[]) {
    const [only] = problems
    super(only !== undefined && problems.length === 1 ? only : listing('the command line is not right', problems))
    this.name = 'UsageError'
    this.problems = problems
  }
}

function listing(heading: string, problems: readonly string[]): string {
  const [only] = problems
  return only !== undefined && problems.length === 1
    ? `${heading}: ${only}`
    : `${heading}:\n${problems.map(problem => `  ${problem}`).join('\n')}`
}
