// Every field of KubeProxyConfiguration v1alpha1: its type, its default, and whether this version acts on it.
import { parseIP } from '../net/ip.ts'
import {
  bool,
  bytes,
  cidrs,
  cidrText,
  duration,
  type FieldType,
  gates,
  int32,
  integer,
  ip,
  listenAddress,
  nodePortAddresses,
  number,
  oneOf,
  text,
  verbosity,
  vmodule,
} from './field-types.ts'
import { detectLocalModes, type ListenAddress, logFormats, type ProxyMode, proxyModes } from './types.ts'

export interface Field<T> {
  readonly type: FieldType<T>
  /** The value when the field is not set. */
  readonly fallback: T
  /** An empty or zero value in a file is no value: v1alpha1 has no pointer here, so that Go cannot tell the two apart. */
  readonly zeroIsUnset: boolean
  /** The modes it means anything in; absent: all. */
  readonly modes?: readonly ProxyMode[]
  /** kube-proxy's own default where it is not ours: whoever has it set asked for nothing in particular. */
  readonly kubeProxyDefault?: T
  /** Why a value other than the default changes nothing; absent when this version acts on it. */
  readonly withoutEffect?: string
}

interface Remarks<T> {
  readonly kubeProxyDefault?: T
  readonly modes?: readonly ProxyMode[]
  readonly withoutEffect?: string
}

const zeroable = <T>(type: FieldType<T>, fallback: NoInfer<T>, remarks: Remarks<NoInfer<T>> = {}): Field<T> => ({
  type,
  fallback,
  zeroIsUnset: true,
  ...remarks,
})

const exact = <T>(type: FieldType<T>, fallback: NoInfer<T>, remarks: Remarks<NoInfer<T>> = {}): Field<T> => ({
  type,
  fallback,
  zeroIsUnset: false,
  ...remarks,
})

const seconds = (count: number): number => count * 1000
const hours = (count: number): number => seconds(count * 3600)

const unspecified = { IPv4: known('0.0.0.0'), IPv6: known('::') }
const loopback = { IPv4: known('127.0.0.1'), IPv6: known('::1') }

function known(address: string) {
  const parsed = parseIP(address)
  if (parsed === undefined) throw new Error(`${address} is no IP address`)
  return parsed
}

/** Ports of kube-proxy's two servers. */
export const ports = { healthz: 10256, metrics: 10249 }

/** Where the servers listen when nothing is set; by family of bindAddress in a file. */
export const defaultListen: Readonly<Record<'IPv4' | 'IPv6', { healthz: ListenAddress; metrics: ListenAddress }>> = {
  IPv4: {
    healthz: { address: unspecified.IPv4, port: ports.healthz },
    metrics: { address: loopback.IPv4, port: ports.metrics },
  },
  IPv6: {
    healthz: { address: unspecified.IPv6, port: ports.healthz },
    metrics: { address: loopback.IPv6, port: ports.metrics },
  },
}

const windows = 'it is for Windows nodes only'
const noClientTuning = 'requests are few and always JSON'
const noLogTuning = 'log lines are written at once, to one stream'

/** The wire formats that need no remark: the default, which we may not speak, and the one we do. */
export const protobuf = 'application/vnd.kubernetes.protobuf'

const iptablesAndIPVS: readonly ProxyMode[] = ['iptables', 'ipvs']
const ipvsOnly: Remarks<never> = { modes: ['ipvs'] }
const nftablesOnly: Remarks<never> = { modes: ['nftables'] }

