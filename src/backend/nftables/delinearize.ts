// From the kernel's expressions back to statements. What we would not have written becomes text that shows as a difference.
import {
  elementFlag,
  type NftElement,
  type NftExpression,
  type Register,
  setFlag,
} from '../../kernel/netlink/nft-objects.ts'
import { type Family, ipFromHex } from '../../net/ip.ts'
import type { Protocol } from '../../net/protocol.ts'
import { ownVerdict, protocolNumbers } from './elements.ts'
import {
  type AnonymousSet,
  type AnonymousSets,
  compare,
  destinationPort,
  fibFlag,
  interfaceNameLength,
  metaKey,
  ofFamily,
  payloadBase,
  rulePattern,
  translatedBit,
} from './expressions.ts'
import { linearize } from './linearize.ts'
import type { AddressRange, Field, Rule, Statement } from './objects.ts'
import { ruleText } from './render.ts'

/**
 * The text of a rule: ours if it is one that we would have written so, else one that no rule of ours has. `sets` are those
 * within rules. Never throws.
 */
export function textOfRule(expressions: readonly NftExpression[], sets: AnonymousSets, family: Family): string {
  const pattern = rulePattern(expressions, sets)
  const rule = delinearize(expressions, sets, family)
  if (rule === undefined) return pattern
  // The guess looks at what tells statements apart; that all else is as we write it, writing it tells.
  let id = 0
  const { expressions: ours, sets: made } = linearize(rule, family, () => ++id)
  return rulePattern(ours, (_name, setId) => made.find(({ set }) => set.id === setId && setId !== undefined)) ===
    pattern
    ? ruleText(rule, family)
    : pattern
}

/**
 * The statements that expressions look like, by what tells ours apart; undefined if they look like none. Whether they are
 * those statements, `linearize` tells. Pure.
 */
export function delinearize(
  expressions: readonly NftExpression[],
  sets: AnonymousSets,
  family: Family,
): Rule | undefined {
  const rule: Statement[] = []
  const cursor = new Cursor(expressions)
  while (!cursor.atEnd()) {
    const statement = statementOf(cursor, sets, family)
    if (statement === undefined) return undefined
    rule.push(statement)
  }
  return rule
}

class Cursor {
  readonly #expressions: readonly NftExpression[]
  #at = 0

  constructor(expressions: readonly NftExpression[]) {
    this.#expressions = expressions
  }

  atEnd(): boolean {
    return this.#at >= this.#expressions.length
  }

  /** The next expression if it is of this kind. */
  take<K extends NftExpression['kind']>(kind: K): Extract<NftExpression, { kind: K }> | undefined {
    const next = this.#expressions[this.#at]
    if (next === undefined || !isKind(next, kind)) return undefined
    this.#at++
    return next
  }
}

const isKind = <K extends NftExpression['kind']>(
  expression: NftExpression,
  kind: K,
): expression is Extract<NftExpression, { kind: K }> => expression.kind === kind

function statementOf(cursor: Cursor, sets: AnonymousSets, family: Family): Statement | undefined {
  const immediate = cursor.take('immediate')
  if (immediate !== undefined)
    return Buffer.isBuffer(immediate.data) ? dnatOf(cursor, immediate.data) : verdictOf(immediate)
  if (cursor.take('masq') !== undefined) return { kind: 'masquerade' }
  if (cursor.take('reject') !== undefined) return { kind: 'reject' }
  if (cursor.take('ct') !== undefined) return bitsOf(cursor) === translatedBit ? { kind: 'translated' } : undefined
  const fib = cursor.take('fib')
  if (fib !== undefined) {
    const side = fib.flags === fibFlag.saddr ? 'saddr' : 'daddr'
    return { kind: 'local', side, negated: cursor.take('cmp')?.op === compare.unequal }
  }
  const numgen = cursor.take('numgen')
  if (numgen !== undefined) return chanceOf(cursor, numgen.modulus)
  const payload = cursor.take('payload')
  if (payload !== undefined) return loadedOf(cursor, payload, sets, family)
  const meta = cursor.take('meta')
  if (meta !== undefined) return metaOf(cursor, meta, sets, family)
  return undefined
}

function verdictOf({ data }: NftExpression & { kind: 'immediate' }): Statement | undefined {
  const verdict = Buffer.isBuffer(data) ? undefined : ownVerdict(data)
  return verdict === undefined ? undefined : { kind: 'verdict', verdict }
}

