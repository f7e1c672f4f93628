// Statements as the kernel's expressions and back; elements as bytes and back; and what is not of our making.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Encoder } from '../../../src/backend/nftables/commands.ts'
import { staticContainers } from '../../../src/backend/nftables/containers.ts'
import { elementReader } from '../../../src/backend/nftables/contents.ts'
import { textOfRule } from '../../../src/backend/nftables/delinearize.ts'
import { type AnonymousSets, rulePattern } from '../../../src/backend/nftables/expressions.ts'
import { type LinearRule, linearize } from '../../../src/backend/nftables/linearize.ts'
import type { Rule } from '../../../src/backend/nftables/objects.ts'
import { parseRule } from '../../../src/backend/nftables/parse.ts'
import { isNftStep, plan } from '../../../src/backend/nftables/plan.ts'
import { ruleText } from '../../../src/backend/nftables/render.ts'
import { commentUserdata } from '../../../src/backend/nftables/userdata.ts'
import { elementFlag, type NftElement, type NftExpression } from '../../../src/kernel/netlink/nft-objects.ts'
import type { Family } from '../../../src/net/ip.ts'
import { statementOf } from './arbitrary.ts'

const families: readonly Family[] = ['IPv4', 'IPv6']

function linear(rule: Rule, family: Family): LinearRule {
  let id = 0
  return linearize(rule, family, () => ++id)
}

/** As a dump has it: sets within rules have names of their own, and elements come in any order. */
function dumped({ expressions, sets }: LinearRule): { expressions: readonly NftExpression[]; sets: AnonymousSets } {
  const named = new Map(sets.map(({ set, elements }) => [`__set${set.id}`, { set, elements: [...elements].reverse() }]))
  return {
    expressions: expressions.map(expression => {
      if (expression.kind !== 'lookup' || expression.setId === undefined) return expression
      const { setId, ...rest } = expression
      return { ...rest, set: `__set${setId}` }
    }),
    sets: name => named.get(name),
  }
}

const readBack = (rule: Rule, family: Family): string => {
  const { expressions, sets } = dumped(linear(rule, family))
  return textOfRule(expressions, sets, family)
}

const ruleOf = (family: Family): fc.Arbitrary<Rule> => fc.array(statementOf(family), { minLength: 1, maxLength: 6 })

describe.each(families)('rules of %s', family => {
  it('are read from the kernel as they were written', () => {
    fc.assert(
      fc.property(ruleOf(family), rule => {
        expect(readBack(rule, family)).toBe(ruleText(rule, family))
      }),
      { numRuns: 2_000 },
    )
  })

  it('that somebody changed show as other rules, whatever was changed', () => {
    fc.assert(
      fc.property(ruleOf(family), fc.nat(), fc.nat(), fc.nat(4), (rule, at, field, how) => {
        const { expressions, sets } = dumped(linear(rule, family))
        const changed = [...expressions]
        const index = at % changed.length
        const expression = changed[index]
        if (expression === undefined) expect.fail('a rule has expressions')
        if (how === 0) changed.splice(index, 1)
        else if (how === 1) changed.splice(index, 0, expression)
        else if (how === 2) changed.splice(index, 1, { kind: 'unknown', name: 'counter', attributes: Buffer.alloc(3) })
        else changed[index] = altered(expression, field, how)
        const text = textOfRule(changed, sets, family)
        const isSame = rulePattern(changed, sets) === rulePattern(expressions, sets)
        expect(text === ruleText(rule, family)).toBe(isSame)
      }),
      { numRuns: 3_000 },
    )
  })
})

/** Another number, or other bytes, in one field. */
function altered(expression: NftExpression, field: number, how: number): NftExpression {
  const names = Object.keys(expression).filter(name => name !== 'kind')
  const name = names[field % names.length]
  const entries = Object.entries(expression).map(([key, value]): [string, unknown] => {
    if (key !== name) return [key, value]
    if (typeof value === 'number') return [key, value + (how === 3 ? 1 : 7)]
    if (typeof value === 'boolean') return [key, !value]
    if (!Buffer.isBuffer(value)) return [key, typeof value === 'string' ? `${value}x` : { kind: 'break' }]
    return [key, how === 3 ? value.subarray(1) : Buffer.from(value.map(octet => octet ^ 0x81))]
  })
  // The entries are those of an expression, one of them with another value of the same type.
  return Object.fromEntries(entries) as unknown as NftExpression
}

