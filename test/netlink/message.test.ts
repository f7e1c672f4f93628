// The bytes of netlink: what is written is read back, and nothing that comes in is read past its end.
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  attribute,
  be16,
  be32,
  control,
  eachAttribute,
  encodeMessage,
  errnoName,
  flag,
  NetlinkError,
  NetlinkFormatError,
  nested,
  nfgen,
  nfType,
  readAttributes,
  readDone,
  readError,
  readMessages,
  readNfgen,
  readText,
  text,
  u8,
  u32,
} from '../../src/kernel/netlink/message.ts'

const bytes = (max = 64): fc.Arbitrary<Buffer> => fc.uint8Array({ maxLength: max }).map(array => Buffer.from(array))
const head = fc.record({ type: fc.nat(0xffff), flags: fc.nat(0xffff), sequence: fc.nat(0xffffffff) })

describe('messages', () => {
  test('several in a datagram are read as they were written', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(head, bytes()), { maxLength: 5 }), messages => {
        const datagram = Buffer.concat(messages.map(([header, payload]) => encodeMessage(header, payload)))
        const found = [...readMessages(datagram)].map(({ port: _, payload, ...header }) => [
          header,
          Buffer.from(payload),
        ])
        expect(found).toEqual(messages)
      }),
    )
  })

  test('whatever comes in is read or refused, and no byte outside is touched', () => {
    const read = (datagram: Buffer): void => {
      for (const message of readMessages(datagram)) {
        if (message.type === control.error) readError(message)
        else if (message.type === control.done) readDone(message)
        else
          for (const payload of readAttributes(readNfgen(message.payload).attributes).values()) readAttributes(payload)
      }
    }
    const length = fc.oneof(fc.nat(80), fc.nat(0xffffffff))
    const type = fc.oneof(fc.constantFrom(control.error, control.done), fc.nat(0xffff))
    const likely = fc.tuple(length, type, fc.nat(0xffff), bytes(80)).map(([claimed, kind, flags, payload]) => {
      const datagram = encodeMessage({ type: kind, flags, sequence: 1 }, payload)
      datagram.writeUInt32LE(claimed >>> 0, 0)
      return datagram
    })
    fc.assert(
      fc.property(fc.oneof(bytes(200), likely), datagram => {
        try {
          read(datagram)
        } catch (error) {
          expect(error).toBeInstanceOf(NetlinkFormatError)
        }
      }),
      { numRuns: 2000 },
    )
  })

  test('a message that says more than is there is refused, in words', () => {
    const datagram = encodeMessage({ type: 16, flags: 0, sequence: 1 }, Buffer.alloc(8))
    expect(() => [...readMessages(datagram.subarray(0, 20))]).toThrow(
      'a netlink message says it is 24 bytes long, 20 are there',
    )
    expect(() => [...readMessages(datagram.subarray(0, 10))]).toThrow('a netlink message ends within its header')
  })
})

describe('attributes', () => {
  test('are read as they were written, without the flags of their type', () => {
    const built = Buffer.concat([
      u8(1, 17),
      be16(2, 0x1234),
      be32(3, 0xfedcba98),
      u32(4, 0xfedcba98),
      text(5, 'inet'),
      nested(6, u8(1, 2)),
    ])
    const found = readAttributes(built)
    expect([...found.keys()]).toEqual([1, 2, 3, 4, 5, 6])
    expect(found.get(1)).toEqual(Buffer.from([17]))
    expect(found.get(2)).toEqual(Buffer.from([0x12, 0x34]))
    expect(found.get(3)).toEqual(Buffer.from([0xfe, 0xdc, 0xba, 0x98]))
    expect(found.get(4)).toEqual(Buffer.from([0x98, 0xba, 0xdc, 0xfe]))
    expect(readText(found.get(5) ?? Buffer.alloc(0))).toBe('inet')
    expect(readAttributes(found.get(6) ?? Buffer.alloc(0)).get(1)).toEqual(Buffer.from([2]))
  })

  test('any list of them is read back in order', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(0x3fff), bytes())), list => {
        const all = Buffer.concat(list.map(([type, payload]) => attribute(type, payload)))
        const found: [number, Buffer][] = []
        eachAttribute(all, 0, all.length, (type, from, to) => found.push([type, Buffer.from(all.subarray(from, to))]))
        expect(found).toEqual(list)
      }),
    )
  })

  test('one longer than its length can say is refused', () => {
    expect(() => attribute(1, Buffer.alloc(0xfffc))).toThrow(RangeError)
    expect(attribute(1, Buffer.alloc(0xfffb)).length).toBe(0x10000)
  })
})

describe('what the kernel says', () => {
  const read = (datagram: Buffer) => {
    const [message] = readMessages(datagram)
    if (message === undefined) throw new Error('no message')
    return message
  }
  const refused = Buffer.alloc(4)
  refused.writeInt32LE(-22)
  const request = encodeMessage({ type: 0x100, flags: 5, sequence: 9 }, Buffer.alloc(12))
  const words = text(1, 'Missing attribute')

  test('an errno alone', () => {
    const message = encodeMessage({ type: control.error, flags: 0, sequence: 9 }, refused, request)
    expect(readError(read(message))).toEqual({ errno: 22 })
  })

  test('words, after the whole request or its header alone', () => {
    const whole = encodeMessage(
      { type: control.error, flags: flag.ackAttributes, sequence: 9 },
      refused,
      request,
      words,
    )
    const flags = flag.ackAttributes | flag.capped
    const capped = encodeMessage({ type: control.error, flags, sequence: 9 }, refused, request.subarray(0, 16), words)
    expect(readError(read(whole))).toEqual({ errno: 22, words: 'Missing attribute' })
    expect(readError(read(capped))).toEqual({ errno: 22, words: 'Missing attribute' })
  })

  test('the end of a dump', () => {
    expect(readDone(read(encodeMessage({ type: control.done, flags: 0, sequence: 1 })))).toEqual({ errno: 0 })
    expect(readDone(read(encodeMessage({ type: control.done, flags: 0, sequence: 1 }, refused)))).toEqual({ errno: 22 })
    const flags = flag.ackAttributes
    expect(readDone(read(encodeMessage({ type: control.done, flags, sequence: 1 }, refused, words)))).toEqual({
      errno: 22,
      words: 'Missing attribute',
    })
  })

  test('becomes an error with its name and words', () => {
    const error = new NetlinkError('the kernel refused', 22, 'Missing attribute')
    expect(error.message).toBe('the kernel refused: Missing attribute (EINVAL)')
    expect(error.code).toBe('EINVAL')
    expect(errnoName(524)).toBe('errno 524')
  })
})

test('the header of netfilter messages', () => {
  expect(nfType(1, 2)).toBe(0x102)
  expect(readNfgen(Buffer.concat([nfgen(10, 5), u8(1, 2)]))).toEqual({ family: 10, resource: 5, attributes: u8(1, 2) })
  expect(() => readNfgen(Buffer.alloc(3))).toThrow(NetlinkFormatError)
})
