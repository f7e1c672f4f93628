// Addresses, prefixes and ranges of them, alone and in a set without a name, which nft sorts and merges.
import { type Family, familyOf, type IP, ipFromHex, ipToHex, parseCIDR, parseIP } from '../../../src/net/ip.ts'
import { EvaluationProblem } from './problems.ts'

interface Interval {
  readonly first: bigint
  readonly last: bigint
  /** Written with a prefix or as one address: a range written out is listed so, where it stands alone. */
  readonly short: boolean
}

const digits = (family: Family): number => (family === 'IPv4' ? 8 : 32)
const numberOf = (ip: IP): bigint => BigInt(`0x${ipToHex(ip)}`)
const textOf = (value: bigint, family: Family): string => ipFromHex(value.toString(16).padStart(digits(family), '0'))

/** As nft lists one alone. Throws EvaluationProblem. */
export function loneInterval(word: string, family: Family): string {
  const interval = intervalOf(word, family)
  return interval.short ? shortText(interval, family) : longText(interval, family)
}

/** As nft lists a set of them, braces included. Throws EvaluationProblem. */
export function intervalSet(words: readonly string[], family: Family): string {
  const [only] = words
  if (words.length === 1 && only !== undefined) return loneInterval(only, family)
  const sorted = words.map(word => intervalOf(word, family)).sort((a, b) => (a.first < b.first ? -1 : 1))
  // Addresses by themselves are no intervals, and stay apart even where they touch.
  const gap = sorted.every(({ first, last }) => first === last) ? 0n : 1n
  const merged: Interval[] = []
  for (const next of sorted) {
    const before = merged.at(-1)
    if (before === undefined || next.first > before.last + gap) merged.push(next)
    else if (next.last > before.last) merged[merged.length - 1] = { first: before.first, last: next.last, short: true }
  }
  return `{ ${merged.map(interval => shortText(interval, family)).join(', ')} }`
}

function intervalOf(word: string, family: Family): Interval {
  const [from = '', to] = word.split('-')
  if (to !== undefined) {
    const [first, last] = [numberOf(addressOf(from, family)), numberOf(addressOf(to, family))]
    if (first >= last) throw new EvaluationProblem('Range has zero or negative size')
    return { first, last, short: false }
  }
  if (!word.includes('/')) {
    const value = numberOf(addressOf(word, family))
    return { first: value, last: value, short: true }
  }
  const cidr = parseCIDR(word)
  if (cidr === undefined || familyOf(cidr.address) !== family) throw new EvaluationProblem(`${word} is no prefix`)
  const size = 1n << BigInt(digits(family) * 4 - cidr.prefix)
  const first = (numberOf(cidr.address) / size) * size
  return { first, last: first + size - 1n, short: true }
}

function addressOf(word: string, family: Family): IP {
  const address = parseIP(word)
  if (address === undefined || familyOf(address) !== family) {
    throw new EvaluationProblem('Could not resolve hostname: Name or service not known')
  }
  return address
}

function shortText(interval: Interval, family: Family): string {
  const size = interval.last - interval.first + 1n
  if (size === 1n) return textOf(interval.first, family)
  const isPrefix = (size & (size - 1n)) === 0n && interval.first % size === 0n
  if (!isPrefix) return longText(interval, family)
  return `${textOf(interval.first, family)}/${digits(family) * 4 - (size.toString(2).length - 1)}`
}

const longText = ({ first, last }: Interval, family: Family): string =>
  `${textOf(first, family)}-${textOf(last, family)}`
