// Addresses and CIDRs against three other implementations: ipaddr.js, Node's inet_pton and BlockList, and the URL parser.
import { BlockList, isIP } from 'node:net'
import fc from 'fast-check'
import ipaddr from 'ipaddr.js'
import { describe, expect, it } from 'vitest'
import {
  bitsOf,
  type CIDR,
  cidrContains,
  type Family,
  familyOf,
  formatAddressPort,
  formatCIDR,
  hostCIDR,
  type IP,
  ipFromHex,
  ipToHex,
  parseCIDR,
  parseIP,
  putIP,
} from '../../src/net/ip.ts'

const octet = fc.integer({ min: 0, max: 255 })
const ipv4 = fc.tuple(octet, octet, octet, octet).map(octets => octets.join('.'))
const group = fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 0xffff }))
const groups = fc.array(group, { minLength: 8, maxLength: 8 })
const mappedGroups = fc.tuple(group, group).map(last => [0, 0, 0, 0, 0, 0xffff, ...last])
/** In every spelling: upper case, leading zeros, `::` at any run of zeros, the last 32 bits dotted. */
const ipv6 = fc
  .tuple(
    fc.oneof({ arbitrary: groups, weight: 9 }, { arbitrary: mappedGroups, weight: 1 }),
    fc.boolean(),
    fc.boolean(),
    fc.boolean(),
    fc.nat(7),
  )
  .map(([groups, upper, padded, dotted, at]) => spell(groups, upper, padded, dotted, at))
const canonicalIPv6 = ipv6.filter(text => !isMapped(text)).map(must)
const anyIP = fc.oneof(ipv4.map(must), canonicalIPv6)

function spell(groups: readonly number[], upper: boolean, padded: boolean, dotted: boolean, at: number): string {
  let words = groups.map(value => value.toString(16).padStart(padded ? 4 : 1, '0'))
  if (dotted) {
    const [high = 0, low = 0] = groups.slice(6)
    words = [...words.slice(0, 6), [high >> 8, high & 255, low >> 8, low & 255].join('.')]
  }
  let end = at
  while (end < (dotted ? 6 : 8) && groups[end] === 0) end++
  const text = end > at ? `${words.slice(0, at).join(':')}::${words.slice(end).join(':')}` : words.join(':')
  return upper ? text.toUpperCase() : text
}

/** RFC 5952 by the URL parser, which writes IPv4-mapped addresses in hexadecimal. */
const byURL = (text: string): string => new URL(`http://[${text}]/`).hostname.slice(1, -1)
const isMapped = (text: string): boolean => /^::ffff:[^:]+:[^:]+$/.test(byURL(text))
/** ipaddr.js takes `::10.0.0.1`, long deprecated, for IPv4-mapped; Go and inet_pton do not. */
const isCompatible = (text: string): boolean => /^::\d+\./.test(text)

function must(text: string): IP {
  const ip = parseIP(text)
  if (ip === undefined) throw new Error(`${text} is not an address`)
  return ip
}

function mustCIDR(text: string): CIDR {
  const cidr = parseCIDR(text)
  if (cidr === undefined) throw new Error(`${text} is not a CIDR`)
  return cidr
}

const lower = (family: Family): 'ipv4' | 'ipv6' => (family === 'IPv4' ? 'ipv4' : 'ipv6')

