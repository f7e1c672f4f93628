// What kube-proxy of mode iptables leaves in the kernel, written after its description (`kube-proxy.md` §4), as restore input.
import { hashName } from '../../../src/backend/xtables/names.ts'
import { addressPort, type ProxiedCluster, type ProxiedEndpoint, type ProxiedPort, printed } from './cluster.ts'

const mark = '0x4000/0x4000'

/** Jumps in the order of §4.1; each is put in front of those before it. */
const filterJumps: readonly (readonly [from: string, to: string, isNew: boolean, comment: string])[] = [
  ['INPUT', 'KUBE-EXTERNAL-SERVICES', true, 'kubernetes externally-visible service portals'],
  ['FORWARD', 'KUBE-EXTERNAL-SERVICES', true, 'kubernetes externally-visible service portals'],
  ['INPUT', 'KUBE-NODEPORTS', false, 'kubernetes health check service ports'],
  ['FORWARD', 'KUBE-SERVICES', true, 'kubernetes service portals'],
  ['OUTPUT', 'KUBE-SERVICES', true, 'kubernetes service portals'],
  ['FORWARD', 'KUBE-FORWARD', false, 'kubernetes forwarding rules'],
  ['INPUT', 'KUBE-PROXY-FIREWALL', true, 'kubernetes load balancer firewall'],
  ['OUTPUT', 'KUBE-PROXY-FIREWALL', true, 'kubernetes load balancer firewall'],
  ['FORWARD', 'KUBE-PROXY-FIREWALL', true, 'kubernetes load balancer firewall'],
]

const natJumps: readonly (readonly [from: string, to: string, comment: string])[] = [
  ['OUTPUT', 'KUBE-SERVICES', 'kubernetes service portals'],
  ['PREROUTING', 'KUBE-SERVICES', 'kubernetes service portals'],
  ['POSTROUTING', 'KUBE-POSTROUTING', 'kubernetes postrouting rules'],
]

export const filterStatic = [
  'KUBE-SERVICES',
  'KUBE-EXTERNAL-SERVICES',
  'KUBE-FORWARD',
  'KUBE-NODEPORTS',
  'KUBE-PROXY-FIREWALL',
  'KUBE-PROXY-CANARY',
]
export const natStatic = ['KUBE-SERVICES', 'KUBE-NODEPORTS', 'KUBE-POSTROUTING', 'KUBE-MARK-MASQ', 'KUBE-PROXY-CANARY']

/** nat's part that marks, masquerades and is the same in all modes. */
export const masquerading: readonly string[] = [
  `-A KUBE-POSTROUTING -m mark ! --mark ${mark} -j RETURN`,
  '-A KUBE-POSTROUTING -j MARK --xor-mark 0x004000',
  '-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully',
  '-A KUBE-MARK-MASQ -j MARK --or-mark 0x004000',
]

const quoted = (text: string): string => (text.includes(' ') ? `"${text}"` : text)
const comment = (text: string): string => `-m comment --comment ${quoted(text)}`

interface Chains {
  readonly svc: string
  readonly svl: string
  readonly ext: string
  readonly fw: string
  sep(endpoint: ProxiedEndpoint): string
}

function chainsOf(port: ProxiedPort): Chains {
  const id = `${printed(port)}${port.protocol}`
  const name = hashName(id, 16)
  return {
    svc: `KUBE-SVC-${name}`,
    svl: `KUBE-SVL-${name}`,
    ext: `KUBE-EXT-${name}`,
    fw: `KUBE-FW-${name}`,
    sep: endpoint => `KUBE-SEP-${hashName(id + addressPort(endpoint.ip, endpoint.port), 16)}`,
  }
}

class Tables {
  readonly filter: string[] = []
  readonly nat: string[] = []
  readonly chains = new Set<string>()

  body(chain: string, ...rules: readonly string[]): void {
    this.chains.add(chain)
    this.nat.push(...rules.map(rule => `-A ${chain} ${rule}`))
  }
}

/** Its rules as one input for `iptables-restore --noflush` of either variant, for a host that has none of them. */
export function iptablesRules(cluster: ProxiedCluster): string {
  const tables = new Tables()
  for (const port of cluster.ports) servicePort(port, cluster, tables)
  const exceptLoopback = cluster.family === 'IPv4' ? '! -d 127.0.0.0/8' : '! -d ::1/128'
  const last = 'kubernetes service nodeports; NOTE: this must be the last rule in this chain'
  tables.nat.push(`-A KUBE-SERVICES ${comment(last)} -m addrtype --dst-type LOCAL ${exceptLoopback} -j KUBE-NODEPORTS`)
  const forward = [
    '-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP',
    `-A KUBE-FORWARD ${comment('kubernetes forwarding rules')} -m mark --mark ${mark} -j ACCEPT`,
    `-A KUBE-FORWARD ${comment('kubernetes forwarding conntrack rule')} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT`,
  ]
  const declared = (chains: Iterable<string>): string[] => [...chains].map(name => `:${name} - [0:0]`)
  return [
    '*mangle',
    ...declared(['KUBE-PROXY-CANARY']),
    'COMMIT',
    '*filter',
    ...declared(filterStatic),
    ...filterJumps.map(([from, to, isNew, text]) => {
      const state = isNew ? '-m conntrack --ctstate NEW ' : ''
      return `-I ${from} 1 ${state}${comment(text)} -j ${to}`
    }),
    ...tables.filter,
    ...forward,
    'COMMIT',
    '*nat',
    ...declared(natStatic),
    ...declared(tables.chains),
    ...natJumps.map(([from, to, text]) => `-I ${from} 1 ${comment(text)} -j ${to}`),
    ...masquerading,
    ...tables.nat,
    'COMMIT',
    '',
  ].join('\n')
}

