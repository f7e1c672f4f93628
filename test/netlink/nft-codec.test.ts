// nf_tables in bytes: what is encoded is decoded as it was, and whatever else comes in is refused or read, nothing more.
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  flag,
  NetlinkFormatError,
  type NetlinkMessage,
  nfgenLength,
  readAttributes,
  readMessages,
  readNfgen,
  readText,
} from '../../src/kernel/netlink/message.ts'
import {
  decodeChain,
  decodeElements,
  decodeGeneration,
  decodeRule,
  decodeSet,
  decodeTable,
} from '../../src/kernel/netlink/nft-decode.ts'
import { decodeExpression } from '../../src/kernel/netlink/nft-decode-expression.ts'
import { type EncodedBatch, encodeBatch } from '../../src/kernel/netlink/nft-encode.ts'
import { encodeExpression } from '../../src/kernel/netlink/nft-encode-expression.ts'
import { elementsAttribute, operationType } from '../../src/kernel/netlink/nft-numbers.ts'
import { elementFlag, type NftElement, type NftOperation } from '../../src/kernel/netlink/nft-objects.ts'
import { MessageWriter } from '../../src/kernel/netlink/writer.ts'
import { chain, element, expression, name, operation, rule, set } from './nft-values.ts'

const table = 'penstock'

/** Runs the encoding to its end. */
function encode(operations: Iterable<NftOperation>, sequence = 1): EncodedBatch & { messages: NetlinkMessage[] } {
  const encoding = encodeBatch('ip', table, operations, sequence)
  for (;;) {
    const { done, value } = encoding.next()
    if (done === true) return { ...value, messages: [...readMessages(value.bytes)] }
  }
}

/** The messages between the beginning and the end of a batch. */
const inner = (operations: Iterable<NftOperation>): NetlinkMessage[] => encode(operations).messages.slice(1, -1)

function only(operation: NftOperation): NetlinkMessage {
  const [message, ...more] = inner([operation])
  if (message === undefined || more.length > 0) throw new Error('not one message')
  return message
}

const elementsOf = (messages: readonly NetlinkMessage[]): NftElement[] => {
  const found: NftElement[] = []
  for (const { payload } of messages) decodeElements(payload, one => found.push(one))
  return found
}

describe('what is encoded is decoded as it was', () => {
  test('expressions', () => {
    fc.assert(
      fc.property(expression, value => {
        const writer = new MessageWriter(16)
        encodeExpression(writer, value)
        expect(decodeExpression(writer.bytes)).toEqual(value)
      }),
      { numRuns: 2000 },
    )
  })

  test('tables', () => {
    fc.assert(
      fc.property(fc.nat(7), flags => {
        const { type, flags: sent, payload } = only({ kind: 'add-table', flags })
        expect([type, sent & flag.create]).toEqual([0xa00 | operationType.newTable, flag.create])
        expect(decodeTable(payload)).toEqual({ family: 'ip', name: table, flags })
      }),
    )
  })

  test('chains', () => {
    fc.assert(
      fc.property(chain, value => {
        expect(decodeChain(only({ kind: 'add-chain', chain: value }).payload)).toEqual({ table, chain: value })
      }),
    )
  })

  test('rules', () => {
    fc.assert(
      fc.property(rule, value => {
        const { flags, payload } = only({ kind: 'add-rule', rule: value })
        expect(flags & (flag.create | flag.append)).toBe(flag.create | flag.append)
        expect(decodeRule(payload)).toEqual({ table, rule: value })
      }),
    )
  })

  test('sets', () => {
    fc.assert(
      fc.property(set, value => {
        expect(decodeSet(only({ kind: 'add-set', set: value }).payload)).toEqual({ table, set: value })
      }),
    )
  })

  test('elements, in one message or several', () => {
    fc.assert(
      fc.property(fc.array(element, { maxLength: 20 }), fc.constantFrom(1, 150), (some, times) => {
        const elements = Array.from({ length: times }, () => some).flat()
        for (const kind of ['add-elements', 'delete-elements'] as const) {
          expect(elementsOf(inner([{ kind, set: 'endpoints', elements }]))).toEqual(elements)
        }
      }),
      { numRuns: 50 },
    )
  })

  test('the catch-all element has no key', () => {
    const all: NftElement = { key: Buffer.alloc(0), flags: elementFlag.catchall, data: { kind: 'drop' } }
    expect(elementsOf([only({ kind: 'add-elements', set: 'm', elements: [all] })])).toEqual([all])
  })
})

