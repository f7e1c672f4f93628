// From a delta to restore inputs: in an order the kernel accepts, that reaches nothing before it is whole, and that leaves
// every packet with an endpoint before and after the change an endpoint at each step of it.
import type { Delta, Step, Transaction } from '../backend.ts'
import { type ParsedKey, parseKey, type Table } from './names.ts'
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
  /** Objects that are written, of which there is one at least. */
  readonly changes: readonly Change[]
  /** Whole lines in the order they are written, in pieces of a chain or less. Made anew at each call. */
  readonly pieces: () => Iterable<string>
}

/**
 * One restore input. Its text is put together only when it is asked for: with 10,000 Services it has 9.3 MB, which to put
 * together at once takes some 60 ms and as much memory again.
 */
export interface RestoreStep extends Step {
  /** The text from its beginning, in pieces of a chain or less. */
  readonly pieces: () => Iterable<string>
}

/** What the programs of a variant take. */
export interface RestoreLimits {
  /**
   * How many chains go into one restore, where what is to be done may be done in several: chains that packets may be in change
   * at once, however many. The legacy variant replaces the whole table at each call.
   */
  readonly chunk: number
  /**
   * Where it is done in several: how many rules the new chains of one commit may have that go to other new ones.
   * iptables-nft-restore keeps the names of all chains that a commit mentions in a sorted list, and walks it for each
   * (nft-cache.c, cache_chain_list_insert).
   */
  readonly mostTargets: number
  /**
   * Chains are made and emptied by `-N` and `-F` instead of `:chain` lines: iptables-nft-restore 1.8.4 misreads those
   * with --noflush (mended in 1.8.5, netfilter commit "xtables-restore: Fix parser feed from line buffer").
   */
  readonly withoutDeclarations: boolean
}

/** Measured: README.md of the iptables backend. Before the variant is known, only text for people is planned. */
export const restoreLimits = (tools: Pick<Tools, 'variant' | 'version'> | undefined): RestoreLimits => ({
  chunk: tools?.variant === 'nft' ? 5_000 : 1_000_000,
  mostTargets: tools?.variant === 'nft' ? 1_000 : 1_000_000,
  withoutDeclarations: tools?.variant === 'nft' && tools.version === '1.8.4',
})