describe('parseIP', () => {
  it.each([
    ['10.0.0.1', '10.0.0.1'],
    ['010.000.0.0009', '10.0.0.9'],
    ['255.255.255.255', '255.255.255.255'],
    ['FD00:0:0:0:0:0:0:1', 'fd00::1'],
    ['1:0:0:2:0:0:0:3', '1:0:0:2::3'],
    ['1:0:0:2:0:0:3:4', '1::2:0:0:3:4'],
    ['1:0:2:3:4:5:6:7', '1:0:2:3:4:5:6:7'],
    ['1:2:3:4:5:6:7::', '1:2:3:4:5:6:7:0'],
    ['::', '::'],
    ['::ffff:10.0.0.1', '10.0.0.1'],
    ['::FFFF:a00:1', '10.0.0.1'],
    ['::10.0.0.1', '::a00:1'],
  ])('reads %s as %s', (text, canonical) => {
    expect(parseIP(text)).toBe(canonical)
  })

  it.each([
    ...['', ' ', '10.0.0', '10.0.0.1.2', '10.0.0.256', '10.0.0.-1', '10.0.0.1 ', '0x0a.0.0.1', '10.0.0.', '.10.0.0.1'],
    ...[':', ':::', '1::2::3', ':1::', '1::2:', '1:2:3:4:5:6:7', '1:2:3:4:5:6:7:8:9', '1:2:3:4:5:6:7:8::', '12345::'],
    ...['fe80::1%eth0', '::g', '1.2.3.4::', '::1.2.3', '1:2:3:4:5:6:7:1.2.3.4', '[::1]', '10.0.0.1/8'],
  ])('refuses %j', text => {
    expect(parseIP(text)).toBeUndefined()
  })

  it('agrees with ipaddr.js and the URL parser on IPv6 in any spelling', () => {
    fc.assert(
      fc.property(ipv6, text => {
        const ip = must(text)
        if (isMapped(text)) {
          expect(ip).toBe(ipaddr.IPv6.parse(text).toIPv4Address().toString())
        } else {
          expect(ip).toBe(byURL(text))
          if (!isCompatible(text)) expect(ip).toBe(ipaddr.IPv6.parse(text).toRFC5952String())
        }
      }),
    )
  })

  it('takes leading zeros of IPv4 octets for decimal', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(octet, fc.nat(4)), { minLength: 4, maxLength: 4 }), octets => {
        const text = octets.map(([value, zeros]) => '0'.repeat(zeros) + value).join('.')
        expect(parseIP(text)).toBe(octets.map(([value]) => value).join('.'))
      }),
    )
  })

  it('accepts what inet_pton accepts, leading zeros and zones aside', () => {
    const characters = fc.constantFrom(...'0123456789abcdefABCDEF:.%g /')
    /** A good address with one character put in, replaced or taken out. */
    const damaged = fc
      .tuple(fc.oneof(ipv4, ipv6), fc.nat(45), fc.nat(1), characters)
      .map(([text, at, cut, put]) => text.slice(0, at) + put + text.slice(at + cut))
    const noise = fc.array(characters, { maxLength: 40 }).map(list => list.join(''))
    fc.assert(
      fc.property(fc.oneof(damaged, noise, ipv4, ipv6), text => {
        const withoutZeros = text.replace(/(^|[:.])0+(?=\d+(\.|$))/g, (match, before: string) =>
          text.includes('.') ? before : match,
        )
        const valid = !text.includes('%') && isIP(withoutZeros) !== 0
        expect(parseIP(text) !== undefined).toBe(valid)
      }),
      { numRuns: 2000 },
    )
  })

  it('is idempotent', () => {
    fc.assert(
      fc.property(anyIP, ip => {
        expect(parseIP(ip)).toBe(ip)
      }),
    )
  })
})

