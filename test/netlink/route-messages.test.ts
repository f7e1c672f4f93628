// Devices, addresses and local routes in rtnetlink: what is written is read back, whatever comes in is a value or refused, and
// the running kernel's own loopback device is read.
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { addressBytes, familyNumberOf } from '../../src/kernel/netlink/generic-fields.ts'
import { attribute, NetlinkFormatError, u32 } from '../../src/kernel/netlink/message.ts'
import { openRoute } from '../../src/kernel/netlink/route.ts'
import {
  encodeAddressDump,
  encodeLink,
  encodeLinkName,
  encodeLocalRoute,
  encodeLocalRouteDump,
  encodeRouteQuestion,
  isLocalRoute,
  type LinkAddress,
  type LocalRoute,
  readLink,
  readLinkAddress,
  readLocalRoute,
} from '../../src/kernel/netlink/route-messages.ts'
import { bitsOf, type Family, familyOf, type IP, ipFromHex } from '../../src/net/ip.ts'

const addressOf = (family: Family): fc.Arbitrary<IP> =>
  fc
    .uint8Array({ minLength: family === 'IPv4' ? 4 : 16, maxLength: family === 'IPv4' ? 4 : 16 })
    .map(bytes => ipFromHex(Buffer.from(bytes).toString('hex')))
const address = fc.oneof(addressOf('IPv4'), addressOf('IPv6'))
const name = fc.stringMatching(/^[a-z][a-z0-9-]{0,14}$/)
const linkAddress = fc.record({ index: fc.nat(0x7fffffff), address })
const localRoute = fc.record({ address, protocol: fc.nat(255), metric: fc.nat(0xffffffff) })

/** IFLA_IFNAME among others, as the kernel tells of a device. */
function link(index: number, of: string): Buffer {
  const message = Buffer.concat([encodeLinkName(of), u32(4, 1_500)])
  message.writeInt32LE(index, 4)
  return message
}

/** IFA_ADDRESS, and IFA_LOCAL, which the kernel has for IPv4; the other end of a connection has an address of its own. */
function addressMessage({ index, address: ip }: LinkAddress, other = ip): Buffer {
  const head = Buffer.alloc(8)
  head[0] = familyNumberOf(ip)
  head[1] = bitsOf(familyOf(ip))
  head.writeUInt32LE(index, 4)
  const local = familyOf(ip) === 'IPv4' || other !== ip ? attribute(2, addressBytes(ip)) : Buffer.alloc(0)
  return Buffer.concat([head, attribute(1, addressBytes(other)), local])
}

test('a device and an address are read as the kernel writes them', () => {
  fc.assert(
    fc.property(name, linkAddress, (of, held) => {
      expect(readLink(link(held.index, of))).toEqual({ index: held.index, name: of })
      expect(readLink(encodeLink(of, 'dummy'))).toEqual({ index: 0, name: of })
      expect(readLinkAddress(addressMessage(held))).toEqual(held)
      const other = ipFromHex('01'.repeat(bitsOf(familyOf(held.address)) / 8))
      expect(readLinkAddress(addressMessage(held, other))).toEqual(held)
    }),
  )
})

test('a local route is read as it was written', () => {
  fc.assert(
    fc.property(localRoute, written => {
      expect(readLocalRoute(encodeLocalRoute(written))).toEqual(written)
      expect(isLocalRoute(encodeLocalRoute(written))).toBe(true)
    }),
  )
})

/** Where a route's header has these. */
const at = { family: 0, prefix: 1, table: 4, type: 7 } as const

/** A local route with one field of the header changed, and more attributes. */
function route(changed: Partial<Record<keyof typeof at, number>>, ...more: readonly Buffer[]): Buffer {
  const written: LocalRoute = { address: '10.96.0.1' as IP, protocol: 112, metric: 112 }
  const message = encodeLocalRoute(written)
  for (const key of ['family', 'prefix', 'table', 'type'] as const) {
    const value = changed[key]
    if (value !== undefined) message[at[key]] = value
  }
  return Buffer.concat([message, ...more])
}

test('other routes are none of a single local address', () => {
  const [unspec, unicast, broadcast, unreachable, main] = [0, 1, 3, 7, 254]
  for (const type of [unspec, unicast, broadcast, unreachable]) {
    expect(readLocalRoute(route({ type }))).toBeUndefined()
    expect(isLocalRoute(route({ type }))).toBe(false)
  }
  for (const other of [{ prefix: 24 }, { prefix: 0 }, { prefix: 128 }, { family: 7 }, { table: main }])
    expect(readLocalRoute(route(other))).toBeUndefined()
  // RTA_TABLE holds for tables whose number is too great for the header, and the header's does not matter then.
  expect(readLocalRoute(route({ table: 252 }, u32(15, 255)))).toEqual({
    address: '10.96.0.1',
    protocol: 112,
    metric: 112,
  })
  expect(readLocalRoute(route({}, u32(15, 1_000)))).toBeUndefined()
})

test('a single address that is not named is no netlink', () => {
  expect(() => readLocalRoute(route({}).subarray(0, 12))).toThrow('a route to a single address names none')
  for (const read of [readLocalRoute, isLocalRoute])
    expect(() => read(Buffer.alloc(11))).toThrow('a message about a route ends within its header')
})

test('a name that no device can have is not sent', () => {
  for (const bad of ['', 'a'.repeat(16)]) expect(() => encodeLinkName(bad)).toThrow(RangeError)
})

test('questions name the family, the table and the protocol, without a word too many', () => {
  for (const [family, number] of [
    ['IPv4', 2],
    ['IPv6', 10],
  ] as const) {
    expect([...encodeAddressDump(family)]).toEqual([number, 0, 0, 0, 0, 0, 0, 0])
    expect([...encodeLocalRouteDump(family, 112)]).toEqual([number, 0, 0, 0, 255, 112, 0, 2, 0, 0, 0, 0])
  }
  expect(encodeRouteQuestion('10.96.0.1' as IP).toString('hex')).toBe('022000000000000000000000080001000a600001')
})

test('whatever comes in is a value or no netlink', () => {
  const tolerant = (payload: Buffer): void => {
    for (const decode of [readLink, readLinkAddress, readLocalRoute, isLocalRoute]) {
      try {
        decode(payload)
      } catch (error) {
        expect(error).toBeInstanceOf(NetlinkFormatError)
      }
    }
  }
  fc.assert(fc.property(fc.uint8Array({ maxLength: 64 }), bytes => tolerant(Buffer.from(bytes))))
  const likely = fc.oneof(
    linkAddress.map(one => addressMessage(one)),
    fc.tuple(fc.nat(99), name).map(([index, of]) => link(index, of)),
    localRoute.map(one => Buffer.concat([encodeLocalRoute(one), u32(15, 255)])),
  )
  fc.assert(
    fc.property(likely, fc.nat(), fc.nat(255), fc.nat(), (payload, where, byte, cut) => {
      payload[where % payload.length] = byte
      tolerant(payload.subarray(0, payload.length - (cut % payload.length)))
    }),
  )
})

test.runIf(process.platform === 'linux')('the loopback device is there, another is not', async () => {
  const connection = await openRoute(why => expect.fail(why))
  if (connection === undefined) throw new Error('no netlink')
  try {
    expect(await connection.link('lo')).toEqual({ index: 1, name: 'lo' })
    expect(await connection.link('no-such-device')).toBeUndefined()
  } finally {
    await connection.close()
  }
})
