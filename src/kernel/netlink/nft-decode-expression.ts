// From the bytes of a rule's expression to its value. Pure. What has more or less than `NftExpression` says of its kind
// is none of ours: it stays in bytes.
import { NetlinkFormatError, readAttributes, readText } from './message.ts'
import { decodeData, decodeValue } from './nft-data.ts'
import * as numbers from './nft-numbers.ts'
import type { NftExpression, NftVerdict } from './nft-objects.ts'

/**
 * Reads an expression's name and data. All bytes of the value are copies. Throws NetlinkFormatError when it has no name.
 *
 * The kernel does not always say what was written: registers 8, 12, 16, 20, which begin at 16 bytes, are told as 1 to 4;
 * `nat` has the flags NF_NAT_RANGE_MAP_IPS (1) and NF_NAT_RANGE_PROTO_SPECIFIED (2) where there are registers of
 * addresses and ports. The last of a range that is its first too, as the kernel tells of no range, is left out here.
 */
export function decodeExpression(bytes: Buffer): NftExpression {
  const attributes = readAttributes(bytes)
  const named = attributes.get(numbers.expressionAttribute.name)
  if (named === undefined) throw new NetlinkFormatError('an expression of nf_tables has no name')
  const name = readText(named)
  const data = attributes.get(numbers.expressionAttribute.data) ?? Buffer.alloc(0)
  return known(name, data) ?? { kind: 'unknown', name, attributes: Buffer.from(data) }
}

function known(name: string, data: Buffer): NftExpression | undefined {
  try {
    const fields = new Fields(data)
    const expression = read(name, fields)
    return fields.isRead ? expression : undefined
  } catch (error) {
    if (error instanceof NetlinkFormatError) return undefined
    throw error
  }
}

function read(name: string, fields: Fields): NftExpression | undefined {
  switch (name) {
    case 'meta':
      return readMeta(fields)
    case 'payload':
      return {
        kind: 'payload',
        base: fields.be32(numbers.payload.base),
        offset: fields.be32(numbers.payload.offset),
        length: fields.be32(numbers.payload.length),
        to: fields.be32(numbers.payload.to),
      }
    case 'cmp':
      return {
        kind: 'cmp',
        from: fields.be32(numbers.cmp.from),
        op: fields.be32(numbers.cmp.op),
        data: fields.value(numbers.cmp.data),
      }
    case 'range':
      return {
        kind: 'range',
        from: fields.be32(numbers.range.from),
        op: fields.be32(numbers.range.op),
        first: fields.value(numbers.range.first),
        last: fields.value(numbers.range.last),
      }
    case 'bitwise':
      return readBitwise(fields)
    case 'byteorder':
      return {
        kind: 'byteorder',
        from: fields.be32(numbers.byteorder.from),
        to: fields.be32(numbers.byteorder.to),
        op: fields.be32(numbers.byteorder.op),
        length: fields.be32(numbers.byteorder.length),
        size: fields.be32(numbers.byteorder.size),
      }
    case 'lookup':
      return readLookup(fields)
    case 'dynset':
      return readDynset(fields)
    case 'immediate':
      return {
        kind: 'immediate',
        to: fields.be32(numbers.immediate.to),
        data: fields.data(numbers.immediate.data),
      }
    case 'fib':
      return {
        kind: 'fib',
        result: fields.be32(numbers.fib.result),
        flags: fields.be32(numbers.fib.flags),
        to: fields.be32(numbers.fib.to),
      }
    case 'ct':
      return { kind: 'ct', key: fields.be32(numbers.ct.key), to: fields.be32(numbers.ct.to) }
    case 'numgen':
      return {
        kind: 'numgen',
        type: fields.be32(numbers.numgen.type),
        modulus: fields.be32(numbers.numgen.modulus),
        offset: fields.optional32(numbers.numgen.offset) ?? 0,
        to: fields.be32(numbers.numgen.to),
      }
    case 'nat':
      return readNat(fields)
    case 'masq':
      return { kind: 'masq', flags: fields.optional32(numbers.masq.flags) ?? 0 }
    case 'reject':
      // A TCP reset has no code.
      return {
        kind: 'reject',
        type: fields.be32(numbers.reject.type),
        code: fields.optional8(numbers.reject.code) ?? 0,
      }
    default:
      return undefined
  }
}

function readMeta(fields: Fields): NftExpression {
  const key = fields.be32(numbers.meta.key)
  const from = fields.optional32(numbers.meta.from)
  return from === undefined ? { kind: 'meta', key, to: fields.be32(numbers.meta.to) } : { kind: 'meta-set', key, from }
}

