// Stale UDP flows, with real ones: a client, a node that translates, two pods. What must go goes, nothing else does.
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { ServedPort } from '../../src/conntrack/table.ts'
import { parseFlows } from '../../src/kernel/conntrack-tool.ts'
import type { Flow } from '../../src/net/flow.ts'
import type { Family, IP } from '../../src/net/ip.ts'
import type { Frontend } from '../../src/policy/service-port.ts'
import type { Kept, KeptFlow, WorkerMethods } from '../conntrack/worker.ts'
import { Sandbox, type Worker } from '../support/netns/sandbox.ts'

interface Place {
  readonly client: string
  readonly node: string
  readonly podSide: string
  readonly pods: readonly [string, string]
  readonly vip: string
  readonly otherVip: string
  readonly prefix: number
}

const places: Readonly<Record<Family, Place>> = {
  IPv4: {
    client: '10.0.1.2',
    node: '10.0.1.1',
    podSide: '10.0.2.1',
    pods: ['10.0.2.11', '10.0.2.12'],
    vip: '10.96.0.10',
    otherVip: '10.96.0.20',
    prefix: 24,
  },
  IPv6: {
    client: 'fd00:1::2',
    node: 'fd00:1::1',
    podSide: 'fd00:2::1',
    pods: ['fd00:2::11', 'fd00:2::12'],
    vip: 'fd00:96::10',
    otherVip: 'fd00:96::20',
    prefix: 64,
  },
}
const nftFamily = { IPv4: 'ip', IPv6: 'ip6' } as const

let sandbox: Sandbox
let client: Worker<WorkerMethods>
let node: Worker<WorkerMethods>
let pods: Worker<WorkerMethods>

beforeAll(async () => {
  sandbox = await Sandbox.open()
  await sandbox.addNamespaces(['client', 'node', 'pods'])
  await sandbox.addLinks([
    {
      left: { namespace: 'client', device: 'eth0', mac: '02:00:00:00:01:02' },
      right: { namespace: 'node', device: 'left', mac: '02:00:00:00:01:01' },
    },
    {
      left: { namespace: 'pods', device: 'eth0', mac: '02:00:00:00:02:02' },
      right: { namespace: 'node', device: 'right', mac: '02:00:00:00:02:01' },
    },
  ])
  const { IPv4: four, IPv6: six } = places
  const up = (device: string): string[] => ['link set lo up', `link set ${device} up`]
  const add = (place: Place, address: string, device: string): string =>
    `addr add ${address}/${place.prefix} dev ${device}${address.includes(':') ? ' nodad' : ''}`
  await sandbox.configure('client', {
    ip: [...up('eth0'), add(four, four.client, 'eth0'), `route add default via ${four.node}`],
    ip6: [add(six, six.client, 'eth0'), `route add default via ${six.node}`],
  })
  await sandbox.configure('node', {
    sysctls: { 'net/ipv4/ip_forward': '1', 'net/ipv6/conf/all/forwarding': '1' },
    ip: [...up('left'), ...up('right'), add(four, four.node, 'left'), add(four, four.podSide, 'right')],
    ip6: [add(six, six.node, 'left'), add(six, six.podSide, 'right')],
  })
  // An address of a Service that nobody translates goes to the pods' side, where it is dropped.
  await sandbox.configure('node', {
    ip: [`route add default via ${four.pods[0]}`],
    ip6: [`route add default via ${six.pods[0]}`],
  })
  await sandbox.configure('pods', {
    ip: [...up('eth0'), ...four.pods.map(pod => add(four, pod, 'eth0')), `route add default via ${four.podSide}`],
    ip6: [...six.pods.map(pod => add(six, pod, 'eth0')), `route add default via ${six.podSide}`],
  })
  const module = join(import.meta.dirname, '../conntrack/worker.ts')
  client = await sandbox.worker<WorkerMethods>({ namespace: 'client', module })
  node = await sandbox.worker<WorkerMethods>({ namespace: 'node', module })
  pods = await sandbox.worker<WorkerMethods>({ namespace: 'pods', module })
  for (const place of Object.values(places)) {
    for (const address of place.pods) {
      for (const port of [53, 5353]) await pods.call('serve', { address, port })
    }
  }
})
afterAll(async () => {
  await sandbox?.close()
})

