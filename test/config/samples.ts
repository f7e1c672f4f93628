// Values for every field of v1alpha1: right ones with what they mean, and wrong ones. The compiler holds it complete.
import type { FieldPath } from '../../src/config/fields.ts'
import type { Configuration } from '../../src/config/types.ts'

export interface Sample {
  /** A value other than the default, as YAML. */
  readonly right: string
  /** Where the configuration has it. */
  readonly get: (configuration: Configuration) => unknown
  /** What it is there. */
  readonly value: unknown
  /** What it is when the field is null. */
  readonly unset: unknown
  /** Wrong values as YAML, with the problem that follows the path. */
  readonly wrong: readonly (readonly [yaml: string, problem: string])[]
  /** Further fields that have to be set for it to count. */
  readonly beside?: string
}

const duration = 'expected a duration of 0 or more, such as "30s", found'
const positive = 'expected a duration above 0, such as "30s", found'
const address = 'expected an IP address and port, such as "0.0.0.0:10256" (port 0 disables), found'
const cidr = 'expected a CIDR, such as "10.0.0.0/8", found'

const switched = (get: Sample['get'], beside = ''): Sample => ({
  right: 'true',
  get,
  value: true,
  unset: false,
  wrong: [
    ['"true"', 'expected true or false, found "true"'],
    ['1', 'expected true or false, found 1'],
  ],
  beside,
})

const worded = (get: Sample['get'], beside = ''): Sample => ({
  right: 'word',
  get,
  value: 'word',
  unset: '',
  wrong: [
    ['1', 'expected a string, found 1'],
    ['true', 'expected a string, found true'],
    ['[x]', 'expected a string, found a list'],
    ['{x: 1}', 'expected a string, found a mapping'],
  ],
  beside,
})

const lasting = (get: Sample['get'], unset: number, beside = ''): Sample => ({
  right: '1m1.5s',
  get,
  value: 61_500,
  unset,
  wrong: [
    ['-1s', `${duration} "-1s"`],
    ['30', `${duration} 30`],
    ['soon', `${duration} "soon"`],
  ],
  beside,
})

const retrying = (beside: string): Sample => ({
  ...lasting(c => c.syncPeriod, 30_000, beside),
  wrong: [
    ['-1s', `${positive} "-1s"`],
    ['1', `${positive} 1`],
  ],
})

const counted = (get: Sample['get'], unset: number): Sample => ({
  right: '77',
  get,
  value: 77,
  unset,
  wrong: [
    ['-1', 'expected an integer of 0 or more, found -1'],
    ['2147483648', 'expected an integer of 0 or more, found 2147483648'],
    ['1.5', 'expected an integer of 0 or more, found 1.5'],
    ['"1"', 'expected an integer of 0 or more, found "1"'],
  ],
})

const marking = (beside: string): Sample => ({
  right: '0',
  get: c => c.masqueradeBit,
  value: 0,
  unset: 14,
  wrong: [
    ['32', 'expected an integer 0–31, found 32'],
    ['-1', 'expected an integer 0–31, found -1'],
    ['x', 'expected an integer 0–31, found "x"'],
  ],
  beside,
})

const buffering = (get: Sample['get']): Sample => ({
  right: '4Ki',
  get,
  value: 4096,
  unset: 0,
  wrong: [['4Kb', 'expected a number of bytes, such as "512" or "4Ki", found "4Kb"']],
})

const listening = (get: Sample['get'], unset: unknown): Sample => ({
  right: '"[::1]:80"',
  get,
  value: { address: '::1', port: 80 },
  unset,
  wrong: [
    ['localhost:80', `${address} "localhost:80"`],
    ['1.2.3.4:65536', `${address} "1.2.3.4:65536"`],
    ['"::1:"', `${address} "::1:"`],
    ['80', `${address} 80`],
  ],
})

