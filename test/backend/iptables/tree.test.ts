// The tree of chains is a function of the set of entries: order and history leave no trace, and every path is found.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { chains, entryKey, trees } from '../../../src/backend/iptables/names.ts'
import { trace } from '../../../src/backend/iptables/trace.ts'
import { entryPath, treeLayout } from '../../../src/backend/iptables/tree.ts'
import { type Family, type IP, ipFromHex, parseIP } from '../../../src/net/ip.ts'
import type { Network } from '../../../src/policy/network.ts'

const roots = [
  { table: 'nat' as const, root: trees.address, byAddress: true },
  { table: 'nat' as const, root: trees.nodePort, byAddress: false },
]

interface Entry {
  readonly address: string
  readonly protocol: 'TCP' | 'UDP' | 'SCTP'
  readonly port: number
}

const key = ({ address, protocol, port }: Entry) => entryKey('nat', trees.address, entryPath(address, protocol, port))

const rule = ({ address, protocol, port }: Entry, to: string) =>
  `-d ${ipFromHex(address)}/${address.length * 4} -p ${protocol.toLowerCase()} -m ${protocol.toLowerCase()} --dport ${port} -j DNAT --to-destination ${to}`

/** Applies drained changes to a map, as the kernel would hold them. */
function apply(held: Map<string, string>, layout: ReturnType<typeof treeLayout>): void {
  for (const { key: name, value } of layout.drain()) {
    if (value === undefined) expect(held.delete(name), `deleted chain ${name} was there`).toBe(true)
    else {
      expect(held.get(name), `rewritten chain ${name} differs`).not.toBe(value)
      held.set(name, value)
    }
  }
}

// Few high digits, so that prefixes are shared and groups grow large.
const entryOf = (digits: number) =>
  fc.record({
    address: fc
      .array(fc.constantFrom('0', '1', 'a', 'f'), { minLength: 3, maxLength: 3 })
      .map(tail => `0a60${tail.join('')}`.padEnd(digits, '0')),
    protocol: fc.constantFrom('TCP' as const, 'UDP' as const, 'SCTP' as const),
    port: fc.constantFrom(53, 80, 443, 8080, 30_000),
  })

const network = (family: Family): Network => ({
  family,
  detector: { kind: 'none' },
  masqueradeAll: false,
  masqueradeMark: 0x4000,
  nodePortAddresses: { kind: 'all' },
  localhostNodePorts: false,
  dropInvalid: true,
  nodeAddresses: [],
})

