// Netlink messages written one after the other into one growing buffer: no object is made for an attribute, lengths are
// filled in when their end is known. A start-up writes hundreds of thousands of attributes.
import { flag, headerLength, nestedBit, nfgenLength } from './message.ts'

const longestAttribute = 0xffff
const sequenceOffset = 8

export class MessageWriter {
  #bytes: Buffer
  #length = 0

  /** `capacity`, in bytes, is what is there before the first growth. */
  constructor(capacity = 4096) {
    this.#bytes = Buffer.alloc(capacity)
  }

  /** Bytes written. */
  get length(): number {
    return this.#length
  }

  /** A view of what is written; it stays as it is until the next write. */
  get bytes(): Buffer {
    return this.#bytes.subarray(0, this.#length)
  }

  /** Forgets what was written after this length. */
  truncate(length: number): void {
    this.#length = length
  }

  /** Begins a netfilter message; returns where, for `endMessage`. Besides `flags` it is a request. */
  beginMessage(type: number, flags: number, sequence: number, family: number, resource = 0): number {
    const at = this.#take(headerLength + nfgenLength)
    const bytes = this.#bytes
    bytes.fill(0, at, this.#length)
    bytes.writeUInt16LE(type, at + 4)
    bytes.writeUInt16LE(flags | flag.request, at + 6)
    bytes.writeUInt32LE(sequence, at + sequenceOffset)
    bytes[at + headerLength] = family
    bytes.writeUInt16BE(resource, at + headerLength + 2)
    return at
  }

  endMessage(at: number): void {
    this.#bytes.writeUInt32LE(this.#length - at, at)
  }

  /** Sets flags of the message that began here. */
  addFlags(at: number, flags: number): void {
    this.#bytes.writeUInt16LE(this.#bytes.readUInt16LE(at + 6) | flags, at + 6)
  }

  /** Begins an attribute that holds attributes; returns where, for `end`. */
  begin(type: number): number {
    const at = this.#take(4)
    const bytes = this.#bytes
    const whole = type | nestedBit
    bytes[at + 2] = whole & 0xff
    bytes[at + 3] = whole >> 8
    return at
  }

  /** Throws RangeError when the attribute became longer than its 16-bit length can say. */
  end(at: number): void {
    const length = this.#length - at
    checkLength(length)
    this.#bytes[at] = length & 0xff
    this.#bytes[at + 1] = length >> 8
  }

  /** An attribute of these bytes. Throws RangeError for more than its 16-bit length can say. */
  data(type: number, payload: Uint8Array): void {
    const at = this.#head(type, payload.length)
    const bytes = this.#bytes
    // Below some dozens of bytes a loop is faster than the call.
    if (payload.length > 32) bytes.set(payload, at)
    else for (let i = 0; i < payload.length; i++) bytes[at + i] = payload[i] ?? 0
  }

  /** Text ending in a zero byte. Throws RangeError as `data` does. */
  text(type: number, value: string): void {
    if (this.#ascii(type, value)) return
    const length = Buffer.byteLength(value)
    const at = this.#head(type, length + 1)
    this.#bytes.write(value, at)
    this.#bytes[at + length] = 0
  }

  /** An 8-bit number. */
  u8(type: number, value: number): void {
    this.#bytes[this.#head(type, 1)] = value
  }

  /** A 16-bit number in the machine's order. */
  u16(type: number, value: number): void {
    const at = this.#head(type, 2)
    this.#bytes[at] = value
    this.#bytes[at + 1] = value >>> 8
  }

  /** A 16-bit number in network order. */
  be16(type: number, value: number): void {
    const at = this.#head(type, 2)
    this.#bytes[at] = value >>> 8
    this.#bytes[at + 1] = value
  }

  /** A 32-bit number in the machine's order. */
  u32(type: number, value: number): void {
    const at = this.#head(type, 4)
    const bytes = this.#bytes
    bytes[at] = value
    bytes[at + 1] = value >>> 8
    bytes[at + 2] = value >>> 16
    bytes[at + 3] = value >>> 24
  }

  /** A 32-bit number in network order, signed or not. */
  be32(type: number, value: number): void {
    const at = this.#head(type, 4)
    const bytes = this.#bytes
    bytes[at] = value >>> 24
    bytes[at + 1] = value >>> 16
    bytes[at + 2] = value >>> 8
    bytes[at + 3] = value
  }

  /** A 64-bit number in network order. */
  be64(type: number, value: bigint): void {
    const at = this.#head(type, 8)
    this.#bytes.writeBigUInt64BE(value, at)
  }

  /** Bytes as they are, such as an attribute encoded before. */
  raw(payload: ArrayLike<number>): void {
    const at = this.#take(payload.length)
    this.#bytes.set(payload, at)
  }

  /** Nearly all names are ASCII: letter by letter they take half the time of the call. False for others. */
  #ascii(type: number, value: string): boolean {
    const before = this.#length
    const at = this.#head(type, value.length + 1)
    const bytes = this.#bytes
    for (let i = 0; i < value.length; i++) {
      const code = value.charCodeAt(i)
      if (code > 0x7f) {
        this.#length = before
        return false
      }
      bytes[at + i] = code
    }
    bytes[at + value.length] = 0
    return true
  }

  /** Type, length and zeros to fill up; returns where the payload goes. */
  #head(type: number, payloadLength: number): number {
    const length = 4 + payloadLength
    checkLength(length)
    const at = this.#take((length + 3) & ~3)
    const bytes = this.#bytes
    for (let i = at + length; i < this.#length; i++) bytes[i] = 0
    bytes[at] = length & 0xff
    bytes[at + 1] = length >> 8
    bytes[at + 2] = type & 0xff
    bytes[at + 3] = type >> 8
    return at + 4
  }

  #take(length: number): number {
    const at = this.#length
    const end = at + length
    if (end > this.#bytes.length) {
      const grown = Buffer.allocUnsafeSlow(Math.max(end, this.#bytes.length * 2))
      this.#bytes.copy(grown, 0, 0, at)
      this.#bytes = grown
    }
    this.#length = end
    return at
  }
}

function checkLength(length: number): void {
  if (length > longestAttribute) throw new RangeError(`a netlink attribute is too long: ${length} bytes`)
}
