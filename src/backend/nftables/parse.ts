// One rule, as text, into statements. Reads our own spelling and those in which versions of nft list the same rule.
import type { Family } from '../../net/ip.ts'
import type { Protocol } from '../../net/protocol.ts'
import type { AddressRange, Field, Rule, Statement, Verdict } from './objects.ts'
import { normaliseRanges, parseRange } from './ranges.ts'
import { octetAt } from './render.ts'

/** Parses a rule. Throws an Error that quotes the rule at the first word that is not understood. */
export function parseRule(text: string, family: Family): Rule {
  const words = text.match(wordPattern) ?? []
  const cursor = new Cursor(words, text, family)
  const statements: Statement[] = []
  while (!cursor.atEnd()) statements.push(statement(cursor))
  return statements
}

/** Braces and commas stand alone where nft prints them; a comma inside a word belongs to a raw offset. */
const wordPattern = /"[^"]*"|[{}]|[^\s{}]+/g

class Cursor {
  readonly family: Family
  readonly #words: readonly string[]
  readonly #text: string
  #index = 0

  constructor(words: readonly string[], text: string, family: Family) {
    this.#words = words
    this.#text = text
    this.family = family
  }

  atEnd(): boolean {
    return this.#index >= this.#words.length
  }

  next(): string {
    const word = this.#words[this.#index++]
    if (word === undefined) throw new Error(`rule ends too early: ${this.#text}`)
    return word
  }

  /** The word that comes next; empty at the end. */
  peek(): string {
    return this.#words[this.#index] ?? ''
  }