describe.each([
  { family: 'IPv4' as const, digits: 8 },
  { family: 'IPv6' as const, digits: 32 },
])('$family tree', ({ family, digits }) => {
  it('built step by step equals built at once', () => {
    fc.assert(
      fc.property(
        fc.array(fc.array(fc.tuple(fc.boolean(), entryOf(digits)), { maxLength: 60 }), { minLength: 1, maxLength: 6 }),
        batches => {
          const layout = treeLayout(digits, roots)
          const held = new Map<string, string>()
          const wanted = new Map<string, { entry: Entry; to: string }>()
          let serial = 0
          for (const batch of batches) {
            for (const [add, entry] of batch) {
              const to = `10.0.0.1:${++serial}`
              if (add) {
                layout.set({ key: key(entry), value: rule(entry, to) })
                wanted.set(key(entry), { entry, to })
              } else {
                layout.delete(key(entry))
                wanted.delete(key(entry))
              }
            }
            apply(held, layout)
            const fresh = treeLayout(digits, roots)
            for (const [name, { entry, to }] of [...wanted].reverse()) fresh.set({ key: name, value: rule(entry, to) })
            const expected = new Map<string, string>()
            apply(expected, fresh)
            expect(Object.fromEntries(held)).toEqual(Object.fromEntries(expected))
          }
        },
      ),
      { numRuns: 150 },
    )
  })

  it('leads every packet to its own entry, and no other packet anywhere', () => {
    const layout = treeLayout(digits, roots)
    const held = new Map<string, string>([
      ['nat/PREROUTING>PENSTOCK-SERVICES', `-j ${chains.services}`],
      [`nat/${chains.services}`, `-j ${trees.address}`],
    ])
    const base = family === 'IPv4' ? '0a60' : 'fd000010009600000000000000'
    const entries: Entry[] = []
    for (let i = 0; i < 900; i++) {
      const tail = ((i * 40_503) & 0xffff).toString(16).padStart(4, '0')
      entries.push({
        address: (base + tail).padEnd(digits, '7'),
        protocol: i % 3 === 0 ? 'UDP' : 'TCP',
        port: 80 + (i % 4),
      })
    }
    // One address with hundreds of ports: the tree goes on below the address.
    for (let i = 0; i < 400; i++)
      entries.push({ address: `${base}abcd`.padEnd(digits, '7'), protocol: 'TCP', port: 1000 + i * 7 })
    for (const [i, entry] of entries.entries()) layout.set({ key: key(entry), value: rule(entry, `10.0.0.1:${i + 1}`) })
    apply(held, layout)

    const src = parseIP(family === 'IPv4' ? '192.0.2.1' : '2001:db8::1') as IP
    for (const [i, { address, protocol, port }] of entries.entries()) {
      const outcome = trace(held, { src, dst: ipFromHex(address), protocol, port }, network(family))
      expect(outcome.endpoints.map(endpoint => endpoint.address)).toEqual([`10.0.0.1:${i + 1}`])
      expect(outcome.path.length, 'rules taken on the way').toBeLessThan(12)
      const miss = trace(held, { src, dst: ipFromHex(address), protocol: 'SCTP', port }, network(family))
      expect(miss.verdict).toBe('none')
    }
    for (const [name, value] of held) {
      if (name.includes(trees.address)) expect(value.split('\n').length, `rules in ${name}`).toBeLessThanOrEqual(64)
      expect(name.split('/')[1]?.split('>')[0]?.length).toBeLessThanOrEqual(28)
    }
  })

  it('stays shallow for addresses chosen to make it deep, and equal to one built at once', () => {
    // At every digit some addresses branch off, and more than a leaf holds go on.
    const entries: Entry[] = []
    for (let level = 0; level < digits; level++) {
      for (let i = 1; i <= 6; i++) {
        const address =
          'a'.repeat(level) +
          '1' +
          i
            .toString(16)
            .padEnd(digits - level - 1, '0')
            .slice(0, digits - level - 1)
        if (address.length === digits) entries.push({ address, protocol: 'TCP', port: 80 + i })
      }
    }
    for (let i = 0; i < 60; i++) entries.push({ address: 'a'.repeat(digits), protocol: 'TCP', port: 1000 + i })
    const layout = treeLayout(digits, roots)
    const held = new Map<string, string>()
    const add = (some: readonly Entry[]) => {
      for (const entry of some) layout.set({ key: key(entry), value: rule(entry, '10.0.0.1:1') })
      apply(held, layout)
    }
    // The top last: what is below moves deeper without any entry of its own changing.
    for (const entry of [...entries].reverse()) add([entry])
    const fresh = treeLayout(digits, roots)
    for (const entry of entries) fresh.set({ key: key(entry), value: rule(entry, '10.0.0.1:1') })
    const expected = new Map<string, string>()
    apply(expected, fresh)
    expect(Object.fromEntries(held)).toEqual(Object.fromEntries(expected))
    const depthOf = (chain: string): number => {
      const below = [...(held.get(`nat/${chain}`) ?? '').matchAll(/-g (PENSTOCK-ADDR-\S+)/g)]
      return below.length === 0 ? 0 : 1 + Math.max(...below.map(([, child = '']) => depthOf(child)))
    }
    expect(depthOf(trees.address)).toBe(6)
    for (const entry of entries.slice(0, 12)) layout.delete(key(entry))
    apply(held, layout)
    const shrunk = treeLayout(digits, roots)
    for (const entry of entries.slice(12)) shrunk.set({ key: key(entry), value: rule(entry, '10.0.0.1:1') })
    const left = new Map<string, string>()
    apply(left, shrunk)
    expect(Object.fromEntries(held)).toEqual(Object.fromEntries(left))
  })

  it('rewrites only the chains on the path of one new entry', () => {
    const layout = treeLayout(digits, roots)
    const at = (i: number): Entry => ({
      address: `0a60${((i * 40_503) & 0xffff).toString(16).padStart(4, '0')}`.padEnd(digits, '0'),
      protocol: 'TCP',
      port: 80,
    })
    for (let i = 0; i < 20_000; i++) layout.set({ key: key(at(i)), value: rule(at(i), '10.0.0.1:1') })
    const chainsBefore = [...layout.drain()].length
    expect(chainsBefore).toBeGreaterThan(100)
    layout.set({ key: key(at(50_000)), value: rule(at(50_000), '10.0.0.1:1') })
    expect([...layout.drain()].length).toBeLessThanOrEqual(5)
    layout.delete(key(at(50_000)))
    expect([...layout.drain()].length).toBeLessThanOrEqual(5)
  })
})
