// From a delta to restore inputs: in an order the kernel accepts, that reaches nothing before it is whole, and that leaves
// every packet with an endpoint before and after the change an endpoint at each step of it.
import type { Delta, Step, Transaction } from '../backend.ts'
import { chainKey, type ParsedKey, parseKey, type Table } from './names.ts'
import type { Tools } from './tools.ts'

interface Change {
  readonly key: string
  readonly parsed: ParsedKey
  readonly from: string | undefined
  readonly to: string | undefined
}

/** One table's part of a restore input. */
interface Section {
  readonly table: Table
  readonly lines: readonly string[]
  readonly keys: readonly string[]
}

/** What the programs of a variant take. */
export interface RestoreLimits {
  /**
   * How many new or changed chains go into one restore: the nft variant's time per call grows faster than the number of
   * chains, the legacy variant replaces the whole table at each call.
   */
  readonly chunk: number
  /**
   * Chains are made and emptied by `-N` and `-F` instead of `:chain` lines: iptables-nft-restore 1.8.4 misreads those
   * with --noflush (mended in 1.8.5, netfilter commit "xtables-restore: Fix parser feed from line buffer").
   */
  readonly withoutDeclarations: boolean
}

/** Measured: README.md of the iptables backend. Before the variant is known, only text for people is planned. */
export const restoreLimits = (tools: Pick<Tools, 'variant' | 'version'> | undefined): RestoreLimits => ({
  chunk: tools?.variant === 'nft' ? 2_000 : 1_000_000,
  withoutDeclarations: tools?.variant === 'nft' && tools.version === '1.8.4',
})

export interface PlanOptions extends RestoreLimits {
  /**
   * True for chains that decide which packets get to the others: in a change that takes several restores these all change
   * in one, after the chains they go to.
   */
  isShared(chain: string): boolean
  /**
   * The filter table changes in two steps around the other tables: first its new rules beside the old, at the end the new
   * rules alone. Otherwise it changes at once, before the other tables.
   */
  readonly refusalsFirst: boolean
}

/**
 * Plans a delta of chains and jumps.
 *
 * Order with `refusalsFirst`: what refuses packets is added first, then nat and mangle change, then what refuses is
 * removed. A Service that loses its last endpoint is refused from the moment it has none, and no packet leaks out on the
 * way.
 */
export function plan(delta: Delta, options: PlanOptions): Transaction {
  const changes: Record<Table, Change[]> = { filter: [], nat: [], mangle: [] }
  const sort = (change: Change) => changes[change.parsed.table].push(change)
  for (const { key, value } of delta.added) sort({ key, parsed: parseKey(key), from: undefined, to: value })
  for (const { key, from, to } of delta.changed) sort({ key, parsed: parseKey(key), from, to })
  for (const { key, value } of delta.removed) sort({ key, parsed: parseKey(key), from: value, to: undefined })

  const { filter, nat, mangle } = changes
  const removesRefusals =
    options.refusalsFirst && filter.some(change => change.from !== undefined && removed(change).length > 0)
  const sections = [
    ...tableSections('filter', removesRefusals ? filter.flatMap(widen) : filter, options),
    ...tableSections('nat', nat, options),
    ...tableSections('mangle', mangle, options),
    ...(removesRefusals ? tableSections('filter', filter.flatMap(narrow), options) : []),
  ]
  return { steps: pack(sections, delta, options.chunk) }
}

const linesOf = (value: string | undefined): string[] => (value === undefined || value === '' ? [] : value.split('\n'))

/** Lines of the former rules that the new ones lack. */
function removed(change: Change): string[] {
  const kept = new Set(linesOf(change.to))
  return linesOf(change.from).filter(line => !kept.has(line))
}

/**
 * The first half of a filter change: the new rules, and the old ones too. Where a new branch of a tree does not refuse a
 * packet, an old rule further down may: so branches are left by returning (`-j`), not for good (`-g`).
 */
function widen(change: Change): Change[] {
  if (change.parsed.kind === 'jump') return change.from === undefined ? [change] : []
  if (change.to === undefined) return []
  const gone = removed(change)
  if (gone.length === 0) return [change]
  const to = [...linesOf(change.to), ...gone].join('\n').replaceAll(/ -g (?=\S+$)/gm, ' -j ')
  return to === change.from ? [] : [{ ...change, to }]
}

/** The second half: the new rules alone. */
function narrow(change: Change): Change[] {
  if (change.parsed.kind === 'jump') return change.from === undefined ? [] : [change]
  return change.to === undefined || removed(change).length > 0 ? [change] : []
}

