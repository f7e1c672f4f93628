// The tree of chains that addresses and ports are found through, so that a packet meets a few dozen rules at most however
// many Services there are. The tree is a function of the set of entries alone: a change rewrites the chains on one path.
//
// An entry's path is hexadecimal: address (8 or 32 digits, none in the node-port trees), protocol (1 digit), port (4). A
// chain stands for a prefix of paths. Up to `leafSize` entries it lists them; beyond, it splits by the next digit in which
// they differ: groups of up to `inlineSize` entries stay in the chain, larger ones get a chain of their own.

import { ipFromHex } from '../../net/ip.ts'
import type { KernelObject, Layout } from '../backend.ts'
import { chainKey, hashName, type Table } from '../xtables/names.ts'
import { parseEntryKey } from './names.ts'

/**
 * A rule that does not match costs some 10 ns on current kernels, a chain 60 µs of `iptables-restore` and a slot in every
 * later listing: wide leaves and few chains win.
 */
const leafSize = 32
const inlineSize = 4
/**
 * nf_tables takes at most 15 jumps in a row below a base chain, gotos included (NFT_JUMP_STACK_SIZE); a Service's own
 * chains need up to seven. Addresses can be chosen so that a tree would be deeper: from here on a chain lists all it has.
 */
const maxDepth = 6

const protocolDigits: Readonly<Record<string, string>> = { TCP: '1', UDP: '2', SCTP: '3' }
const protocolOfDigit: Readonly<Record<string, string>> = { '1': 'tcp', '2': 'udp', '3': 'sctp' }

/** Path of an entry below an address (hexadecimal, empty in node-port trees). */
export const entryPath = (addressHex: string, protocol: string, port: number): string =>
  addressHex + protocolDigits[protocol] + port.toString(16).padStart(4, '0')

interface Node {
  readonly value: string
  /** 0 for the root. */
  readonly depth: number
  /** Prefixes of the chains this one goes to. */
  readonly children: readonly string[]
}

/** One tree. `addressDigits` is 0, 8 or 32. */
class Tree {
  readonly #table: Table
  readonly #root: string
  readonly #addressDigits: number
  readonly #rules = new Map<string, string>()
  /** Paths in order. */
  #paths: string[] = []
  readonly #changed = new Set<string>()
  readonly #nodes = new Map<string, Node>()
  #rendered = false

  constructor(table: Table, root: string, addressDigits: number) {
    this.#table = table
    this.#root = root
    this.#addressDigits = addressDigits
  }

