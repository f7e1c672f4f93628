// Which flows are stale, and that the searches find them all: against a plain reading of the rules.
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { nodePortTest } from '../../src/conntrack/node-ports.ts'
import { type ServedPort, ServedTable } from '../../src/conntrack/table.ts'
import type { Flow, FlowFilter } from '../../src/net/flow.ts'
import type { IP } from '../../src/net/ip.ts'
import type { Network } from '../../src/policy/network.ts'
import type { Frontend } from '../../src/policy/service-port.ts'

const ip = (text: string): IP => text as IP
const frontend = (address: string, port: number): Frontend =>
  address === 'node-ports'
    ? { kind: 'NodePort', address, port, traffic: 'external' }
    : { kind: 'ClusterIP', address: ip(address), port, traffic: 'internal' }
const udp = (frontends: readonly Frontend[], ...serving: readonly string[]): ServedPort => ({
  protocol: 'UDP',
  frontends,
  serving: serving.map(address => ({ address: ip(address), port: 53 })),
})
const flow = (destination: string, destinationPort: number, replySource: string, replySourcePort = 53): Flow => ({
  source: ip('10.9.9.9'),
  sourcePort: 1000,
  destination: ip(destination),
  destinationPort,
  replySource: ip(replySource),
  replySourcePort,
})
const node = ip('192.168.0.1')
const takesNodePorts = (address: IP): boolean => address === node
const vip = '10.96.0.10'
const [a, b, c] = ['10.0.0.1', '10.0.0.2', '10.0.0.3']

/** A table that has been cleaned once. */
function cleaned(notes: Readonly<Record<string, readonly ServedPort[]>>): ServedTable {
  const table = new ServedTable('IPv4')
  for (const [service, ports] of Object.entries(notes)) table.note(service, ports)
  table.seal()
  table.take(takesNodePorts)
  return table
}

function changed(table: ServedTable, notes: Readonly<Record<string, readonly ServedPort[]>>) {
  for (const [service, ports] of Object.entries(notes)) table.note(service, ports)
  table.seal()
  return table.take(takesNodePorts)
}

describe('searches', () => {
  test('the first one is for everything; without a change there is none', () => {
    const table = new ServedTable('IPv6')
    expect(table.isDue).toBe(false)
    table.seal()
    expect(table.take(takesNodePorts)?.searches).toEqual([{ family: 'IPv6' }])
    expect(table.take(takesNodePorts)).toBeUndefined()
  })

  test('an endpoint that is gone is searched for by its answers', () => {
    const table = cleaned({ 'a/dns': [udp([frontend(vip, 53)], a, b)] })
    expect(changed(table, { 'a/dns': [udp([frontend(vip, 53)], b)] })?.searches).toEqual([
      { family: 'IPv4', replySource: a, replySourcePort: 53, destinationPort: 53 },
    ])
  })

  test('one endpoint behind several frontends is searched for once, by what they have in common', () => {
    const frontends = [frontend(vip, 53), frontend('node-ports', 30053)]
    const table = cleaned({ 'a/dns': [udp(frontends, a, b)] })
    expect(changed(table, { 'a/dns': [udp(frontends, b)] })?.searches).toEqual([
      { family: 'IPv4', replySource: a, replySourcePort: 53 },
    ])
  })

  test('first endpoints are searched for by where flows went', () => {
    const table = cleaned({ 'a/dns': [udp([frontend(vip, 53)])] })
    const frontends = [frontend(vip, 53), frontend('10.96.0.11', 53), frontend('node-ports', 30053)]
    expect(changed(table, { 'a/dns': [udp(frontends, a)] })?.searches).toEqual([
      { family: 'IPv4', destination: vip, destinationPort: 53 },
      { family: 'IPv4', destination: '10.96.0.11', destinationPort: 53 },
      { family: 'IPv4', destinationPort: 30053 },
    ])
  })

  test('one more endpoint, a port of another protocol, and what came and went ask for none', () => {
    const table = cleaned({ 'a/dns': [udp([frontend(vip, 53)], a)] })
    expect(changed(table, { 'a/dns': [udp([frontend(vip, 53)], a, b)] })?.searches).toEqual([])
    expect(changed(table, { 'a/web': [{ protocol: 'TCP', frontends: [frontend(vip, 80)] }] })).toBeUndefined()
    table.note('a/new', [udp([frontend('10.96.0.99', 53)])])
    expect(changed(table, { 'a/new': [] })?.searches).toEqual([])
  })

  test('many changes are one search for everything', () => {
    const many = Array.from({ length: 5 }, (_, n) => `10.0.1.${n}`)
    const table = cleaned({ 'a/dns': [udp([frontend(vip, 53)], ...many)] })
    expect(changed(table, { 'a/dns': [] })?.searches).toEqual([{ family: 'IPv4' }])
  })

  test('what is not in the kernel yet is not searched for', () => {
    const table = cleaned({ 'a/dns': [udp([frontend(vip, 53)], a)] })
    table.note('a/dns', [udp([frontend(vip, 53)], b)])
    expect(table.take(takesNodePorts)).toBeUndefined()
    table.seal()
    expect(table.take(takesNodePorts)?.searches).toHaveLength(1)
  })

  test('what failed is searched for again, with what came since', () => {
    const table = cleaned({ 'a/dns': [udp([frontend(vip, 53)], a, b)] })
    const failed = changed(table, { 'a/dns': [udp([frontend(vip, 53)], b)] })
    changed(table, { 'a/dns': [udp([frontend(vip, 53)], c)] })?.restore()
    failed?.restore()
    expect(table.take(takesNodePorts)?.searches.map(({ replySource }) => replySource)).toEqual([a, b])
  })
})

