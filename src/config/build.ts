// From the fields that were set to the effective configuration: defaults, the active mode's section, and what must agree.
import { familyOf } from '../net/ip.ts'
import { isDualStackPair } from './field-types.ts'
import { defaultListen, type FieldPath, Settings } from './fields.ts'
import { flagOfField, spelling } from './flag-table.ts'
import type { Configuration, NodePortAddress, ProxyMode } from './types.ts'

/** Where settings come from: defaults and names in messages follow it. */
export type Source = 'file' | 'flags'

/** The configuration when nothing is set. */
export const defaultConfiguration = (): Configuration => configurationOf(new Settings(), 'flags')

/**
 * The effective configuration. Only a file's defaults follow the family of bindAddress: kube-proxy makes the defaults of
 * its flags before it reads any.
 */
export function configurationOf(settings: Settings, source: Source): Configuration {
  const mode = settings.valueOf('mode')
  const bindAddress = settings.valueOf('bindAddress')
  const listen = defaultListen[source === 'file' ? familyOf(bindAddress) : 'IPv4']
  return {
    mode,
    ...periods(settings, mode),
    ...masquerade(settings, mode),
    localhostNodePorts: settings.valueOf('iptables.localhostNodePorts'),
    detectLocalMode: settings.valueOf('detectLocalMode'),
    bridgeInterface: settings.valueOf('detectLocal.bridgeInterface'),
    interfaceNamePrefix: settings.valueOf('detectLocal.interfaceNamePrefix'),
    clusterCIDRs: settings.valueOf('clusterCIDR'),
    nodePortAddresses: nodePortAddresses(settings, mode),
    hostnameOverride: settings.valueOf('hostnameOverride').trim().toLowerCase(),
    bindAddress,
    healthzBindAddress: settings.get('healthzBindAddress') ?? listen.healthz,
    metricsBindAddress: settings.get('metricsBindAddress') ?? listen.metrics,
    bindAddressHardFail: settings.valueOf('bindAddressHardFail'),
    enableProfiling: settings.valueOf('enableProfiling'),
    showHiddenMetricsForVersion: settings.valueOf('showHiddenMetricsForVersion'),
    clientConnection: clientConnection(settings),
    logging: logging(settings),
    conntrack: conntrack(settings),
    ipvs: ipvs(settings),
    oomScoreAdj: settings.valueOf('oomScoreAdj'),
    configSyncPeriod: settings.valueOf('configSyncPeriod'),
    portRange: settings.valueOf('portRange'),
    featureGates: settings.valueOf('featureGates'),
    winkernel: winkernel(settings),
    windowsRunAsService: settings.valueOf('windowsRunAsService'),
  }
}

function periods(settings: Settings, mode: ProxyMode): Pick<Configuration, 'syncPeriod' | 'minSyncPeriod'> {
  const minSyncPeriod = settings.valueOf(`${mode}.minSyncPeriod`)
  const syncPeriod = settings.valueOf(`${mode}.syncPeriod`)
  return minSyncPeriod === 0 ? { syncPeriod } : { syncPeriod, minSyncPeriod }
}

// ipvs mode has no such fields of its own: it reads those of iptables.
function masquerade(settings: Settings, mode: ProxyMode): Pick<Configuration, 'masqueradeAll' | 'masqueradeBit'> {
  const section = mode === 'nftables' ? 'nftables' : 'iptables'
  return {
    masqueradeAll: settings.valueOf(`${section}.masqueradeAll`),
    masqueradeBit: settings.valueOf(`${section}.masqueradeBit`),
  }
}

function nodePortAddresses(settings: Settings, mode: ProxyMode): readonly NodePortAddress[] {
  const set = settings.valueOf('nodePortAddresses')
  return set.length === 0 && mode === 'nftables' ? ['primary'] : set
}

const clientConnection = (settings: Settings): Configuration['clientConnection'] => ({
  kubeconfig: settings.valueOf('clientConnection.kubeconfig'),
  acceptContentTypes: settings.valueOf('clientConnection.acceptContentTypes'),
  contentType: settings.valueOf('clientConnection.contentType'),
  qps: settings.valueOf('clientConnection.qps'),
  burst: settings.valueOf('clientConnection.burst'),
})

const logging = (settings: Settings): Configuration['logging'] => ({
  format: settings.valueOf('logging.format'),
  flushFrequency: settings.valueOf('logging.flushFrequency'),
  verbosity: settings.valueOf('logging.verbosity'),
  vmodule: settings.valueOf('logging.vmodule'),
  options: {
    text: {
      splitStream: settings.valueOf('logging.options.text.splitStream'),
      infoBufferSize: settings.valueOf('logging.options.text.infoBufferSize'),
    },
    json: {
      splitStream: settings.valueOf('logging.options.json.splitStream'),
      infoBufferSize: settings.valueOf('logging.options.json.infoBufferSize'),
    },
  },
})

