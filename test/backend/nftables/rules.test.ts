// Rules as text and back, in our own spelling and in that of nft's listings; ranges as nft merges them.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Field, Rule, Statement } from '../../../src/backend/nftables/objects.ts'
import { parseRule } from '../../../src/backend/nftables/parse.ts'
import { formatRange, mergeCIDRs, parseRange, rangesHold } from '../../../src/backend/nftables/ranges.ts'
import { ruleText } from '../../../src/backend/nftables/render.ts'
import { type CIDR, cidrContains, type Family, ipFromHex, ipToHex, parseCIDR } from '../../../src/net/ip.ts'

const digits = (family: Family) => (family === 'IPv4' ? 8 : 32)

const hexOf = (family: Family) =>
  fc
    .array(fc.constantFrom('0', '1', 'a', 'f'), { minLength: digits(family), maxLength: digits(family) })
    .map(parts => parts.join(''))

const cidrOf = (family: Family): fc.Arbitrary<CIDR> =>
  fc
    .tuple(hexOf(family), fc.integer({ min: 1, max: digits(family) * 4 }))
    .map(([hex, prefix]) => parseCIDR(`${ipFromHex(hex)}/${prefix}`) ?? expect.fail('no CIDR'))

const name = fc.constantFrom('services', 'node-ports', 'aff-60/shop/web/tcp/http/10.1.2.3/8080', 'pick-7')
const field: fc.Arbitrary<Field> = fc.constantFrom('saddr', 'daddr', 'protocol', 'port')
const mark = fc.integer({ min: 0, max: 31 }).map(bit => (1 << bit) >>> 0)
// nft knows no look-up by a port alone: it could not tell of which protocol.
const fields = fc
  .array(field, { minLength: 1, maxLength: 4 })
  .filter(([first, ...rest]) => first !== 'port' && (first !== 'protocol' || rest.length > 0))

const statementOf = (family: Family): fc.Arbitrary<Statement> =>
  fc.oneof(
    fc.record({
      kind: fc.constant('address' as const),
      side: fc.constantFrom('saddr' as const, 'daddr' as const),
      negated: fc.boolean(),
      ranges: fc.array(cidrOf(family), { minLength: 1, maxLength: 5 }).map(mergeCIDRs),
    }),
    fc.record({
      kind: fc.constant('input-interface' as const),
      name: fc.constantFrom('cbr0', 'veth', 'eth0.1'),
      prefix: fc.boolean(),
      negated: fc.boolean(),
    }),
    fc.record({ kind: fc.constant('protocol' as const), protocol: fc.constantFrom('TCP', 'UDP', 'SCTP') }),
    fc.record({
      kind: fc.constant('local' as const),
      side: fc.constantFrom('saddr' as const, 'daddr' as const),
      negated: fc.boolean(),
    }),
    fc
      .tuple(fc.integer({ min: 1, max: 999 }), fc.integer({ min: 1, max: 999 }))
      .map(([below, more]) => ({ kind: 'chance' as const, below, of: below + more })),
    fc.record({ kind: fc.constant('in-set' as const), fields, set: name }),
    fc.record({ kind: fc.constant('verdict-map' as const), fields, map: name }),
    fc.record({ kind: fc.constant('mark-set' as const), mark }),
    fc.record({ kind: fc.constantFrom('set-mark' as const, 'clear-mark' as const), mark }),
    fc.record({
      kind: fc.constant('octet-pair' as const),
      octet: fc.integer({ min: 0, max: digits(family) / 2 - 1 }),
      set: fc.constant('octets'),
    }),
    fc.record({ kind: fc.constant('remember' as const), set: name }),
    fc.record({
      kind: fc.constant('dnat' as const),
      address: hexOf(family).map(ipFromHex),
      port: fc.integer({ min: 1, max: 65_535 }),
    }),
    fc.record({
      kind: fc.constant('dnat-map' as const),
      fields: fc.constantFrom<readonly Field[]>(['daddr', 'protocol', 'port'], ['protocol', 'port']),
      of: fc.integer({ min: 1, max: 32 }),
      map: name,
    }),
    fc.record({ kind: fc.constantFrom('translated' as const, 'masquerade' as const, 'reject' as const) }),
    fc.record({
      kind: fc.constant('verdict' as const),
      verdict: fc.oneof(
        fc.record({ kind: fc.constantFrom('accept' as const, 'drop' as const, 'return' as const) }),
        fc.record({ kind: fc.constantFrom('goto' as const, 'jump' as const), chain: name }),
      ),
    }),
  )