describe('parseCIDR', () => {
  it.each([
    ['10.1.2.3/8', '10.0.0.0/8'],
    ['10.1.2.3/0', '0.0.0.0/0'],
    ['10.1.2.3/32', '10.1.2.3/32'],
    ['fd00::ffff/127', 'fd00::fffe/127'],
    ['FD00::1/0', '::/0'],
    ['010.0.0.0/8', '10.0.0.0/8'],
  ])('reads %s as %s', (text, canonical) => {
    expect(formatCIDR(mustCIDR(text))).toBe(canonical)
  })

  it.each([
    '',
    '10.0.0.0',
    '10.0.0.0/',
    '10.0.0.0/33',
    'fd00::/129',
    '10.0.0.0/-1',
    '10.0.0.0/8/8',
    '10.0.0.0/+8',
    '/8',
  ])('refuses %j', text => {
    expect(parseCIDR(text)).toBeUndefined()
  })

  it('refuses an IPv4-mapped CIDR rather than guess what its prefix means', () => {
    expect(parseCIDR('::ffff:10.0.0.0/104')).toBeUndefined()
  })

  it('clears host bits as ipaddr.js does', () => {
    fc.assert(
      fc.property(anyIP, fc.nat(128), (ip, number) => {
        const prefix = Math.min(number, bitsOf(familyOf(ip)))
        const network =
          familyOf(ip) === 'IPv4'
            ? ipaddr.IPv4.networkAddressFromCIDR(`${ip}/${prefix}`).toString()
            : ipaddr.IPv6.networkAddressFromCIDR(`${ip}/${prefix}`).toRFC5952String()
        expect(formatCIDR(mustCIDR(`${ip}/${prefix}`))).toBe(`${network}/${prefix}`)
      }),
    )
  })
})

describe('cidrContains', () => {
  it('agrees with BlockList and ipaddr.js', () => {
    fc.assert(
      fc.property(anyIP, anyIP, fc.nat(128), fc.boolean(), (base, other, number, near) => {
        const prefix = Math.min(number, bitsOf(familyOf(base)))
        const cidr = mustCIDR(`${base}/${prefix}`)
        const ip = near ? flipBit(base, Math.min(number, bitsOf(familyOf(base)) - 1)) : other
        const list = new BlockList()
        list.addSubnet(cidr.address, prefix, lower(familyOf(cidr.address)))
        const sameFamily = familyOf(ip) === familyOf(base)
        expect(cidrContains(cidr, ip)).toBe(sameFamily && list.check(ip, lower(familyOf(ip))))
        if (sameFamily) expect(cidrContains(cidr, ip)).toBe(ipaddr.parse(ip).match(ipaddr.parse(base), prefix))
      }),
      { numRuns: 500 },
    )
  })

  it('never holds across families, not even with /0', () => {
    expect(cidrContains(mustCIDR('0.0.0.0/0'), must('::1'))).toBe(false)
    expect(cidrContains(mustCIDR('::/0'), must('10.0.0.1'))).toBe(false)
  })
})

/** The address that differs in one bit, counted from the left. */
function flipBit(ip: IP, bit: number): IP {
  const hex = ipToHex(ip)
  const digit = Number.parseInt(hex[bit >> 2] ?? '0', 16) ^ (8 >> (bit & 3))
  return ipFromHex(hex.slice(0, bit >> 2) + digit.toString(16) + hex.slice((bit >> 2) + 1))
}

describe('the other forms', () => {
  it('goes to hexadecimal and back, in address order', () => {
    fc.assert(
      fc.property(anyIP, anyIP, (a, b) => {
        expect(ipFromHex(ipToHex(a))).toBe(a)
        const bytes = Buffer.alloc(20)
        putIP(bytes, 1, a)
        expect(bytes.toString('hex')).toBe(`00${ipToHex(a)}`.padEnd(40, '0'))
        expect(ipToHex(a)).toBe(Buffer.from(ipaddr.parse(a).toByteArray()).toString('hex'))
        if (familyOf(a) !== familyOf(b)) return
        const order = Buffer.compare(
          Buffer.from(ipaddr.parse(a).toByteArray()),
          Buffer.from(ipaddr.parse(b).toByteArray()),
        )
        expect(ipToHex(a) < ipToHex(b)).toBe(order < 0)
      }),
    )
  })

  it('puts IPv6 in brackets before a port', () => {
    expect(formatAddressPort(must('10.0.0.1'), 80)).toBe('10.0.0.1:80')
    expect(formatAddressPort(must('fd00::1'), 80)).toBe('[fd00::1]:80')
  })

  it('makes one-address CIDRs', () => {
    expect(formatCIDR(hostCIDR(must('10.0.0.1')))).toBe('10.0.0.1/32')
    expect(formatCIDR(hostCIDR(must('fd00::1')))).toBe('fd00::1/128')
  })
})
