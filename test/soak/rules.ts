// What the kernel holds, in a form in which two kernels can be compared: without counters and handles, sets in order, rules
// in the order in which packets meet them. It is read by the tools, not by the program under test.
import type { ProxyMode } from '../../src/config/types.ts'
import type { KernelNode, Variant } from '../daemon/kernel-node.ts'

/** A line for each thing; by what it belongs to. */
export type Rules = ReadonlyMap<string, readonly string[]>

/** Our rules, and whatever else is on the node but the marks and noise of the tests. */
export async function readRules(node: KernelNode, mode: ProxyMode): Promise<Rules> {
  const rules = new Map<string, string[]>()
  const add = (where: string, line: string): void => {
    const lines = rules.get(where) ?? []
    rules.set(where, lines)
    lines.push(line)
  }
  for (const family of ['IPv4', 'IPv6'] as const) {
    for (const used of await variantsInUse(node, family))
      addXtables(await node.save(family, used), `${family} ${used}`, add)
  }
  await addNft(node, add)
  if (mode === 'ipvs') await addIpvs(node, add)
  return rules
}

type Add = (where: string, line: string) => void

/** The legacy programs make tables by being asked; so they are asked only where there are some. */
async function variantsInUse(node: KernelNode, family: 'IPv4' | 'IPv6'): Promise<Variant[]> {
  const file = `/proc/net/${family === 'IPv4' ? 'ip' : 'ip6'}_tables_names`
  const { stdout } = await node.sandbox.exec({ namespace: 'node', argv: ['cat', file] })
  return stdout.trim() === '' ? ['nft'] : ['nft', 'legacy']
}

const ofTests = /KUBE-IPTABLES-HINT|CNI-NOISE/

function addXtables(lines: readonly string[], where: string, add: Add): void {
  let table = ''
  for (const line of lines) {
    if (line.startsWith('*')) table = line.slice(1)
    if (ofTests.test(line)) continue
    const [, chain] = /^-A (\S+)/.exec(line) ?? []
    if (chain !== undefined) add(`${where} ${table} ${chain}`, line)
    // A base chain without rules is there or not, as history has it.
    else if (/^:\S+ -/.test(line)) add(`${where} ${table} chains ${line.split(' ')[0]}`, line)
  }
}

/** The tables of nftables mode; those of iptables' nft variant were read above. */
async function addNft(node: KernelNode, add: Add): Promise<void> {
  const tables = await node.check('nft', 'list', 'tables')
  for (const [, family = ''] of tables.matchAll(/^table (\S+) penstock$/gm)) {
    const document: { nftables: Readonly<Record<string, unknown>>[] } = JSON.parse(
      await node.check('nft', '-j', '-n', '-s', 'list', 'table', family, 'penstock'),
    )
    for (const item of document.nftables) {
      for (const [kind, value] of Object.entries(item)) {
        if (kind === 'metainfo' || !isRecord(value)) continue
        const { handle: _handle, elem, ...rest } = value
        const where = `${family} ${kind} ${String(kind === 'rule' ? rest.chain : rest.name)}`
        add(where, JSON.stringify(rest))
        if (!Array.isArray(elem)) continue
        for (const element of elem.map(each => JSON.stringify(each)).sort()) add(`${where} elements`, element)
      }
    }
  }
}

const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null

async function addIpvs(node: KernelNode, add: Add): Promise<void> {
  const sorted = async (where: string, argv: readonly string[], line: (text: string) => string): Promise<void> => {
    const text = await node.check(...argv)
    for (const each of text.split('\n').filter(Boolean).map(line).sort()) add(where, each)
  }
  await sorted('ipvs', ['ipvsadm', '-S', '-n'], text => text.trim())
  await sorted('ipset', ['ipset', 'save'], text => text.replace(/ (?:initval|hashsize) \S+/g, ''))
  await sorted(
    'addresses',
    ['sh', '-c', 'for f in -4 -6; do ip $f route show table local proto 112; done'],
    text => text,
  )
}

/** What is in one and not in the other, a few lines of it; empty when they are the same. */
export function differences(daemon: Rules, fresh: Rules, most = 12): string[] {
  const lines: string[] = []
  for (const where of new Set([...daemon.keys(), ...fresh.keys()])) {
    const ours = daemon.get(where) ?? []
    const theirs = fresh.get(where) ?? []
    if (ours.join('\n') === theirs.join('\n')) continue
    const extra = ours.filter(line => !theirs.includes(line))
    const lacking = theirs.filter(line => !ours.includes(line))
    if (extra.length + lacking.length === 0) lines.push(`${where}: another order, or one twice`)
    lines.push(
      ...extra.map(line => `${where}: too much: ${line}`),
      ...lacking.map(line => `${where}: missing: ${line}`),
    )
  }
  return lines.length > most ? [...lines.slice(0, most), `and ${lines.length - most} more`] : lines
}

/** How many things they are. */
export const countOf = (rules: Rules): number => [...rules.values()].reduce((sum, lines) => sum + lines.length, 0)
