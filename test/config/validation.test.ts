// Fields that are right alone and wrong together.
import { describe, expect, it } from 'vitest'
import { loadFields, loadFlags } from './helpers.ts'

const wrongFiles: readonly (readonly [yaml: string, problem: string])[] = [
  [
    'iptables: {syncPeriod: 1s, minSyncPeriod: 2s}',
    'KubeProxyConfiguration.iptables.minSyncPeriod: longer than KubeProxyConfiguration.iptables.syncPeriod',
  ],
  [
    'mode: nftables\nnftables: {minSyncPeriod: 31s}',
    'KubeProxyConfiguration.nftables.minSyncPeriod: longer than KubeProxyConfiguration.nftables.syncPeriod',
  ],
  ['hostnameOverride: "  "', 'KubeProxyConfiguration.hostnameOverride: holds only blanks'],
  ['detectLocalMode: BridgeInterface', 'KubeProxyConfiguration.detectLocal.bridgeInterface: must be set'],
  ['detectLocalMode: InterfaceNamePrefix', 'KubeProxyConfiguration.detectLocal.interfaceNamePrefix: must be set'],
  ['detectLocalMode: BridgeInterface\ndetectLocal: {bridgeInterface: "a b"}', 'up to 15 letters, found "a b"'],
  [
    'detectLocalMode: BridgeInterface\ndetectLocal: {bridgeInterface: "a\\n-A x"}',
    'up to 15 letters, found "a\\n-A x"',
  ],
  ['detectLocalMode: BridgeInterface\ndetectLocal: {bridgeInterface: br0123456789abcd}', 'up to 15 letters'],
  ['detectLocalMode: InterfaceNamePrefix\ndetectLocal: {interfaceNamePrefix: veth+}', 'found "veth+"'],
  [
    'logging: {format: json, vmodule: [{filePattern: a, verbosity: 1}]}',
    'KubeProxyConfiguration.logging.vmodule: works only with the log format text, not json',
  ],
]

describe('a file with', () => {
  it.each(wrongFiles)('%s is refused', (yaml, problem) => {
    expect(() => loadFields(yaml)).toThrow(problem)
  })
})

describe('a file that kube-proxy takes is taken:', () => {
  it.each([
    'iptables: {syncPeriod: 1s}\nnftables: {syncPeriod: 1s, minSyncPeriod: 2s}',
    'detectLocalMode: NodeCIDR\nclusterCIDR: 10.0.0.0/8,11.0.0.0/8',
    'clusterCIDR: "fd00::/48"',
    'clusterCIDR: "fd00::/48,10.0.0.0/8"',
    'detectLocalMode: InterfaceNamePrefix\ndetectLocal: {interfaceNamePrefix: veth}',
    'iptables: {syncPeriod: 2s, minSyncPeriod: 2s}',
  ])('%s', yaml => {
    expect(loadFields(yaml).configuration.syncPeriod).toBeGreaterThan(0)
  })
})

describe('flags with', () => {
  it.each([
    [
      ['--iptables-min-sync-period=31s'],
      'the flags cannot be used: --iptables-min-sync-period: longer than --iptables-sync-period, which it may not be',
    ],
    [['--hostname-override= '], '--hostname-override: holds only blanks: expected a node name'],
    [['--detect-local-mode=BridgeInterface'], '--pod-bridge-interface: must be set'],
    [['--cluster-cidr=10.0.0.0/8,11.0.0.0/8'], '--cluster-cidr: expected one CIDR, or an IPv4 and an IPv6 CIDR'],
    [['--show-hidden-metrics-for-version=1'], '--show-hidden-metrics-for-version: expected a version'],
  ] as const)('%j are refused by the name of the flag', (argv, problem) => {
    expect(() => loadFlags(...argv)).toThrow(problem)
  })
})