const conntrack = (settings: Settings): Configuration['conntrack'] => ({
  maxPerCore: settings.valueOf('conntrack.maxPerCore'),
  min: settings.valueOf('conntrack.min'),
  tcpEstablishedTimeout: settings.valueOf('conntrack.tcpEstablishedTimeout'),
  tcpCloseWaitTimeout: settings.valueOf('conntrack.tcpCloseWaitTimeout'),
  tcpBeLiberal: settings.valueOf('conntrack.tcpBeLiberal'),
  udpTimeout: settings.valueOf('conntrack.udpTimeout'),
  udpStreamTimeout: settings.valueOf('conntrack.udpStreamTimeout'),
})

const ipvs = (settings: Settings): Configuration['ipvs'] => ({
  scheduler: settings.valueOf('ipvs.scheduler'),
  excludeCIDRs: settings.valueOf('ipvs.excludeCIDRs'),
  strictARP: settings.valueOf('ipvs.strictARP'),
  tcpTimeout: settings.valueOf('ipvs.tcpTimeout'),
  tcpFinTimeout: settings.valueOf('ipvs.tcpFinTimeout'),
  udpTimeout: settings.valueOf('ipvs.udpTimeout'),
})

const winkernel = (settings: Settings): Configuration['winkernel'] => ({
  networkName: settings.valueOf('winkernel.networkName'),
  sourceVip: settings.valueOf('winkernel.sourceVip'),
  enableDSR: settings.valueOf('winkernel.enableDSR'),
  rootHnsEndpointName: settings.valueOf('winkernel.rootHnsEndpointName'),
  forwardHealthCheckVip: settings.valueOf('winkernel.forwardHealthCheckVip'),
})

/** What is wrong with settings that are each right alone (`kube-proxy.md` §9.1, Validation). One sentence each. */
export function problemsOf(settings: Settings, source: Source): string[] {
  const problems: string[] = []
  const report = (path: FieldPath, problem: string) => problems.push(`${nameOf(path, settings, source)}: ${problem}`)
  const mode = settings.valueOf('mode')
  const { syncPeriod, minSyncPeriod } = periods(settings, mode)
  if (minSyncPeriod !== undefined && minSyncPeriod > syncPeriod) {
    report(
      `${mode}.minSyncPeriod`,
      `longer than ${nameOf(`${mode}.syncPeriod`, settings, source)}, which it may not be`,
    )
  }
  const hostname = settings.valueOf('hostnameOverride')
  if (hostname !== '' && hostname.trim() === '') report('hostnameOverride', 'holds only blanks: expected a node name')
  checkDetectLocal(settings, report)
  const format = settings.valueOf('logging.format')
  if (format !== 'text' && settings.valueOf('logging.vmodule').length > 0) {
    report('logging.vmodule', `works only with the log format text, not ${format}`)
  }
  const version = settings.valueOf('showHiddenMetricsForVersion')
  if (version !== '' && !/^\d+\.\d+$/.test(version)) {
    report('showHiddenMetricsForVersion', `expected a version such as "1.35", found ${JSON.stringify(version)}`)
  }
  return problems
}

function checkDetectLocal(settings: Settings, report: (path: FieldPath, problem: string) => void): void {
  const mode = settings.valueOf('detectLocalMode')
  switch (mode) {
    case 'ClusterCIDR': {
      const [first, second, ...more] = settings.valueOf('clusterCIDR')
      if (first === undefined || second === undefined) return
      if (more.length > 0 || !isDualStackPair(first, second)) {
        report('clusterCIDR', 'expected one CIDR, or an IPv4 and an IPv6 CIDR')
      }
      return
    }
    case 'NodeCIDR':
      return
    case 'BridgeInterface':
      checkInterface(settings, 'detectLocal.bridgeInterface', 15, report)
      return
    case 'InterfaceNamePrefix':
      // iptables counts the `+` that follows a prefix.
      checkInterface(settings, 'detectLocal.interfaceNamePrefix', 14, report)
      return
  }
}

function checkInterface(
  settings: Settings,
  path: 'detectLocal.bridgeInterface' | 'detectLocal.interfaceNamePrefix',
  longest: number,
  report: (path: FieldPath, problem: string) => void,
): void {
  const name = settings.valueOf(path)
  if (name === '') report(path, `must be set where detectLocalMode is ${settings.valueOf('detectLocalMode')}`)
  // The kernel's own rule for names of interfaces; anything else would make iptables refuse every rule with it.
  else if (!/^[!-~]+$/.test(name) || /[/:"+*]/.test(name) || name.length > longest) {
    report(path, `expected the name of an interface, up to ${longest} letters, found ${JSON.stringify(name)}`)
  }
}

function nameOf(path: FieldPath, settings: Settings, source: Source): string {
  const flag = source === 'flags' && settings.get(path) === undefined ? flagOfField(path) : undefined
  return flag === undefined ? settings.originOf(path) : spelling(flag)
}