describe('a batch', () => {
  test('is numbered throughout, and the last message before its end asks for an acknowledgement', () => {
    fc.assert(
      fc.property(fc.array(operation, { minLength: 1, maxLength: 10 }), fc.nat(1_000_000), (operations, first) => {
        const { messages, lastSequence, operations: indexes } = encode(operations, first)
        expect(messages.map(({ sequence }) => sequence)).toEqual(messages.map((_, index) => first + index))
        expect(messages.filter(({ flags }) => (flags & flag.ack) !== 0).map(({ sequence }) => sequence)).toEqual([
          lastSequence,
        ])
        expect(messages.map(({ type }) => type)).toEqual([0x10, ...messages.slice(1, -1).map(({ type }) => type), 0x11])
        expect(messages.at(0)?.payload).toEqual(Buffer.from([0, 0, 0, 10]))
        expect(lastSequence).toBe(first + messages.length - 2)
        expect([...new Set(indexes)]).toEqual(operations.map((_, index) => index))
        expect(indexes).toHaveLength(messages.length - 2)
        expect(indexes).toEqual(indexes.toSorted((a, b) => a - b))
      }),
    )
  })

  test('of nothing has nothing to acknowledge', () => {
    const { operations, messages } = encode([])
    expect(operations).toEqual([])
    expect(messages.every(({ flags }) => (flags & flag.ack) === 0)).toBe(true)
  })

  test('fills each message of elements as far as its length can say', () => {
    const elements = Array.from({ length: 5_000 }, (_, n): NftElement => {
      const key = Buffer.alloc(12)
      key.writeUInt32BE(n)
      return { key, data: { kind: 'goto', chain: `pick-${n % 30}` } }
    })
    const { messages, operations } = encode([{ kind: 'add-elements', set: 'services', setId: 3, elements }])
    const lengths = messages.slice(1, -1).map(({ payload }) => {
      const attributes = readAttributes(readNfgen(payload).attributes)
      expect(readText(attributes.get(elementsAttribute.set) ?? Buffer.alloc(0))).toBe('services')
      expect(attributes.get(elementsAttribute.setId)).toEqual(Buffer.from([0, 0, 0, 3]))
      return (attributes.get(elementsAttribute.elements) ?? Buffer.alloc(0)).length + 4
    })
    expect(lengths.every(length => length <= 0xffff)).toBe(true)
    // The longest of these elements has 60 bytes.
    expect(lengths.slice(0, -1).every(length => length > 0xffff - 60)).toBe(true)
    expect(operations).toEqual(lengths.map(() => 0))
    expect(elementsOf(messages.slice(1, -1))).toEqual(elements)
  })

  test('lets others have their turn each 64 KiB', () => {
    const elements = Array.from({ length: 20_000 }, (): NftElement => ({ key: Buffer.alloc(16) }))
    let turns = 0
    const encoding = encodeBatch('ip6', table, [{ kind: 'add-elements', set: 's', elements }], 1)
    for (const _ of encoding) turns++
    const { bytes } = encode([{ kind: 'add-elements', set: 's', elements }])
    expect(turns).toBeGreaterThanOrEqual(Math.floor(bytes.length / 0x20000))
  })

  test('deletes by name', () => {
    const messages = inner([
      { kind: 'delete-table' },
      { kind: 'delete-chain', name: 'c' },
      { kind: 'flush-chain', name: 'c' },
      { kind: 'delete-set', name: 's' },
    ])
    const texts = messages.map(({ payload }) =>
      [...readAttributes(payload.subarray(nfgenLength))].map(([n, b]) => [n, readText(b)]),
    )
    expect(messages.map(({ type }) => type & 0xff)).toEqual([2, 5, 8, 11])
    expect(texts).toEqual([
      [[1, table]],
      [
        [1, table],
        [3, 'c'],
      ],
      [
        [1, table],
        [2, 'c'],
      ],
      [
        [1, table],
        [2, 's'],
      ],
    ])
  })

  test('refuses what a length cannot say', () => {
    const elements = [{ key: Buffer.alloc(0x10000) }]
    expect(() => encode([{ kind: 'add-elements', set: 's', elements }])).toThrow(RangeError)
    const halves = [{ key: Buffer.alloc(0x9000), data: Buffer.alloc(0x9000) }]
    expect(() => encode([{ kind: 'add-elements', set: 's', elements: halves }])).toThrow(RangeError)
  })
})

describe('expressions that are none of ours stay in bytes', () => {
  const unknown = (name: string, ...attributes: number[]): void => {
    const writer = new MessageWriter()
    writer.text(1, name)
    const at = writer.begin(2)
    writer.raw(Buffer.from(attributes))
    writer.end(at)
    const found = decodeExpression(writer.bytes)
    expect(found).toEqual({ kind: 'unknown', name, attributes: Buffer.from(attributes) })
    const again = new MessageWriter()
    encodeExpression(again, found)
    expect(again.bytes).toEqual(writer.bytes)
  }
  const be32 = (type: number, value: number): number[] => [8, 0, type, 0, 0, 0, 0, value]

  test('one of a kind we do not use', () => unknown('counter', 12, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1))
  test('one that lacks something', () => unknown('payload', ...be32(1, 1), ...be32(2, 1), ...be32(3, 12)))
  test('one that has more', () => unknown('ct', ...be32(1, 1), ...be32(2, 8), 5, 0, 3, 0, 1, 0, 0, 0))
  test('one whose number is too short', () => unknown('masq', 6, 0, 1, 0, 0, 4, 0, 0))
  test('one that does not hold together', () => unknown('masq', 200, 0, 1, 0, 0, 0, 0, 4))
  test('a verdict to a queue', () => {
    const code = [8, 0, 1, 0, 0, 0, 0, 3]
    unknown('immediate', ...be32(1, 0), 16, 0, 2, 0x80, 12, 0, 2, 0x80, ...code)
  })
  test('a timeout of its own', () => {
    const timeout = [12, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0, 1]
    unknown('dynset', 6, 0, 1, 0, 0x73, 0, 0, 0, ...be32(3, 1), ...be32(4, 1), ...timeout)
  })
})

