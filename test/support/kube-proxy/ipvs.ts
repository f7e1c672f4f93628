// What kube-proxy of mode ipvs leaves in the kernel, written after its description (`kube-proxy.md` §5), as inputs of the tools.

import { addressPort, type ProxiedCluster, type ProxiedPort } from './cluster.ts'
import { masquerading } from './iptables.ts'

/** One input a program, in the order in which they are taken. */
export interface IpvsInputs {
  /** For `ipset restore`. */
  readonly ipset: string
  /** For `iptables-restore --noflush`. */
  readonly iptables: string
  /** For `ip -batch -`: the device, if it is not there, and its addresses. */
  readonly link: string
  readonly addresses: string
  /** For `ipvsadm --restore`. */
  readonly ipvsadm: string
}

const protocolOption = { tcp: '-t', udp: '-u', sctp: '--sctp-service' } as const

const natStatic = ['KUBE-SERVICES', 'KUBE-POSTROUTING', 'KUBE-NODE-PORT', 'KUBE-LOAD-BALANCER', 'KUBE-MARK-MASQ']
const filterStatic = [
  'KUBE-FORWARD',
  'KUBE-NODE-PORT',
  'KUBE-PROXY-FIREWALL',
  'KUBE-SOURCE-RANGES-FIREWALL',
  'KUBE-IPVS-FILTER',
  'KUBE-IPVS-OUT-FILTER',
]

/** Its virtual servers, sets, addresses and rules, for a host that has none of them. */
export function ipvsInputs(cluster: ProxiedCluster): IpvsInputs {
  const isSix = cluster.family === 'IPv6'
  const sets = setsOf(cluster)
  const name = (role: string): string => `${isSix ? 'KUBE-6-' : 'KUBE-'}${role}`.slice(0, 31)
  const options = (type: string): string => {
    if (type === 'bitmap:port') return 'bitmap:port range 0-65535'
    return `${type} family ${isSix ? 'inet6' : 'inet'} hashsize 1024 maxelem 65536`
  }
  const ipset = [...sets].flatMap(([role, { type, members }]) => [
    `create ${name(role)} ${options(type)}`,
    ...[...members].map(member => `add ${name(role)} ${member}`),
  ])
  const addresses = new Set(cluster.ports.flatMap(port => [port.clusterIP, ...port.vips]))
  return {
    ipset: `${ipset.join('\n')}\n`,
    iptables: glue(cluster, sets, name),
    link: 'link add kube-ipvs0 type dummy\n',
    addresses: [...addresses].map(ip => `addr add ${ip}/${isSix ? 128 : 32} dev kube-ipvs0\n`).join(''),
    ipvsadm: cluster.ports.flatMap(port => serversOf(port, cluster)).join(''),
  }
}

interface Members {
  readonly type: string
  readonly members: ReadonlySet<string>
}