/** Sections of one table: new chains (nothing reaches them yet), then what reaches them and what goes, at once. */
function tableSections(table: Table, changes: readonly Change[], options: PlanOptions): Section[] {
  const { chunk } = options
  const isShared = (change: Change): boolean => change.parsed.kind === 'chain' && options.isShared(change.parsed.chain)
  if (changes.length === 0) return []
  const chainsOf = (wanted: (change: Change) => boolean) =>
    changes.filter(change => change.parsed.kind === 'chain' && wanted(change))
  const added = chainsOf(change => change.from === undefined && change.to !== undefined)
  const changed = chainsOf(change => change.from !== undefined && change.to !== undefined)
  const gone = chainsOf(change => change.to === undefined)
  const jumps = changes.filter(change => change.parsed.kind === 'jump')
  // A small change is one section: atomic, and one start of the program.
  if (added.length + changed.length + gone.length <= chunk)
    return [section(options, table, [...added, ...changed], jumps, gone)]

  const bodies = changed.filter(change => !isShared(change))
  return [
    ...parts(targetsFirst(added), chunk).map(part => section(options, table, part, [], [])),
    ...parts(bodies, chunk).map(part => section(options, table, part, [], [])),
    // Everything that decides which packets go where changes in one commit.
    section(options, table, changed.filter(isShared), jumps, []),
    ...parts(targetsFirst(gone).reverse(), chunk).map(part => section(options, table, [], [], part)),
  ].filter(({ lines }) => lines.length > 0)
}

function parts<T>(items: readonly T[], size: number): T[][] {
  const out: T[][] = []
  for (let i = 0; i < items.length; i += size) out.push(items.slice(i, i + size))
  return out
}

/** Chains after the chains they go to (or went to), so that they can be written, or in reverse deleted, in parts. */
function targetsFirst(changes: readonly Change[]): Change[] {
  const byKey = new Map(changes.map(change => [change.key, change]))
  const done = new Set<string>()
  const ordered: Change[] = []
  const visit = (change: Change): void => {
    if (done.has(change.key)) return
    done.add(change.key)
    for (const [, target = ''] of (change.to ?? change.from ?? '').matchAll(/-[gj] (\S+)/g)) {
      const next = byKey.get(chainKey(change.parsed.table, target))
      if (next !== undefined) visit(next)
    }
    ordered.push(change)
  }
  for (const change of changes) visit(change)
  return ordered
}

function section(
  { withoutDeclarations }: PlanOptions,
  table: Table,
  written: readonly Change[],
  jumps: readonly Change[],
  gone: readonly Change[],
): Section {
  const declarations: string[] = []
  const rules: string[] = []
  const deletions: string[] = []
  const keys: string[] = []
  for (const change of [...written, ...gone]) {
    if (change.parsed.kind !== 'chain') continue
    keys.push(change.key)
    const { chain } = change.parsed
    // Declaring a chain creates it, or empties it.
    declarations.push(withoutDeclarations ? `${change.from === undefined ? '-N' : '-F'} ${chain}` : `:${chain} - [0:0]`)
    for (const line of linesOf(change.to)) rules.push(`-A ${chain} ${line}`)
    if (change.to === undefined) deletions.push(`-X ${chain}`)
  }
  const jumpsAdded: string[] = []
  const jumpsRemoved: string[] = []
  for (const change of jumps) {
    if (change.parsed.kind !== 'jump') continue
    keys.push(change.key)
    // One commit: no packet passes between the two. `-D` goes by specification, so the new rule must not be there yet.
    if (change.to !== undefined) jumpsAdded.push(`-I ${change.parsed.from} 1 ${change.to}`)
    for (const line of linesOf(change.from)) jumpsRemoved.push(`-D ${change.parsed.from} ${line}`)
  }
  return { table, lines: [...declarations, ...rules, ...jumpsRemoved, ...jumpsAdded, ...deletions], keys }
}

/** Puts sections into restore inputs. A small change is one input; the program is started once. */
function pack(sections: readonly Section[], delta: Delta, chunk: number): Step[] {
  const groups: Section[][] = []
  let size = Number.POSITIVE_INFINITY
  for (const item of sections) {
    if (size + item.keys.length > chunk) {
      groups.push([])
      size = 0
    }
    groups.at(-1)?.push(item)
    size += item.keys.length
  }
  const total = `${delta.added.length} added, ${delta.changed.length} changed, ${delta.removed.length} removed`
  return groups.map((group, index) => ({
    title: groups.length === 1 ? total : `${total}: part ${index + 1} of ${groups.length}`,
    text: group.map(({ table, lines }) => `*${table}\n${lines.join('\n')}\nCOMMIT\n`).join(''),
    keys: group.flatMap(({ keys }) => keys),
  }))
}
