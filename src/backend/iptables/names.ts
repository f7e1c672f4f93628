// Names of tables' chains and keys of kernel objects. Everything of ours starts with one prefix.
import { createHash } from 'node:crypto'

export type Table = 'filter' | 'nat'

/** Chains with this prefix are ours; no other chain is ever written, flushed or deleted. */
export const chainPrefix = 'PENSTOCK-'

/** Static chains. */
export const chains = {
  /** nat, from PREROUTING and OUTPUT: where a packet may be given an endpoint. */
  services: 'PENSTOCK-SERVICES',
  /** nat, from POSTROUTING: masquerade what is marked, and hairpin. */
  postrouting: 'PENSTOCK-POSTROUTING',
  /** filter, from INPUT, FORWARD and OUTPUT, new packets: reject and drop by address. */
  filter: 'PENSTOCK-FILTER',
  /** filter, from INPUT: reject and drop by node port, accept health checks. */
  input: 'PENSTOCK-INPUT',
  /** filter, from FORWARD: let Service traffic pass a FORWARD policy of DROP. */
  forward: 'PENSTOCK-FORWARD',
  /** filter, from INPUT and OUTPUT: keeps route_localnet from opening 127.0.0.0/8 to neighbours. */
  localnet: 'PENSTOCK-LOCALNET',
} as const

/** Roots of the trees that entries are found through; `tree.ts`. */
export const trees = {
  /** By address, protocol and port; in nat and in filter. */
  address: 'PENSTOCK-ADDR',
  /** By protocol and node port; in nat and in filter. */
  nodePort: 'PENSTOCK-PORT',
  /** By health check port; in filter. */
  health: 'PENSTOCK-HLTH',
} as const

export type TreeName = (typeof trees)[keyof typeof trees]

/** Kinds of chains a Service port can have. */
export type ServiceChainKind =
  /** Endpoints of internal frontends, and of external ones where they are the same. */
  | 'SVC'
  /** Dispatch of external frontends by origin. */
  | 'EXT'
  /** Endpoints for the node and its pods, where they are not those of SVC. */
  | 'CLU'
  /** Source ranges. */
  | 'SRC'
  /** A group of endpoints of a large Service. */
  | 'EPG'
  /** Affinity checks for a group of endpoints. */
  | 'AFF'

const base32Alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567'

/** The first `length` characters of the base32 (RFC 4648) form of SHA-256. */
export function hashName(text: string, length: number): string {
  const digest = createHash('sha256').update(text).digest()
  let out = ''
  let bits = 0
  let value = 0
  for (const byte of digest) {
    value = ((value << 8) | byte) & 0xfff
    bits += 8
    while (bits >= 5) {
      bits -= 5
      out += base32Alphabet[(value >> bits) & 31]
      if (out.length === length) return out
    }
    value &= (1 << bits) - 1
  }
  return out
}

/** A Service port's chain: 28 characters, the longest name that both variants of iptables take. */
export const serviceChain = (kind: ServiceChainKind, hash: string): string => `${chainPrefix}${kind}-${hash}`

/** Characters of hash in a Service chain's name: 75 bits. */
export const serviceHashLength = 15

/** Key of a chain as a kernel object; its value is the chain's rules, one a line. */
export const chainKey = (table: Table, chain: string): string => `${table}/${chain}`

/** Key of a jump from a chain that is not ours; its value is the rule. */
export const jumpKey = (table: Table, from: string, to: string): string => `${table}/${from}>${to}`

/** Key of an entry of a tree: `path` is hexadecimal, see `tree.ts`. */
export const entryKey = (table: Table, tree: TreeName, path: string): string => `${table}/${tree}@${path}`

/** What a key stands for. */
export type ParsedKey =
  | { readonly kind: 'chain'; readonly table: Table; readonly chain: string }
  | { readonly kind: 'jump'; readonly table: Table; readonly from: string; readonly to: string }
  | { readonly kind: 'entry'; readonly table: Table; readonly tree: string; readonly path: string }

/** Takes a key apart. Keys are made here only, so a malformed one is a programming error and throws. */
export function parseKey(key: string): ParsedKey {
  const slash = key.indexOf('/')
  const table = key.slice(0, slash)
  if (table !== 'filter' && table !== 'nat') throw new Error(`not a key of the iptables backend: ${key}`)
  const rest = key.slice(slash + 1)
  const jump = rest.indexOf('>')
  if (jump >= 0) return { kind: 'jump', table, from: rest.slice(0, jump), to: rest.slice(jump + 1) }
  const entry = rest.indexOf('@')
  if (entry >= 0) return { kind: 'entry', table, tree: rest.slice(0, entry), path: rest.slice(entry + 1) }
  return { kind: 'chain', table, chain: rest }
}
