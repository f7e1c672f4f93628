// What several Service ports share: a function of who wants what, whatever the order.
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { addressEntry, bundleEntry, ipvsLayout, poolEntry } from '../../../src/backend/ipvs/layout.ts'
import { markMask, markOf, markSignature } from '../../../src/backend/ipvs/names.ts'
import { parseIP } from '../../../src/net/ip.ts'

const address = parseIP('10.96.0.20')
if (address === undefined) throw new Error('10.96.0.20 is an address')
const bound = [
  { key: 'address 10.96.0.20', value: '' },
  { key: 'member PENSTOCK-ADDRESS 10.96.0.20', value: '' },
]
const pool = (real: string, elements: readonly string[]) => ({
  family: 'IPv4' as const,
  protocol: 'TCP' as const,
  state: { options: '-s rr', real: [real] },
  elements,
  contested: {},
})

describe('an address', () => {
  test('stays while one of its Service ports is left', () => {
    const layout = ipvsLayout()
    const [first, second] = ['a/web:http/TCP', 'a/web:https/TCP'].map(owner => addressEntry(address, owner))
    if (first === undefined || second === undefined) throw new Error('there are two')
    layout.set(first)
    layout.set(second)
    expect([...layout.drain()]).toEqual(bound)
    layout.delete(first.key)
    expect([...layout.drain()]).toEqual([])
    layout.set(second)
    layout.delete(first.key)
    expect([...layout.drain()]).toEqual([])
    layout.delete(second.key)
    layout.delete(second.key)
    expect([...layout.drain()]).toEqual(bound.map(({ key }) => ({ key, value: undefined })))
    layout.set(first)
    layout.delete(first.key)
    expect([...layout.drain()].filter(({ value }) => value !== undefined)).toEqual([])
  })
})

describe("a frontend at one of the node's own addresses", () => {
  const external = bundleEntry('tcp 192.168.100.1:30080', 0, 'b/ext/TCP', [{ key: 'k', value: 'external IP' }])
  const nodePort = bundleEntry('tcp 192.168.100.1:30080', 1, 'a/node/TCP', [{ key: 'k', value: 'node port' }])

  test.each([
    ['first', [external, nodePort]],
    ['last', [nodePort, external]],
  ])('is the external IP before it is a node port, whichever comes %s', (_, entries) => {
    const layout = ipvsLayout()
    for (const entry of entries) layout.set(entry)
    expect([...layout.drain()]).toEqual([{ key: 'k', value: 'external IP' }])
    layout.delete(external.key)
    expect([...layout.drain()]).toEqual([{ key: 'k', value: 'node port' }])
  })
})

test('the mark at a contested address is that of the Service that has the address', () => {
  const server = 'tcp 192.168.100.1:30080'
  const element = '192.168.100.1,tcp:30080'
  const member = `member PENSTOCK-MARK ${element}`
  const nodePort = bundleEntry(server, 1, 'a/node/TCP', [{ key: 'k', value: 'node port' }])
  const external = bundleEntry(server, 0, 'b/ext/TCP', [{ key: 'k', value: 'external IP' }])
  const [pools, other] = ['a/node/TCP', 'b/ext/TCP'].map(owner =>
    poolEntry(owner, { ...pool('10.0.0.1:80', []), contested: { [server]: element } }),
  )
  if (pools === undefined || other === undefined) throw new Error('there are two')
  const layout = ipvsLayout()
  const state = new Map<string, string>()
  const settle = () => {
    for (const { key, value } of layout.drain()) value === undefined ? state.delete(key) : state.set(key, value)
  }
  layout.set(nodePort)
  layout.set(pools)
  settle()
  const mark = state.get(member)
  expect(mark).toMatch(/^skbmark 0x5ea/)
  layout.set(external)
  settle()
  expect(state.get(member)).toBeUndefined()
  layout.set(other)
  settle()
  expect(state.get(member)).toMatch(/^skbmark 0x5ea/)
  expect(state.get(member)).not.toBe(mark)
  layout.delete(other.key)
  layout.delete(external.key)
  settle()
  expect(state.get(member)).toBe(mark)
  layout.delete(pools.key)
  settle()
  expect(state.get(member)).toBeUndefined()
})

