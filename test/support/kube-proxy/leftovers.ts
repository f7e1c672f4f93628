// The modes that a kube-proxy can have been in: how its rules get into a node of the world, and how to see them there.
import { world as places } from '../../conformance/world.ts'
import type { Sandbox } from '../netns/sandbox.ts'
import type { Variant } from '../world/world.ts'
import { type ProxiedCluster, proxiedCluster } from './cluster.ts'
import { iptablesRules } from './iptables.ts'
import { nftRules } from './nftables.ts'

export interface FormerProxy {
  readonly name: string
  /** The variant of iptables that its node uses. */
  readonly variant: Variant
  /** Writes what a kube-proxy leaves when it is stopped. */
  readonly apply: (sandbox: Sandbox, manifest: string) => Promise<void>
  /** Lines that are its own; empty once it is gone. */
  readonly held: (sandbox: Sandbox) => Promise<readonly string[]>
}

const [cidr4 = '', cidr6 = ''] = places.clusterCIDR.split(',')
const families = [
  { family: 'IPv4', clusterCIDR: cidr4, nodeAddresses: ['192.168.100.1', '172.20.0.1'] },
  { family: 'IPv6', clusterCIDR: cidr6, nodeAddresses: ['fd00:100::1', 'fd00:200::1'] },
] as const

/** Both families as kube-proxy on node-a sees them. */
export const clusters = (manifest: string): readonly ProxiedCluster[] =>
  families.map(facts => proxiedCluster(manifest, { ...facts, nodeName: places.nodeName }))

const namespace = 'node-a'

/** What a variant holds, both families, without counters; nothing where nobody has made a table. */
export async function saved(sandbox: Sandbox, variant: Variant): Promise<string[]> {
  const lines: string[] = []
  for (const ip of ['ip', 'ip6']) {
    if (variant === 'legacy') {
      const names = await sandbox.exec({ namespace, argv: ['cat', `/proc/net/${ip}_tables_names`] })
      if (names.stdout === '') continue
    }
    const text = await sandbox.check({ namespace, argv: [`${ip}tables-${variant}-save`] })
    lines.push(
      ...text
        .split('\n')
        .filter(line => line !== '' && !line.startsWith('#'))
        .map(line => `${ip}: ${line.replace(/ \[\d+:\d+\]$/, '')}`),
    )
  }
  return lines
}

const isTheirs = (line: string): boolean =>
  /[ :]KUBE-(?!FIREWALL|MARK-DROP|KUBELET-CANARY|IPTABLES-HINT)/.test(line.replaceAll(/"[^"]*"/g, ''))

const iptables = (variant: Variant): FormerProxy => ({
  name: `kube-proxy iptables-${variant}`,
  variant,
  apply: async (sandbox, manifest) => {
    for (const cluster of clusters(manifest)) {
      const tool = cluster.family === 'IPv4' ? 'iptables' : 'ip6tables'
      const argv = [`${tool}-${variant}-restore`, '--noflush']
      await sandbox.check({ namespace, argv, input: iptablesRules(cluster) })
    }
  },
  held: async sandbox => (await saved(sandbox, variant)).filter(isTheirs),
})

const nftables: FormerProxy = {
  name: 'kube-proxy nftables',
  variant: 'nft',
  apply: async (sandbox, manifest) => {
    for (const cluster of clusters(manifest)) {
      await sandbox.check({ namespace, argv: ['nft', '-f', '-'], input: nftRules(cluster) })
    }
  },
  held: async sandbox => {
    const tables = await sandbox.check({ namespace, argv: ['nft', 'list', 'tables'] })
    return tables.split('\n').filter(line => line.endsWith(' kube-proxy'))
  },
}

/** Those that need no more than nf_tables and ip_tables. */
export const formerProxies: readonly FormerProxy[] = [iptables('nft'), iptables('legacy'), nftables]
