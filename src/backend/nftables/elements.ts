// Elements of our sets and maps: their text to the kernel's bytes, and back.
import { elementFlag, type NftElement, type NftVerdict } from '../../kernel/netlink/nft-objects.ts'
import { type Family, type IP, ipFromHex, putIP } from '../../net/ip.ts'
import { type Container, isIndexed, type Layout, layoutOf } from './containers.ts'
import type { KeyType, Verdict } from './objects.ts'
import { parseVerdict, protocolOf } from './parse.ts'
import { verdictText } from './render.ts'
import { commentOf, commentUserdata } from './userdata.ts'

/** An element as text. */
export interface ElementText {
  /** Without the index, where there is one. */
  readonly key: string
  readonly index?: number
  /** What follows the key: `comment "shop/web" : goto pick-2`, `: 10.1.0.1 . 80`, or nothing. */
  readonly value: string
}

/** Turns elements of one set or map into the kernel's bytes and back. */
export interface ElementCodec {
  /** Throws an Error at what is no element of this container: a programming error. */
  encode(element: ElementText): NftElement
  /** The same for the key alone, as deletions want it. */
  encodeKey(element: Omit<ElementText, 'value'>): NftElement
  /** What is not of our making gets some text that no element of ours has. */
  decode(element: NftElement): DecodedElement
}

/** An element as read. */
export interface DecodedElement {
  /** Without the index, where there is one. */
  readonly key: string
  readonly index?: number
  /** What stands between key and data: a comment; empty, usually. */
  readonly between: string
  readonly data: string | undefined
}

/** The codec of a set or map of ours. */
export function elementCodec(container: Container, family: Family): ElementCodec {
  const layout = layoutOf(container.key, family)
  const dataLayout =
    container.kind === 'map' && container.data !== 'verdict' ? layoutOf(container.data, family) : undefined
  const base = isIndexed(container) ? layoutOf(container.key.slice(0, -1), family) : undefined
  const encodeKey = ({ key, index }: Omit<ElementText, 'value'>): NftElement => {
    if (key === '*') return { key: Buffer.alloc(0), flags: elementFlag.catchall }
    return { key: bytesOf(key, index, layout) }
  }
  return {
    encodeKey,
    encode: element => {
      const { comment, data } = takeApart(element.value)
      return {
        ...encodeKey(element),
        ...(data === ''
          ? {}
          : { data: dataLayout === undefined ? verdictOf(data) : bytesOf(data, undefined, dataLayout) }),
        ...(comment === undefined ? {} : { userdata: commentUserdata(comment) }),
      }
    },
    decode: ({ key, keyEnd, data, flags = 0, userdata }) => {
      const rest = {
        between: userdata === undefined && flags === 0 ? '' : betweenText(userdata, flags),
        data: data === undefined ? undefined : dataText(data, dataLayout),
      }
      if (base !== undefined && key.length === layout.length && keyEnd === undefined) {
        return { key: textOf(key, base), index: key.readUInt32LE(base.length), ...rest }
      }
      return { key: keyText(key, keyEnd, flags, layout), ...rest }
    },
  }
}

function verdictOf(text: string): NftVerdict {
  const verdict = parseVerdict(text)
  if (verdict === undefined) throw new Error(`not a verdict: ${text}`)
  return verdict
}

/** Comment and data of what follows a key. A comment of ours holds no quote. */
function takeApart(value: string): { comment?: string; data: string } {
  if (value === '') return { data: '' }
  if (value.startsWith(': ')) return { data: value.slice(2) }
  const end = value.indexOf('"', 9)
  if (!value.startsWith('comment "') || end < 0) throw new Error(`not an element of ours: ${value}`)
  return { comment: value.slice(9, end), data: value.slice(end + 4) }
}

function bytesOf(text: string, index: number | undefined, { parts, length }: Layout): Buffer {
  const raw = text.startsWith('0x') ? rawBytes(text, index) : undefined
  if (raw !== undefined) return raw
  // From Node's pool: with memory of their own, 60,000 keys and data make a load's garbage collection 69 ms instead of 44.
  const bytes = Buffer.allocUnsafe(length).fill(0)
  let start = 0
  for (const { type, at } of parts) {
    if (start > text.length) {
      if (index === undefined || type !== 'index') throw new Error(`key with too few parts: ${text}`)
      bytes.writeUInt32LE(index, at)
      break
    }
    const found = text.indexOf(' . ', start)
    const end = found < 0 ? text.length : found
    putPart(bytes, at, type, text.slice(start, end))
    start = end + 3
  }
  return bytes
}