/** Where packets to `address:port` go, for every protocol; none: nothing is translated. */
async function translate(family: Family, rules: readonly (readonly [string, number, string])[]): Promise<void> {
  const ip = nftFamily[family]
  const lines = rules.map(([address, port, pod]) => {
    const to = family === 'IPv4' ? pod : `[${pod}]`
    return `add rule ${ip} t pre ${ip} daddr ${address} meta l4proto { tcp, udp } th dport ${port} dnat to ${to}:53`
  })
  const script = [
    `add table ${ip} t`,
    `delete table ${ip} t`,
    `add table ${ip} t`,
    `add chain ${ip} t pre { type nat hook prerouting priority dstnat; }`,
    // A namespace tracks connections as long as some rule asks about them; an empty chain of type nat does not.
    `add chain ${ip} t on { type filter hook forward priority filter; }`,
    `add rule ${ip} t on ct state established accept`,
    ...lines,
  ]
  await sandbox.check({ namespace: 'node', argv: ['nft', '-f', '-'], input: script.join('\n') })
}

const frontend = (address: string, port: number): Frontend =>
  address === 'node-ports'
    ? { kind: 'NodePort', address, port, traffic: 'external' }
    : { kind: 'ClusterIP', address: address as IP, port, traffic: 'internal' }

const udp = (frontends: readonly Frontend[], serving: readonly string[]): ServedPort => ({
  protocol: 'UDP',
  frontends,
  serving: serving.map(address => ({ address: address as IP, port: 53 })),
})

/** Source ports, one for each question, so that no test meets another's flow. */
let nextPort = 20_000
const newPort = (): number => nextPort++
let nextKeeper = 0

