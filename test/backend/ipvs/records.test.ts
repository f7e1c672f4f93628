// Texts and records: what the backend compares is what netlink is told, and what is read back is the same text.
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { linesOf, partsOf } from '../../../src/backend/ipvs/commands.ts'
import { markOf, markServer, setName, setRoles, virtualServer } from '../../../src/backend/ipvs/names.ts'
import {
  elementOfText,
  elementText,
  heldDestination,
  optionsText,
  serverName,
  serverOperation,
  serviceId,
  serviceOf,
  setOperation,
  setSpec,
  typeText,
  valueText,
} from '../../../src/backend/ipvs/records.ts'
import { optionsOf } from '../../../src/backend/ipvs/servers.ts'
import { commentOf, frontendElement, rangeElement, setType } from '../../../src/backend/ipvs/sets.ts'
import { encodeIpset, type IpsetHeader, readIpsetListing } from '../../../src/kernel/netlink/ipset-messages.ts'
import { type CIDR, type Family, type IP, ipFromHex, parseCIDR } from '../../../src/net/ip.ts'
import { protocols } from '../../../src/net/protocol.ts'

const address = (family: Family): fc.Arbitrary<IP> =>
  fc
    .uint8Array({ minLength: family === 'IPv4' ? 4 : 16, maxLength: family === 'IPv4' ? 4 : 16 })
    .map(bytes => ipFromHex(Buffer.from(bytes).toString('hex')))
const families = fc.constantFrom<Family>('IPv4', 'IPv6')
const protocol = fc.constantFrom(...protocols)
const port = fc.nat(0xffff)

test('a virtual server is named as before', () => {
  const server = families.chain(family =>
    fc
      .oneof(
        fc.tuple(protocol, address(family), port).map(([of, ip, number]) => virtualServer(of, ip, number)),
        fc.tuple(fc.nat(0xffff), protocol).map(([number, of]) => markServer(markOf(number, of))),
      )
      .map(name => ({ name, family })),
  )
  fc.assert(
    fc.property(server, ({ name, family }) => {
      const id = serviceId(name, family)
      expect(serverName(id)).toBe(name)
      expect(id.kind === 'mark' ? id.family : family).toBe(family)
    }),
  )
  for (const bad of ['', 'tcp', 'tcp 10.0.0.1', 'icmp 10.0.0.1:1', 'tcp nowhere:80']) {
    expect(() => serviceId(bad, 'IPv4')).toThrow(`"${bad}" is no virtual server`)
  }
})

test.each([
  ['rr', []],
  ['sh', ['sh-port']],
  ['sh', ['sh-fallback', 'sh-port']],
  ['mh', ['mh-fallback', 'mh-port']],
])('options of %s %j are read as they were written', (scheduler, flags) => {
  for (const family of ['IPv4', 'IPv6'] as const) {
    for (const affinity of [undefined, 10_800]) {
      const options = optionsOf({ scheduler, flags }, affinity)
      expect(optionsText(serviceOf({ kind: 'mark', family, mark: 1 }, options))).toBe(options)
    }
  }
})

test('options that are none of ours are told, and are not written', () => {
  const id = { kind: 'mark', family: 'IPv4', mark: 1 } as const
  const odd = { id, scheduler: 'wlc', flags: 0x3d, timeout: 300, netmask: 0xffffff }
  expect(optionsText(odd)).toBe('-s wlc -p 300 -M 16777215 -o -b flag-1,flag-2,flag-3')
  expect(() => serviceOf(id, '-s wlc -o')).toThrow('"-s wlc -o" are no options of a virtual server')
  expect(() => serviceOf(id, '-s sh -b mh-port')).toThrow('"mh-port" is no flag of the scheduler sh')
})

test('a real server that others made shows', () => {
  const real = { address: ipFromHex('0a000001'), port: 80, weight: 5, active: 2, inactive: 3, persistent: 0 }
  const told = [0, 1, 2, 3].map(forward => heldDestination({ ...real, forward }))
  expect(told.map(({ address: text, weight, rest }) => `${text} ${weight} ${rest}`)).toEqual([
    '10.0.0.1:80 5 -m',
    '10.0.0.1:80 5 -g',
    '10.0.0.1:80 5 -i',
    '10.0.0.1:80 5 -g',
  ])
  expect(told[0]?.connections).toBe(5)
})

