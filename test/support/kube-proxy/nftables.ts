// What kube-proxy of mode nftables leaves in the kernel, written after its description (`kube-proxy.md` §6), as an nft script.
import { hashName } from '../../../src/backend/xtables/names.ts'
import { type ProxiedCluster, type ProxiedEndpoint, type ProxiedPort, printed } from './cluster.ts'

const orMark = 'mark set mark or 0x004000'

function baseName({ namespace, service, protocol, portName }: ProxiedPort): string {
  const rest = `${namespace}/${service}/${protocol}/${portName}`
  return `${hashName(rest, 8)}-${rest}`
}

function endpointName(port: ProxiedPort, { ip, port: number }: ProxiedEndpoint): string {
  const rest = `${port.namespace}/${port.service}/${port.protocol}/${port.portName}__${ip.replaceAll(':', '.')}/${number}`
  return `${hashName(rest, 8)}-${rest}`
}

/** Its table as a script for `nft -f -`, for a host that has none. */
export function nftRules(cluster: ProxiedCluster): string {
  const isSix = cluster.family === 'IPv6'
  const ip = isSix ? 'ip6' : 'ip'
  const type = isSix ? 'ipv6_addr' : 'ipv4_addr'
  const table = `${ip} kube-proxy`
  const lines: string[] = [`add table ${table} { comment "rules for kube-proxy" ; }`]
  const rule = (chain: string, text: string): unknown => lines.push(`add rule ${table} ${chain} ${text}`)
  const element = (map: string, text: string): unknown => lines.push(`add element ${table} ${map} { ${text} }`)
  const later: (() => void)[] = []

  const bases: readonly (readonly [name: string, type: string, hook: string, priority: number])[] = [
    ['filter-prerouting-pre-dnat', 'filter', 'prerouting', -110],
    ['filter-output-pre-dnat', 'filter', 'output', -110],
    ['filter-input', 'filter', 'input', 0],
    ['filter-forward', 'filter', 'forward', 0],
    ['filter-output', 'filter', 'output', 0],
    ['nat-prerouting', 'nat', 'prerouting', -100],
    ['nat-output', 'nat', 'output', -100],
    ['nat-postrouting', 'nat', 'postrouting', 100],
  ]
  for (const [name, kind, hook, priority] of bases) {
    lines.push(`add chain ${table} ${name} { type ${kind} hook ${hook} priority ${priority} ; }`)
  }
  const statics = [
    'services',
    'masquerading',
    'service-endpoints-check',
    'nodeport-endpoints-check',
    'cluster-ips-check',
    'firewall-check',
    'reject-chain',
  ]
  for (const name of statics) lines.push(`add chain ${table} ${name}`)
  lines.push(
    `add set ${table} cluster-ips { type ${type} ; }`,
    `add set ${table} hairpin-connections { type ${type} . ${type} . inet_proto . inet_service ; }`,
    ...['service-ips', 'no-endpoint-services', 'firewall-ips'].map(
      name => `add map ${table} ${name} { type ${type} . inet_proto . inet_service : verdict ; }`,
    ),
    ...['service-nodeports', 'no-endpoint-nodeports'].map(
      name => `add map ${table} ${name} { type inet_proto . inet_service : verdict ; }`,
    ),
  )
  rule('filter-input', 'ct state new jump nodeport-endpoints-check')
  for (const chain of ['filter-input', 'filter-forward', 'filter-output']) {
    rule(chain, 'ct state new jump service-endpoints-check')
  }
  for (const chain of ['filter-prerouting-pre-dnat', 'filter-output-pre-dnat']) {
    rule(chain, 'ct state new jump firewall-check')
  }
  for (const chain of ['nat-output', 'nat-prerouting']) rule(chain, 'jump services')
  rule('nat-postrouting', 'jump masquerading')
  for (const chain of ['filter-forward', 'filter-output']) rule(chain, 'ct state new jump cluster-ips-check')

  const key = `${ip} daddr . meta l4proto . th dport`
  const notLoopback = isSix ? 'ip6 daddr != ::1' : 'ip daddr != 127.0.0.0/8'
  rule('services', `${ip} daddr @cluster-ips ${ip} saddr != ${cluster.clusterCIDR} ${orMark}`)
  rule('services', `${key} vmap @service-ips`)
  rule('services', `fib daddr type local ${notLoopback} meta l4proto . th dport vmap @service-nodeports`)
  rule('masquerading', 'mark and 0x004000 != 0 mark set mark xor 0x004000 masquerade fully-random')
  rule(
    'masquerading',
    `ct status dnat ${ip} saddr . ${ip} daddr . meta l4proto . th dport @hairpin-connections masquerade fully-random`,
  )
  rule('service-endpoints-check', `${key} vmap @no-endpoint-services`)
  rule('nodeport-endpoints-check', `${notLoopback} meta l4proto . th dport vmap @no-endpoint-nodeports`)
  rule('cluster-ips-check', `${ip} daddr @cluster-ips reject`)
  rule('firewall-check', `${key} vmap @firewall-ips`)
  rule('reject-chain', 'reject')

  const clusterIPs = new Set<string>()
  const hairpins = new Set<string>()
  for (const port of cluster.ports) {
    const { protocol, endpoints, externalLocal } = port
    const base = baseName(port)
    const chain = (name: string): string => {
      lines.push(`add chain ${table} ${name}`)
      return name
    }
    const local = endpoints.filter(item => item.local)
    const external = externalLocal ? local : endpoints
    const refusal = (isNone: boolean): string => (isNone ? 'goto reject-chain' : 'drop')
    const noEndpoints = endpoints.length === 0
    clusterIPs.add(port.clusterIP)
    for (const item of local) hairpins.add(`${item.ip} . ${item.ip} . ${protocol} . ${item.port}`)

    const balance = (name: string, among: readonly ProxiedEndpoint[]): void => {
      chain(name)
      if (port.affinity === undefined) {
        const choices = among.map((item, i) => `${i} : ${item.ip} . ${item.port}`).join(' , ')
        later.push(() =>
          rule(
            name,
            `meta l4proto ${protocol} dnat ${ip} addr . port to numgen random mod ${among.length} map { ${choices} }`,
          ),
        )
        return
      }
      later.push(() => {
        for (const item of among) {
          const own = endpointName(port, item)
          rule(name, `${ip} saddr @affinity-${own} goto endpoint-${own}`)
        }
        const choices = among.map((item, i) => `${i} : goto endpoint-${endpointName(port, item)}`).join(' , ')
        rule(name, `numgen random mod ${among.length} vmap { ${choices} }`)
      })
    }
    if (port.affinity !== undefined) {
      for (const item of endpoints) {
        const own = endpointName(port, item)
        lines.push(
          `add set ${table} affinity-${own} { type ${type} ; flags dynamic,timeout ; timeout ${port.affinity}s ; }`,
        )
        chain(`endpoint-${own}`)
        rule(`endpoint-${own}`, `update @affinity-${own} { ${ip} saddr }`)
        const to = isSix ? `[${item.ip}]:${item.port}` : `${item.ip}:${item.port}`
        rule(`endpoint-${own}`, `meta l4proto ${protocol} dnat to ${to}`)
      }
    }
    const at = (address: string): string => `${address} . ${protocol} . ${port.port}`
    const note = `comment "${printed(port)}"`
    if (noEndpoints) element('no-endpoint-services', `${at(port.clusterIP)} ${note} : goto reject-chain`)
    else {
      balance(`service-${base}`, endpoints)
      element('service-ips', `${at(port.clusterIP)} : goto service-${base}`)
    }
    if (port.nodePort === undefined && port.vips.length === 0) continue
    const nodePort = `${protocol} . ${port.nodePort}`
    if (external.length === 0) {
      for (const vip of port.vips) element('no-endpoint-services', `${at(vip)} ${note} : ${refusal(noEndpoints)}`)
      if (port.nodePort !== undefined) element('no-endpoint-nodeports', `${nodePort} ${note} : ${refusal(noEndpoints)}`)
    }
    if (!noEndpoints) {
      const name = chain(`external-${base}`)
      if (externalLocal) {
        rule(name, `${ip} saddr ${cluster.clusterCIDR} goto service-${base}`)
        rule(name, `fib saddr type local ${orMark}`)
        rule(name, `fib saddr type local goto service-${base}`)
        if (local.length > 0) {
          balance(`local-${base}`, local)
          rule(name, `goto local-${base}`)
        }
      } else {
        rule(name, orMark)
        rule(name, `goto service-${base}`)
      }
      for (const vip of port.vips) element('service-ips', `${at(vip)} : goto external-${base}`)
      if (port.nodePort !== undefined) element('service-nodeports', `${nodePort} : goto external-${base}`)
    }
    if (port.ranges.length > 0 && port.vips.length > 0) {
      const name = chain(`firewall-${base}`)
      rule(name, `${ip} saddr != { ${port.ranges.join(', ')} } drop`)
      for (const vip of port.vips) element('firewall-ips', `${at(vip)} : goto firewall-${base}`)
    }
  }
  for (const run of later) run()
  for (const address of clusterIPs) element('cluster-ips', address)
  for (const hairpin of hairpins) element('hairpin-connections', hairpin)
  return `${lines.join('\n')}\n`
}