describe.each([
  ['IPv4', 'netlink'],
  ['IPv6', 'netlink'],
  ['IPv4', 'tool'],
  ['IPv6', 'tool'],
] as const)('%s, by %s', (family, means) => {
  const { vip, otherVip, node: nodeAddress, pods: podAddresses } = places[family]
  const [old, fresh] = podAddresses
  let name = ''

  beforeEach(async () => {
    name = `keeper-${nextKeeper++}`
    await sandbox.exec({ namespace: 'node', argv: ['conntrack', '-F'] })
  })

  const keep = async (notes: Readonly<Record<string, readonly ServedPort[]>>): Promise<Kept> => {
    const done = await node.call('keep', {
      keeper: name,
      family,
      means,
      nodeAddresses: [nodeAddress],
      steps: [{ notes }],
    })
    expect(done.problems).toEqual([])
    return done
  }
  const removedBy = async (notes: Readonly<Record<string, readonly ServedPort[]>>): Promise<number> =>
    (await keep(notes)).cleanings.reduce((sum, { removed }) => sum + removed, 0)
  const flows = async (): Promise<KeptFlow[]> =>
    (await node.call('list', { family })).sort((a, b) => a.sourcePort - b.sourcePort)
  const flowFrom = async (port: number): Promise<KeptFlow | undefined> =>
    (await flows()).find(({ sourcePort }) => sourcePort === port)

  test('an endpoint that is gone: its flow through the Service goes elsewhere, all others stay', async () => {
    await translate(family, [
      [vip, 53, old],
      [otherVip, 53, old],
    ])
    const [stale, other, direct] = [newPort(), newPort(), newPort()]
    expect(await client.call('ask', { from: stale, address: vip, port: 53 })).toBe(old)
    expect(await client.call('ask', { from: other, address: otherVip, port: 53 })).toBe(old)
    expect(await client.call('ask', { from: direct, address: old, port: 53 })).toBe(old)
    const notes = { 'a/other': [udp([frontend(otherVip, 53)], [old])] }
    expect(await removedBy({ ...notes, 'a/dns': [udp([frontend(vip, 53)], [old, fresh])] })).toBe(0)

    await translate(family, [
      [vip, 53, fresh],
      [otherVip, 53, old],
    ])
    // The reason for all this: rules are not asked about a flow that there is.
    expect(await client.call('ask', { from: stale, address: vip, port: 53 })).toBe(old)
    const before = await flows()
    expect(await removedBy({ 'a/dns': [udp([frontend(vip, 53)], [fresh])] })).toBe(1)
    expect(await flows()).toEqual(before.filter(({ sourcePort }) => sourcePort !== stale))
    expect(await client.call('ask', { from: stale, address: vip, port: 53 })).toBe(fresh)
  })

  test('the first endpoint behind an address that nobody translated', async () => {
    await translate(family, [])
    const [early, elsewhere] = [newPort(), newPort()]
    await keep({ 'a/dns': [udp([frontend(vip, 53)], [])] })
    await client.call('send', { from: early, address: vip, port: 53 })
    await client.call('send', { from: elsewhere, address: vip, port: 99 })
    await expect.poll(() => flowFrom(early), { timeout: 10_000 }).toMatchObject({ replySource: vip })
    await expect.poll(() => flowFrom(elsewhere), { timeout: 10_000 }).toMatchObject({ replySource: vip })

    await translate(family, [[vip, 53, fresh]])
    expect(await removedBy({ 'a/dns': [udp([frontend(vip, 53)], [fresh])] })).toBe(1)
    expect(await flowFrom(elsewhere)).toBeDefined()
    expect(await client.call('ask', { from: early, address: vip, port: 53 })).toBe(fresh)
  })

  test('a Service with no serving endpoint left, and one that is gone', async () => {
    await translate(family, [
      [vip, 53, old],
      [otherVip, 53, old],
    ])
    const [first, second] = [newPort(), newPort()]
    await client.call('ask', { from: first, address: vip, port: 53 })
    await client.call('ask', { from: second, address: otherVip, port: 53 })
    const both = { 'a/one': [udp([frontend(vip, 53)], [old])], 'a/two': [udp([frontend(otherVip, 53)], [old])] }
    expect(await removedBy(both)).toBe(0)
    expect(await removedBy({ 'a/one': [udp([frontend(vip, 53)], [])] })).toBe(1)
    expect((await flows()).map(({ sourcePort }) => sourcePort)).toEqual([second])
    expect(await removedBy({ 'a/two': [] })).toBe(1)
    expect(await flows()).toEqual([])
  })

  test('a node port: at the address of the node only', async () => {
    await translate(family, [
      [nodeAddress, 30053, old],
      [otherVip, 30053, old],
    ])
    const [own, foreign] = [newPort(), newPort()]
    await client.call('ask', { from: own, address: nodeAddress, port: 30053 })
    // Somebody else's server at the same port number, translated by somebody else.
    await client.call('ask', { from: foreign, address: otherVip, port: 30053 })
    const ports = [frontend(vip, 53), frontend('node-ports', 30053)]
    expect(await removedBy({ 'a/dns': [udp(ports, [old])] })).toBe(0)
    expect(await removedBy({ 'a/dns': [udp(ports, [fresh])] })).toBe(1)
    expect((await flows()).map(({ sourcePort }) => sourcePort)).toEqual([foreign])
  })
})

