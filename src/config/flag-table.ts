// Every subcommand and flag: one table that parsing, help and documentation are made from.
import type { IP } from '../net/ip.ts'
import { type Protocol, parseProtocol } from '../net/protocol.ts'
import { bool, type FieldType, integer, ip, ips, oneOf, text, texts, textType } from './field-types.ts'
import { type FieldPath, fields } from './fields.ts'

export const commands = {
  run: 'program this node and keep up with changes (the default)',
  compile: 'print the whole compiled rule program; touches no kernel',
  plan: 'print what would change in the kernel; exit status 0 nothing, 2 changes, 1 error',
  trace: 'say where packets would go by the compiled rules',
  status: 'say what the running daemon knows of its work',
  doctor: 'say whether this node is fit, and what is wrong; exit status 1 if something is',
  cleanup: 'remove everything of ours from the kernel',
  help: 'explain a subcommand',
  version: 'print the version',
} as const

export type Command = keyof typeof commands

/** True of a subcommand's name. */
export const isCommand = (word: string): word is Command => Object.hasOwn(commands, word)

/** What the flags that are no field of the configuration hold. */
export interface OptionValues {
  readonly config: string
  readonly writeConfigTo: string
  readonly cleanup: boolean
  readonly initOnly: boolean
  readonly master: string
  readonly healthzPort: number
  readonly metricsPort: number
  readonly bootIDFile: string
  readonly machineIDFile: string
  readonly manifests: readonly string[]
  readonly once: boolean
  readonly nftablesTableOwner: boolean
  readonly nodeAddresses: readonly IP[]
  readonly output: 'text' | 'json'
  readonly src: IP
  readonly dst: IP
  readonly port: number
  readonly protocol: Protocol
  readonly packets: string
  readonly help: boolean
  readonly version: 'plain' | 'raw' | 'no'
}

export type OptionName = keyof OptionValues

const protocol: FieldType<Protocol> = textType('tcp, udp or sctp', 'tcp|udp|sctp', parseProtocol, value =>
  value.toLowerCase(),
)

// kube-proxy's --version stands alone or takes `raw`.
const versionType: FieldType<OptionValues['version']> = {
  ...oneOf(['plain', 'raw', 'no']),
  expected: 'true, false or raw',
  parse: word => {
    if (word === 'raw') return 'raw'
    const on = bool.parse(word)
    return on === undefined ? undefined : on ? 'plain' : 'no'
  },
}
const { placeholder: _, ...versionSwitch } = versionType

/** How each of those values is parsed. */
export const optionTypes: { readonly [N in OptionName]: FieldType<OptionValues[N]> } = {
  config: text('FILE'),
  writeConfigTo: text('FILE'),
  cleanup: bool,
  initOnly: bool,
  master: text('URL'),
  healthzPort: integer(0, 65535, 'PORT'),
  metricsPort: integer(0, 65535, 'PORT'),
  bootIDFile: text('FILE,...'),
  machineIDFile: text('FILE,...'),
  manifests: texts('PATH'),
  once: bool,
  nftablesTableOwner: bool,
  nodeAddresses: ips,
  output: oneOf(['text', 'json']),
  src: ip,
  dst: ip,
  port: integer(1, 65535, 'PORT'),
  protocol,
  packets: text('FILE|-'),
  help: bool,
  version: versionSwitch,
}

export const groups = {
  input: 'Where the objects come from',
  packets: 'The packets',
  output: 'What to do',
  configuration: 'Configuration (with --config only those marked * apply)',
  logging: 'Logging (also with --config)',
  deprecated: 'Deprecated (ignored with --config)',
  ignored: 'Accepted and ignored',
} as const

interface Common {
  /** Without the dashes. */
  readonly name: string
  readonly short?: string
  readonly group: keyof typeof groups
  readonly help: string
  /** The subcommands that take it; absent: all. */
  readonly commands?: readonly Command[]
  /** Still applies where a file is given with --config (`kube-proxy.md` §9.2). */
  readonly besideConfig: boolean
}

export interface FieldFlag extends Common {
  readonly field: FieldPath
}

export interface OptionFlag extends Common {
  readonly option: OptionName
}

export type Flag = FieldFlag | OptionFlag

const withObjects: readonly Command[] = ['run', 'compile', 'plan', 'trace']
const reports: readonly Command[] = ['compile', 'plan', 'trace', 'status', 'doctor']

type Extra = Pick<Common, 'short' | 'commands'>

const option = (
  name: string,
  value: OptionName,
  group: keyof typeof groups,
  help: string,
  extra: Extra = {},
): Flag => ({
  name,
  option: value,
  group,
  help,
  besideConfig: group !== 'deprecated',
  ...extra,
})