describe('sets', () => {
  test('have the types that the backend asks for', () => {
    for (const family of ['IPv4', 'IPv6'] as const) {
      for (const role of setRoles) {
        const type = setType(role, family)
        const { header } = readIpsetListing(encodeIpset(setSpec(setName(family, role), type)))
        expect(header === undefined ? '' : typeText(header)).toBe(type)
      }
    }
    expect(() => setSpec('A', 'hash:net family inet')).toThrow('"hash:net family inet" is no type of set')
  })

  test('of others have a type that is another', () => {
    const header: IpsetHeader = {
      name: 'A',
      type: 'hash:ip,port',
      family: 'IPv4',
      maximum: 9,
      ports: undefined,
      timeout: 300,
      counters: true,
      comment: true,
      skbinfo: true,
      forceAdd: true,
    }
    expect(typeText(header)).toBe('hash:ip,port family inet maxelem 9 timeout 300 counters comment skbinfo forceadd')
  })

  test('have elements that are read as they were written', () => {
    const cidr = (family: Family): fc.Arbitrary<CIDR> =>
      fc
        .tuple(address(family), fc.integer({ min: 1, max: family === 'IPv4' ? 32 : 128 }))
        .map(([ip, prefix]) => parseCIDR(`${ip}/${prefix}`))
        .filter(found => found !== undefined)
    const element = families.chain(family =>
      fc.oneof(
        address(family),
        port.map(String),
        fc.tuple(address(family), protocol, port).map(parts => frontendElement(...parts)),
        fc
          .tuple(address(family), protocol, port, cidr(family))
          .map(([ip, of, number, range]) => rangeElement(frontendElement(ip, of, number), range, family)),
      ),
    )
    fc.assert(
      fc.property(element, text => {
        expect(elementText(elementOfText(text))).toBe(text)
      }),
    )
  })

  test('have elements of others that can be told and deleted', () => {
    for (const text of ['10.0.0.1,udplite:7', '10.0.0.1,47:0', '10.0.0.1,tcp:1,10.0.0.0/8 nomatch']) {
      expect(elementText(elementOfText(text))).toBe(text)
    }
    for (const bad of ['', 'here', '10.0.0.1,tcp', '10.0.0.1,what:80', '10.0.0.1,tcp:80,there']) {
      expect(() => elementOfText(bad)).toThrow(`"${bad}" is no element of a set`)
    }
  })

  test('have comments and marks that are read as they were written', () => {
    const values = ['', commentOf('ns/service:http'), 'skbmark 0x5ea00010']
    for (const value of values) {
      const operation = setOperation({ kind: 'add-member', set: 'A', element: '10.0.0.1', value, replace: false })
      expect(operation.kind === 'add' ? valueText(operation.element) : '').toBe(value)
    }
    expect(valueText({ mark: { value: 1, mask: 0xff }, comment: 'both' })).toBe('skbmark 0x1/0xff comment "both"')
    expect(() =>
      setOperation({ kind: 'add-member', set: 'A', element: '10.0.0.1', value: 'packets 5', replace: false }),
    ).toThrow('"packets 5"')
  })
})

test('a command is one line for a program, and one operation for netlink', () => {
  const server = 'tcp [fd00::1]:80'
  const commands = [
    { kind: 'add-server', server, options: '-s rr' },
    { kind: 'edit-server', server, options: '-s wlc' },
    { kind: 'add-real', server, real: '[fd00::2]:80', weight: 1 },
    { kind: 'edit-real', server, real: '[fd00::2]:80', weight: 0 },
    { kind: 'delete-real', server, real: '[fd00::2]:80' },
    { kind: 'delete-server', server },
  ] as const
  expect(linesOf(commands, 'IPv6').split('\n')).toEqual([
    '-A -t [fd00::1]:80 -s rr',
    '-E -t [fd00::1]:80 -s wlc',
    '-a -t [fd00::1]:80 -r [fd00::2]:80 -m -w 1',
    '-e -t [fd00::1]:80 -r [fd00::2]:80 -m -w 0',
    '-d -t [fd00::1]:80 -r [fd00::2]:80',
    '-D -t [fd00::1]:80',
    '',
  ])
  const real = { address: 'fd00::2', port: 80 }
  expect(partsOf(commands).servers.map(command => serverOperation(command, 'IPv6'))).toMatchObject([
    { kind: 'add-service', service: { scheduler: 'rr', netmask: 128 } },
    { kind: 'edit-service', service: { scheduler: 'wlc' } },
    { kind: 'add-destination', destination: { ...real, forward: 0, weight: 1 } },
    { kind: 'edit-destination', destination: { ...real, weight: 0 } },
    { kind: 'delete-destination', destination: real },
    { kind: 'delete-service', id: { kind: 'address', protocol: 'TCP', address: 'fd00::1', port: 80 } },
  ])
})