describe.each(['IPv4', 'IPv6'] as const)('%s: netlink and the program conntrack see the same flows', family => {
  const { client: source, vip: destination, pods: podAddresses } = places[family]
  const [replySource] = podAddresses
  const flow = (sourcePort: number): Flow => ({
    source: source as IP,
    sourcePort,
    destination: destination as IP,
    destinationPort: 53,
    replySource: replySource as IP,
    replySourcePort: 5353,
  })
  const program = (command: string, ...args: readonly string[]): Promise<string> => {
    // Ports are options of the protocol: it comes before them. What is made has its family from its addresses.
    const of = command === '-I' ? [] : ['-f', family.toLowerCase()]
    const argv = ['conntrack', command, ...of, '-p', 'udp', ...args]
    return sandbox.check({ namespace: 'node', argv })
  }
  const listed = async (): Promise<Flow[]> =>
    parseFlows(await program('-L')).sort((a, b) => a.sourcePort - b.sourcePort)
  const read = async (): Promise<Flow[]> =>
    (await node.call('list', { family })).map(({ id, ...rest }) => rest).sort((a, b) => a.sourcePort - b.sourcePort)
  const [byNetlink, byProgram] = [newPort(), newPort()]
  const { source: from, destination: to } = flow(0)

  beforeAll(async () => {
    await sandbox.exec({ namespace: 'node', argv: ['conntrack', '-F'] })
  })

  test('what netlink makes, the program lists as it was meant', async () => {
    await node.call('insert', { family, flows: [flow(byNetlink)] })
    expect(await listed()).toEqual([flow(byNetlink)])
  })

  test('what the program makes, netlink reads as it was meant', async () => {
    const there = ['-s', from, '-d', to, '--orig-port-src', `${byProgram}`, '--orig-port-dst', '53']
    const back = ['-r', replySource, '-q', from, '--reply-port-src', '5353', '--reply-port-dst', `${byProgram}`]
    await program('-I', ...there, ...back, '-t', '60')
    expect(await read()).toEqual([flow(byNetlink), flow(byProgram)])
    expect(await listed()).toEqual([flow(byNetlink), flow(byProgram)])
  })

  test('what netlink removes, the program lists no more; what the program removes, netlink does not read', async () => {
    expect(await node.call('removeFrom', { family, sourcePort: byNetlink })).toBe(1)
    expect(await listed()).toEqual([flow(byProgram)])
    await program('-D', '--orig-port-src', `${byProgram}`)
    expect(await read()).toEqual([])
  })
})

describe('a full table', () => {
  const { vip, otherVip, node: nodeAddress, pods: podAddresses } = places.IPv4
  const [old, fresh] = podAddresses
  const crowd = 200_000
  const crowdVip = '10.96.9.9'

  test('200,000 flows of others: stale ones are found without handing those over, also after a restart', async () => {
    await sandbox.exec({ namespace: 'node', argv: ['conntrack', '-F'] })
    await node.call('fill', { count: crowd })
    await translate('IPv4', [[vip, 53, old]])
    const [stale, second] = [newPort(), newPort()]
    await client.call('ask', { from: stale, address: vip, port: 53 })
    expect(await client.call('tell', { address: vip, port: 53, text: 'still there?' })).toBe('still there?')
    const dns = (serving: readonly string[]) => ({ 'a/dns': [udp([frontend(vip, 53)], serving)] })
    const keeping = { family: 'IPv4', means: 'netlink', nodeAddresses: [nodeAddress] } as const

    const first = await node.call('keep', { ...keeping, keeper: 'crowd', steps: [{ notes: dns([old, fresh]) }] })
    expect(first.cleanings).toMatchObject([{ searches: 1, seen: crowd + 1, removed: 0 }])

    await translate('IPv4', [[vip, 53, fresh]])
    const change = await node.call('keep', { ...keeping, keeper: 'crowd', steps: [{ notes: dns([fresh]) }] })
    expect(change.cleanings).toMatchObject([{ searches: 1, seen: 1, removed: 1 }])
    expect(await client.call('ask', { from: stale, address: vip, port: 53 })).toBe(fresh)

    // A keeper that knows nothing of what was before: one flow went stale while nobody looked.
    await translate('IPv4', [[vip, 53, old]])
    await client.call('ask', { from: second, address: vip, port: 53 })
    const restart = await node.call('keep', { ...keeping, keeper: 'new', steps: [{ notes: dns([fresh]) }] })
    expect(restart.cleanings).toMatchObject([{ searches: 1, seen: crowd + 2, removed: 1 }])
    const left = await node.call('list', { family: 'IPv4', except: crowdVip })
    expect(left.map(({ sourcePort, replySource }) => [sourcePort, replySource])).toEqual([[stale, fresh]])
    expect(await node.call('count', { family: 'IPv4', to: crowdVip })).toBe(crowd)

    // Connections of TCP are none of its business.
    expect(await client.call('tell', { address: vip, port: 53, text: 'and now?' })).toBe('and now?')
    expect(await node.call('count', { family: 'IPv4', to: otherVip })).toBe(0)
  })
})
