// From statements to the expressions that the kernel evaluates, one by one as nft 1.0.6 makes them: what is written so is
// listed by nft as if it had written it. `nft --debug=netlink` shows them.
import {
  elementFlag,
  type NftElement,
  type NftExpression,
  type NftSet,
  type Register,
  setFlag,
} from '../../kernel/netlink/nft-objects.ts'
import { type Family, type IP, ipToHex } from '../../net/ip.ts'
import { keyTypeOf } from './containers.ts'
import { protocolNumbers } from './elements.ts'
import {
  type AnonymousSet,
  compare,
  ctStatus,
  destinationPort,
  dynsetUpdate,
  fibAddressType,
  fibFlag,
  interfaceNameLength,
  metaKey,
  natDestination,
  natRange,
  numgenRandom,
  ofFamily,
  payloadBase,
  rangeOperator,
  registerAt,
  rejectUnreachable,
  routeLocal,
  toNetworkOrder,
  translatedBit,
} from './expressions.ts'
import type { AddressRange, Field, Rule, Statement } from './objects.ts'
import { prefixOf } from './ranges.ts'
import { anonymousUserdata, openIntervalUserdata } from './userdata.ts'

/** The name under which sets within rules are made: the kernel puts a number in. */
const anonymousName = '__set%d'

/** A rule as the kernel takes it; its sets are to be made before it, in the same batch. */
export interface LinearRule {
  readonly expressions: readonly NftExpression[]
  readonly sets: readonly AnonymousSet[]
}

/** `nextId` gives sets numbers that are used once in a batch. Pure but for that. */
export function linearize(rule: Rule, family: Family, nextId: () => number): LinearRule {
  const sets: AnonymousSet[] = []
  const expressions = rule.flatMap(statement => expressionsOf(statement, family, nextId, sets))
  return { expressions, sets }
}

const number32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(value >>> 0)
  return bytes
}

const number32BE = (value: number): Buffer => {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value >>> 0)
  return bytes
}

const addressBytes = (hex: string): Buffer => Buffer.from(hex, 'hex')

const equality = (negated: boolean): number => (negated ? compare.unequal : compare.equal)

function expressionsOf(
  statement: Statement,
  family: Family,
  nextId: () => number,
  sets: AnonymousSet[],
): NftExpression[] {
  switch (statement.kind) {
    case 'address':
      return addressMatch(statement, family, nextId, sets)
    case 'input-interface':
      return [
        { kind: 'meta', key: metaKey.inputName, to: 1 },
        {
          kind: 'cmp',
          from: 1,
          op: equality(statement.negated),
          data: interfaceBytes(statement.name, statement.prefix),
        },
      ]
    case 'protocol': {
      const data = Buffer.from([protocolNumbers[statement.protocol]])
      return [
        { kind: 'meta', key: metaKey.protocol, to: 1 },
        { kind: 'cmp', from: 1, op: compare.equal, data },
      ]
    }
    case 'local':
      return [
        { kind: 'fib', result: fibAddressType, flags: fibFlag[statement.side], to: 1 },
        { kind: 'cmp', from: 1, op: equality(statement.negated), data: number32(routeLocal) },
      ]
    case 'chance':
      return chanceMatch(statement.below, statement.of)
    case 'in-set': {
      const { loads } = fieldLoads(statement.fields, family)
      return [...loads, { kind: 'lookup', set: statement.set, from: 1, inverted: false }]
    }
    case 'mark-set':
      return [{ kind: 'meta', key: metaKey.mark, to: 1 }, ...anyBit(statement.mark)]
    case 'translated':
      return [{ kind: 'ct', key: ctStatus, to: 1 }, ...anyBit(translatedBit)]
    case 'octet-pair': {
      const { saddr, daddr } = ofFamily[family]
      return [
        networkLoad(saddr + statement.octet, 1, registerAt(0)),
        networkLoad(daddr + statement.octet, 1, registerAt(1)),
        { kind: 'lookup', set: statement.set, from: 1, inverted: false },
      ]
    }
    case 'set-mark':
      return markChange(~statement.mark, statement.mark)
    case 'clear-mark':
      return markChange(0xffffffff, statement.mark)
    case 'remember':
      return [addressLoad('saddr', family), { kind: 'dynset', set: statement.set, op: dynsetUpdate, from: 1 }]
    case 'verdict-map': {
      const { loads } = fieldLoads(statement.fields, family)
      return [...loads, { kind: 'lookup', set: statement.map, from: 1, to: 0, inverted: false }]
    }
    case 'dnat':
      return dnat(statement.address, statement.port, family)
    case 'dnat-map':
      return dnatMap(statement.fields, statement.of, statement.map, family)
    case 'masquerade':
      return [{ kind: 'masq', flags: natRange.fullyRandom }]
    case 'reject':
      return [{ kind: 'reject', type: rejectUnreachable, code: ofFamily[family].portUnreachable }]
    case 'verdict':
      return [{ kind: 'immediate', to: 0, data: statement.verdict }]
  }
}

