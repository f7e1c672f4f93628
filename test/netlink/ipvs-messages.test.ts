// IPVS' messages: what is written is read back, and whatever comes in is a value or refused.
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { encodeGeneric, readGeneric } from '../../src/kernel/netlink/generic.ts'
import {
  encodeDestination,
  encodeDestinationId,
  encodeService,
  encodeServiceId,
  encodeTimeouts,
  type IpvsService,
  type IpvsServiceId,
  ipvsCommand,
  readDestination,
  readService,
  readTimeouts,
} from '../../src/kernel/netlink/ipvs-messages.ts'
import { NetlinkFormatError, nested, readAttributes, u32 } from '../../src/kernel/netlink/message.ts'
import { type Family, type IP, ipFromHex } from '../../src/net/ip.ts'
import { protocols } from '../../src/net/protocol.ts'

const number = fc.nat(0xffffffff)
const address = (family: Family): fc.Arbitrary<IP> =>
  fc
    .uint8Array({ minLength: family === 'IPv4' ? 4 : 16, maxLength: family === 'IPv4' ? 4 : 16 })
    .map(bytes => ipFromHex(Buffer.from(bytes).toString('hex')))
const family = fc.constantFrom<Family>('IPv4', 'IPv6')
const port = fc.nat(0xffff)
const id: fc.Arbitrary<IpvsServiceId> = family.chain(of =>
  fc.oneof(
    fc.record({ kind: fc.constant('mark' as const), family: fc.constant(of), mark: number }),
    fc.record({
      kind: fc.constant('address' as const),
      protocol: fc.constantFrom(...protocols),
      address: address(of),
      port,
    }),
  ),
)
const service: fc.Arbitrary<IpvsService> = fc.record({
  id,
  scheduler: fc.stringMatching(/^[a-z][a-z0-9_]{0,14}$/),
  // Those that can be set.
  flags: fc.nat(0x3f).map(flags => flags & 0x3d),
  timeout: number,
  netmask: number,
})
const destination = family.chain(of =>
  fc.record({ family: fc.constant(of), address: address(of), port, forward: fc.nat(4), weight: number }),
)

/** IPVS_CMD_ATTR_DEST; IPVS_DEST_ATTR_* of its connections. */
const [destinationPart, active, inactive, persistent] = [2, 7, 8, 9]

test('a virtual server is read as it was written', () => {
  fc.assert(
    fc.property(service, written => {
      const payload = encodeService(ipvsCommand.newService, written)
      expect(readGeneric(payload)).toMatchObject({ command: 1, version: 1 })
      expect(readService(payload)).toEqual(written)
    }),
  )
})

test('a real server is read as it was written, with the connections that the kernel adds', () => {
  fc.assert(
    fc.property(id, destination, fc.tuple(number, number, number), (of, { family: own, ...written }, counts) => {
      const payload = encodeDestination(ipvsCommand.newDestination, of, written)
      const { attributes } = readGeneric(payload)
      const inner = readAttributes(attributes).get(destinationPart) ?? Buffer.alloc(0)
      const extra = [active, inactive, persistent].map((type, index) => u32(type ?? 0, counts[index] ?? 0))
      const answer = encodeGeneric(5, 1, nested(destinationPart ?? 0, inner, ...extra))
      const [activeCount, inactiveCount, persistentCount] = counts
      expect(readDestination(answer, own === 'IPv4' ? 'IPv6' : 'IPv4')).toEqual({
        ...written,
        active: activeCount,
        inactive: inactiveCount,
        persistent: persistentCount,
      })
    }),
  )
})

test('a virtual server that is only named is told from one with settings, and a deleted real server has no more than a name', () => {
  const web: IpvsServiceId = { kind: 'mark', family: 'IPv6', mark: 5 }
  expect(() => readService(encodeServiceId(ipvsCommand.deleteService, web))).toThrow(NetlinkFormatError)
  const real = { address: ipFromHex('0a000001'), port: 80 }
  expect(() => readDestination(encodeDestinationId(ipvsCommand.deleteDestination, web, real), 'IPv4')).toThrow(
    NetlinkFormatError,
  )
})

test('timeouts are read as they were written', () => {
  fc.assert(
    fc.property(fc.record({ tcp: number, tcpFin: number, udp: number }), timeouts => {
      expect(readTimeouts(encodeTimeouts(timeouts))).toEqual(timeouts)
    }),
  )
})

/** Bytes as IPVS sends them: the header (16 bytes of netlink are gone already), then the attributes. */
test('the bytes are those of linux/ip_vs.h', () => {
  const bytes = encodeService(ipvsCommand.setService, {
    id: { kind: 'address', protocol: 'TCP', address: ipFromHex('0a600014'), port: 80 },
    scheduler: 'rr',
    flags: 1,
    timeout: 10_800,
    netmask: 0xffffffff,
  })
  expect(bytes.toString('hex')).toBe(
    [
      '02010000', // IPVS_CMD_SET_SERVICE, version 1
      '54000180', // IPVS_CMD_ATTR_SERVICE, nested, 84 bytes
      '0600010002000000', // AF_INET
      '0600020006000000', // IPPROTO_TCP
      '140003000a600014000000000000000000000000',
      '0600040000500000', // port 80 in network order
      '0700060072720000', // rr
      '0c00070001000000ffffffff', // flags and their mask
      '08000800302a0000',
      '08000900ffffffff',
    ].join(''),
  )
})

describe('whatever comes in', () => {
  const decoders: readonly ((payload: Buffer) => unknown)[] = [
    readService,
    readTimeouts,
    payload => readDestination(payload, 'IPv4'),
    readGeneric,
  ]
  const tolerant = (payload: Buffer): void => {
    for (const decode of decoders) {
      try {
        decode(payload)
      } catch (error) {
        expect(error).toBeInstanceOf(NetlinkFormatError)
      }
    }
  }

  test('is a value or no netlink', () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 96 }), bytes => tolerant(Buffer.from(bytes))))
  })

  test('also if it is nearly right', () => {
    const likely = fc.oneof(
      service.map(one => encodeService(ipvsCommand.newService, one)),
      fc.tuple(id, destination).map(([of, one]) => encodeDestination(ipvsCommand.newDestination, of, one)),
    )
    fc.assert(
      fc.property(likely, fc.nat(), fc.nat(255), fc.nat(), (payload, at, byte, cut) => {
        payload[at % payload.length] = byte
        tolerant(payload.subarray(0, payload.length - (cut % payload.length)))
      }),
    )
  })
})
