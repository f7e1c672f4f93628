// What nft keeps beside sets and elements for itself: byte orders, the expressions that types are given by, comments.
//
// The kernel hands it back as it is; without it `nft list` cannot show maps that are given by expressions. Tags and numbers
// are those of libnftnl's udata.h (1.2.4) and of nft 1.0.6, as `nft --debug=mnl` shows them.
import type { Family } from '../../net/ip.ts'
import type { KeyType, MapObject, SetObject } from './objects.ts'

/** Tags beside a set. */
const ofSet = {
  keyByteOrder: 0,
  dataByteOrder: 1,
  merge: 2,
  keyExpression: 3,
  dataExpression: 4,
  dataInterval: 6,
} as const
/** Tags beside an element. */
const ofElement = { comment: 0, flags: 1 } as const
/** nft's enum expr_types. */
const expression = { payload: 7, meta: 9, concatenation: 13, numgen: 23 } as const
/** nft's enum proto_desc_id, and of each header the field of our keys. */
const header = {
  transport: { id: 11, destinationPort: 2 },
  IPv4: { id: 12, saddr: 11, daddr: 12 },
  IPv6: { id: 13, saddr: 8, daddr: 9 },
} as const
const byteOrder = { none: 0, network: 2 } as const
const networkHeader = 2
const metaProtocol = 16
const random = 1
/** The last interval of a set reaches to the last value there is. */
const openInterval = 1

const record = (tag: number, value: Buffer): Buffer => Buffer.concat([Buffer.from([tag, value.length]), value])

const nested = (tag: number, ...records: readonly Buffer[]): Buffer => record(tag, Buffer.concat(records))

function number(tag: number, value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(value)
  return record(tag, bytes)
}

/** An expression of a kind, with what says more of it. */
const typed = (tag: number, kind: number, ...more: readonly Buffer[]): Buffer =>
  nested(tag, number(0, kind), nested(1, ...more))

const headerField = (tag: number, id: number, field: number): Buffer =>
  typed(tag, expression.payload, number(0, id), number(1, field))

/** The expression that stands for one part of a key. */
function partExpression(type: KeyType, at: number, family: Family): Buffer {
  switch (type) {
    case 'address':
      return headerField(at, header[family].id, header[family].daddr)
    case 'protocol':
      return typed(at, expression.meta, number(0, metaProtocol))
    case 'port':
      return headerField(at, header.transport.id, header.transport.destinationPort)
    case 'index':
      return typed(at, expression.numgen, number(0, random), number(1, 2), number(2, 0))
    case 'octet':
      return typed(
        at,
        expression.payload,
        number(0, 0),
        number(1, 0),
        number(2, networkHeader),
        number(3, at * 8),
        number(4, 8),
      )
  }
}

const concatenation = (tag: number, types: readonly KeyType[], family: Family): Buffer =>
  typed(tag, expression.concatenation, ...types.map((type, at) => partExpression(type, at, family)))

/** What nft keeps beside a named set or map of ours. */
export function setUserdata(container: SetObject | MapObject, family: Family): Buffer {
  const { key } = container
  if (key.length === 1) return number(ofSet.keyByteOrder, byteOrder.network)
  // Types that have names need no expressions; nft writes an empty concatenation all the same.
  const isNamed = key.every(type => type !== 'index' && type !== 'octet')
  const parts = [number(ofSet.keyByteOrder, byteOrder.none)]
  if (container.kind === 'map') parts.push(number(ofSet.dataByteOrder, byteOrder.none))
  parts.push(concatenation(ofSet.keyExpression, isNamed ? [] : key, family))
  if (container.kind === 'map') {
    if (!isNamed && container.data !== 'verdict')
      parts.push(concatenation(ofSet.dataExpression, container.data, family))
    parts.push(number(ofSet.dataInterval, 0))
  }
  return Buffer.concat(parts)
}

/** What nft keeps beside a set of addresses within a rule. */
export function anonymousUserdata(side: 'saddr' | 'daddr', isInterval: boolean, family: Family): Buffer {
  return Buffer.concat([
    number(ofSet.keyByteOrder, byteOrder.network),
    ...(isInterval ? [number(ofSet.merge, 1)] : []),
    headerField(ofSet.keyExpression, header[family].id, header[family][side]),
  ])
}

/** Beside the beginning of an interval that has no end. */
export const openIntervalUserdata: Buffer = number(ofElement.flags, openInterval)

/** Beside an element that has a comment, of at most 127 bytes. */
export const commentUserdata = (comment: string): Buffer => record(ofElement.comment, Buffer.from(`${comment}\0`))

/** The comment beside an element; undefined if there is anything else, or if it is not well formed. */
export function commentOf(userdata: Buffer): string | undefined {
  const length = userdata[1] ?? 0
  if (userdata[0] !== ofElement.comment || length !== userdata.length - 2 || userdata[userdata.length - 1] !== 0) {
    return undefined
  }
  return userdata.toString('utf8', 2, userdata.length - 1)
}