function servicePort(port: ProxiedPort, { family, clusterCIDR }: ProxiedCluster, tables: Tables): void {
  const name = printed(port)
  const chains = chainsOf(port)
  const { protocol, endpoints, externalLocal, affinity } = port
  const m = `-m ${protocol} -p ${protocol}`
  const local = endpoints.filter(({ local }) => local)
  const external = externalLocal ? local : endpoints
  const refusal = (isNone: boolean): string => (isNone ? '-j REJECT' : '-j DROP')
  const noEndpoints = endpoints.length === 0
  const why = comment(`${name} has no ${noEndpoints ? '' : 'local '}endpoints`)

  const internal = `${comment(`${name} cluster IP`)} ${m} -d ${port.clusterIP} --dport ${port.port}`
  if (noEndpoints) {
    tables.filter.push(`-A KUBE-SERVICES ${why} ${m} -d ${port.clusterIP} --dport ${port.port} -j REJECT`)
  } else {
    tables.nat.push(`-A KUBE-SERVICES ${internal} -j ${chains.svc}`)
    tables.body(chains.svc, `${internal} ! -s ${clusterCIDR} -j KUBE-MARK-MASQ`)
    balance(port, endpoints, chains.svc, chains, tables)
    for (const endpoint of endpoints) {
      const set = affinity === undefined ? '' : `-m recent --name ${chains.sep(endpoint)} --set `
      tables.body(
        chains.sep(endpoint),
        `${comment(name)} -s ${endpoint.ip} -j KUBE-MARK-MASQ`,
        `${comment(name)} ${set}${m} -j DNAT --to-destination ${addressPort(endpoint.ip, endpoint.port)}`,
      )
    }
  }

  const isExternal = port.nodePort !== undefined || port.vips.length > 0
  if (!isExternal) return
  const target = port.ranges.length > 0 ? chains.fw : chains.ext
  for (const vip of port.vips) {
    const at = `${m} -d ${vip} --dport ${port.port}`
    if (!noEndpoints) tables.nat.push(`-A KUBE-SERVICES ${comment(`${name} loadbalancer IP`)} ${at} -j ${target}`)
    if (!noEndpoints && port.ranges.length > 0) {
      const text = comment(`${name} traffic not accepted by ${chains.fw}`)
      tables.filter.push(`-A KUBE-PROXY-FIREWALL ${text} ${at} -j DROP`)
    }
    if (external.length === 0) tables.filter.push(`-A KUBE-EXTERNAL-SERVICES ${why} ${at} ${refusal(noEndpoints)}`)
  }
  if (port.nodePort !== undefined) {
    const at = `${m} --dport ${port.nodePort}`
    if (!noEndpoints) tables.nat.push(`-A KUBE-NODEPORTS ${comment(name)} ${at} -j ${chains.ext}`)
    if (external.length === 0) {
      const where = '-m addrtype --dst-type LOCAL'
      tables.filter.push(`-A KUBE-EXTERNAL-SERVICES ${why} ${where} ${at} ${refusal(noEndpoints)}`)
    }
  }
  if (noEndpoints) return

  const going = `${name} external destinations`
  if (externalLocal) {
    const isLocal = '-m addrtype --src-type LOCAL'
    tables.body(
      chains.ext,
      `${comment(`pod traffic for ${going}`)} -s ${clusterCIDR} -j ${chains.svc}`,
      `${comment(`masquerade LOCAL traffic for ${going}`)} ${isLocal} -j KUBE-MARK-MASQ`,
      `${comment(`route LOCAL traffic for ${going}`)} ${isLocal} -j ${chains.svc}`,
      ...(local.length > 0 ? [`-j ${chains.svl}`] : []),
    )
    if (local.length > 0) balance(port, local, chains.svl, chains, tables)
  } else {
    tables.body(chains.ext, `${comment(`masquerade traffic for ${going}`)} -j KUBE-MARK-MASQ`, `-j ${chains.svc}`)
  }
  if (port.ranges.length > 0) {
    const text = comment(`${name} loadbalancer IP`)
    tables.body(
      chains.fw,
      ...port.ranges.map(range => `${text} -s ${range} -j ${chains.ext}`),
      comment(`other traffic to ${name} will be dropped by KUBE-PROXY-FIREWALL (${family})`),
    )
  }
}

function balance(
  port: ProxiedPort,
  endpoints: readonly ProxiedEndpoint[],
  chain: string,
  chains: Chains,
  tables: Tables,
): void {
  const text = (endpoint: ProxiedEndpoint): string =>
    comment(`${printed(port)} -> ${addressPort(endpoint.ip, endpoint.port)}`)
  const remembered = endpoints.map(endpoint => {
    const sep = chains.sep(endpoint)
    return `${text(endpoint)} -m recent --name ${sep} --rcheck --seconds ${port.affinity} --reap -j ${sep}`
  })
  const chosen = endpoints.map((endpoint, i) => {
    const left = endpoints.length - i
    const chance = left === 1 ? '' : `-m statistic --mode random --probability ${(1 / left).toFixed(10)} `
    return `${text(endpoint)} ${chance}-j ${chains.sep(endpoint)}`
  })
  tables.body(chain, ...(port.affinity === undefined ? [] : remembered), ...chosen)
}