function setsOf({ ports, nodeAddresses }: ProxiedCluster): ReadonlyMap<string, Members> {
  const found = new Map<string, { type: string; members: Set<string> }>()
  const add = (role: string, type: string, member?: string): void => {
    const set = found.get(role) ?? { type, members: new Set<string>() }
    found.set(role, set)
    if (member !== undefined) set.members.add(member)
  }
  for (const [role, type] of [
    ['LOOP-BACK', 'hash:ip,port,ip'],
    ['CLUSTER-IP', 'hash:ip,port'],
    ['EXTERNAL-IP', 'hash:ip,port'],
    ['EXTERNAL-IP-LOCAL', 'hash:ip,port'],
    ['LOAD-BALANCER', 'hash:ip,port'],
    ['LOAD-BALANCER-LOCAL', 'hash:ip,port'],
    ['LOAD-BALANCER-FW', 'hash:ip,port'],
    ['LOAD-BALANCER-SOURCE-CIDR', 'hash:ip,port,net'],
    ['LOAD-BALANCER-SOURCE-IP', 'hash:ip,port,ip'],
    ['NODE-PORT-TCP', 'bitmap:port'],
    ['NODE-PORT-LOCAL-TCP', 'bitmap:port'],
    ['NODE-PORT-UDP', 'bitmap:port'],
    ['NODE-PORT-LOCAL-UDP', 'bitmap:port'],
    ['NODE-PORT-SCTP-HASH', 'hash:ip,port'],
    ['NODE-PORT-LOCAL-SCTP-HASH', 'hash:ip,port'],
    ['HEALTH-CHECK-NODE-PORT', 'bitmap:port'],
    ['IPVS-IPS', 'hash:ip'],
  ] as const) {
    add(role, type)
  }
  for (const port of ports) {
    const { protocol, externalLocal } = port
    add('CLUSTER-IP', '', `${port.clusterIP},${protocol}:${port.port}`)
    add('IPVS-IPS', '', port.clusterIP)
    for (const { ip, port: number, local } of port.endpoints) {
      if (local) add('LOOP-BACK', '', `${ip},${protocol}:${number},${ip}`)
    }
    for (const vip of port.vips) {
      const member = `${vip},${protocol}:${port.port}`
      add('LOAD-BALANCER', '', member)
      add('IPVS-IPS', '', vip)
      if (externalLocal) add('LOAD-BALANCER-LOCAL', '', member)
      if (port.ranges.length === 0) continue
      add('LOAD-BALANCER-FW', '', member)
      for (const range of port.ranges) add('LOAD-BALANCER-SOURCE-CIDR', '', `${member},${range}`)
    }
    if (port.nodePort === undefined) continue
    const roles = externalLocal ? ['NODE-PORT', 'NODE-PORT-LOCAL'] : ['NODE-PORT']
    for (const role of roles) {
      if (protocol !== 'sctp') add(`${role}-${protocol.toUpperCase()}`, '', String(port.nodePort))
      else for (const ip of nodeAddresses) add(`${role}-SCTP-HASH`, '', `${ip},sctp:${port.nodePort}`)
    }
  }
  return found
}

function serversOf(port: ProxiedPort, { nodeAddresses }: ProxiedCluster): string[] {
  const option = protocolOption[port.protocol]
  const affinity = port.affinity === undefined ? '' : ` -p ${port.affinity}`
  const local = port.endpoints.filter(item => item.local)
  const external = port.externalLocal && local.length > 0 ? local : port.endpoints
  const server = (address: string, number: number, reals: ProxiedPort['endpoints']): string[] => {
    const where = `${option} ${addressPort(address, number)}`
    return [
      `-A ${where} -s rr${affinity}\n`,
      ...reals.map(({ ip, port: target }) => `-a ${where} -r ${addressPort(ip, target)} -m -w 1\n`),
    ]
  }
  const { nodePort } = port
  return [
    ...server(port.clusterIP, port.port, port.endpoints),
    ...port.vips.flatMap(vip => server(vip, port.port, external)),
    ...(nodePort === undefined ? [] : nodeAddresses.flatMap(address => server(address, nodePort, external))),
  ]
}

