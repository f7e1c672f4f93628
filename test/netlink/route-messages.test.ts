// Devices and addresses in rtnetlink: what is written is read back, whatever comes in is a value or refused, and the running
// kernel's own loopback device is read.
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { NetlinkFormatError } from '../../src/kernel/netlink/message.ts'
import { openRoute } from '../../src/kernel/netlink/route.ts'
import {
  encodeAddress,
  encodeLink,
  encodeLinkName,
  readLink,
  readLinkAddress,
} from '../../src/kernel/netlink/route-messages.ts'
import { bitsOf, type Family, familyOf, type IP, ipFromHex } from '../../src/net/ip.ts'

const address = (family: Family): fc.Arbitrary<IP> =>
  fc
    .uint8Array({ minLength: family === 'IPv4' ? 4 : 16, maxLength: family === 'IPv4' ? 4 : 16 })
    .map(bytes => ipFromHex(Buffer.from(bytes).toString('hex')))
const name = fc.stringMatching(/^[a-z][a-z0-9-]{0,14}$/)
const linkAddress = fc.record({
  index: fc.nat(0x7fffffff),
  address: fc.oneof(address('IPv4'), address('IPv6')),
  deprecated: fc.boolean(),
})

test('a device and an address are read as they were written', () => {
  fc.assert(
    fc.property(name, linkAddress, (of, written) => {
      expect(readLink(encodeLink(of, 'dummy'))).toEqual({ index: 0, name: of })
      expect(readLinkAddress(encodeAddress(written))).toEqual({ ...written, prefix: bitsOf(familyOf(written.address)) })
    }),
  )
})

test('a name that no device can have is not sent', () => {
  for (const bad of ['', 'a'.repeat(16)]) expect(() => encodeLinkName(bad)).toThrow(RangeError)
})

test('whatever comes in is a value or no netlink', () => {
  const tolerant = (payload: Buffer): void => {
    for (const decode of [readLink, readLinkAddress]) {
      try {
        decode(payload)
      } catch (error) {
        expect(error).toBeInstanceOf(NetlinkFormatError)
      }
    }
  }
  fc.assert(fc.property(fc.uint8Array({ maxLength: 64 }), bytes => tolerant(Buffer.from(bytes))))
  const likely = fc.oneof(linkAddress.map(encodeAddress), name.map(encodeLinkName))
  fc.assert(
    fc.property(likely, fc.nat(), fc.nat(255), fc.nat(), (payload, at, byte, cut) => {
      payload[at % payload.length] = byte
      tolerant(payload.subarray(0, payload.length - (cut % payload.length)))
    }),
  )
})

test.runIf(process.platform === 'linux')('the loopback device is there, another is not', async () => {
  const route = await openRoute(why => expect.fail(why))
  if (route === undefined) throw new Error('no netlink')
  try {
    expect(await route.link('lo')).toEqual({ index: 1, name: 'lo' })
    expect(await route.link('no-such-device')).toBeUndefined()
  } finally {
    await route.close()
  }
})