const networkLoad = (offset: number, length: number, to: Register): NftExpression => ({
  kind: 'payload',
  base: payloadBase.network,
  offset,
  length,
  to,
})

const addressLoad = (side: 'saddr' | 'daddr', family: Family, length: number = ofFamily[family].addressLength) =>
  networkLoad(ofFamily[family][side], length, 1)

/** A name is compared with what it is padded with, the beginning of one without. */
function interfaceBytes(name: string, isPrefix: boolean): Buffer {
  const bytes = Buffer.from(name)
  return isPrefix ? bytes : Buffer.concat([bytes, Buffer.alloc(Math.max(0, interfaceNameLength - bytes.length))])
}

/** True if one of these bits of what register 1 holds is set. */
const anyBit = (bits: number): NftExpression[] => [
  { kind: 'bitwise', from: 1, to: 1, length: 4, op: 0, mask: number32(bits), xor: number32(0) },
  { kind: 'cmp', from: 1, op: compare.unequal, data: number32(0) },
]

const markChange = (mask: number, xor: number): NftExpression[] => [
  { kind: 'meta', key: metaKey.mark, to: 1 },
  { kind: 'bitwise', from: 1, to: 1, length: 4, op: 0, mask: number32(mask), xor: number32(xor) },
  { kind: 'meta-set', key: metaKey.mark, from: 1 },
]

function chanceMatch(below: number, of: number): NftExpression[] {
  const draw: NftExpression = { kind: 'numgen', type: numgenRandom, modulus: of, offset: 0, to: 1 }
  if (below === 1) return [draw, { kind: 'cmp', from: 1, op: compare.equal, data: number32(0) }]
  return [
    draw,
    { kind: 'byteorder', from: 1, to: 1, op: toNetworkOrder, length: 4, size: 4 },
    { kind: 'cmp', from: 1, op: compare.less, data: number32BE(below) },
  ]
}

/** Loads that put fields one after the other, from register 1 on, and how many words they take. */
function fieldLoads(fields: readonly Field[], family: Family): { loads: NftExpression[]; words: number } {
  let words = 0
  const loads: NftExpression[] = []
  for (const field of fields) {
    loads.push(fieldLoad(field, registerAt(words), family))
    words += field === 'saddr' || field === 'daddr' ? ofFamily[family].addressLength / 4 : 1
  }
  return { loads, words }
}

function fieldLoad(field: Field, to: Register, family: Family): NftExpression {
  const { addressLength, saddr, daddr } = ofFamily[family]
  switch (field) {
    case 'saddr':
      return networkLoad(saddr, addressLength, to)
    case 'daddr':
      return networkLoad(daddr, addressLength, to)
    case 'protocol':
      return { kind: 'meta', key: metaKey.protocol, to }
    case 'port':
      return { kind: 'payload', base: payloadBase.transport, ...destinationPort, to }
  }
}

function dnat(address: string, port: number, family: Family): NftExpression[] {
  const portBytes = Buffer.alloc(2)
  portBytes.writeUInt16BE(port)
  return [
    { kind: 'immediate', to: 1, data: addressBytes(ipToHex(address as IP)) },
    { kind: 'immediate', to: 2, data: portBytes },
    {
      kind: 'nat',
      type: natDestination,
      family: ofFamily[family].number,
      addressMin: 1,
      portMin: 2,
      flags: natRange.port,
    },
  ]
}

