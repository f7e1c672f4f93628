// Rules as text and back, in our own spelling and in that of nft's listings; ranges as nft merges them.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Rule } from '../../../src/backend/nftables/objects.ts'
import { parseRule } from '../../../src/backend/nftables/parse.ts'
import { formatRange, mergeCIDRs, parseRange, rangesHold } from '../../../src/backend/nftables/ranges.ts'
import { ruleText } from '../../../src/backend/nftables/render.ts'
import { cidrContains, type Family, ipFromHex, ipToHex } from '../../../src/net/ip.ts'
import { cidrOf, hexOf, statementOf } from './arbitrary.ts'

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