  set(path: string, rule: string): void {
    if (this.#rules.get(path) === rule) return
    this.#rules.set(path, rule)
    this.#changed.add(path)
  }

  delete(path: string): void {
    if (this.#rules.delete(path)) this.#changed.add(path)
  }

  *drain(): Iterable<{ key: string; value: string | undefined }> {
    if (this.#changed.size === 0 && this.#rendered) return
    this.#rendered = true
    const changed = [...this.#changed].sort()
    this.#changed.clear()
    this.#updatePaths(changed)

    const rebuilt = new Map<string, Node>()
    this.#build('', 0, 0, this.#paths.length, changed, 0, changed.length, rebuilt)
    yield* this.#replaceNodes(rebuilt)
  }

  /** Stores rebuilt chains and drops those that no chain goes to any more. */
  *#replaceNodes(rebuilt: ReadonlyMap<string, Node>): Iterable<{ key: string; value: string | undefined }> {
    const referenced = new Set<string>()
    for (const node of rebuilt.values()) for (const child of node.children) referenced.add(child)
    // Chains that a rebuilt chain went to before; they are gone unless something goes to them now.
    const orphans: string[] = []
    for (const prefix of rebuilt.keys())
      for (const child of this.#nodes.get(prefix)?.children ?? []) orphans.push(child)
    for (let prefix = orphans.pop(); prefix !== undefined; prefix = orphans.pop()) {
      if (referenced.has(prefix) || rebuilt.has(prefix)) continue
      const node = this.#nodes.get(prefix)
      if (node === undefined) continue
      orphans.push(...node.children)
      this.#nodes.delete(prefix)
      yield { key: this.#key(prefix), value: undefined }
    }
    for (const [prefix, node] of rebuilt) {
      const before = this.#nodes.get(prefix)
      this.#nodes.set(prefix, node)
      if (before?.value !== node.value) yield { key: this.#key(prefix), value: node.value }
    }
  }

  #updatePaths(changed: readonly string[]): void {
    // Moving a few hundred thousand pointers costs less than a millisecond; sorting from scratch is for bulk loads.
    if (changed.length > 64) {
      this.#paths = [...this.#rules.keys()].sort()
      return
    }
    for (const path of changed) {
      const index = lowerBound(this.#paths, path, 0, this.#paths.length)
      const present = this.#paths[index] === path
      if (this.#rules.has(path) && !present) this.#paths.splice(index, 0, path)
      if (!this.#rules.has(path) && present) this.#paths.splice(index, 1)
    }
  }

  /**
   * Builds the chain of `prefix`, which holds the paths [from, to), and below it the chains whose entries changed (the
   * sorted changes [changeFrom, changeTo)), or that did not exist at this depth. Every other chain below is as it was.
   */
  #build(
    prefix: string,
    depth: number,
    from: number,
    to: number,
    changed: readonly string[],
    changeFrom: number,
    changeTo: number,
    rebuilt: Map<string, Node>,
  ): void {
    const lines: string[] = []
    const children: string[] = []
    const list = (start: number, end: number) => {
      for (let i = start; i < end; i++) lines.push(this.#rules.get(this.#paths[i] ?? '') ?? '')
    }
    if (to - from <= leafSize || depth === maxDepth) {
      list(from, to)
    } else {
      const split = commonPrefix(this.#paths[from] ?? '', this.#paths[to - 1] ?? '')
      for (let start = from; start < to; ) {
        const group = (this.#paths[start] ?? '').slice(0, split.length + 1)
        const end = lowerBound(this.#paths, `${group}g`, start, to)
        if (end - start <= inlineSize) {
          list(start, end)
        } else {
          const child = commonPrefix(this.#paths[start] ?? '', this.#paths[end - 1] ?? '')
          lines.push(`${this.#match(child)} -g ${this.#chain(child)}`)
          children.push(child)
          const first = lowerBound(changed, child, changeFrom, changeTo)
          const last = lowerBound(changed, `${child}g`, first, changeTo)
          if (last > first || this.#nodes.get(child)?.depth !== depth + 1) {
            this.#build(child, depth + 1, start, end, changed, first, last, rebuilt)
          }
        }
        start = end
      }
    }
    rebuilt.set(prefix, { value: lines.join('\n'), depth, children })
  }

  /** The match for all paths below a prefix. */
  #match(prefix: string): string {
    const digits = this.#addressDigits
    const address = prefix.slice(0, digits)
    const match = digits === 0 ? '' : `-d ${ipFromHex(address.padEnd(digits, '0'))}/${address.length * 4}`
    if (prefix.length <= digits) return match
    const protocol = protocolOfDigit[prefix[digits] ?? ''] ?? ''
    const port = prefix.slice(digits + 1)
    const low = Number.parseInt(port.padEnd(4, '0'), 16)
    const high = Number.parseInt(port.padEnd(4, 'f'), 16)
    const ports = port === '' ? '' : ` -m ${protocol} --dport ${low === high ? low : `${low}:${high}`}`
    return `${match}${match === '' ? '' : ' '}-p ${protocol}${ports}`
  }

  /** Chain of a prefix: the digits where they fit in a name, else a hash of them. */
  #chain(prefix: string): string {
    if (prefix === '') return this.#root
    return `${this.#root}-${prefix.length <= 13 ? prefix : hashName(prefix, 13)}`
  }

  #key(prefix: string): string {
    return chainKey(this.#table, this.#chain(prefix))
  }
}

/** The layout of one address family: a tree for each table and root, made when its first entry comes. */
export function treeLayout(
  addressDigits: number,
  roots: readonly { table: Table; root: string; byAddress: boolean }[],
): Layout {
  const byName = new Map<string, Tree>()
  for (const { table, root, byAddress } of roots) {
    byName.set(chainKey(table, root), new Tree(table, root, byAddress ? addressDigits : 0))
  }
  const locate = (key: string): { tree: Tree; path: string } => {
    const parsed = parseEntryKey(key)
    const tree = parsed && byName.get(chainKey(parsed.table, parsed.tree))
    if (parsed === undefined || tree === undefined) throw new Error(`no tree for the entry ${key}`)
    return { tree, path: parsed.path }
  }
  return {
    isEntry: key => key.includes('@'),
    set(entry: KernelObject) {
      const { tree, path } = locate(entry.key)
      tree.set(path, entry.value)
    },
    delete(key) {
      const { tree, path } = locate(key)
      tree.delete(path)
    },
    *drain() {
      for (const tree of byName.values()) yield* tree.drain()
    },
  }
}

/** Index of the first item in [from, to) that is not below `text`. */
function lowerBound(items: readonly string[], text: string, from: number, to: number): number {
  let low = from
  let high = to
  while (low < high) {
    const middle = (low + high) >> 1
    if ((items[middle] ?? '') < text) low = middle + 1
    else high = middle
  }
  return low
}

function commonPrefix(a: string, b: string): string {
  let length = 0
  while (length < a.length && a[length] === b[length]) length++
  return a.slice(0, length)
}
