// From the expressions of a rule to their bytes. Pure.
import { encodeData, encodeValue } from './nft-data.ts'
import * as numbers from './nft-numbers.ts'
import type { NftExpression } from './nft-objects.ts'
import type { MessageWriter } from './writer.ts'

/** The kernel's name of an expression. */
function nameOf(expression: NftExpression): string {
  if (expression.kind === 'unknown') return expression.name
  return expression.kind === 'meta-set' ? 'meta' : expression.kind
}

/** Name and data of an expression, without the list's attribute around them. Throws RangeError for too long a name. */
export function encodeExpression(writer: MessageWriter, expression: NftExpression): void {
  const { name, data } = numbers.expressionAttribute
  writer.text(name, nameOf(expression))
  if (expression.kind === 'unknown') {
    const at = writer.begin(data)
    writer.raw(expression.attributes)
    writer.end(at)
    return
  }
  const at = writer.begin(data)
  encodeAttributes(writer, expression)
  writer.end(at)
}

function encodeAttributes(writer: MessageWriter, expression: Exclude<NftExpression, { kind: 'unknown' }>): void {
  switch (expression.kind) {
    case 'meta':
      writer.be32(numbers.meta.key, expression.key)
      writer.be32(numbers.meta.to, expression.to)
      return
    case 'meta-set':
      writer.be32(numbers.meta.key, expression.key)
      writer.be32(numbers.meta.from, expression.from)
      return
    case 'payload':
      writer.be32(numbers.payload.to, expression.to)
      writer.be32(numbers.payload.base, expression.base)
      writer.be32(numbers.payload.offset, expression.offset)
      writer.be32(numbers.payload.length, expression.length)
      return
    case 'cmp':
      writer.be32(numbers.cmp.from, expression.from)
      writer.be32(numbers.cmp.op, expression.op)
      encodeValue(writer, numbers.cmp.data, expression.data)
      return
    case 'range':
      writer.be32(numbers.range.from, expression.from)
      writer.be32(numbers.range.op, expression.op)
      encodeValue(writer, numbers.range.first, expression.first)
      encodeValue(writer, numbers.range.last, expression.last)
      return
    case 'bitwise':
      encodeBitwise(writer, expression)
      return
    case 'byteorder':
      writer.be32(numbers.byteorder.from, expression.from)
      writer.be32(numbers.byteorder.to, expression.to)
      writer.be32(numbers.byteorder.op, expression.op)
      writer.be32(numbers.byteorder.length, expression.length)
      writer.be32(numbers.byteorder.size, expression.size)
      return
    case 'lookup':
      encodeLookup(writer, expression)
      return
    case 'dynset':
      writer.be32(numbers.dynset.from, expression.from)
      writer.be32(numbers.dynset.op, expression.op)
      writer.text(numbers.dynset.set, expression.set)
      if (expression.setId !== undefined) writer.be32(numbers.dynset.setId, expression.setId)
      return
    case 'immediate':
      writer.be32(numbers.immediate.to, expression.to)
      encodeData(writer, numbers.immediate.data, expression.data)
      return
    case 'fib':
      writer.be32(numbers.fib.flags, expression.flags)
      writer.be32(numbers.fib.result, expression.result)
      writer.be32(numbers.fib.to, expression.to)
      return
    case 'ct':
      writer.be32(numbers.ct.key, expression.key)
      writer.be32(numbers.ct.to, expression.to)
      return
    case 'numgen':
      writer.be32(numbers.numgen.to, expression.to)
      writer.be32(numbers.numgen.modulus, expression.modulus)
      writer.be32(numbers.numgen.type, expression.type)
      writer.be32(numbers.numgen.offset, expression.offset)
      return
    case 'nat':
      encodeNat(writer, expression)
      return
    case 'masq':
      if (expression.flags !== 0) writer.be32(numbers.masq.flags, expression.flags)
      return
    case 'reject':
      writer.be32(numbers.reject.type, expression.type)
      writer.u8(numbers.reject.code, expression.code)
      return
  }
}

type Of<Kind extends NftExpression['kind']> = Extract<NftExpression, { kind: Kind }>

function encodeBitwise(writer: MessageWriter, { from, to, length, op, mask, xor }: Of<'bitwise'>): void {
  writer.be32(numbers.bitwise.from, from)
  writer.be32(numbers.bitwise.to, to)
  writer.be32(numbers.bitwise.op, op)
  writer.be32(numbers.bitwise.length, length)
  encodeValue(writer, numbers.bitwise.mask, mask)
  encodeValue(writer, numbers.bitwise.xor, xor)
}

function encodeLookup(writer: MessageWriter, { set, setId, from, to, inverted }: Of<'lookup'>): void {
  writer.be32(numbers.lookup.from, from)
  if (to !== undefined) writer.be32(numbers.lookup.to, to)
  writer.text(numbers.lookup.set, set)
  if (setId !== undefined) writer.be32(numbers.lookup.setId, setId)
  if (inverted) writer.be32(numbers.lookup.flags, numbers.lookupInverted)
}

function encodeNat(writer: MessageWriter, expression: Of<'nat'>): void {
  const { type, family, addressMin, addressMax, portMin, portMax, flags } = expression
  writer.be32(numbers.nat.type, type)
  writer.be32(numbers.nat.family, family)
  if (addressMin !== undefined) writer.be32(numbers.nat.addressMin, addressMin)
  if (addressMax !== undefined) writer.be32(numbers.nat.addressMax, addressMax)
  if (portMin !== undefined) writer.be32(numbers.nat.portMin, portMin)
  if (portMax !== undefined) writer.be32(numbers.nat.portMax, portMax)
  if (flags !== 0) writer.be32(numbers.nat.flags, flags)
}