const table = {
  featureGates: exact(gates, {}),
  'clientConnection.kubeconfig': exact(text('PATH'), ''),
  'clientConnection.acceptContentTypes': exact(text(), '', { withoutEffect: noClientTuning }),
  'clientConnection.contentType': zeroable(text(), protobuf, { withoutEffect: noClientTuning }),
  'clientConnection.qps': zeroable(number, 5, { withoutEffect: noClientTuning }),
  'clientConnection.burst': zeroable(integer(0, int32.to), 10, { withoutEffect: noClientTuning }),
  'logging.format': zeroable(oneOf(logFormats), 'text'),
  'logging.flushFrequency': zeroable(duration('zero', 'nanoseconds'), seconds(5), { withoutEffect: noLogTuning }),
  'logging.verbosity': exact(verbosity, 0),
  'logging.vmodule': exact(vmodule, [], { withoutEffect: 'verbosity is the same for the whole program' }),
  'logging.options.text.splitStream': exact(bool, false, { withoutEffect: noLogTuning }),
  'logging.options.text.infoBufferSize': exact(bytes, 0, { withoutEffect: noLogTuning }),
  'logging.options.json.splitStream': exact(bool, false, { withoutEffect: noLogTuning }),
  'logging.options.json.infoBufferSize': exact(bytes, 0, { withoutEffect: noLogTuning }),
  hostnameOverride: exact(text('NAME'), ''),
  bindAddress: zeroable(ip, unspecified.IPv4),
  healthzBindAddress: zeroable(listenAddress(ports.healthz), defaultListen.IPv4.healthz),
  metricsBindAddress: zeroable(listenAddress(ports.metrics), defaultListen.IPv4.metrics),
  bindAddressHardFail: exact(bool, false),
  enableProfiling: exact(bool, false, { withoutEffect: 'profiles are not served' }),
  showHiddenMetricsForVersion: exact(text('X.Y'), '', { withoutEffect: 'there are no hidden metrics' }),
  mode: zeroable(oneOf(proxyModes), 'iptables'),
  'iptables.masqueradeBit': exact(integer(0, 31), 14, { modes: iptablesAndIPVS }),
  'iptables.masqueradeAll': exact(bool, false, { modes: iptablesAndIPVS }),
  'iptables.localhostNodePorts': exact(bool, true, { modes: ['iptables'] }),
  'iptables.syncPeriod': zeroable(duration('above zero'), seconds(30), { modes: ['iptables'] }),
  'iptables.minSyncPeriod': zeroable(duration('zero'), 0, { modes: ['iptables'], kubeProxyDefault: seconds(1) }),
  'ipvs.syncPeriod': zeroable(duration('above zero'), seconds(30), ipvsOnly),
  'ipvs.minSyncPeriod': zeroable(duration('zero'), 0, ipvsOnly),
  'ipvs.scheduler': exact(text('NAME'), '', ipvsOnly),
  'ipvs.excludeCIDRs': exact(cidrs, [], ipvsOnly),
  'ipvs.strictARP': exact(bool, false, ipvsOnly),
  'ipvs.tcpTimeout': exact(duration('zero'), 0, ipvsOnly),
  'ipvs.tcpFinTimeout': exact(duration('zero'), 0, ipvsOnly),
  'ipvs.udpTimeout': exact(duration('zero'), 0, ipvsOnly),
  'nftables.masqueradeBit': exact(integer(0, 31), 14, nftablesOnly),
  'nftables.masqueradeAll': exact(bool, false, nftablesOnly),
  'nftables.syncPeriod': zeroable(duration('above zero'), seconds(30), nftablesOnly),
  'nftables.minSyncPeriod': zeroable(duration('zero'), 0, { modes: ['nftables'], kubeProxyDefault: seconds(1) }),
  'winkernel.networkName': exact(text(), '', { withoutEffect: windows }),
  'winkernel.sourceVip': exact(text(), '', { withoutEffect: windows }),
  'winkernel.enableDSR': exact(bool, false, { withoutEffect: windows }),
  'winkernel.rootHnsEndpointName': exact(text(), '', { withoutEffect: windows }),
  'winkernel.forwardHealthCheckVip': exact(bool, false, { withoutEffect: windows }),
  detectLocalMode: zeroable(oneOf(detectLocalModes), 'ClusterCIDR'),
  'detectLocal.bridgeInterface': exact(text('NAME'), ''),
  'detectLocal.interfaceNamePrefix': exact(text('PREFIX'), ''),
  clusterCIDR: zeroable(cidrText, []),
  nodePortAddresses: zeroable(nodePortAddresses, []),
  oomScoreAdj: exact(integer(-1000, 1000), -999),
  'conntrack.maxPerCore': exact(integer(0, int32.to), 32768),
  'conntrack.min': exact(integer(0, int32.to), 131072),
  'conntrack.tcpEstablishedTimeout': exact(duration('zero'), hours(24)),
  'conntrack.tcpCloseWaitTimeout': exact(duration('zero'), hours(1)),
  'conntrack.tcpBeLiberal': exact(bool, false),
  'conntrack.udpTimeout': exact(duration('zero'), 0),
  'conntrack.udpStreamTimeout': exact(duration('zero'), 0),
  configSyncPeriod: zeroable(duration('above zero'), seconds(900), {
    withoutEffect: 'watches are checked by other means than a periodic refresh',
  }),
  portRange: exact(text('FROM-TO'), '', { withoutEffect: 'it has had no meaning since the userspace mode went' }),
  windowsRunAsService: exact(bool, false, { withoutEffect: windows }),
}

type Table = typeof table

/** Path of a field in the file, `iptables.masqueradeBit`. */
export type FieldPath = keyof Table

/** The value each field holds. */
export type FieldValues = { [P in FieldPath]: Table[P] extends Field<infer T> ? T : never }

/** The table, by path. */
export const fields: { readonly [P in FieldPath]: Field<FieldValues[P]> } = table

/** True of the path of a field. */
export const isFieldPath = (path: string): path is FieldPath => Object.hasOwn(fields, path)

/** All paths, in the order of kube-proxy's documentation. */
export const fieldPaths: readonly FieldPath[] = Object.keys(fields).filter(isFieldPath)

/** The fields that were set, each with the words it was set by: its path in the file, or its flag. */
export class Settings {
  readonly #values: { [P in FieldPath]?: FieldValues[P] } = {}
  readonly #origins = new Map<FieldPath, string>()

  /** Sets a field; `origin` is what messages call it. */
  set<P extends FieldPath>(path: P, value: FieldValues[P], origin: string): void {
    this.#values[path] = value
    this.#origins.set(path, origin)
  }

  /** The value that was set; undefined if none was. */
  get<P extends FieldPath>(path: P): FieldValues[P] | undefined {
    return this.#values[path]
  }

  /** The value that holds: what was set, or the default. */
  valueOf<P extends FieldPath>(path: P): FieldValues[P] {
    return this.#values[path] ?? fields[path].fallback
  }

  /** What messages call the field. */
  originOf(path: FieldPath): string {
    return this.#origins.get(path) ?? `KubeProxyConfiguration.${path}`
  }

  /** The fields that were set, in the order they were set in. */
  paths(): FieldPath[] {
    return [...this.#origins.keys()]
  }

  /** A copy that can be changed alone. */
  copy(): Settings {
    const copy = new Settings()
    const put = <P extends FieldPath>(path: P, value: FieldValues[P] | undefined) => {
      if (value !== undefined) copy.set(path, value, this.originOf(path))
    }
    for (const path of this.paths()) put(path, this.get(path))
    return copy
  }

  /** Takes back what was set. */
  unset(path: FieldPath): void {
    delete this.#values[path]
    this.#origins.delete(path)
  }
}
