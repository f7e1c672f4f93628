// The bytes of netlink: message headers, attributes, the netfilter header, errors. Pure. What the kernel sends is checked
// against its own lengths: a message that does not hold together is a NetlinkFormatError, never a read past its end.
import { constants } from 'node:os'

/** Length of `nlmsghdr`. */
export const headerLength = 16
/** Length of `nfgenmsg`, which begins every netfilter message. */
export const nfgenLength = 4

/** Message types of linux/netlink.h that every protocol has. */
export const control = { noop: 1, error: 2, done: 3, overrun: 4 } as const

/** Flags of linux/netlink.h. `dumpInterrupted`: what was dumped changed meanwhile. */
export const flag = {
  request: 0x1,
  multi: 0x2,
  ack: 0x4,
  dumpInterrupted: 0x10,
  capped: 0x100,
  ackAttributes: 0x200,
  excl: 0x200,
  dump: 0x300,
  create: 0x400,
  append: 0x800,
} as const

/** Set in the type of an attribute that holds attributes. */
export const nestedBit = 0x8000
/** Set in the type of an attribute in network byte order; libmnl sets it nowhere, the kernel here and there. */
const typeMask = 0x3fff

/** A message's header, and its payload in the buffer it was received in. */
export interface NetlinkMessage {
  readonly type: number
  readonly flags: number
  readonly sequence: number
  /** Port of the socket that asked; 0 in what the kernel tells unasked. */
  readonly port: number
  /** A view of the receive buffer: copy what is to outlive the call that was handed it. */
  readonly payload: Buffer
}

/** Bytes that are no well-formed netlink. */
export class NetlinkFormatError extends Error {
  override readonly name = 'NetlinkFormatError'
}

/** What the kernel refused. `code` is errno's name, `ENOENT`; the text has the kernel's own words where it gave any. */
export class NetlinkError extends Error {
  override readonly name = 'NetlinkError'
  readonly code: string
  readonly errno: number
  constructor(what: string, errno: number, words?: string) {
    const code = errnoName(errno)
    super(`${what}: ${words === undefined ? code : `${words} (${code})`}`)
    this.code = code
    this.errno = errno
  }
}

const names = new Map(Object.entries(constants.errno).map(([name, number]) => [number, name]))

/** `ENOENT` for 2; `errno 524` for numbers that have no name in libc. */
export const errnoName = (errno: number): string => names.get(errno) ?? `errno ${errno}`

const align = (length: number): number => (length + 3) & ~3

/** One message, its length padded to 4 bytes so that another may follow. */
export function encodeMessage(head: Omit<NetlinkMessage, 'payload' | 'port'>, ...payload: readonly Buffer[]): Buffer {
  const length = headerLength + payload.reduce((sum, part) => sum + part.length, 0)
  const out = Buffer.alloc(align(length))
  out.writeUInt32LE(length, 0)
  out.writeUInt16LE(head.type, 4)
  out.writeUInt16LE(head.flags, 6)
  out.writeUInt32LE(head.sequence, 8)
  let at = headerLength
  for (const part of payload) at += part.copy(out, at)
  return out
}

/** The messages of one datagram, in order. Throws NetlinkFormatError at the first whose length is not true. */
export function* readMessages(bytes: Buffer): Generator<NetlinkMessage> {
  let at = 0
  while (at < bytes.length) {
    if (bytes.length - at < headerLength) throw new NetlinkFormatError('a netlink message ends within its header')
    const length = bytes.readUInt32LE(at)
    if (length < headerLength || length > bytes.length - at) {
      throw new NetlinkFormatError(`a netlink message says it is ${length} bytes long, ${bytes.length - at} are there`)
    }
    yield {
      type: bytes.readUInt16LE(at + 4),
      flags: bytes.readUInt16LE(at + 6),
      sequence: bytes.readUInt32LE(at + 8),
      port: bytes.readUInt32LE(at + 12),
      payload: bytes.subarray(at + headerLength, at + length),
    }
    at += align(length)
  }
}

/** An attribute with this payload, padded to 4 bytes. Throws RangeError for one that its 16-bit length cannot say. */
export function attribute(type: number, payload: Buffer): Buffer {
  const length = 4 + payload.length
  if (length > 0xffff) throw new RangeError(`netlink attribute ${type} is too long: ${payload.length} bytes`)
  const out = Buffer.alloc(align(length))
  out.writeUInt16LE(length, 0)
  out.writeUInt16LE(type, 2)
  payload.copy(out, 4)
  return out
}

/** An attribute that holds attributes. */
export const nested = (type: number, ...children: readonly Buffer[]): Buffer =>
  attribute(type | nestedBit, Buffer.concat(children))

/** An 8-bit number. */
export const u8 = (type: number, value: number): Buffer => attribute(type, Buffer.from([value]))