describe('stale', () => {
  test('is a flow to a Service that none of its endpoints answers, and no other', () => {
    const table = cleaned({ 'a/dns': [udp([frontend(vip, 53), frontend('node-ports', 30053)], a, b)] })
    const work = changed(table, { 'a/dns': [udp([frontend(vip, 53), frontend('node-ports', 30053)], b)] })
    const isStale = (one: Flow): boolean | undefined => work?.isStale(one)
    expect(isStale(flow(vip, 53, a))).toBe(true)
    expect(isStale(flow(vip, 53, b))).toBe(false)
    // The endpoint's address at another port is another endpoint.
    expect(isStale(flow(vip, 53, b, 54))).toBe(true)
    expect(isStale(flow(vip, 54, a))).toBe(false)
    expect(isStale(flow(a, 53, a))).toBe(false)
    expect(isStale(flow(node, 30053, a))).toBe(true)
    expect(isStale(flow('192.168.0.2', 30053, a))).toBe(false)
  })

  test('is a flow to a Service that is gone, if one of its endpoints answers it', () => {
    const table = cleaned({ 'a/dns': [udp([frontend(vip, 53), frontend('node-ports', 30053)], a)] })
    const work = changed(table, { 'a/dns': [] })
    expect(work?.isStale(flow(vip, 53, a))).toBe(true)
    expect(work?.isStale(flow(node, 30053, a))).toBe(true)
    // Somebody else's use of an address that is free again.
    expect(work?.isStale(flow(vip, 53, vip))).toBe(false)
    expect(work?.isStale(flow('192.168.0.2', 30053, a))).toBe(false)
  })

  test('an address that passes from one Service to another, in either order', () => {
    for (const order of [
      ['a/old', 'a/new'],
      ['a/new', 'a/old'],
    ]) {
      const table = cleaned({ 'a/old': [udp([frontend(vip, 53)], a)] })
      for (const service of order) table.note(service, service === 'a/new' ? [udp([frontend(vip, 53)], b)] : [])
      const work = changed(table, {})
      expect(work?.searches.map(({ replySource }) => replySource)).toContain(a)
      expect(work?.isStale(flow(vip, 53, a))).toBe(true)
      expect(work?.isStale(flow(vip, 53, b))).toBe(false)
    }
  })
})

/** Whether a table of flows would hand this one over. */
const passes = (filter: FlowFilter, one: Flow): boolean =>
  (filter.destination === undefined || filter.destination === one.destination) &&
  (filter.destinationPort === undefined || filter.destinationPort === one.destinationPort) &&
  (filter.replySource === undefined || filter.replySource === one.replySource) &&
  (filter.replySourcePort === undefined || filter.replySourcePort === one.replySourcePort)

