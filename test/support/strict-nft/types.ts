// The types of keys and data, the parts of a packet that have them, and their values as nft lists them.
import type { Family } from '../../../src/net/ip.ts'
import { familyOf, parseIP } from '../../../src/net/ip.ts'
import { EvaluationProblem } from './problems.ts'
import type { Words } from './words.ts'

/** Two types fit each other if they are equal. */
export type Type = 'ipv4_addr' | 'ipv6_addr' | 'inet_proto' | 'inet_service' | 'integer 32' | 'integer 8'

/** A part of a packet, or a random number. */
export interface Expression {
  readonly text: string
  readonly type: Type
}

const describe: Readonly<Record<Type, string>> = {
  ipv4_addr: 'IPv4 address',
  ipv6_addr: 'IPv6 address',
  inet_proto: 'Internet protocol',
  inet_service: 'internet network service',
  'integer 32': 'integer',
  'integer 8': 'integer',
}

/** As nft's messages call types. */
export const typesText = (types: readonly Type[]): string =>
  types.length === 1 && types[0] !== undefined
    ? describe[types[0]]
    : `concatenation of (${types.map(type => describe[type]).join(', ')})`

export const sameTypes = (one: readonly Type[], other: readonly Type[]): boolean => one.join() === other.join()

export const addressType = (family: Family): Type => (family === 'IPv4' ? 'ipv4_addr' : 'ipv6_addr')

/** An expression, or undefined if something else comes next. Throws SyntaxProblem inside one. */
export function takeExpression(words: Words): Expression | undefined {
  const raw = /^@nh,(\d+),8$/.exec(words.peek())
  if (raw !== null) return { text: words.next(), type: 'integer 8' }
  const ahead = `${words.peek()} ${words.peek(1)}`
  const plain = plainExpressions[ahead]
  if (plain !== undefined) {
    words.expect(...ahead.split(' '))
    return { text: ahead, type: plain }
  }
  if (words.peek() !== 'numgen') return undefined
  words.expect('numgen', 'random', 'mod')
  return { text: `numgen random mod ${words.match(/^\d+$/)}`, type: 'integer 32' }
}

const plainExpressions: Readonly<Record<string, Type>> = {
  'ip saddr': 'ipv4_addr',
  'ip daddr': 'ipv4_addr',
  'ip6 saddr': 'ipv6_addr',
  'ip6 daddr': 'ipv6_addr',
  'meta l4proto': 'inet_proto',
  'th dport': 'inet_service',
}

/** Expressions joined by dots; none if something else comes next. */
export function takeExpressions(words: Words): Expression[] {
  const first = takeExpression(words)
  if (first === undefined) return []
  const all = [first]
  while (words.take('.')) all.push(takeExpression(words) ?? words.fail())
  return all
}

/** Throws EvaluationProblem for an expression of the other family's header. */
export function checkFamily(expressions: readonly Expression[], family: Family): void {
  const own = family === 'IPv4' ? 'ip' : 'ip6'
  for (const { text } of expressions) {
    const [word = ''] = text.split(' ', 1)
    if ((word === 'ip' || word === 'ip6') && word !== own) {
      throw new EvaluationProblem(`conflicting protocols specified: ${own} vs. ${word}`)
    }
  }
}

const protocolNumbers: Readonly<Record<string, string>> = { icmp: '1', tcp: '6', udp: '17', sctp: '132' }

/** A value as it is listed with `-n`. Throws EvaluationProblem for one that the type cannot have. */
export function listedValue(type: Type, word: string): string {
  switch (type) {
    case 'ipv4_addr':
    case 'ipv6_addr':
      return addressOf(type, word)
    case 'inet_proto': {
      const number = protocolNumbers[word] ?? word
      return numberOf(number, 255, 'Could not resolve protocol name').toString()
    }
    case 'inet_service':
      return numberOf(word, 65_535, 'Service out of range').toString()
    case 'integer 32':
      return numberOf(word, 0xffffffff, `Value ${word} exceeds valid range 0-4294967295`).toString()
    case 'integer 8':
      return `0x${numberOf(word, 255, `Value ${word} exceeds valid range 0-255`).toString(16)}`
  }
}

function addressOf(type: Type, word: string): string {
  const address = parseIP(word)
  if (address === undefined) throw new EvaluationProblem('Could not resolve hostname: Name or service not known')
  if (addressType(familyOf(address)) !== type) {
    throw new EvaluationProblem('Could not resolve hostname: Address family for hostname not supported')
  }
  return address
}

/** Decimal or hexadecimal. Throws EvaluationProblem with this message if it is none or too great. */
export function numberOf(word: string, greatest: number, message: string): number {
  const number = /^(?:\d+|0x[0-9a-f]+)$/.test(word) ? Number(word) : Number.NaN
  if (!(number <= greatest)) throw new EvaluationProblem(message)
  return number
}