function readBitwise(fields: Fields): NftExpression {
  return {
    kind: 'bitwise',
    from: fields.be32(numbers.bitwise.from),
    to: fields.be32(numbers.bitwise.to),
    length: fields.be32(numbers.bitwise.length),
    // Kernels before 5.6 knew no other operation and say none.
    op: fields.optional32(numbers.bitwise.op) ?? 0,
    mask: fields.value(numbers.bitwise.mask),
    xor: fields.value(numbers.bitwise.xor),
  }
}

function readLookup(fields: Fields): NftExpression | undefined {
  const to = fields.optional32(numbers.lookup.to)
  const setId = fields.optional32(numbers.lookup.setId)
  const flags = fields.optional32(numbers.lookup.flags) ?? 0
  if ((flags & ~numbers.lookupInverted) !== 0) return undefined
  return {
    kind: 'lookup',
    set: fields.text(numbers.lookup.set),
    ...(setId !== undefined && { setId }),
    from: fields.be32(numbers.lookup.from),
    ...(to !== undefined && { to }),
    inverted: flags !== 0,
  }
}

/** One with a timeout of its own, or that is inverted, is none of ours. The kernel says a timeout of 0 for that of the set. */
function readDynset(fields: Fields): NftExpression | undefined {
  const setId = fields.optional32(numbers.dynset.setId)
  if ((fields.optional64(numbers.dynset.timeout) ?? 0n) !== 0n) return undefined
  if ((fields.optional32(numbers.dynset.flags) ?? 0) !== 0) return undefined
  fields.ignore(numbers.dynset.pad)
  return {
    kind: 'dynset',
    set: fields.text(numbers.dynset.set),
    ...(setId !== undefined && { setId }),
    op: fields.be32(numbers.dynset.op),
    from: fields.be32(numbers.dynset.from),
  }
}

function readNat(fields: Fields): NftExpression {
  const addressMin = fields.optional32(numbers.nat.addressMin)
  const addressMax = fields.optional32(numbers.nat.addressMax)
  const portMin = fields.optional32(numbers.nat.portMin)
  const portMax = fields.optional32(numbers.nat.portMax)
  return {
    kind: 'nat',
    type: fields.be32(numbers.nat.type),
    family: fields.be32(numbers.nat.family),
    ...(addressMin !== undefined && { addressMin }),
    ...(addressMax !== undefined && addressMax !== addressMin && { addressMax }),
    ...(portMin !== undefined && { portMin }),
    ...(portMax !== undefined && portMax !== portMin && { portMax }),
    flags: fields.optional32(numbers.nat.flags) ?? 0,
  }
}

/** The attributes of an expression; each is taken out as it is read, so that it can be told what nobody asked for. */
class Fields {
  readonly #left: Map<number, Buffer>

  constructor(bytes: Buffer) {
    this.#left = readAttributes(bytes)
  }

  /** Nothing is left. */
  get isRead(): boolean {
    return this.#left.size === 0
  }

  ignore(type: number): void {
    this.#left.delete(type)
  }

  optional8(type: number): number | undefined {
    return this.#optional(type, 1)?.readUInt8()
  }

  optional32(type: number): number | undefined {
    return this.#optional(type, 4)?.readUInt32BE()
  }

  optional64(type: number): bigint | undefined {
    return this.#optional(type, 8)?.readBigUInt64BE()
  }

  be32(type: number): number {
    return this.#required(type, 4).readUInt32BE()
  }

  text(type: number): string {
    return readText(this.#required(type))
  }

  value(type: number): Buffer {
    const payload = this.#required(type)
    return Buffer.from(decodeValue(payload, 0, payload.length))
  }

  data(type: number): Buffer | NftVerdict {
    const payload = this.#required(type)
    const data = decodeData(payload, 0, payload.length)
    return data instanceof Uint8Array ? Buffer.from(data) : data
  }

  #optional(type: number, length?: number): Buffer | undefined {
    const found = this.#left.get(type)
    if (found === undefined) return undefined
    if (length !== undefined && found.length !== length) {
      throw new NetlinkFormatError(`an attribute of an expression has ${found.length} bytes, not ${length}`)
    }
    this.#left.delete(type)
    return found
  }

  #required(type: number, length?: number): Buffer {
    const found = this.#optional(type, length)
    if (found === undefined) throw new NetlinkFormatError(`an expression lacks attribute ${type}`)
    return found
  }
}