export const samples: { readonly [P in FieldPath]: Sample } = {
  featureGates: {
    right: '{A: true, B: false}',
    get: c => c.featureGates,
    value: { A: true, B: false },
    unset: {},
    wrong: [['[A]', 'expected a mapping of feature names to true or false, found a list']],
  },
  'clientConnection.kubeconfig': worded(c => c.clientConnection.kubeconfig),
  'clientConnection.acceptContentTypes': worded(c => c.clientConnection.acceptContentTypes),
  'clientConnection.contentType': {
    ...worded(c => c.clientConnection.contentType),
    unset: 'application/vnd.kubernetes.protobuf',
  },
  'clientConnection.qps': {
    right: '-1.5',
    get: c => c.clientConnection.qps,
    value: -1.5,
    unset: 5,
    wrong: [
      ['"5"', 'expected a number, found "5"'],
      ['.inf', 'expected a number, found Infinity'],
    ],
  },
  'clientConnection.burst': counted(c => c.clientConnection.burst, 10),
  'logging.format': {
    right: 'json',
    get: c => c.logging.format,
    value: 'json',
    unset: 'text',
    wrong: [['xml', 'expected text or json, found "xml"']],
  },
  'logging.flushFrequency': {
    ...lasting(c => c.logging.flushFrequency, 5000),
    wrong: [
      ['-1', `${duration} -1`],
      ['soon', `${duration} "soon"`],
    ],
  },
  'logging.verbosity': counted(c => c.logging.verbosity, 0),
  'logging.vmodule': {
    right: '[{filePattern: a*, verbosity: 3}]',
    get: c => c.logging.vmodule,
    value: [{ filePattern: 'a*', verbosity: 3 }],
    unset: [],
    wrong: [['a*=3', 'expected a list of filePattern and verbosity pairs, found "a*=3"']],
  },
  'logging.options.text.splitStream': switched(c => c.logging.options.text.splitStream),
  'logging.options.text.infoBufferSize': buffering(c => c.logging.options.text.infoBufferSize),
  'logging.options.json.splitStream': switched(c => c.logging.options.json.splitStream),
  'logging.options.json.infoBufferSize': buffering(c => c.logging.options.json.infoBufferSize),
  hostnameOverride: worded(c => c.hostnameOverride),
  bindAddress: {
    right: '010.0.0.1',
    get: c => c.bindAddress,
    value: '10.0.0.1',
    unset: '0.0.0.0',
    wrong: [['localhost', 'expected an IP address, found "localhost"']],
  },
  healthzBindAddress: listening(c => c.healthzBindAddress, { address: '0.0.0.0', port: 10256 }),
  metricsBindAddress: listening(c => c.metricsBindAddress, { address: '127.0.0.1', port: 10249 }),
  bindAddressHardFail: switched(c => c.bindAddressHardFail),
  enableProfiling: switched(c => c.enableProfiling),
  showHiddenMetricsForVersion: {
    right: '"1.35"',
    get: c => c.showHiddenMetricsForVersion,
    value: '1.35',
    unset: '',
    wrong: [
      ['1.35', 'expected a string, found 1.35'],
      ['v1.35', 'expected a version such as "1.35", found "v1.35"'],
    ],
  },
  mode: {
    right: 'nftables',
    get: c => c.mode,
    value: 'nftables',
    unset: 'iptables',
    wrong: [
      ['userspace', 'expected iptables, ipvs or nftables, found "userspace"'],
      ['IPVS', 'expected iptables, ipvs or nftables, found "IPVS"'],
    ],
  },
  'iptables.masqueradeBit': marking(''),
  'iptables.masqueradeAll': switched(c => c.masqueradeAll),
  'iptables.localhostNodePorts': {
    right: 'false',
    get: c => c.localhostNodePorts,
    value: false,
    unset: true,
    wrong: [['"false"', 'expected true or false, found "false"']],
  },
  'iptables.syncPeriod': retrying(''),
  'iptables.minSyncPeriod': {
    ...lasting(c => c.minSyncPeriod, 0, 'iptables.syncPeriod: 2m'),
    unset: undefined,
  },
  'ipvs.syncPeriod': retrying('mode: ipvs'),
  'ipvs.minSyncPeriod': { ...lasting(c => c.minSyncPeriod, 0, 'mode: ipvs, ipvs.syncPeriod: 2m'), unset: undefined },
  'ipvs.scheduler': worded(c => c.ipvs.scheduler),
  'ipvs.excludeCIDRs': {
    right: '[10.1.2.3/16, "fd00::1/64"]',
    get: c => c.ipvs.excludeCIDRs,
    value: [
      { address: '10.1.0.0', prefix: 16 },
      { address: 'fd00::', prefix: 64 },
    ],
    unset: [],
    wrong: [['10.0.0.0/8', 'expected a list of CIDRs, found "10.0.0.0/8"']],
  },
  'ipvs.strictARP': switched(c => c.ipvs.strictARP),
  'ipvs.tcpTimeout': lasting(c => c.ipvs.tcpTimeout, 0),
  'ipvs.tcpFinTimeout': lasting(c => c.ipvs.tcpFinTimeout, 0),
  'ipvs.udpTimeout': lasting(c => c.ipvs.udpTimeout, 0),
  'nftables.masqueradeBit': marking('mode: nftables'),
  'nftables.masqueradeAll': switched(c => c.masqueradeAll, 'mode: nftables'),
  'nftables.syncPeriod': retrying('mode: nftables'),
  'nftables.minSyncPeriod': {
    ...lasting(c => c.minSyncPeriod, 0, 'mode: nftables, nftables.syncPeriod: 2m'),
    unset: undefined,
  },
  'winkernel.networkName': worded(c => c.winkernel.networkName),
  'winkernel.sourceVip': worded(c => c.winkernel.sourceVip),
  'winkernel.enableDSR': switched(c => c.winkernel.enableDSR),
  'winkernel.rootHnsEndpointName': worded(c => c.winkernel.rootHnsEndpointName),
  'winkernel.forwardHealthCheckVip': switched(c => c.winkernel.forwardHealthCheckVip),
  detectLocalMode: {
    right: 'NodeCIDR',
    get: c => c.detectLocalMode,
    value: 'NodeCIDR',
    unset: 'ClusterCIDR',
    wrong: [['nodeCIDR', 'expected ClusterCIDR, NodeCIDR, BridgeInterface or InterfaceNamePrefix, found "nodeCIDR"']],
  },
  'detectLocal.bridgeInterface': worded(c => c.bridgeInterface),
  'detectLocal.interfaceNamePrefix': worded(c => c.interfaceNamePrefix),
  clusterCIDR: {
    right: '"10.244.0.0/16,fd00::/48"',
    get: c => c.clusterCIDRs,
    value: [
      { address: '10.244.0.0', prefix: 16 },
      { address: 'fd00::', prefix: 48 },
    ],
    unset: [],
    wrong: [
      ['10.0.0.0', 'expected a CIDR, or an IPv4 and an IPv6 CIDR divided by a comma, found "10.0.0.0"'],
      ['[10.0.0.0/8]', 'expected a CIDR, or an IPv4 and an IPv6 CIDR divided by a comma, found a list'],
      ['10.0.0.0/8,11.0.0.0/8', 'expected one CIDR, or an IPv4 and an IPv6 CIDR'],
      ['"10.0.0.0/8,fd00::/8,fd01::/16"', 'expected one CIDR, or an IPv4 and an IPv6 CIDR'],
    ],
  },
  nodePortAddresses: {
    right: '[primary, localhost, 10.0.0.0/8]',
    get: c => c.nodePortAddresses,
    value: ['primary', 'localhost', { address: '10.0.0.0', prefix: 8 }],
    unset: [],
    wrong: [['primary', 'expected a list of CIDRs and the words primary, localhost and all, found "primary"']],
  },
  oomScoreAdj: {
    right: '0',
    get: c => c.oomScoreAdj,
    value: 0,
    unset: -999,
    wrong: [
      ['1001', 'expected an integer -1000–1000, found 1001'],
      ['-1001', 'expected an integer -1000–1000, found -1001'],
    ],
  },
  'conntrack.maxPerCore': counted(c => c.conntrack.maxPerCore, 32768),
  'conntrack.min': counted(c => c.conntrack.min, 131072),
  'conntrack.tcpEstablishedTimeout': lasting(c => c.conntrack.tcpEstablishedTimeout, 86_400_000),
  'conntrack.tcpCloseWaitTimeout': lasting(c => c.conntrack.tcpCloseWaitTimeout, 3_600_000),
  'conntrack.tcpBeLiberal': switched(c => c.conntrack.tcpBeLiberal),
  'conntrack.udpTimeout': lasting(c => c.conntrack.udpTimeout, 0),
  'conntrack.udpStreamTimeout': lasting(c => c.conntrack.udpStreamTimeout, 0),
  configSyncPeriod: { ...lasting(c => c.configSyncPeriod, 900_000), wrong: [['-5m', `${positive} "-5m"`]] },
  portRange: worded(c => c.portRange),
  windowsRunAsService: switched(c => c.windowsRunAsService),
}