test('the end of a range that is its beginning, as the kernel tells of no range, is left out', () => {
  const writer = new MessageWriter()
  encodeExpression(writer, {
    kind: 'nat',
    type: 1,
    family: 2,
    addressMin: 1,
    addressMax: 1,
    portMin: 9,
    portMax: 10,
    flags: 3,
  })
  expect(decodeExpression(writer.bytes)).toEqual({
    kind: 'nat',
    type: 1,
    family: 2,
    addressMin: 1,
    portMin: 9,
    portMax: 10,
    flags: 3,
  })
})

test('an element with a verdict to a queue has its bytes for data', () => {
  const writer = new MessageWriter()
  const message = writer.beginMessage(0xa0c, 0, 1, 2)
  const list = writer.begin(3)
  writer.raw(
    Buffer.from([
      32, 0, 1, 0x80, 12, 0, 1, 0x80, 8, 0, 1, 0, 1, 2, 3, 4, 16, 0, 2, 0x80, 12, 0, 2, 0x80, 8, 0, 1, 0, 0, 0, 0, 3,
    ]),
  )
  writer.end(list)
  writer.endMessage(message)
  expect(elementsOf([...readMessages(writer.bytes)])).toEqual([
    { key: Buffer.from([1, 2, 3, 4]), data: Buffer.from([8, 0, 1, 0, 0, 0, 0, 3]) },
  ])
})

describe('whatever comes in is read or refused', () => {
  const decoders = [
    decodeGeneration,
    decodeTable,
    decodeChain,
    decodeRule,
    decodeSet,
    (payload: Buffer) => decodeElements(payload, () => undefined),
    decodeExpression,
  ]
  /** Every decoder is given every bytes: they know nothing of a message's type. */
  const decodeAll = (payload: Buffer): void => {
    for (const decode of decoders) {
      try {
        decode(payload)
      } catch (error) {
        expect(error).toBeInstanceOf(NetlinkFormatError)
      }
    }
  }
  const random = fc.uint8Array({ maxLength: 120 }).map(bytes => Buffer.from(bytes))

  test('random bytes', () => {
    fc.assert(fc.property(random, decodeAll), { numRuns: 2000 })
  })

  test('bytes of ours with some changed, cut off or put in', () => {
    const change = fc.record({ at: fc.nat(), value: fc.nat(255), cut: fc.nat(8), insert: fc.nat(4) })
    fc.assert(
      fc.property(operation, fc.array(change, { minLength: 1, maxLength: 4 }), (value, changes) => {
        for (const { payload } of inner([value])) {
          let bytes = Buffer.from(payload)
          for (const { at, value: byte, cut, insert } of changes) {
            if (bytes.length === 0) break
            bytes[at % bytes.length] = byte
            if (cut === 0) bytes = bytes.subarray(0, at % bytes.length)
            if (insert === 0)
              bytes = Buffer.concat([bytes.subarray(0, at % (bytes.length + 1)), Buffer.from([byte]), bytes])
          }
          decodeAll(bytes)
        }
      }),
      { numRuns: 2000 },
    )
  })

  test('nothing outside of the bytes is read', () => {
    fc.assert(
      fc.property(fc.oneof(element, element), one => {
        const { payload } = only({ kind: 'add-elements', set: 's', elements: [one] })
        // The same bytes, with others behind them that they claim a part of.
        const around = Buffer.concat([payload, Buffer.alloc(64, 0xee)])
        const view = around.subarray(0, payload.length)
        const lengthOf = payload.length - 8
        for (let at = nfgenLength; at < lengthOf; at += 4) {
          const changed = Buffer.from(around)
          changed.writeUInt16LE((changed.readUInt16LE(at) + 16) & 0xffff, at)
          try {
            decodeElements(changed.subarray(0, view.length), ({ key, keyEnd, data, userdata }) => {
              for (const part of [key, keyEnd, data, userdata]) {
                if (part instanceof Uint8Array) {
                  expect(part.byteOffset + part.length).toBeLessThanOrEqual(changed.byteOffset + view.length)
                }
              }
            })
          } catch (error) {
            expect(error).toBeInstanceOf(NetlinkFormatError)
          }
        }
      }),
      { numRuns: 200 },
    )
  })
})

test('names', () => {
  fc.assert(
    fc.property(name, value => {
      expect(decodeChain(only({ kind: 'add-chain', chain: { name: value } }).payload).chain.name).toBe(value)
    }),
  )
})
