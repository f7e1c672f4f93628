// Random rules in every shape that this backend writes.
import fc from 'fast-check'
import { expect } from 'vitest'
import type { Field, Statement } from '../../../src/backend/nftables/objects.ts'
import { mergeCIDRs } from '../../../src/backend/nftables/ranges.ts'
import { type CIDR, type Family, ipFromHex, parseCIDR } from '../../../src/net/ip.ts'

/** Hexadecimal digits of an address. */
export const digits = (family: Family) => (family === 'IPv4' ? 8 : 32)

/** Addresses in hexadecimal. */
export const hexOf = (family: Family) =>
  fc
    .array(fc.constantFrom('0', '1', 'a', 'f'), { minLength: digits(family), maxLength: digits(family) })
    .map(parts => parts.join(''))

/** CIDRs that are not everything. */
export const cidrOf = (family: Family): fc.Arbitrary<CIDR> =>
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

/** Statements of every kind. */
export const statementOf = (family: Family): fc.Arbitrary<Statement> =>
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
