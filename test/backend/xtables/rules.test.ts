// Rules as both variants of iptables-save print them, and what they are understood as.
import { describe, expect, it } from 'vitest'
import { parseRule } from '../../../src/backend/xtables/rule-parser.ts'
import { mapMark, matchSet } from '../../../src/backend/xtables/rules.ts'

describe('sets', () => {
  it('are spelt as iptables-save 1.8.9 prints them', () => {
    expect(matchSet('PENSTOCK-DROP', 'dst,dst')).toBe('-m set --match-set PENSTOCK-DROP dst,dst')
    expect(matchSet('PENSTOCK-DROP', 'dst,dst', true)).toBe('-m set ! --match-set PENSTOCK-DROP dst,dst')
    expect(mapMark('PENSTOCK-MARK', 'dst,dst')).toBe('-j SET --map-set PENSTOCK-MARK dst,dst --map-mark')
  })

  it('are understood in matches', () => {
    const text = '-p tcp -m set --match-set RANGES dst,dst,src -m set ! --match-set MARK dst,dst -j RETURN'
    expect(parseRule(text)).toEqual({
      matches: [
        { kind: 'protocol', protocol: 'tcp', negated: false },
        { kind: 'set', name: 'RANGES', flags: 'dst,dst,src', negated: false },
        { kind: 'set', name: 'MARK', flags: 'dst,dst', negated: true },
      ],
      target: { kind: 'verdict', verdict: 'RETURN' },
    })
  })

  it('are understood as a source of marks, and of nothing else', () => {
    expect(parseRule(mapMark('MARK', 'dst,dst'))).toEqual({
      matches: [],
      target: { kind: 'map-mark', set: 'MARK', flags: 'dst,dst' },
    })
    expect(() => parseRule('-j SET --map-set MARK dst,dst --map-prio')).toThrow('"--map-prio" is not understood')
    expect(() => parseRule('-j SET --add-set MARK dst,dst')).toThrow('"--add-set" is not understood')
    expect(() => parseRule('-j SET --map-mark')).toThrow('--map-mark without --map-set')
  })
})

it('knows output interfaces', () => {
  expect(parseRule('-d 10.0.0.0/8 -i cni+ ! -o lo -p udp -j DROP').matches).toEqual([
    { kind: 'destination', hex: '0a000000', prefix: 8, negated: false },
    { kind: 'input-interface', name: 'cni', prefix: true, negated: false },
    { kind: 'output-interface', name: 'lo', prefix: false, negated: true },
    { kind: 'protocol', protocol: 'udp', negated: false },
  ])
})