const configured = (name: string, field: FieldPath, help: string): Flag => ({
  name,
  field,
  help,
  group: 'configuration',
  besideConfig: field === 'hostnameOverride',
})

const logged = (name: string, field: FieldPath, help: string, extra: Extra = {}): Flag => ({
  name,
  field,
  help,
  group: 'logging',
  besideConfig: true,
  ...extra,
})

export const flags: readonly Flag[] = [
  option('master', 'master', 'input', 'address of the API server, instead of the one in the kubeconfig'),
  option('manifests', 'manifests', 'input', 'read objects from a file, a directory or - instead; repeatable', {
    commands: withObjects,
  }),
  option(
    'node-address',
    'nodeAddresses',
    'input',
    'an address the host owns, where the machine is not asked; repeatable',
    {
      commands: withObjects,
    },
  ),
  option('src', 'src', 'packets', 'source address; one of the host enters at OUTPUT', { commands: ['trace'] }),
  option('dst', 'dst', 'packets', 'destination address', { commands: ['trace'] }),
  option('port', 'port', 'packets', 'destination port', { commands: ['trace'] }),
  option('protocol', 'protocol', 'packets', 'transport protocol (default tcp)', { commands: ['trace'] }),
  option('packets', 'packets', 'packets', 'JSON array of packets instead, answered with an array', {
    commands: ['trace'],
  }),
  option('once', 'once', 'output', 'one full sync, then exit; 0 only if the kernel now holds it all', {
    commands: ['run'],
  }),
  option(
    'nftables-table-owner',
    'nftablesTableOwner',
    'output',
    'nftables mode: no other program can change the rules (Linux 6.9; default true)',
    { commands: ['run'] },
  ),
  option('output', 'output', 'output', 'text for people or one JSON document (default text)', {
    short: 'o',
    commands: reports,
  }),
  option('cleanup', 'cleanup', 'output', 'the same as the subcommand cleanup', { commands: ['run', 'cleanup'] }),
  option('init-only', 'initOnly', 'output', 'do what needs full privileges, then exit', { commands: ['run'] }),
  option('write-config-to', 'writeConfigTo', 'output', 'write the effective configuration to a file, then exit', {
    commands: ['run'],
  }),
  option('help', 'help', 'output', 'print this', { short: 'h' }),
  option('version', 'version', 'output', 'print the version; --version=raw with the build'),
  option('config', 'config', 'configuration', 'a KubeProxyConfiguration v1alpha1 file, YAML or JSON'),
  configured('kubeconfig', 'clientConnection.kubeconfig', 'how to reach the API; without it the in-cluster account'),
  configured('proxy-mode', 'mode', 'backend (default iptables)'),
  configured('hostname-override', 'hostnameOverride', "name of this node; without it the machine's host name"),
  configured('bind-address', 'bindAddress', "overrides the node's primary address and family; nothing is bound to it"),
  configured('healthz-bind-address', 'healthzBindAddress', 'where health is served; empty or port 0 disables'),
  configured('metrics-bind-address', 'metricsBindAddress', 'where metrics are served; empty or port 0 disables'),
  configured('bind-address-hard-fail', 'bindAddressHardFail', 'exit where either server cannot bind'),
  configured('profiling', 'enableProfiling', 'serve profiles beside the metrics'),
  configured(
    'show-hidden-metrics-for-version',
    'showHiddenMetricsForVersion',
    'show metrics hidden since that version',
  ),
  configured('feature-gates', 'featureGates', 'switch features on or off; repeatable'),
  configured('kube-api-content-type', 'clientConnection.contentType', 'wire format of requests'),
  configured('kube-api-qps', 'clientConnection.qps', 'requests a second to the API'),
  configured('kube-api-burst', 'clientConnection.burst', 'requests to the API in one burst'),
  configured('config-sync-period', 'configSyncPeriod', 'how often objects are refreshed from the API'),
  configured('detect-local-mode', 'detectLocalMode', "how this node's pods are told from others (default ClusterCIDR)"),
  configured('cluster-cidr', 'clusterCIDR', "the pods' addresses, for ClusterCIDR"),
  configured('pod-bridge-interface', 'detectLocal.bridgeInterface', "the pods' bridge, for BridgeInterface"),
  configured('pod-interface-name-prefix', 'detectLocal.interfaceNamePrefix', 'for InterfaceNamePrefix'),
  configured('nodeport-addresses', 'nodePortAddresses', 'which local addresses take NodePorts; repeatable'),
  configured('masquerade-all', 'iptables.masqueradeAll', 'masquerade all traffic to ClusterIPs'),
  configured('iptables-masquerade-bit', 'iptables.masqueradeBit', 'bit of the packet mark, iptables and ipvs modes'),
  configured('iptables-localhost-nodeports', 'iptables.localhostNodePorts', 'NodePorts on 127.0.0.0/8, iptables mode'),
  configured('iptables-sync-period', 'iptables.syncPeriod', 'delay before a failed sync is tried again, at most'),
  configured('iptables-min-sync-period', 'iptables.minSyncPeriod', 'time between syncs, at least; 0 or unset: by load'),
  configured('ipvs-sync-period', 'ipvs.syncPeriod', 'the same, ipvs mode'),
  configured('ipvs-min-sync-period', 'ipvs.minSyncPeriod', 'the same, ipvs mode'),
  configured('ipvs-scheduler', 'ipvs.scheduler', 'IPVS scheduler (default rr)'),
  configured('ipvs-exclude-cidrs', 'ipvs.excludeCIDRs', 'virtual servers that are not ours to remove; repeatable'),
  configured('ipvs-strict-arp', 'ipvs.strictARP', 'set arp_ignore to 1 and arp_announce to 2'),
  configured('ipvs-tcp-timeout', 'ipvs.tcpTimeout', 'of idle TCP connections; 0 leaves it'),
  configured('ipvs-tcpfin-timeout', 'ipvs.tcpFinTimeout', 'of TCP connections after FIN; 0 leaves it'),
  configured('ipvs-udp-timeout', 'ipvs.udpTimeout', 'of UDP; 0 leaves it'),
  configured('conntrack-max-per-core', 'conntrack.maxPerCore', 'connections tracked, for each CPU; 0 leaves it'),
  configured('conntrack-min', 'conntrack.min', 'connections tracked, at least'),
  configured('conntrack-tcp-timeout-established', 'conntrack.tcpEstablishedTimeout', '0 leaves it'),
  configured('conntrack-tcp-timeout-close-wait', 'conntrack.tcpCloseWaitTimeout', '0 leaves it'),
  configured('conntrack-tcp-be-liberal', 'conntrack.tcpBeLiberal', 'do not call packets outside the window INVALID'),
  configured('conntrack-udp-timeout', 'conntrack.udpTimeout', '0 leaves it'),
  configured('conntrack-udp-timeout-stream', 'conntrack.udpStreamTimeout', '0 leaves it'),
  configured('oom-score-adj', 'oomScoreAdj', 'of this process'),
  logged('v', 'logging.verbosity', 'verbosity', { short: 'v' }),
  logged('vmodule', 'logging.vmodule', 'verbosity of single source files'),
  logged('logging-format', 'logging.format', 'text or json'),
  logged('log-flush-frequency', 'logging.flushFrequency', 'time between flushes, at most'),
  logged('log-text-split-stream', 'logging.options.text.splitStream', 'errors to stderr, the rest to stdout'),
  logged('log-text-info-buffer-size', 'logging.options.text.infoBufferSize', 'buffer of the second'),
  logged('log-json-split-stream', 'logging.options.json.splitStream', 'errors to stderr, the rest to stdout'),
  logged('log-json-info-buffer-size', 'logging.options.json.infoBufferSize', 'buffer of the second'),
  option('healthz-port', 'healthzPort', 'deprecated', 'port of an address given without one; 0 disables'),
  option('metrics-port', 'metricsPort', 'deprecated', 'port of an address given without one; 0 disables'),
  option('boot-id-file', 'bootIDFile', 'ignored', 'accepted, as kube-proxy inherits it'),
  option('machine-id-file', 'machineIDFile', 'ignored', 'accepted, as kube-proxy inherits it'),
]

const byName = new Map(flags.map(flag => [flag.name, flag]))
const byShort = new Map(flags.flatMap(flag => (flag.short === undefined ? [] : [[flag.short, flag] as const])))
const byField = new Map(flags.flatMap(flag => ('field' in flag ? [[flag.field, flag] as const] : [])))

/** The flag of a name without dashes; underscores count as dashes, as they do for kube-proxy. */
export const flagNamed = (name: string): Flag | undefined => byName.get(name.replaceAll('_', '-'))

/** The flag of a single letter. */
export const flagOfLetter = (letter: string): Flag | undefined => byShort.get(letter)

/** The flag that sets a field; undefined where only a file can. */
export const flagOfField = (field: FieldPath): Flag | undefined => byField.get(field)

/** What a person types: `--config`, but `-v`. */
export const spelling = (flag: Flag): string => (flag.name.length === 1 ? `-${flag.name}` : `--${flag.name}`)

/** What stands for the flag's value; undefined for a switch. */
export const placeholderOf = (flag: Flag): string | undefined =>
  'field' in flag ? fields[flag.field].type.placeholder : optionTypes[flag.option].placeholder
