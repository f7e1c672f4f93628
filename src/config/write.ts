// The effective configuration back to v1alpha1, for --write-config-to.
import { dump } from 'js-yaml'
import { type FieldPath, type FieldValues, fieldPaths, fields, Settings } from './fields.ts'
import type { Configuration } from './types.ts'

/**
 * The configuration as a KubeProxyConfiguration in YAML. Loading it gives the same configuration. Of the modes only the
 * active one's section is filled, as kube-proxy does; a minSyncPeriod that is not set stays out.
 */
export const writeConfiguration = (configuration: Configuration): string =>
  dump(configurationDocument(configuration), { sortKeys: true, lineWidth: -1 })

/** The same as a value: what `/configz` shows. */
export function configurationDocument(configuration: Configuration): Record<string, unknown> {
  const settings = settingsOf(configuration)
  const document: Tree = new Map<string, unknown>([
    ['apiVersion', 'kubeproxy.config.k8s.io/v1alpha1'],
    ['kind', 'KubeProxyConfiguration'],
  ])
  for (const path of fieldPaths) writeField(path, settings, document)
  return plain(document)
}

type Tree = Map<string, unknown>

function writeField<P extends FieldPath>(path: P, settings: Settings, document: Tree): void {
  const value: FieldValues[P] | undefined = settings.get(path)
  if (value === undefined) return
  const names = path.split('.')
  const last = names.pop() ?? path
  let section = document
  for (const name of names) {
    const known = section.get(name)
    const inner: Tree = known instanceof Map ? known : new Map<string, unknown>()
    section.set(name, inner)
    section = inner
  }
  section.set(last, fields[path].type.write(value))
}

const plain = (tree: Tree): Record<string, unknown> =>
  Object.fromEntries([...tree].map(([name, node]) => [name, node instanceof Map ? plain(node) : node]))

/** The fields that say what a configuration says. */
function settingsOf(c: Configuration): Settings {
  const settings = new Settings()
  const put = <P extends FieldPath>(path: P, value: FieldValues[P]) => settings.set(path, value, path)
  const section = c.mode === 'nftables' ? 'nftables' : 'iptables'
  put('mode', c.mode)
  put(`${c.mode}.syncPeriod`, c.syncPeriod)
  if (c.minSyncPeriod !== undefined) put(`${c.mode}.minSyncPeriod`, c.minSyncPeriod)
  put(`${section}.masqueradeAll`, c.masqueradeAll)
  put(`${section}.masqueradeBit`, c.masqueradeBit)
  put('iptables.localhostNodePorts', c.localhostNodePorts)
  put('detectLocalMode', c.detectLocalMode)
  put('detectLocal.bridgeInterface', c.bridgeInterface)
  put('detectLocal.interfaceNamePrefix', c.interfaceNamePrefix)
  put('clusterCIDR', c.clusterCIDRs)
  put('nodePortAddresses', c.nodePortAddresses)
  put('hostnameOverride', c.hostnameOverride)
  put('bindAddress', c.bindAddress)
  put('healthzBindAddress', c.healthzBindAddress)
  put('metricsBindAddress', c.metricsBindAddress)
  put('bindAddressHardFail', c.bindAddressHardFail)
  put('enableProfiling', c.enableProfiling)
  put('showHiddenMetricsForVersion', c.showHiddenMetricsForVersion)
  put('clientConnection.kubeconfig', c.clientConnection.kubeconfig)
  put('clientConnection.acceptContentTypes', c.clientConnection.acceptContentTypes)
  put('clientConnection.contentType', c.clientConnection.contentType)
  put('clientConnection.qps', c.clientConnection.qps)
  put('clientConnection.burst', c.clientConnection.burst)
  put('logging.format', c.logging.format)
  put('logging.flushFrequency', c.logging.flushFrequency)
  put('logging.verbosity', c.logging.verbosity)
  put('logging.vmodule', c.logging.vmodule)
  put('logging.options.text.splitStream', c.logging.options.text.splitStream)
  put('logging.options.text.infoBufferSize', c.logging.options.text.infoBufferSize)
  put('logging.options.json.splitStream', c.logging.options.json.splitStream)
  put('logging.options.json.infoBufferSize', c.logging.options.json.infoBufferSize)
  put('conntrack.maxPerCore', c.conntrack.maxPerCore)
  put('conntrack.min', c.conntrack.min)
  put('conntrack.tcpEstablishedTimeout', c.conntrack.tcpEstablishedTimeout)
  put('conntrack.tcpCloseWaitTimeout', c.conntrack.tcpCloseWaitTimeout)
  put('conntrack.tcpBeLiberal', c.conntrack.tcpBeLiberal)
  put('conntrack.udpTimeout', c.conntrack.udpTimeout)
  put('conntrack.udpStreamTimeout', c.conntrack.udpStreamTimeout)
  put('ipvs.scheduler', c.ipvs.scheduler)
  put('ipvs.excludeCIDRs', c.ipvs.excludeCIDRs)
  put('ipvs.strictARP', c.ipvs.strictARP)
  put('ipvs.tcpTimeout', c.ipvs.tcpTimeout)
  put('ipvs.tcpFinTimeout', c.ipvs.tcpFinTimeout)
  put('ipvs.udpTimeout', c.ipvs.udpTimeout)
  put('oomScoreAdj', c.oomScoreAdj)
  put('configSyncPeriod', c.configSyncPeriod)
  put('portRange', c.portRange)
  put('featureGates', c.featureGates)
  put('winkernel.networkName', c.winkernel.networkName)
  put('winkernel.sourceVip', c.winkernel.sourceVip)
  put('winkernel.enableDSR', c.winkernel.enableDSR)
  put('winkernel.rootHnsEndpointName', c.winkernel.rootHnsEndpointName)
  put('winkernel.forwardHealthCheckVip', c.winkernel.forwardHealthCheckVip)
  put('windowsRunAsService', c.windowsRunAsService)
  return settings
}