/** Of what was read and is not of our making: its bytes, and an index after them. */
function rawBytes(text: string, index: number | undefined): Buffer | undefined {
  const [whole, digits = '', listed] = /^0x((?:[0-9a-f]{8})*)(?: \. (\d+))?$/.exec(text) ?? []
  if (whole === undefined) return undefined
  const last = index ?? (listed === undefined ? undefined : Number(listed))
  const bytes = Buffer.from(digits, 'hex')
  if (last === undefined) return bytes
  const tail = Buffer.alloc(4)
  tail.writeUInt32LE(last)
  return Buffer.concat([bytes, tail])
}

function putPart(bytes: Buffer, at: number, type: KeyType, text: string): void {
  switch (type) {
    case 'address':
      putIP(bytes, at, text as IP)
      break
    case 'protocol':
      bytes[at] = protocolNumber(text)
      break
    case 'port':
      bytes.writeUInt16BE(Number(text), at)
      break
    case 'index':
      bytes.writeUInt32LE(Number(text), at)
      break
    case 'octet':
      bytes[at] = Number(text)
  }
}

/** IPPROTO_*. */
export const protocolNumbers = { TCP: 6, UDP: 17, SCTP: 132 } as const

function protocolNumber(text: string): number {
  const protocol = protocolOf(text)
  return protocol === undefined ? Number(text) : protocolNumbers[protocol]
}

function keyText(key: Buffer, keyEnd: Buffer | undefined, flags: number, layout: Layout): string {
  if ((flags & elementFlag.catchall) !== 0) return '*'
  const text = wholeText(key, layout)
  return keyEnd === undefined ? text : `${text}-${wholeText(keyEnd, layout)}`
}

/** Keys are of whole words. */
const wholeText = (bytes: Buffer, layout: Layout): string =>
  bytes.length === layout.length ? textOf(bytes, layout) : `0x${bytes.toString('hex')}`

/** The parts' text; of bytes that we would not have written, those. */
function textOf(bytes: Buffer, { parts, length: whole }: Layout): string {
  let text = ''
  for (const { type, at, length: partLength } of parts) {
    for (let i = at + partLength; (i & 3) !== 0; i++) if (bytes[i] !== 0) return `0x${bytes.toString('hex', 0, whole)}`
    if (at > 0) text += ' . '
    text += partText(bytes, at, partLength, type)
  }
  return text
}

function partText(bytes: Buffer, at: number, length: number, type: KeyType): string | number {
  switch (type) {
    case 'address':
      return length === 4
        ? `${bytes[at]}.${bytes[at + 1]}.${bytes[at + 2]}.${bytes[at + 3]}`
        : ipFromHex(bytes.toString('hex', at, at + length))
    case 'protocol':
      return protocolText(bytes[at] ?? 0)
    case 'port':
      return bytes.readUInt16BE(at)
    case 'index':
      return bytes.readUInt32LE(at)
    case 'octet':
      return `0x${(bytes[at] ?? 0).toString(16)}`
  }
}

function protocolText(number: number): string {
  switch (number) {
    case protocolNumbers.TCP:
      return 'tcp'
    case protocolNumbers.UDP:
      return 'udp'
    case protocolNumbers.SCTP:
      return 'sctp'
    default:
      return `${number}`
  }
}

function betweenText(userdata: Buffer | undefined, flags: number): string {
  const parts: string[] = []
  if (userdata !== undefined && userdata.length > 0) {
    const comment = commentOf(userdata)
    parts.push(comment === undefined ? `userdata 0x${userdata.toString('hex')}` : `comment "${comment}"`)
  }
  if ((flags & ~elementFlag.catchall) !== 0) parts.push(`flags ${flags}`)
  return parts.join(' ')
}

function dataText(data: Buffer | NftVerdict, layout: Layout | undefined): string {
  if (Buffer.isBuffer(data)) return layout === undefined ? `0x${data.toString('hex')}` : wholeText(data, layout)
  const verdict = ownVerdict(data)
  return verdict === undefined ? data.kind : verdictText(verdict)
}

/** A verdict as our rules have them; undefined for those that none has. */
export function ownVerdict(verdict: NftVerdict): Verdict | undefined {
  switch (verdict.kind) {
    case 'continue':
    case 'break':
      return undefined
    case 'goto':
    case 'jump':
      return { kind: verdict.kind, chain: verdict.chain }
    default:
      return { kind: verdict.kind }
  }
}