function glue(
  { family, clusterCIDR }: ProxiedCluster,
  sets: ReadonlyMap<string, Members>,
  name: (role: string) => string,
): string {
  const isUsed = (role: string): boolean => (sets.get(role)?.members.size ?? 0) > 0
  const match = (role: string, directions: string): string => `-m set --match-set ${name(role)} ${directions}`
  const loopback = family === 'IPv4' ? '127.0.0.0/8' : '::1/128'
  const when = (role: string, ...rules: readonly string[]): readonly string[] => (isUsed(role) ? rules : [])
  const nodePorts = (['TCP', 'UDP'] as const).flatMap(protocol => {
    const p = `-p ${protocol.toLowerCase()}`
    const local = `NODE-PORT-LOCAL-${protocol}`
    const all = `NODE-PORT-${protocol}`
    return [
      ...when(local, `-A KUBE-NODE-PORT ${p} ${match(local, 'dst')} -j RETURN`),
      ...when(all, `-A KUBE-NODE-PORT ${p} ${match(all, 'dst')} -j KUBE-MARK-MASQ`),
    ]
  })
  const nat = [
    `-A KUBE-SERVICES -s ${loopback} -j RETURN`,
    ...when('LOAD-BALANCER', `-A KUBE-SERVICES ${match('LOAD-BALANCER', 'dst,dst')} -j KUBE-LOAD-BALANCER`),
    ...when('CLUSTER-IP', `-A KUBE-SERVICES ! -s ${clusterCIDR} ${match('CLUSTER-IP', 'dst,dst')} -j KUBE-MARK-MASQ`),
    '-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODE-PORT',
    ...when('CLUSTER-IP', `-A KUBE-SERVICES ${match('CLUSTER-IP', 'dst,dst')} -j ACCEPT`),
    ...when('LOAD-BALANCER', `-A KUBE-SERVICES ${match('LOAD-BALANCER', 'dst,dst')} -j ACCEPT`),
    ...when('LOAD-BALANCER-LOCAL', `-A KUBE-LOAD-BALANCER ${match('LOAD-BALANCER-LOCAL', 'dst,dst')} -j RETURN`),
    '-A KUBE-LOAD-BALANCER -j KUBE-MARK-MASQ',
    ...nodePorts,
    ...when('LOOP-BACK', `-A KUBE-POSTROUTING ${match('LOOP-BACK', 'dst,dst,src')} -j MASQUERADE`),
    ...masquerading,
  ]
  const passing = ['LOAD-BALANCER', 'CLUSTER-IP'].flatMap(role =>
    when(role, `-A KUBE-IPVS-FILTER ${match(role, 'dst,dst')} -j RETURN`),
  )
  const filter = [
    '-A KUBE-FORWARD -m comment --comment "kubernetes forwarding rules" -m mark --mark 0x4000/0x4000 -j ACCEPT',
    '-A KUBE-FORWARD -m comment --comment "kubernetes forwarding conntrack rule" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT',
    ...when(
      'LOAD-BALANCER-FW',
      `-A KUBE-PROXY-FIREWALL ${match('LOAD-BALANCER-FW', 'dst,dst')} -j KUBE-SOURCE-RANGES-FIREWALL`,
      `-A KUBE-SOURCE-RANGES-FIREWALL ${match('LOAD-BALANCER-SOURCE-CIDR', 'dst,dst,src')} -j RETURN`,
    ),
    '-A KUBE-SOURCE-RANGES-FIREWALL -j DROP',
    ...passing,
    `-A KUBE-IPVS-FILTER -m conntrack --ctstate NEW ${match('IPVS-IPS', 'dst')} -j REJECT`,
  ]
  const jump = (from: string, to: string, comment: string): string =>
    `-I ${from} 1 -m comment --comment "${comment}" -j ${to}`
  const declared = (chains: readonly string[]): string[] => chains.map(chain => `:${chain} - [0:0]`)
  return [
    '*nat',
    ...declared(natStatic),
    jump('OUTPUT', 'KUBE-SERVICES', 'kubernetes service portals'),
    jump('PREROUTING', 'KUBE-SERVICES', 'kubernetes service portals'),
    jump('POSTROUTING', 'KUBE-POSTROUTING', 'kubernetes postrouting rules'),
    ...nat,
    'COMMIT',
    '*filter',
    ...declared(filterStatic),
    jump('FORWARD', 'KUBE-FORWARD', 'kubernetes forwarding rules'),
    jump('INPUT', 'KUBE-NODE-PORT', 'kubernetes health check rules'),
    jump('INPUT', 'KUBE-PROXY-FIREWALL', 'kube-proxy firewall rules'),
    jump('FORWARD', 'KUBE-PROXY-FIREWALL', 'kube-proxy firewall rules'),
    jump('INPUT', 'KUBE-IPVS-FILTER', 'kubernetes ipvs access filter'),
    jump('OUTPUT', 'KUBE-IPVS-OUT-FILTER', 'kubernetes ipvs access filter'),
    ...filter,
    'COMMIT',
    '',
  ].join('\n')
}