/** Wrong elements of lists and mappings, with the path they are reported at. */
export const wrongElements: readonly (readonly [yaml: string, problem: string])[] = [
  ['ipvs: {excludeCIDRs: [10.0.0.0/8, x]}', `ipvs.excludeCIDRs[1]: ${cidr} "x"`],
  [
    'nodePortAddresses: [Primary]',
    `nodePortAddresses[0]: expected a CIDR, such as "10.0.0.0/8", or primary, localhost or all, found "Primary"`,
  ],
  ['featureGates: {A: "yes please"}', 'featureGates.A: expected true or false, found "yes please"'],
  ['featureGates: {A: true, A: true}', 'featureGates.A: given more than once'],
  [
    'logging: {vmodule: [{filePattern: "a=b", verbosity: 1}]}',
    'logging.vmodule[0].filePattern: expected a file pattern without "=" and ",", found "a=b"',
  ],
  [
    'logging: {vmodule: [{filePattern: a, verbosity: -1}]}',
    'logging.vmodule[0].verbosity: expected an integer of 0 or more, found -1',
  ],
  ['logging: {vmodule: [{filePattern: a, level: 1}]}', 'logging.vmodule[0].level: unknown field'],
  ['logging: {vmodule: [a]}', 'logging.vmodule[0]: expected filePattern and verbosity, found "a"'],
]