/** A 16-bit number in network order. */
export function be16(type: number, value: number): Buffer {
  const payload = Buffer.alloc(2)
  payload.writeUInt16BE(value)
  return attribute(type, payload)
}

/** A 32-bit number in network order, as netfilter has most of its numbers. */
export function be32(type: number, value: number): Buffer {
  const payload = Buffer.alloc(4)
  payload.writeUInt32BE(value >>> 0)
  return attribute(type, payload)
}

/** A 32-bit number in the machine's order. */
export function u32(type: number, value: number): Buffer {
  const payload = Buffer.alloc(4)
  payload.writeUInt32LE(value >>> 0)
  return attribute(type, payload)
}

/** Text ending in a zero byte. */
export const text = (type: number, value: string): Buffer => attribute(type, Buffer.from(`${value}\0`))

/** Text up to the zero byte, or all of it. */
export function readText(payload: Buffer): string {
  const end = payload.indexOf(0)
  return payload.toString('utf8', 0, end < 0 ? payload.length : end)
}

/**
 * Calls `visit` with each attribute between `from` and `to`: its type without flags, and where its payload begins and
 * ends. No object is made for an attribute: a dump of a full connection table has millions.
 * Throws NetlinkFormatError at the first whose length is not true. Trailing padding is passed over.
 */
export function eachAttribute(
  bytes: Buffer,
  from: number,
  to: number,
  visit: (type: number, from: number, to: number) => void,
): void {
  if (from > to || to > bytes.length) throw new NetlinkFormatError('attributes begin past the end of their message')
  let at = from
  while (to - at >= 4) {
    const length = bytes.readUInt16LE(at)
    if (length < 4 || length > to - at) {
      throw new NetlinkFormatError(`a netlink attribute says it is ${length} bytes long, ${to - at} are there`)
    }
    visit(bytes.readUInt16LE(at + 2) & typeMask, at + 4, at + length)
    at += align(length)
  }
}

/** The attributes of a payload by type, as views of it; of two with one type the later counts, as in the kernel. */
export function readAttributes(bytes: Buffer): Map<number, Buffer> {
  const found = new Map<number, Buffer>()
  eachAttribute(bytes, 0, bytes.length, (type, from, to) => found.set(type, bytes.subarray(from, to)))
  return found
}

/** The header of netfilter messages. `family` is AF_INET (2), AF_INET6 (10), or 0 for both. */
export function nfgen(family: number, resource = 0): Buffer {
  const out = Buffer.alloc(nfgenLength)
  out[0] = family
  out.writeUInt16BE(resource, 2)
  return out
}

/** Type of a netfilter message: subsystem and operation. */
export const nfType = (subsystem: number, operation: number): number => (subsystem << 8) | operation

/** Reads a netfilter message's header; `attributes` is the rest, a view. */
export function readNfgen(payload: Buffer): { family: number; resource: number; attributes: Buffer } {
  if (payload.length < nfgenLength) throw new NetlinkFormatError('a netfilter message ends within its header')
  return { family: payload.readUInt8(0), resource: payload.readUInt16BE(2), attributes: payload.subarray(nfgenLength) }
}

/** What an NLMSG_ERROR or NLMSG_DONE says: errno, 0 when all is well, and the kernel's words where it has some. */
export interface Ack {
  readonly errno: number
  readonly words?: string
}

/** Reads the payload of NLMSG_ERROR: its errno, the header of the request, and the extended ACK (Linux 4.12). */
export function readError(message: NetlinkMessage): Ack {
  const { payload, flags } = message
  if (payload.length < 4 + headerLength) throw new NetlinkFormatError('a netlink error ends within its header')
  const errno = Math.abs(payload.readInt32LE(0))
  if ((flags & flag.ackAttributes) === 0) return { errno }
  // Unless the answer is capped, the whole refused request comes between.
  const request = (flags & flag.capped) === 0 ? payload.readUInt32LE(4) : headerLength
  return withWords(errno, payload, 4 + align(Math.max(request, headerLength)))
}

/** Reads the payload of NLMSG_DONE; kernels that had nothing to say leave it empty. */
export function readDone({ payload, flags }: NetlinkMessage): Ack {
  if (payload.length < 4) return { errno: 0 }
  const errno = Math.abs(payload.readInt32LE(0))
  return (flags & flag.ackAttributes) === 0 ? { errno } : withWords(errno, payload, 4)
}

const extendedAckText = 1

function withWords(errno: number, payload: Buffer, from: number): Ack {
  let words: string | undefined
  eachAttribute(payload, from, payload.length, (type, begin, end) => {
    if (type === extendedAckText) words = readText(payload.subarray(begin, end))
  })
  return words === undefined ? { errno } : { errno, words }
}