test('whatever happens, no stale flow is missed and no good one is hit', () => {
  const addresses = [vip, '10.96.0.11', 'node-ports']
  const endpoints = [a, b, c]
  const port = fc
    .record({
      frontends: fc.uniqueArray(fc.tuple(fc.constantFrom(...addresses), fc.constantFrom(53, 54)), {
        selector: ([address, number]) => `${address}:${number}`,
        maxLength: 3,
      }),
      serving: fc.subarray(endpoints),
    })
    .map(({ frontends, serving }) =>
      udp(
        frontends.map(([address, number]) => frontend(address, number)),
        ...serving,
      ),
    )
  // Frontends of different Services do not meet: claims are settled before.
  const change = fc.record({ ports: fc.option(port), sync: fc.boolean(), fails: fc.boolean() })
  const flows = [vip, '10.96.0.11', node, '192.168.0.2'].flatMap(to =>
    [53, 54].flatMap(number => [...endpoints, to].map(from => flow(to, number, from, from === to ? number : 53))),
  )
  fc.assert(
    fc.property(fc.array(change, { maxLength: 8 }), changes => {
      const table = new ServedTable('IPv4')
      let current: ServedPort | undefined
      // Each flow there could be: present while the rules in force, or those before them, made it.
      const present = new Set<Flow>()
      const goodNow = (one: Flow): boolean | undefined => {
        const to = one.destination === node ? 'node-ports' : one.destination
        const has = current?.frontends.some(
          ({ address, port: number }) => address === to && number === one.destinationPort,
        )
        if (has !== true) return undefined
        return current?.serving?.some(
          ({ address, port: number }) => address === one.replySource && number === one.replySourcePort,
        )
      }
      for (const { ports, sync, fails } of [...changes, { ports: null, sync: true, fails: false }]) {
        for (const one of flows) {
          const good = goodNow(one)
          if (good === true || (good === undefined && one.replySource === one.destination)) present.add(one)
        }
        table.note('a/dns', ports === null ? [] : [ports])
        current = ports ?? undefined
        if (!sync) continue
        table.seal()
        const work = table.take(takesNodePorts)
        if (fails) {
          work?.restore()
          continue
        }
        for (const one of [...present]) {
          const found = work?.searches.some(filter => passes(filter, one)) === true && work.isStale(one)
          const good = goodNow(one)
          const untranslated = one.replySource === one.destination
          // Made by rules that are gone: with a frontend there, it must answer; without, only who was never one may.
          const stale = good === undefined ? !untranslated : !good
          if (found && !stale) throw new Error(`removed without need: ${JSON.stringify(one)}`)
          if (!found && stale) throw new Error(`missed: ${JSON.stringify(one)}`)
          if (found) present.delete(one)
        }
      }
    }),
    { numRuns: 300 },
  )
})

test('node ports count at the addresses of the node that take them', () => {
  const network: Network = {
    family: 'IPv4',
    detector: { kind: 'none' },
    masqueradeAll: false,
    masqueradeMark: 0x4000,
    nodePortAddresses: { kind: 'all' },
    localhostNodePorts: false,
    dropInvalid: true,
    nodeAddresses: [node, ip('172.16.0.1'), ip('127.0.0.1')],
  }
  const some = { kind: 'cidrs', cidrs: [{ address: ip('192.168.0.0'), prefix: 16 }] } as const
  const answers = (given: Network): string[] =>
    ['192.168.0.1', '172.16.0.1', '192.168.0.2', '127.0.0.1', 'fd00::1'].filter(text => nodePortTest(given)(ip(text)))
  expect(answers(network)).toEqual(['192.168.0.1', '172.16.0.1'])
  expect(answers({ ...network, nodePortAddresses: some })).toEqual(['192.168.0.1'])
  expect(answers({ ...network, localhostNodePorts: true })).toEqual(['192.168.0.1', '172.16.0.1', '127.0.0.1'])
})
