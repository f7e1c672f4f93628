// Values and verdicts, as they are within expressions and elements alike. Pure.
import { eachAttribute, NetlinkFormatError, readText } from './message.ts'
import { dataAttribute, verdictAttribute, verdictCode } from './nft-numbers.ts'
import type { NftVerdict } from './nft-objects.ts'
import type { MessageWriter } from './writer.ts'

/** NFTA_DATA_VALUE within an attribute of this type. Throws RangeError for what a length of 16 bits cannot say. */
export function encodeValue(writer: MessageWriter, type: number, value: Uint8Array): void {
  const at = writer.begin(type)
  writer.data(dataAttribute.value, value)
  writer.end(at)
}

/** A value or a verdict within an attribute of this type. Throws RangeError as `encodeValue` does. */
export function encodeData(writer: MessageWriter, type: number, data: Buffer | NftVerdict): void {
  if (data instanceof Uint8Array) {
    encodeValue(writer, type, data)
    return
  }
  const at = writer.begin(type)
  const verdict = writer.begin(dataAttribute.verdict)
  writer.be32(verdictAttribute.code, verdictCode[data.kind])
  if (data.kind === 'jump' || data.kind === 'goto') writer.text(verdictAttribute.chain, data.chain)
  writer.end(verdict)
  writer.end(at)
}

/**
 * The value or verdict in a NFTA_DATA between `from` and `to`; a value is a view. Throws NetlinkFormatError without
 * either, and for a verdict that `NftVerdict` lacks: NF_QUEUE, the only other that the kernel takes. Where `foreign` is
 * `bytes` that is its attributes' bytes instead, which equal nothing of ours.
 */
export function decodeData(
  bytes: Buffer,
  from: number,
  to: number,
  foreign: 'refuse' | 'bytes' = 'refuse',
): Buffer | NftVerdict {
  let found: Buffer | NftVerdict | undefined
  eachAttribute(bytes, from, to, (type, begin, end) => {
    if (type === dataAttribute.value) found = bytes.subarray(begin, end)
    else if (type === dataAttribute.verdict) found = decodeVerdict(bytes.subarray(begin, end), foreign)
  })
  if (found === undefined) throw new NetlinkFormatError('nf_tables data has neither a value nor a verdict')
  return found
}

/** The value in a NFTA_DATA; a view. Throws NetlinkFormatError for a verdict. */
export function decodeValue(bytes: Buffer, from: number, to: number): Buffer {
  const data = decodeData(bytes, from, to)
  if (data instanceof Uint8Array) return data
  throw new NetlinkFormatError('nf_tables data is a verdict where a value must be')
}

function decodeVerdict(bytes: Buffer, foreign: 'refuse' | 'bytes'): Buffer | NftVerdict {
  let code: number | undefined
  let chain: string | undefined
  eachAttribute(bytes, 0, bytes.length, (type, from, to) => {
    if (type === verdictAttribute.code && to - from === 4) code = bytes.readInt32BE(from)
    else if (type === verdictAttribute.chain) chain = readText(bytes.subarray(from, to))
  })
  switch (code) {
    case undefined:
      throw new NetlinkFormatError('a verdict of nf_tables has no code')
    case verdictCode.drop:
      return { kind: 'drop' }
    case verdictCode.accept:
      return { kind: 'accept' }
    case verdictCode.continue:
      return { kind: 'continue' }
    case verdictCode.break:
      return { kind: 'break' }
    case verdictCode.return:
      return { kind: 'return' }
    case verdictCode.jump:
      return { kind: 'jump', chain: named(chain) }
    case verdictCode.goto:
      return { kind: 'goto', chain: named(chain) }
    default:
      if (foreign === 'bytes') return bytes
      throw new NetlinkFormatError(`nf_tables has a verdict ${code}`)
  }
}

function named(chain: string | undefined): string {
  if (chain === undefined) throw new NetlinkFormatError('a verdict of nf_tables names no chain')
  return chain
}