function dnatMap(fields: readonly Field[], of: number, map: string, family: Family): NftExpression[] {
  const { loads, words } = fieldLoads(fields, family)
  const { number, addressLength } = ofFamily[family]
  return [
    ...loads,
    { kind: 'numgen', type: numgenRandom, modulus: of, offset: 0, to: registerAt(words) },
    { kind: 'lookup', set: map, from: 1, to: 1, inverted: false },
    {
      kind: 'nat',
      type: natDestination,
      family: number,
      addressMin: 1,
      portMin: registerAt(addressLength / 4),
      flags: 0,
    },
  ]
}

function addressMatch(
  { side, negated, ranges }: Statement & { kind: 'address' },
  family: Family,
  nextId: () => number,
  sets: AnonymousSet[],
): NftExpression[] {
  const [only] = ranges
  if (only !== undefined && ranges.length === 1) return rangeMatch(side, negated, only, family)
  const id = nextId()
  sets.push(addressSet(side, ranges, family, id))
  return [addressLoad(side, family), { kind: 'lookup', set: anonymousName, setId: id, from: 1, inverted: negated }]
}

function rangeMatch(side: 'saddr' | 'daddr', negated: boolean, range: AddressRange, family: Family): NftExpression[] {
  const { addressLength } = ofFamily[family]
  const first = addressBytes(range.first)
  const last = addressBytes(range.last)
  const prefix = prefixOf(range)
  const op = equality(negated)
  if (prefix === undefined) {
    const load = addressLoad(side, family)
    if (negated) return [load, { kind: 'range', from: 1, op: rangeOperator.outside, first, last }]
    return [
      load,
      { kind: 'cmp', from: 1, op: compare.atLeast, data: first },
      { kind: 'cmp', from: 1, op: compare.atMost, data: last },
    ]
  }
  if (prefix > 0 && prefix % 8 === 0) {
    const length = prefix / 8
    return [addressLoad(side, family, length), { kind: 'cmp', from: 1, op, data: first.subarray(0, length) }]
  }
  const mask = Buffer.from(first.map((octet, at) => 0xff & ~(octet ^ (last[at] ?? 0))))
  const xor = Buffer.alloc(addressLength)
  return [
    addressLoad(side, family),
    { kind: 'bitwise', from: 1, to: 1, length: addressLength, op: 0, mask, xor },
    { kind: 'cmp', from: 1, op, data: first },
  ]
}

/** A set of addresses; of intervals if one of them is more than an address. */
function addressSet(
  side: 'saddr' | 'daddr',
  ranges: readonly AddressRange[],
  family: Family,
  id: number,
): AnonymousSet {
  const isInterval = ranges.some(({ first, last }) => first !== last)
  const elements = isInterval ? intervals(ranges) : ranges.map(({ first }) => ({ key: addressBytes(first) }))
  const set: NftSet = {
    name: anonymousName,
    id,
    flags: setFlag.anonymous | setFlag.constant | (isInterval ? setFlag.interval : 0),
    keyType: keyTypeOf(['address'], family),
    keyLength: ofFamily[family].addressLength,
    size: isInterval ? ranges.length * 2 + (startsAtZero(ranges) ? 0 : 1) : ranges.length,
    userdata: anonymousUserdata(side, isInterval, family),
  }
  return { set, elements }
}

const startsAtZero = ([range]: readonly AddressRange[]): boolean => range !== undefined && /^0+$/.test(range.first)

/** Each interval is its first value and the first value past it. What is below the first interval is said to be outside. */
function intervals(ranges: readonly AddressRange[]): NftElement[] {
  const elements: NftElement[] = []
  const [range] = ranges
  if (range !== undefined && !startsAtZero(ranges)) {
    elements.push({ key: Buffer.alloc(range.first.length / 2), flags: elementFlag.intervalEnd })
  }
  for (const { first, last } of ranges) {
    const key = addressBytes(first)
    if (/^f+$/.test(last)) {
      elements.push({ key, userdata: openIntervalUserdata })
    } else {
      const past = (BigInt(`0x${last}`) + 1n).toString(16).padStart(last.length, '0')
      elements.push({ key }, { key: addressBytes(past), flags: elementFlag.intervalEnd })
    }
  }
  return elements
}