export interface PlanOptions extends RestoreLimits {
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
export function plan(delta: Delta, options: PlanOptions): Transaction & { readonly steps: readonly RestoreStep[] } {
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
  const { chunk, mostTargets } = options
  if (changes.length === 0) return []
  const added: Change[] = []
  const changed: Change[] = []
  const gone: Change[] = []
  const jumps: Change[] = []
  for (const change of changes) {
    if (change.parsed.kind === 'jump') jumps.push(change)
    else if (change.to === undefined) gone.push(change)
    else if (change.from === undefined) added.push(change)
    else changed.push(change)
  }
  // A small change is one section: atomic, and one start of the program.
  if (added.length + changed.length + gone.length <= chunk)
    return [section(options, table, inOrder([...added, ...changed]), jumps, inOrder(gone))]

  const partsOf = ({ leaves, branches }: Chains, most: number, weightOf: (change: Change) => number): Chains[] => [
    ...parts(leaves, chunk, () => 1).map(part => ({ leaves: part, branches: [] })),
    ...parts(branches, Math.min(chunk, most), weightOf).map(part => ({ leaves: [], branches: part })),
  ]
  const written = partsOf(inOrder(added), mostTargets, ({ to }) => linesOf(to).length)
  // To delete a chain mentions no other; of its name alone the list takes twice as many in the same time.
  const deleted = partsOf(inOrder(gone), 2 * mostTargets, () => 1)
  return [
    ...written.map(part => section(options, table, part, [], noChains)),
    // Everything that packets may be in changes in one commit: chains of one Service port are made for each other.
    section(options, table, inOrder(changed), jumps, noChains),
    ...deleted.reverse().map(part => section(options, table, noChains, [], part)),
  ].filter(({ changes: { length } }) => length > 0)
}

/** In parts of at most this weight, or of one item. */
function parts<T>(items: readonly T[], most: number, weightOf: (item: T) => number): T[][] {
  const out: T[][] = []
  let weight = Number.POSITIVE_INFINITY
  for (const item of items) {
    const more = weightOf(item)
    if (weight + more > most) {
      out.push([])
      weight = 0
    }
    out.at(-1)?.push(item)
    weight += more
  }
  return out
}

/** Chains in the order in which they can be written, or in reverse deleted, also in parts. */
interface Chains {
  /**
   * Chains that go to none among these; from the last name to the first: each is where iptables-restore begins to look in
   * its list of names. With 10,000 Services that is half of the nft variant's time, and of the legacy variant's.
   */
  readonly leaves: readonly Change[]
  /** Chains that go to some (or went to), each after those. */
  readonly branches: readonly Change[]
}

const noChains: Chains = { leaves: [], branches: [] }

function inOrder(changes: readonly Change[]): Chains {
  const prefix = commonPrefix(changes.map(chainOf))
  const rulesOf = ({ to, from }: Change): string => to ?? from ?? ''
  const leaves: Change[] = []
  const inner = new Map<string, Change>()
  for (const change of changes) {
    if (rulesOf(change).includes(` ${prefix}`)) inner.set(chainOf(change), change)
    else leaves.push(change)
  }
  leaves.sort((a, b) => (chainOf(a) < chainOf(b) ? 1 : -1))
  const branches: Change[] = []
  const done = new Set<Change>()
  const visit = (change: Change): void => {
    if (done.has(change)) return
    done.add(change)
    for (const target of targetsIn(rulesOf(change), prefix)) {
      const next = inner.get(target)
      if (next !== undefined) visit(next)
    }
    branches.push(change)
  }
  for (const change of inner.values()) visit(change)
  return { leaves, branches }
}

const chainOf = ({ parsed }: Change): string => (parsed.kind === 'chain' ? parsed.chain : '')

/** Where rules go, of the chains whose names begin with `prefix`. */
function targetsIn(rules: string, prefix: string): string[] {
  const found: string[] = []
  for (const line of rules.split('\n')) {
    const last = line.lastIndexOf(' ')
    if (line.startsWith(prefix, last + 1) && /-[gj]$/.test(line.slice(0, last))) found.push(line.slice(last + 1))
  }
  return found
}

function commonPrefix([first = '', ...rest]: readonly string[]): string {
  let length = first.length
  for (const name of rest) while (!name.startsWith(first.slice(0, length))) length--
  return first.slice(0, length)
}

function section(
  { withoutDeclarations }: PlanOptions,
  table: Table,
  written: Chains,
  jumps: readonly Change[],
  gone: Chains,
): Section {
  return {
    table,
    changes: [...written.leaves, ...written.branches, ...gone.branches, ...gone.leaves, ...jumps],
    *pieces() {
      for (const change of written.leaves) yield declaration(change, withoutDeclarations) + rules(change)
      for (const change of written.branches) yield declaration(change, withoutDeclarations)
      // What goes to others is emptied before those are deleted.
      for (const change of gone.branches) yield declaration(change, withoutDeclarations)
      for (const change of written.branches) yield rules(change)
      // One commit: no packet passes between the two. `-D` goes by specification, so the new rule must not be there yet.
      for (const { parsed, from } of jumps) {
        if (parsed.kind === 'jump') for (const line of linesOf(from)) yield `-D ${parsed.from} ${line}\n`
      }
      for (const { parsed, to } of jumps) {
        if (parsed.kind === 'jump' && to !== undefined) yield `-I ${parsed.from} 1 ${to}\n`
      }
      for (const change of gone.branches) yield deletion(change)
      for (const change of gone.leaves) yield declaration(change, withoutDeclarations) + deletion(change)
    },
  }
}

/** Creates the chain, or empties it. */
function declaration({ parsed, from }: Change, withoutDeclarations: boolean): string {
  if (parsed.kind !== 'chain') return ''
  if (withoutDeclarations) return `${from === undefined ? '-N' : '-F'} ${parsed.chain}\n`
  return `:${parsed.chain} - [0:0]\n`
}

const deletion = ({ parsed }: Change): string => (parsed.kind === 'chain' ? `-X ${parsed.chain}\n` : '')

function rules({ parsed, to }: Change): string {
  if (parsed.kind !== 'chain' || to === undefined || to === '') return ''
  return `-A ${parsed.chain} ${to.replaceAll('\n', `\n-A ${parsed.chain} `)}\n`
}

/** Puts sections into restore inputs. A small change is one input; the program is started once. */
function pack(sections: readonly Section[], delta: Delta, chunk: number): RestoreStep[] {
  const groups: Section[][] = []
  let size = Number.POSITIVE_INFINITY
  for (const item of sections) {
    if (size + item.changes.length > chunk) {
      groups.push([])
      size = 0
    }
    groups.at(-1)?.push(item)
    size += item.changes.length
  }
  const total = `${delta.added.length} added, ${delta.changed.length} changed, ${delta.removed.length} removed`
  return groups.map((group, index) => ({
    title: groups.length === 1 ? total : `${total}: part ${index + 1} of ${groups.length}`,
    pieces: () => piecesOf(group),
    get keys() {
      return group.flatMap(({ changes }) => changes.map(({ key }) => key))
    },
    get text() {
      return [...piecesOf(group)].join('')
    },
  }))
}

function* piecesOf(sections: readonly Section[]): Iterable<string> {
  for (const { table, pieces } of sections) {
    yield `*${table}\n`
    yield* pieces()
    yield 'COMMIT\n'
  }
}
