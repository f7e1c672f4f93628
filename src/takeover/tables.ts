// kube-proxy's chains and jumps in what iptables-save prints, and what of them can go. Pure.
import type { Delta, KernelObject } from '../backend/backend.ts'
import { chainKey, jumpKey, type Table, tableOf } from '../backend/xtables/names.ts'
import { ipvsChains, isProxyChain, mainChain, oldKubeletChain, sharedChains } from './names.ts'

/** Tables in which kube-proxy has chains. */
export const proxyTables: readonly Table[] = ['mangle', 'filter', 'nat']

/** What of kube-proxy's is in the tables. */
export interface ProxyRules {
  /** Takes away all that can go; `changed` holds chains that are emptied because rules of others go to them. */
  readonly delta: Delta
  readonly chains: number
  readonly jumps: number
  /** What stays, and why; a sentence each. */
  readonly kept: readonly string[]
  /** kube-proxy's own entry is there: it was in charge, not only kubelet or a CNI that uses its names. */
  readonly wasInCharge: boolean
  /** There are chains of its mode ipvs. */
  readonly isIpvs: boolean
}

interface SavedTable {
  readonly table: Table
  readonly builtIn: Set<string>
  /** kube-proxy's chains with their rules. */
  readonly chains: Map<string, string[]>
  /** Rules of other chains that go to kube-proxy's. */
  readonly references: { readonly from: string; readonly to: string; readonly rule: string }[]
  hasOldKubelet: boolean
}

/** Where a rule goes; a comment may say anything. */
const targetOf = (rule: string): string | undefined =>
  / -[jg] (\S+)/.exec(` ${rule.includes('"') ? rule.replaceAll(/"(?:[^"\\]|\\.)*"/g, '""') : rule}`)?.[1]

function* tablesIn(text: string): Iterable<SavedTable> {
  let current: SavedTable | undefined
  for (const line of text.split('\n')) {
    if (line.startsWith('*')) {
      const table = tableOf(line.slice(1))
      current =
        table === undefined
          ? undefined
          : { table, builtIn: new Set(), chains: new Map(), references: [], hasOldKubelet: false }
    } else if (current === undefined) {
      // A table that kube-proxy does not use.
    } else if (line.startsWith(':')) {
      const [name = '', policy] = line.slice(1).split(' ')
      if (policy !== '-') current.builtIn.add(name)
      if (isProxyChain(name)) current.chains.set(name, [])
      if (name === oldKubeletChain) current.hasOldKubelet = true
    } else if (line.startsWith('-A ')) {
      const space = line.indexOf(' ', 3)
      const from = line.slice(3, space < 0 ? undefined : space)
      const rule = space < 0 ? '' : line.slice(space + 1)
      const body = current.chains.get(from)
      if (body !== undefined) {
        body.push(rule)
        continue
      }
      // Rules without the letters cannot go there: most rules of a large node are others' or ours.
      const to = rule.includes('KUBE-') ? targetOf(rule) : undefined
      if (to !== undefined && isProxyChain(to)) current.references.push({ from, to, rule })
    } else if (line === 'COMMIT') {
      yield current
      current = undefined
    }
  }
}

/**
 * kube-proxy's leftovers. A jump from a chain of the kernel's own is kube-proxy's, whatever its comment: nobody else puts
 * one there. A chain that a rule of somebody else goes to cannot be deleted; it is emptied instead, which a packet notices
 * as little. KUBE-MARK-MASQ with such a rule, or beside a kubelet that keeps it up, stays whole, with KUBE-POSTROUTING
 * that does what the mark asks for.
 */
export function proxyRules(text: string): ProxyRules {
  const removed: KernelObject[] = []
  const emptied: { key: string; from: string; to: string }[] = []
  const kept: string[] = []
  let chains = 0
  let jumps = 0
  let wasInCharge = false
  let isIpvs = false
  for (const saved of tablesIn(text)) {
    const { table, builtIn, references } = saved
    if (saved.chains.has(mainChain)) wasInCharge = true
    if (ipvsChains.some(name => saved.chains.has(name))) isIpvs = true
    const foreign = references.filter(({ from }) => !builtIn.has(from))
    const user = foreign.find(({ to }) => to === 'KUBE-MARK-MASQ')
    const staying = new Set(table === 'nat' && (user !== undefined || saved.hasOldKubelet) ? sharedChains : [])
    for (const name of staying) {
      if (!saved.chains.has(name)) continue
      const why = user === undefined ? `kubelet keeps it up` : `${user.from} of somebody else uses KUBE-MARK-MASQ`
      kept.push(`${table} ${name} stays: ${why}`)
    }
    const held = new Map(foreign.map(({ to, from }) => [to, from]))
    for (const [name, body] of saved.chains) {
      if (staying.has(name)) continue
      const key = chainKey(table, name)
      const user = held.get(name)
      if (user === undefined) removed.push({ key, value: body.join('\n') })
      else if (body.length > 0) emptied.push({ key, from: body.join('\n'), to: '' })
      if (user === undefined || body.length > 0) chains++
      if (user !== undefined) kept.push(`${table} ${name} stays, empty: a rule in ${user} of somebody else goes to it`)
    }
    const going = new Map<string, string[]>()
    for (const { from, to, rule } of references) {
      if (!builtIn.has(from) || staying.has(to)) continue
      const key = jumpKey(table, from, to)
      going.set(key, [...(going.get(key) ?? []), rule])
      jumps++
    }
    for (const [key, rules] of going) removed.push({ key, value: rules.join('\n') })
  }
  return { delta: { added: [], changed: emptied, removed }, chains, jumps, kept, wasInCharge, isIpvs }
}
