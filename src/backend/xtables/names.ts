// Keys of what is kept in the tables of iptables: chains, and jumps to them. Shared by the backends that write there.
import { createHash } from 'node:crypto'

/** Tables in which we keep chains. */
export type Table = 'filter' | 'nat' | 'mangle'

/** A table by its name; undefined for those that we never write. */
export const tableOf = (name: string): Table | undefined =>
  name === 'filter' || name === 'nat' || name === 'mangle' ? name : undefined

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

/** Key of a chain as a kernel object; its value is the chain's rules, one a line. */
export const chainKey = (table: Table, chain: string): string => `${table}/${chain}`

/** Key of a jump from a chain that is not ours; its value is the rule. */
export const jumpKey = (table: Table, from: string, to: string): string => `${table}/${from}>${to}`

/** What the key of a kernel object stands for. */
export type ParsedKey =
  | { readonly kind: 'chain'; readonly table: Table; readonly chain: string }
  | { readonly kind: 'jump'; readonly table: Table; readonly from: string; readonly to: string }

/**
 * Takes the key of a chain or jump apart. Such keys are made by `chainKey` and `jumpKey` only, so a malformed one is a
 * programming error and throws.
 */
export function parseKey(key: string): ParsedKey {
  const slash = key.indexOf('/')
  const table = tableOf(key.slice(0, slash))
  if (table === undefined) throw new Error(`not the key of a chain or jump: ${key}`)
  const rest = key.slice(slash + 1)
  const jump = rest.indexOf('>')
  if (jump >= 0) return { kind: 'jump', table, from: rest.slice(0, jump), to: rest.slice(jump + 1) }
  return { kind: 'chain', table, chain: rest }
}