describe.each<Family>(['IPv4', 'IPv6'])('rules of %s', family => {
  it('are read as they were meant', () => {
    fc.assert(
      fc.property(fc.array(statementOf(family), { minLength: 1, maxLength: 6 }), (rule: Rule) => {
        expect(parseRule(ruleText(rule, family), family)).toEqual(rule)
      }),
      { numRuns: 2_000 },
    )
  })

  it('hold the addresses that their CIDRs hold', () => {
    fc.assert(
      fc.property(fc.array(cidrOf(family), { maxLength: 6 }), hexOf(family), (cidrs, hex) => {
        const ranges = mergeCIDRs(cidrs)
        const probes = [hex, ...cidrs.map(cidr => ipToHex(cidr.address)), ...ranges.map(range => range.last)]
        for (const probe of probes) {
          const expected = cidrs.some(cidr => cidrContains(cidr, ipFromHex(probe)))
          expect(rangesHold(ranges, probe), probe).toBe(expected)
        }
        for (const [i, range] of ranges.entries()) {
          expect(parseRange(formatRange(range))).toEqual(range)
          const next = ranges[i + 1]
          if (next !== undefined) expect(BigInt(`0x${next.first}`) > BigInt(`0x${range.last}`) + 1n).toBe(true)
        }
      }),
    )
  })
})

describe('a rule in the words of nft', () => {
  it.each([
    ['meta l4proto 6 dnat to 10.1.2.3:80', 'meta l4proto tcp dnat to 10.1.2.3:80'],
    ['meta mark & 0x00004000 != 0x00000000 drop', 'meta mark & 0x4000 != 0x0 drop'],
    ['meta mark != 0x00000000/1 drop', 'meta mark & 0x80000000 != 0x0 drop'],
    ['meta mark set meta mark | 0x00004000', 'meta mark set meta mark | 0x4000'],
    ['meta mark set mark or 0x00004000', 'meta mark set meta mark | 0x4000'],
    ['ct status 0x20 masquerade fully-random', 'ct status dnat masquerade fully-random'],
    ['fib daddr type != 2 reject', 'fib daddr type != local reject'],
    ['fib daddr type != local reject with icmp port-unreachable', 'fib daddr type != local reject'],
    ['ip saddr { 10.0.0.0/8 } drop', 'ip saddr 10.0.0.0/8 drop'],
    ['ip saddr { 192.0.2.0-192.0.2.6, 10.0.0.1 } drop', 'ip saddr { 10.0.0.1, 192.0.2.0-192.0.2.6 } drop'],
    [
      'dnat ip addr . port to ip daddr . meta l4proto . tcp dport . numgen random mod 2 map @endpoints',
      'dnat ip to ip daddr . meta l4proto . th dport . numgen random mod 2 map @endpoints',
    ],
  ])('%s', (listed, ours) => {
    expect(ruleText(parseRule(listed, 'IPv4'), 'IPv4')).toBe(ours)
  })

  it.each(['counter packets 0 bytes 0 accept', 'ip saddr', 'meta mark set 0x1', 'masquerade', 'ip saddr != @x', ''])(
    'is not guessed at: %s',
    text => {
      if (text === '') expect(parseRule(text, 'IPv4')).toEqual([])
      else expect(() => parseRule(text, 'IPv4')).toThrow(/rule/)
    },
  )
})
