// What the program can be switched between: modes and variants, and how to see what one has left in the kernel.
import type { ProxyMode } from '../../../src/config/types.ts'
import type { Sandbox } from '../netns/sandbox.ts'
import type { Variant } from '../world/world.ts'

export interface Kind {
  readonly name: string
  readonly mode: ProxyMode
  /** Fields of KubeProxyConfiguration besides the mode. */
  readonly configuration?: Readonly<Record<string, unknown>>
  /** The iptables that others on the node use while this kind is in charge; the mode nftables does not look at it. */
  readonly variant: Variant
  /** What of this kind is in the kernel, a line each; nothing after a clean exit from it. */
  readonly held: (node: Node) => Promise<readonly string[]>
  /** Of those lines: what may stay for as long as flows live that this kind has in a table of its own. */
  readonly livesWithFlows: (held: readonly string[]) => readonly string[]
}

/** Runs a program on the node under test. */
export interface Node {
  /** Its output; empty if it fails, as it does where the kernel has nothing of the sort. */
  readonly ask: (...argv: readonly string[]) => Promise<string>
}

export const nodeOf = (sandbox: Sandbox): Node => ({
  ask: async (...argv) => {
    const outcome = await sandbox.exec({ namespace: 'node-a', argv })
    return outcome.exitCode === 0 ? outcome.stdout : ''
  },
})

const linesOf = (text: string): string[] => text.split('\n').filter(line => line !== '')

const families = ['', '6'] as const

/** Lines of a variant's rules, of both families, that name chains with a prefix. */
async function rules(node: Node, variant: Variant, prefix: string): Promise<string[]> {
  const found: string[] = []
  for (const family of families) {
    const names = `/proc/net/ip${family}_tables_names`
    // The legacy programs make the tables that they are asked for.
    if (variant === 'legacy' && (await node.ask('cat', names)) === '') continue
    const saved = linesOf(await node.ask(`ip${family}tables-${variant}-save`))
    found.push(...saved.filter(line => line.includes(` ${prefix}`) || line.startsWith(`:${prefix}`)))
  }
  return found
}

const nothing = (): readonly string[] => []

const iptables = (variant: Variant): Kind => ({
  name: `iptables-${variant}`,
  mode: 'iptables',
  variant,
  held: node => rules(node, variant, 'PENSTOCK-'),
  livesWithFlows: nothing,
})

const nftables: Kind = {
  name: 'nftables',
  mode: 'nftables',
  variant: 'nft',
  held: async node => linesOf(await node.ask('nft', 'list', 'tables')).filter(line => line.endsWith(' penstock')),
  livesWithFlows: nothing,
}

const device = 'kube-ipvs0'
/** Arguments of ip that list our routes. */
const routes = 'route show table local proto 112'.split(' ')

/** Virtual servers of a listing by `ipvsadm -Sn`, each with its real servers. */
function virtualServers(lines: readonly string[]): string[][] {
  const found: string[][] = []
  for (const line of lines) {
    if (line.startsWith('-A ')) found.push([line])
    else found.at(-1)?.push(line)
  }
  return found
}

const isDraining = (servers: readonly string[]): boolean =>
  servers.length > 1 && servers.slice(1).every(line => / -w 0$/.test(line.trimEnd()))

/** The mode ipvs, whose glue is of the nft variant of iptables. The world must have a kernel with IPVS. */
export const ipvs: Kind = {
  name: 'ipvs',
  mode: 'ipvs',
  // Flows that ended are not in IPVS's table for long.
  configuration: { ipvs: { tcpFinTimeout: '10s', udpTimeout: '10s' } },
  variant: 'nft',
  held: async node => {
    const sets = linesOf(await node.ask('ipset', 'list', '-name')).filter(name => name.startsWith('PENSTOCK-'))
    return [
      ...(await rules(node, 'nft', 'PENSTOCKVS-')),
      ...(await rules(node, 'legacy', 'PENSTOCKVS-')),
      ...sets.map(name => `set ${name}`),
      ...linesOf(await node.ask('ip', '-o', 'link', 'show', 'dev', device)),
      ...linesOf(await node.ask('ip', '-4', ...routes)),
      ...linesOf(await node.ask('ip', '-6', ...routes)),
      ...linesOf(await node.ask('ipvsadm', '-Sn')),
    ]
  },
  // Packets reach IPVS by local routes, and the sets say which of those a mark stands for; new connections
  // are translated before they get there.
  livesWithFlows: held => {
    const servers = virtualServers(held.filter(line => /^-[Aa] /.test(line)))
    const draining = servers.filter(isDraining).flat()
    const means = held.filter(line => /^(?:local|set) /.test(line) || line.includes(` ${device}: `))
    return draining.length === 0 ? [] : [...draining, ...means]
  },
}

/** Those that need no more than nf_tables and ip_tables. */
export const commonKinds: readonly Kind[] = [iptables('nft'), iptables('legacy'), nftables]

/** Every kind with every other, in both orders. */
export const orderedPairs = (kinds: readonly Kind[]): readonly (readonly [from: Kind, to: Kind])[] =>
  kinds.flatMap(from => kinds.filter(to => to !== from).map(to => [from, to] as const))