/** From `nft --debug=netlink`, version 1.0.6: what is compared, and with what. */
describe('expressions as nft makes them', () => {
  const kinds = (text: string, family: Family = 'IPv4'): string =>
    linear(parseRule(text, family), family)
      .expressions.map(expression => {
        switch (expression.kind) {
          case 'payload':
            return `payload ${expression.length}@${expression.offset}=>${expression.to}`
          case 'cmp':
            return `cmp ${expression.op} ${expression.data.toString('hex')}`
          case 'range':
            return `range ${expression.op} ${expression.first.toString('hex')} ${expression.last.toString('hex')}`
          case 'bitwise':
            return `bitwise ${expression.mask.toString('hex')} ${expression.xor.toString('hex')}`
          case 'meta':
          case 'numgen':
            return `${expression.kind}=>${expression.to}`
          case 'nat':
            return `nat ${expression.addressMin} ${expression.portMin}`
          default:
            return expression.kind
        }
      })
      .join(', ')

  it.each([
    ['ip saddr 10.0.0.0/8', 'payload 1@12=>1, cmp 0 0a'],
    ['ip saddr != 10.16.0.0/12', 'payload 4@12=>1, bitwise fff00000 00000000, cmp 1 0a100000'],
    ['ip daddr 10.2.0.5-10.2.0.7', 'payload 4@16=>1, cmp 5 0a020005, cmp 3 0a020007'],
    ['ip daddr != 10.2.0.5-10.2.0.7', 'payload 4@16=>1, range 1 0a020005 0a020007'],
    ['iifname "veth*"', 'meta=>1, cmp 0 76657468'],
    ['iifname != "cbr0"', `meta=>1, cmp 1 63627230${'0'.repeat(24)}`],
    ['numgen random mod 40 < 13', 'numgen=>1, byteorder, cmp 2 0000000d'],
    ['meta mark set meta mark | 0x4000', 'meta=>1, bitwise ffbfffff 00400000, meta-set'],
    [
      'dnat ip to ip daddr . meta l4proto . th dport . numgen random mod 2 map @endpoints',
      'payload 4@16=>1, meta=>9, payload 2@2=>10, numgen=>11, lookup, nat 1 9',
    ],
  ])('%s', (text, expected) => {
    expect(kinds(text)).toBe(expected)
  })

  it('for IPv6', () => {
    expect(kinds('dnat ip6 to ip6 daddr . meta l4proto . th dport . numgen random mod 2 map @endpoints', 'IPv6')).toBe(
      'payload 16@24=>1, meta=>2, payload 2@2=>13, numgen=>14, lookup, nat 1 2',
    )
    expect(kinds('ip6 saddr fd00:7::/32', 'IPv6')).toBe('payload 4@8=>1, cmp 0 fd000007')
  })

  it('in sets of intervals, which say what is outside too', () => {
    const elementsOf = (text: string): string[] =>
      linear(parseRule(text, 'IPv4'), 'IPv4').sets.flatMap(({ set, elements }) => [
        `flags ${set.flags} size ${set.size}`,
        ...elements.map(({ key, flags = 0 }) => `${key.toString('hex')} ${flags}`),
      ])
    expect(elementsOf('ip daddr { 10.0.0.0/16, 10.2.0.5-10.2.0.6 } drop')).toEqual([
      'flags 7 size 5',
      '00000000 1',
      '0a000000 0',
      '0a010000 1',
      '0a020005 0',
      '0a020007 1',
    ])
    expect(elementsOf('ip daddr { 0.0.0.0/8, 255.0.0.0/8 } drop')).toEqual([
      'flags 7 size 4',
      '00000000 0',
      '01000000 1',
      'ff000000 0',
    ])
    expect(elementsOf('ip daddr { 10.0.0.1, 10.2.0.5 } drop')).toEqual(['flags 3 size 2', '0a000001 0', '0a020005 0'])
  })
})

describe.each(families)('elements of %s', family => {
  const cases = staticContainers.map(container => [container.name, container] as const)

  it.each(cases)('of %s can be deleted as they were read, whoever made them', (_name, container) => {
    const encoder = new Encoder(family, 0)
    const [sample] = staticContainers.flatMap(({ name }) => (name === container.name ? [container] : []))
    if (sample === undefined) expect.fail('there is one')
    const length = keyLengthOf(container.name, family)
    const element = fc.record(
      {
        key: fc.uint8Array({ minLength: length, maxLength: length }).map(bytes => Buffer.from(bytes)),
        userdata: fc.constantFrom(
          commentUserdata('a'),
          Buffer.from([1, 4, 1, 0, 0, 0]),
          Buffer.from([0]),
          Buffer.alloc(0),
        ),
        data: fc.constantFrom(
          { kind: 'break' as const },
          { kind: 'goto' as const, chain: 'x' },
          Buffer.alloc(3),
          Buffer.alloc(8),
        ),
      },
      { requiredKeys: ['key'] },
    )
    fc.assert(
      fc.property(fc.uniqueArray(element, { maxLength: 5, selector: ({ key }) => key.toString('hex') }), elements => {
        const reader = elementReader(container, family)
        for (const each of [...elements, ...elements.slice(0, 1).map(masked)]) reader.take(each)
        const removed = [...reader.objects()]
        const { steps } = plan({ added: [], changed: [], removed }, new Map(), family, 'kernel')
        const keys = steps.flatMap(step =>
          isNftStep(step)
            ? [...step.commands()].flatMap(command =>
                encoder
                  .operationsOf(command)
                  .flatMap(operation =>
                    operation.kind === 'delete-elements'
                      ? operation.elements.map(({ key }) => key.toString('hex'))
                      : [],
                  ),
              )
            : [],
        )
        const wanted = [...elements, ...elements.slice(0, 1).map(masked)].map(({ key }) => key.toString('hex'))
        expect(new Set(keys)).toEqual(new Set(wanted))
      }),
    )
  })

  it('for what no other matches have a key of their own', () => {
    const [services] = staticContainers
    if (services === undefined) expect.fail('there is one')
    const reader = elementReader(services, family)
    reader.take({ key: Buffer.alloc(0), flags: elementFlag.catchall, data: { kind: 'drop' } })
    expect([...reader.objects()]).toEqual([{ key: 'element services *', value: ': drop' }])
  })
})

const keyLengthOf = (name: string, family: Family): number => {
  const address = family === 'IPv4' ? 4 : 16
  const lengths: Readonly<Record<string, number>> = {
    services: address + 8,
    'node-ports': 8,
    endpoints: address + 12,
    'node-port-endpoints': 12,
    'cluster-ips': address,
    octets: 8,
  }
  return lengths[name] ?? expect.fail(`no such set: ${name}`)
}

/** The same with a small index, or a small last part. */
const masked = (element: NftElement): NftElement => {
  const key = Buffer.from(element.key)
  key.fill(0, key.length - 3)
  return { ...element, key }
}
