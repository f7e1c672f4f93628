// ipset's messages: what is written is read back as the kernel would send it, and whatever comes in is a value or refused.
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  encodeIpset,
  encodeIpsetElement,
  encodeIpsetName,
  type IpsetElement,
  type IpsetSpec,
  ipsetType,
  readIpsetElements,
  readIpsetListing,
} from '../../src/kernel/netlink/ipset-messages.ts'
import { NetlinkFormatError, nested, nfgen, readAttributes, readNfgen, text } from '../../src/kernel/netlink/message.ts'
import { bitsOf, type Family, type IP, ipFromHex } from '../../src/net/ip.ts'

const address = (family: Family): fc.Arbitrary<IP> =>
  fc
    .uint8Array({ minLength: family === 'IPv4' ? 4 : 16, maxLength: family === 'IPv4' ? 4 : 16 })
    .map(bytes => ipFromHex(Buffer.from(bytes).toString('hex')))
const family = fc.constantFrom<Family>('IPv4', 'IPv6')
const port = fc.nat(0xffff)
const name = fc.stringMatching(/^[A-Z][A-Z0-9-]{0,30}$/)
const number = fc.nat(0xffffffff)
const comment = fc.stringMatching(/^[a-z0-9/:.-]{0,40}$/)
const mark = fc.record({ value: number, mask: fc.integer({ min: 1, max: 0xffffffff }) })

const element: fc.Arbitrary<IpsetElement> = family.chain(of =>
  fc.oneof(
    fc.record({ port }),
    fc.record(
      { address: address(of), protocol: fc.nat(255), port, comment, mark, noMatch: fc.constant(true) },
      { requiredKeys: ['address'] },
    ),
    fc.record({
      address: address(of),
      protocol: fc.nat(255),
      port,
      network: fc.record({ address: address(of), prefix: fc.nat(bitsOf(of)) }),
    }),
  ),
)
const spec: fc.Arbitrary<IpsetSpec> = fc.oneof(
  fc.record({
    name,
    type: fc.constantFrom('hash:ip' as const, 'hash:ip,port' as const, 'hash:ip,port,net' as const),
    family,
    maximum: number,
    comment: fc.boolean(),
    skbinfo: fc.boolean(),
    ports: fc.constant([0, 0] as const),
  }),
  fc.record({
    name,
    type: fc.constant('bitmap:port' as const),
    family: fc.constant(undefined),
    maximum: fc.constant(0),
    comment: fc.boolean(),
    skbinfo: fc.boolean(),
    ports: fc.tuple(port, port),
  }),
)

/** IPSET_ATTR_SETNAME, IPSET_ATTR_DATA and IPSET_ATTR_ADT. */
const part = { name: 2, data: 7, elements: 8 } as const

/** Elements as a listing has them. */
function listing(set: string, elements: readonly IpsetElement[]): Buffer {
  const data = elements.map(one => {
    const message = encodeIpsetElement(set, one)
    return nested(part.data, readAttributes(readNfgen(message).attributes).get(part.data) ?? Buffer.alloc(0))
  })
  return Buffer.concat([nfgen(0), text(part.name, set), nested(part.elements, ...data)])
}

test('elements are read as they were written', () => {
  fc.assert(
    fc.property(name, fc.array(element, { maxLength: 5 }), (set, written) => {
      const found = readIpsetListing(listing(set, written))
      const read: IpsetElement[] = []
      readIpsetElements(found.elements, one => read.push(one))
      expect({ name: found.name, header: found.header, read }).toEqual({ name: set, header: undefined, read: written })
    }),
  )
})

test('a set is read as it was written', () => {
  fc.assert(
    fc.property(spec, written => {
      const { header } = readIpsetListing(encodeIpset(written))
      const isBitmap = written.type === 'bitmap:port'
      expect(header).toEqual({
        name: written.name,
        type: written.type,
        family: written.family,
        maximum: isBitmap ? undefined : written.maximum,
        ports: isBitmap ? written.ports : undefined,
        timeout: undefined,
        counters: false,
        comment: written.comment,
        skbinfo: written.skbinfo,
        forceAdd: false,
      })
    }),
  )
})

test('what the kernel would cut or refuse in other words is not sent', () => {
  for (const bad of ['', 'A'.repeat(32)]) expect(() => encodeIpsetName(bad)).toThrow(RangeError)
  expect(() => encodeIpsetElement('A', { comment: 'a'.repeat(256) })).toThrow(RangeError)
})

test('the bytes are those of linux/netfilter/ipset/ip_set.h', () => {
  expect(ipsetType('add')).toBe(0x0609)
  const written = { address: ipFromHex('0a600001'), protocol: 6, port: 80, comment: 'a/b' }
  expect(encodeIpsetElement('S', written).toString('hex')).toBe(
    [
      '00000000', // nfgenmsg
      '0500010006000000', // IPSET_ATTR_PROTOCOL
      '0600020053000000', // IPSET_ATTR_SETNAME
      '28000780', // IPSET_ATTR_DATA, nested
      '0c000180080001400a600001', // IPSET_ATTR_IP, nested, IPSET_ATTR_IPADDR_IPV4 in network order
      '0600044000500000', // IPSET_ATTR_PORT in network order
      '0500070006000000', // IPSET_ATTR_PROTO
      '08001a00612f6200', // IPSET_ATTR_COMMENT
    ].join(''),
  )
})

describe('whatever comes in', () => {
  const tolerant = (payload: Buffer): void => {
    try {
      readIpsetElements(readIpsetListing(payload).elements, one => expect(one).toBeDefined())
    } catch (error) {
      expect(error).toBeInstanceOf(NetlinkFormatError)
    }
  }

  test('is a value or no netlink', () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 96 }), bytes => tolerant(Buffer.from(bytes))))
  })

  test('also if it is nearly right', () => {
    const likely = fc.oneof(
      spec.map(encodeIpset),
      fc.tuple(name, fc.array(element, { minLength: 1, maxLength: 4 })).map(([set, all]) => listing(set, all)),
    )
    fc.assert(
      fc.property(likely, fc.nat(), fc.nat(255), fc.nat(), (payload, at, byte, cut) => {
        payload[at % payload.length] = byte
        tolerant(payload.subarray(0, payload.length - (cut % payload.length)))
      }),
    )
  })
})