function dnatOf(cursor: Cursor, address: Buffer): Statement | undefined {
  const port = cursor.take('immediate')?.data
  if (!Buffer.isBuffer(port) || port.length !== 2 || cursor.take('nat') === undefined) return undefined
  if (address.length !== 4 && address.length !== 16) return undefined
  return { kind: 'dnat', address: ipFromHex(address.toString('hex')), port: port.readUInt16BE(0) }
}

/** The bits of which one is to be set. */
function bitsOf(cursor: Cursor): number | undefined {
  const bitwise = cursor.take('bitwise')
  return bitwise !== undefined && cursor.take('cmp') !== undefined ? number32(bitwise.mask) : undefined
}

/** Bytes in the order of this machine; undefined if they are not four. */
const number32 = (bytes: Buffer): number | undefined => (bytes.length === 4 ? bytes.readUInt32LE(0) : undefined)

function chanceOf(cursor: Cursor, of: number): Statement | undefined {
  const isOrdered = cursor.take('byteorder') !== undefined
  const data = cursor.take('cmp')?.data
  if (data?.length !== 4) return undefined
  return { kind: 'chance', below: isOrdered ? data.readUInt32BE(0) : 1, of }
}

type Load = Extract<NftExpression, { kind: 'payload' | 'meta' }>

function metaOf(
  cursor: Cursor,
  meta: NftExpression & { kind: 'meta' },
  sets: AnonymousSets,
  family: Family,
): Statement | undefined {
  switch (meta.key) {
    case metaKey.mark:
      return markOf(cursor)
    case metaKey.inputName:
      return interfaceOf(cursor)
    case metaKey.protocol: {
      const cmp = cursor.take('cmp')
      if (cmp === undefined) return loadedOf(cursor, meta, sets, family)
      const protocol = protocolOfNumber(cmp.data[0])
      return protocol === undefined ? undefined : { kind: 'protocol', protocol }
    }
    default:
      return undefined
  }
}

function protocolOfNumber(number: number | undefined): Protocol | undefined {
  for (const protocol of ['TCP', 'UDP', 'SCTP'] as const) if (protocolNumbers[protocol] === number) return protocol
  return undefined
}

function markOf(cursor: Cursor): Statement | undefined {
  const bitwise = cursor.take('bitwise')
  if (bitwise === undefined) return undefined
  if (cursor.take('meta-set') !== undefined) {
    const mark = number32(bitwise.xor)
    const kind = number32(bitwise.mask) === 0xffffffff ? 'clear-mark' : 'set-mark'
    return mark === undefined ? undefined : { kind, mark }
  }
  const mark = number32(bitwise.mask)
  return mark === undefined || cursor.take('cmp') === undefined ? undefined : { kind: 'mark-set', mark }
}

function interfaceOf(cursor: Cursor): Statement | undefined {
  const cmp = cursor.take('cmp')
  if (cmp === undefined) return undefined
  const prefix = cmp.data.length < interfaceNameLength
  const end = cmp.data.indexOf(0)
  const name = cmp.data.toString('utf8', 0, end < 0 ? cmp.data.length : end)
  return { kind: 'input-interface', name, prefix, negated: cmp.op === compare.unequal }
}

/** What begins with a part of the packet: a comparison of an address, or a look-up of this part and those that follow. */
function loadedOf(cursor: Cursor, first: Load, sets: AnonymousSets, family: Family): Statement | undefined {
  const loads: Load[] = [first]
  for (let next = nextLoad(cursor); next !== undefined; next = nextLoad(cursor)) loads.push(next)
  const numgen = cursor.take('numgen')
  const lookup = cursor.take('lookup')
  if (lookup !== undefined) {
    const anonymous = sets(lookup.set, lookup.setId)
    if (anonymous !== undefined) {
      const side = sideOf(first, family)
      return side === undefined ? undefined : addressStatement(side, lookup.inverted, rangesOf(anonymous), family)
    }
    return lookUpOf(cursor, loads, numgen?.modulus, lookup.set, lookup.to, family)
  }
  const side = sideOf(first, family)
  if (side === undefined || numgen !== undefined || loads.length > 1) return undefined
  const dynset = cursor.take('dynset')
  return dynset === undefined ? comparisonOf(cursor, side, family) : { kind: 'remember', set: dynset.set }
}

const nextLoad = (cursor: Cursor): Load | undefined => cursor.take('payload') ?? cursor.take('meta')