  /** Takes these words if they come next. */
  take(...words: readonly string[]): boolean {
    if (!words.every((word, i) => this.#words[this.#index + i] === word)) return false
    this.#index += words.length
    return true
  }

  expect(...words: readonly string[]): void {
    if (!this.take(...words)) this.fail()
  }

  number(): number {
    const word = this.next()
    const value = Number(word)
    if (word === '' || !Number.isInteger(value) || value < 0) this.fail()
    return value
  }

  fail(): never {
    throw new Error(
      `"${this.#words[this.#index] ?? this.#words[this.#index - 1] ?? ''}" is not understood in rule: ${this.#text}`,
    )
  }
}

function statement(cursor: Cursor): Statement {
  const word = cursor.next()
  switch (word) {
    case 'ip':
    case 'ip6': {
      const side = cursor.next()
      if (side !== 'saddr' && side !== 'daddr') return cursor.fail()
      return byField(cursor, side)
    }
    case 'meta':
      return metaStatement(cursor)
    case 'iifname': {
      const negated = cursor.take('!=')
      const name = cursor.next().replace(/^"|"$/g, '')
      const prefix = name.endsWith('*')
      return { kind: 'input-interface', name: prefix ? name.slice(0, -1) : name, prefix, negated }
    }
    case 'fib': {
      const side = cursor.next()
      if (side !== 'saddr' && side !== 'daddr') return cursor.fail()
      cursor.expect('type')
      const negated = cursor.take('!=')
      // RTN_LOCAL is 2.
      if (!cursor.take('local')) cursor.expect('2')
      return { kind: 'local', side, negated }
    }
    case 'numgen': {
      cursor.expect('random', 'mod')
      const of = cursor.number()
      if (cursor.take('<')) return { kind: 'chance', below: cursor.number(), of }
      cursor.expect('0')
      return { kind: 'chance', below: 1, of }
    }
    case 'ct':
      cursor.expect('status')
      // IPS_DST_NAT is 0x20.
      if (!cursor.take('dnat')) cursor.expect('0x20')
      return { kind: 'translated' }
    case 'update': {
      const set = reference(cursor)
      cursor.expect('{')
      if (!cursor.take('ip', 'saddr')) cursor.expect('ip6', 'saddr')
      cursor.expect('}')
      return { kind: 'remember', set }
    }
    case 'dnat':
      return dnatStatement(cursor)
    case 'masquerade':
      cursor.expect('fully-random')
      return { kind: 'masquerade' }
    case 'reject':
      if (cursor.take('with')) {
        if (!cursor.take('icmp') && !cursor.take('icmpv6')) cursor.fail()
        cursor.take('type')
        cursor.expect('port-unreachable')
      }
      return { kind: 'reject' }
    case 'accept':
    case 'drop':
    case 'return':
      return { kind: 'verdict', verdict: { kind: word } }
    case 'goto':
    case 'jump':
      return { kind: 'verdict', verdict: { kind: word, chain: cursor.next() } }
    default:
      return word.startsWith('@nh,') ? octetPair(cursor, word) : cursor.fail()
  }
}

/** What begins with an address: a comparison, or a look-up of it alone or with others. */
function byField(cursor: Cursor, side: 'saddr' | 'daddr'): Statement {
  const fields = [side, ...furtherFields(cursor)]
  if (fields.length === 1) {
    const negated = cursor.take('!=')
    const ranges = rangesOf(cursor)
    if (ranges !== undefined) return { kind: 'address', side, negated, ranges }
    if (negated) cursor.fail()
  }
  return lookUp(cursor, fields)
}

function lookUp(cursor: Cursor, fields: readonly Field[]): Statement {
  if (cursor.take('vmap')) return { kind: 'verdict-map', fields, map: reference(cursor) }
  return { kind: 'in-set', fields, set: reference(cursor) }
}

function furtherFields(cursor: Cursor): Field[] {
  const fields: Field[] = []
  while (cursor.take('.')) {
    const field = takeField(cursor)
    if (field !== undefined) fields.push(field)
    // A random index is the caller's.
    else if (cursor.peek() === 'numgen') break
    else cursor.fail()
  }
  return fields
}

function takeField(cursor: Cursor): Field | undefined {
  if (cursor.take('meta', 'l4proto')) return 'protocol'
  // Listed under the name of a protocol by versions that guess one.
  if (['th', 'tcp', 'udp', 'sctp'].some(header => cursor.take(header, 'dport'))) return 'port'
  if (cursor.take('ip', 'saddr') || cursor.take('ip6', 'saddr')) return 'saddr'
  if (cursor.take('ip', 'daddr') || cursor.take('ip6', 'daddr')) return 'daddr'
  return undefined
}

function metaStatement(cursor: Cursor): Statement {
  if (cursor.take('l4proto')) {
    const further = furtherFields(cursor)
    if (further.length > 0) return lookUp(cursor, ['protocol', ...further])
    const protocol = protocolOf(cursor.next())
    return protocol === undefined ? cursor.fail() : { kind: 'protocol', protocol }
  }
  cursor.expect('mark')
  if (cursor.take('set', 'meta', 'mark') || cursor.take('set', 'mark')) {
    if (cursor.take('|') || cursor.take('or')) return { kind: 'set-mark', mark: cursor.number() }
    if (cursor.take('^') || cursor.take('xor')) return { kind: 'clear-mark', mark: cursor.number() }
    return cursor.fail()
  }
  if (cursor.take('&') || cursor.take('and')) {
    const mark = cursor.number()
    cursor.expect('!=')
    return cursor.number() === 0 ? { kind: 'mark-set', mark } : cursor.fail()
  }
  // The highest bit alone looks like a prefix to nft.
  cursor.expect('!=')
  cursor.expect('0x00000000/1')
  return { kind: 'mark-set', mark: 0x80000000 }
}

function dnatStatement(cursor: Cursor): Statement {
  if (cursor.take('ip') || cursor.take('ip6')) {
    cursor.take('addr', '.', 'port')
    cursor.expect('to')
  } else {
    cursor.expect('to')
  }
  const first = takeField(cursor)
  if (first !== undefined) {
    const fields = [first, ...furtherFields(cursor)]
    cursor.expect('numgen', 'random', 'mod')
    const of = cursor.number()
    cursor.expect('map')
    return { kind: 'dnat-map', fields, of, map: reference(cursor) }
  }
  const found = /^(?:\[([0-9a-f:.]+)\]|([0-9.]+)):(\d+)$/.exec(cursor.next())
  if (found === null) return cursor.fail()
  return { kind: 'dnat', address: found[1] ?? found[2] ?? '', port: Number(found[3]) }
}

function octetPair(cursor: Cursor, word: string): Statement {
  const source = Number(/^@nh,(\d+),8$/.exec(word)?.[1] ?? Number.NaN)
  cursor.expect('.')
  const destination = Number(/^@nh,(\d+),8$/.exec(cursor.next())?.[1] ?? Number.NaN)
  const octet = octetAt(source, cursor.family)
  if (octet === undefined || destination - source !== (cursor.family === 'IPv4' ? 32 : 128)) return cursor.fail()
  return { kind: 'octet-pair', octet, set: reference(cursor) }
}

/** Addresses, CIDRs and ranges; undefined if something else comes. */
function rangesOf(cursor: Cursor): readonly AddressRange[] | undefined {
  const parsed = (): AddressRange => parseRange(cursor.next().replace(/,$/, '')) ?? cursor.fail()
  if (!cursor.take('{')) {
    if (cursor.peek().startsWith('@') || cursor.peek() === 'vmap') return undefined
    return [parsed()]
  }
  const ranges: AddressRange[] = []
  while (!cursor.take('}')) ranges.push(parsed())
  return normaliseRanges(ranges)
}

function reference(cursor: Cursor): string {
  const word = cursor.next()
  return word.startsWith('@') ? word.slice(1) : cursor.fail()
}

/** By name or number. */
export function protocolOf(word: string): Protocol | undefined {
  switch (word) {
    case 'tcp':
    case '6':
      return 'TCP'
    case 'udp':
    case '17':
      return 'UDP'
    case 'sctp':
    case '132':
      return 'SCTP'
    default:
      return undefined
  }
}

/** Parses the verdict of a map element; undefined if it is none. */
export function parseVerdict(text: string): Verdict | undefined {
  const [kind, chain, ...rest] = text.split(' ')
  if (rest.length > 0) return undefined
  if (chain === undefined) return kind === 'accept' || kind === 'drop' || kind === 'return' ? { kind } : undefined
  return kind === 'goto' || kind === 'jump' ? { kind, chain } : undefined
}
