// CIDRs as nft keeps them in a set: sorted ranges that neither overlap nor touch.
import { bitsOf, type CIDR, familyOf, ipFromHex, ipToHex, parseCIDR, parseIP } from '../../net/ip.ts'
import type { AddressRange } from './objects.ts'

/** The range of a CIDR. */
export function rangeOf(cidr: CIDR): AddressRange {
  const first = ipToHex(cidr.address)
  const hostBits = BigInt(bitsOf(familyOf(cidr.address)) - cidr.prefix)
  return { first, last: plus(first, (1n << hostBits) - 1n) }
}

/** What nft makes of CIDRs in a set: merged where they overlap or touch (nft 1.0.6 lists them so), sorted. */
export const mergeCIDRs = (cidrs: readonly CIDR[]): readonly AddressRange[] => mergeRanges(cidrs.map(rangeOf))

function mergeRanges(ranges: readonly AddressRange[]): readonly AddressRange[] {
  const sorted = [...ranges].sort((a, b) => (a.first < b.first ? -1 : a.first > b.first ? 1 : 0))
  const merged: AddressRange[] = []
  for (const range of sorted) {
    const before = merged.at(-1)
    if (before === undefined || range.first > next(before.last)) {
      merged.push(range)
    } else if (range.last > before.last) {
      merged[merged.length - 1] = { first: before.first, last: range.last }
    }
  }
  return merged
}

/** True if the range holds every address there is. */
export const isEverything = ({ first, last }: AddressRange): boolean => /^0+$/.test(first) && /^f+$/.test(last)

/** True if one of the ranges holds the address, given in hexadecimal. */
export const rangesHold = (ranges: readonly AddressRange[], hex: string): boolean =>
  ranges.some(({ first, last }) => hex.length === first.length && first <= hex && hex <= last)

/** The length of the prefix that all addresses of a range share and no other has; undefined if it is no CIDR. */
export function prefixOf({ first, last }: AddressRange): number | undefined {
  if (first === last) return first.length * 4
  const size = BigInt(`0x${last}`) - BigInt(`0x${first}`) + 1n
  const isCIDR = (size & (size - 1n)) === 0n && BigInt(`0x${first}`) % size === 0n
  return isCIDR ? first.length * 4 - (size.toString(2).length - 1) : undefined
}

/** As nft writes it: an address, a CIDR, or `first-last`. */
export function formatRange(range: AddressRange): string {
  const { first, last } = range
  if (first === last) return ipFromHex(first)
  const prefix = prefixOf(range)
  return prefix === undefined ? `${ipFromHex(first)}-${ipFromHex(last)}` : `${ipFromHex(first)}/${prefix}`
}

/** The inverse of `formatRange`; undefined if the text is none. */
export function parseRange(text: string): AddressRange | undefined {
  if (text.includes('/')) {
    const cidr = parseCIDR(text)
    return cidr === undefined ? undefined : rangeOf(cidr)
  }
  const [first = '', last = first] = text.split('-')
  const from = parseIP(first)
  const to = parseIP(last)
  return from === undefined || to === undefined ? undefined : { first: ipToHex(from), last: ipToHex(to) }
}

/** Sorts and merges parsed ranges: the order in a listing means nothing. */
export const normaliseRanges = mergeRanges

function plus(hex: string, add: bigint): string {
  return (BigInt(`0x${hex}`) + add).toString(16).padStart(hex.length, '0')
}

/** The address after; of the last one, something that sorts after every address. */
const next = (hex: string): string => (/^f+$/.test(hex) ? 'g' : plus(hex, 1n))