function lookUpOf(
  cursor: Cursor,
  loads: readonly Load[],
  of: number | undefined,
  name: string,
  to: Register | undefined,
  family: Family,
): Statement | undefined {
  const fields = loads.map(load => fieldOf(load, family))
  if (fields.every(field => field !== undefined)) {
    if (of !== undefined)
      return cursor.take('nat') === undefined ? undefined : { kind: 'dnat-map', fields, of, map: name }
    return to === undefined ? { kind: 'in-set', fields, set: name } : { kind: 'verdict-map', fields, map: name }
  }
  const [source] = loads
  if (source?.kind !== 'payload' || source.length !== 1) return undefined
  return { kind: 'octet-pair', octet: source.offset - ofFamily[family].saddr, set: name }
}

function fieldOf(load: Load, family: Family): Field | undefined {
  if (load.kind === 'meta') return load.key === metaKey.protocol ? 'protocol' : undefined
  if (load.base === payloadBase.transport) return load.offset === destinationPort.offset ? 'port' : undefined
  return load.length === ofFamily[family].addressLength ? sideOf(load, family) : undefined
}

function sideOf(load: Load, family: Family): 'saddr' | 'daddr' | undefined {
  if (load.kind === 'meta' || load.base !== payloadBase.network) return undefined
  const { saddr, daddr } = ofFamily[family]
  return load.offset === saddr ? 'saddr' : load.offset === daddr ? 'daddr' : undefined
}

/** A comparison of an address with one, with a prefix, or with two. */
function comparisonOf(cursor: Cursor, side: 'saddr' | 'daddr', family: Family): Statement | undefined {
  const range = cursor.take('range')
  if (range !== undefined) return addressStatement(side, true, [[range.first, range.last]], family)
  const bitwise = cursor.take('bitwise')
  const cmp = cursor.take('cmp')
  if (cmp === undefined) return undefined
  const { data: first } = cmp
  const negated = cmp.op === compare.unequal
  if (bitwise !== undefined) {
    const last = Buffer.from(first.map((octet, at) => octet | (0xff & ~(bitwise.mask[at] ?? 0))))
    return addressStatement(side, negated, [[first, last]], family)
  }
  if (cmp.op === compare.atLeast) {
    const last = cursor.take('cmp')?.data
    return last === undefined ? undefined : addressStatement(side, false, [[first, last]], family)
  }
  const rest = Math.max(0, ofFamily[family].addressLength - first.length)
  const whole = (octet: number): Buffer => Buffer.concat([first, Buffer.alloc(rest, octet)])
  return addressStatement(side, negated, [[whole(0), whole(0xff)]], family)
}

type Ends = readonly [first: Buffer, last: Buffer]

/** The statement, if these are ranges of addresses of the family. */
function addressStatement(
  side: 'saddr' | 'daddr',
  negated: boolean,
  ends: readonly Ends[],
  family: Family,
): Statement | undefined {
  const { addressLength } = ofFamily[family]
  const areRanges = ends.every(
    ([first, last]) =>
      first.length === addressLength && last.length === addressLength && Buffer.compare(first, last) <= 0,
  )
  if (!areRanges || ends.length === 0) return undefined
  const ranges = ends.map(
    ([first, last]): AddressRange => ({ first: first.toString('hex'), last: last.toString('hex') }),
  )
  return { kind: 'address', side, negated, ranges }
}

/** The first and last values of a set within a rule. */
function rangesOf({ set, elements }: AnonymousSet): Ends[] {
  const sorted = [...elements].sort((a, b) => Buffer.compare(a.key, b.key))
  const isInterval = (set.flags & setFlag.interval) !== 0
  return sorted.flatMap((element, at): Ends[] => {
    if (isEnd(element)) return []
    const { key } = element
    if (!isInterval) return [[key, key]]
    const next = sorted[at + 1]
    return [[key, next === undefined || !isEnd(next) ? Buffer.alloc(key.length, 0xff) : before(next.key)]]
  })
}

const isEnd = ({ flags = 0 }: NftElement): boolean => (flags & elementFlag.intervalEnd) !== 0

/** The value before; the greatest of the length before the smallest. */
function before(key: Buffer): Buffer {
  const bytes = Buffer.from(key)
  for (let at = bytes.length - 1; at >= 0; at--) {
    const octet = bytes[at] ?? 0
    bytes[at] = (octet - 1) & 0xff
    if (octet > 0) break
  }
  return bytes
}