describe('marks', () => {
  test('differ by number, carry the signature, and leave bits 14 and 15 alone', () => {
    const seen = new Set<number>()
    for (let number = 0; number < 1 << 18; number += 1) {
      const mark = markOf(number >> 2, (['TCP', 'UDP', 'SCTP', 'TCP'] as const)[number & 3] ?? 'TCP')
      if ((mark & markMask) >>> 0 !== markSignature || (mark & 0xc000) !== 0) throw new Error(`mark ${mark}`)
      seen.add(mark)
    }
    expect(seen.size).toBe(3 << 16)
  })

  test('no two Service ports have the same, among thousands', () => {
    const layout = ipvsLayout()
    const count = 4_000
    for (let i = 0; i < count; i++) layout.set(poolEntry(`ns/s${i}/TCP`, pool('10.0.0.1:80', [`10.0.0.1,tcp:${i}`])))
    const objects = [...layout.drain()]
    expect(new Set(objects.map(({ key }) => key)).size).toBe(objects.length)
    expect(objects.filter(({ key }) => key.startsWith('virtual mark ')).length).toBe(count)
    const values = objects.filter(({ key }) => key.startsWith('member ')).map(({ value }) => value)
    expect(new Set(values).size).toBe(count)
  })

  test('a frontend that passes from one Service to another keeps a mark, in either order', () => {
    for (const order of [
      ['out', 'in'],
      ['in', 'out'],
    ]) {
      const layout = ipvsLayout()
      const element = '203.0.113.1,tcp:80'
      const [before, after] = [
        poolEntry('a/old/TCP', pool('10.0.0.1:80', [element])),
        poolEntry('b/new/TCP', pool('10.0.0.2:80', [element])),
      ]
      layout.set(before)
      const state = new Map<string, string>()
      const settle = () => {
        for (const { key, value } of layout.drain()) value === undefined ? state.delete(key) : state.set(key, value)
      }
      settle()
      for (const step of order) {
        if (step === 'out') layout.delete(before.key)
        else layout.set(after)
        settle()
      }
      const mark = [...state.keys()].find(key => key.startsWith('virtual mark '))?.split(' ')[2]
      expect([...state]).toHaveLength(2)
      expect(state.get(`member PENSTOCK-MARK ${element}`)).toBe(`skbmark ${mark}`)
    }
  })
})

test('the same entries come to the same objects, whatever came and went on the way', () => {
  const owner = fc.constantFrom('a/a/TCP', 'a/b/TCP', 'a/c/TCP', 'b/a/UDP')
  const entry = fc.oneof(
    owner.map(name => addressEntry(address, name)),
    fc
      .tuple(owner, fc.nat(1), fc.constantFrom('x', 'y'))
      .map(([name, rank, value]) => bundleEntry('tcp 192.168.100.1:80', rank, name, [{ key: 'k', value }])),
    fc
      .tuple(owner, fc.constantFrom('10.0.0.1:80', '10.0.0.2:80'), fc.subarray(['10.0.0.1,tcp:1', '10.0.0.1,tcp:2']))
      .map(([name, real, elements]) =>
        poolEntry(name, { ...pool(real, elements), contested: { 'tcp 192.168.100.1:80': '192.168.100.1,tcp:80' } }),
      ),
  )
  fc.assert(
    fc.property(fc.array(fc.tuple(entry, fc.boolean(), fc.boolean()), { maxLength: 30 }), steps => {
      const layout = ipvsLayout()
      const objects = new Map<string, string>()
      const entries = new Map<string, string>()
      const settle = () => {
        for (const { key, value } of layout.drain()) value === undefined ? objects.delete(key) : objects.set(key, value)
      }
      for (const [item, goes, drains] of steps) {
        if (goes) {
          layout.delete(item.key)
          entries.delete(item.key)
        } else {
          layout.set(item)
          entries.set(item.key, item.value)
        }
        if (drains) settle()
      }
      settle()
      const fresh = ipvsLayout()
      for (const [key, value] of [...entries].reverse()) fresh.set({ key, value })
      const expected = new Map([...fresh.drain()].map(({ key, value }) => [key, value]))
      expect(objects).toEqual(expected)
    }),
  )
})
