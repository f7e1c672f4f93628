// Names of this backend's chains, and keys of tree entries. Everything of ours starts with one prefix.
import { type Table, tableOf } from '../xtables/names.ts'

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

/** A Service port's chain: 28 characters, the longest name that both variants of iptables take. */
export const serviceChain = (kind: ServiceChainKind, hash: string): string => `${chainPrefix}${kind}-${hash}`

/** Characters of hash in a Service chain's name: 75 bits. */
export const serviceHashLength = 15

/** Key of an entry of a tree: `path` is hexadecimal, see `tree.ts`. */
export const entryKey = (table: Table, tree: TreeName, path: string): string => `${table}/${tree}@${path}`

/** What the key of an entry stands for. */
export interface ParsedEntryKey {
  readonly table: Table
  readonly tree: string
  readonly path: string
}

/** Takes the key of an entry apart; undefined for any other key. */
export function parseEntryKey(key: string): ParsedEntryKey | undefined {
  const slash = key.indexOf('/')
  const entry = key.indexOf('@', slash)
  const table = tableOf(key.slice(0, slash))
  if (table === undefined || entry < 0) return undefined
  return { table, tree: key.slice(slash + 1, entry), path: key.slice(entry + 1) }
}
