// nf_tables over netlink against nft, in namespaces: what one writes the other reads, and copies have equal bytes.
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { eachAttribute } from '../../src/kernel/netlink/message.ts'
import type { NftRefusal } from '../../src/kernel/netlink/nft-connection.ts'
import {
  elementFlag,
  type NftElement,
  type NftFamily,
  type NftOperation,
  setFlag,
  tableFlag,
} from '../../src/kernel/netlink/nft-objects.ts'
import { type NftMethods, pack, unpack, type Whole } from '../netlink/nft-worker.ts'
import { Sandbox, type Worker } from '../support/netns/sandbox.ts'
import { hasPersist } from '../support/release.ts'

let sandbox: Sandbox
let left: Worker<NftMethods>
let right: Worker<NftMethods>

beforeAll(async () => {
  sandbox = await Sandbox.open()
  await sandbox.addNamespaces(['left', 'right'])
  const module = join(import.meta.dirname, '../netlink/nft-worker.ts')
  left = await sandbox.worker<NftMethods>({ namespace: 'left', module })
  right = await sandbox.worker<NftMethods>({ namespace: 'right', module })
})
afterAll(async () => {
  await sandbox?.close()
})
beforeEach(async () => {
  for (const namespace of ['left', 'right']) await nft(namespace, 'flush ruleset\n')
})

const nft = (namespace: string, script: string): Promise<string> =>
  sandbox.check({ namespace, argv: ['nft', '-f', '-'], input: script })
const list = (namespace: string, family: NftFamily): Promise<string> =>
  sandbox.check({ namespace, argv: ['nft', 'list', 'table', family, 'penstock'] })
const commit = (
  operations: readonly NftOperation[],
  family: NftFamily = 'ip',
): Promise<readonly NftRefusal[] | string> => left.call('commit', { family, operations: pack(operations) })
const read = async (worker: Worker<NftMethods>, family: NftFamily): Promise<Whole> =>
  unpack<Whole>(await worker.call('read', family))

/** A table with everything that ours has, as nft writes it. */
function script(family: NftFamily): string {
  const [address, other, cidr, first, last, wide, at, many] =
    family === 'ip'
      ? [
          '10.0.0.1',
          '10.1.0.7',
          '127.0.0.0/8',
          '10.2.0.0',
          '10.2.0.9',
          'ipv4_addr',
          [96, 128],
          '10.244.0.0/16, 192.168.3.4',
        ]
      : ['fd00::1', 'fd01::7', '::1', 'fd02::', 'fd02::9', 'ipv6_addr', [64, 192], 'fd03::/64, fd04::4']
  return `table ${family} penstock {
    comment "ours"
    map services { type ${wide} . inet_proto . inet_service : verdict; elements = {
      ${address} . tcp . 80 comment "shop/web:http" : goto pick-2, ${address} . udp . 53 : drop } }
    map node-ports { type inet_proto . inet_service : verdict; elements = { tcp . 30080 : jump pick-2 } }
    map endpoints { typeof ${family} daddr . meta l4proto . th dport . numgen random mod 2 : ${family} daddr . th dport
      elements = { ${address} . tcp . 80 . 0 : ${other} . 8080, ${address} . tcp . 80 . 1 : ${address} . 8081 } }
    set cluster-ips { type ${wide}; elements = { ${address} } }
    set octets { typeof @nh,0,8 . @nh,8,8; elements = { 0x1 . 0x1, 0xfe . 0xfe } }
    set clients { type ${wide}; size 4096; flags dynamic,timeout; timeout 3h; }
    set ranges { type ${wide}; flags interval; elements = { ${first}-${last}, ${other} } }
    set both { type ${wide} . inet_service; flags interval; elements = { ${first}-${last} . 80-90 } }
    map every { type inet_service : verdict; elements = { 80 : accept, * : return } }
    chain prerouting { type nat hook prerouting priority -100; policy accept; jump services; }
    chain output { type nat hook output priority -100; policy accept; jump services; }
    chain postrouting { type nat hook postrouting priority 100; policy drop
      meta mark & 0x4000 != 0x0 meta mark set meta mark ^ 0x4000 masquerade fully-random
      ct status dnat @nh,${at[0]},8 . @nh,${at[1]},8 @octets masquerade
      masquerade
    }
    chain refused { reject; }
    chain services {
      ${family} daddr @cluster-ips ${family} saddr != ${cidr} meta mark set meta mark | 0x4000
      ${family} daddr . meta l4proto . th dport vmap @services
      ${family} daddr != ${cidr} fib daddr type local meta l4proto . th dport vmap @node-ports
      ${family} daddr @cluster-ips fib daddr type != local reject
      ${family} daddr { ${many} } fib daddr type != local drop
      ${family} daddr != { ${many} } accept comment "elsewhere"
      ${family} saddr ${first}-${last} return
      iifname "cni0" iifname != "veth*" meta l4proto tcp
      numgen random mod 5 < 2 goto refused
      numgen random mod 5 0 ${family} saddr @clients update @clients { ${family} saddr }
      ${family} saddr @ranges ${family} saddr . th dport @both th dport vmap @every
      counter
      tcp dport 22 reject with tcp reset
      meta mark set 0x10
    }
    chain pick-2 {
      dnat ${family} to ${family} daddr . meta l4proto . th dport . numgen random mod 2 map @endpoints
      meta l4proto tcp dnat to ${family === 'ip' ? other : `[${other}]`}:8080
      dnat to ${other}
      drop
    }
  }
  `
}

/** What makes a table anew. */
function operationsOf({ contents, elements }: Whole): NftOperation[] {
  const { table, chains, sets, rules } = contents
  return [
    { kind: 'add-table', flags: table.flags },
    ...chains.map((chain): NftOperation => ({ kind: 'add-chain', chain })),
    ...sets.map((set, index): NftOperation => ({ kind: 'add-set', set: { ...set, id: index + 1 } })),
    ...elements.map((some): NftOperation => ({ kind: 'add-elements', ...some })),
    ...rules.map((rule): NftOperation => ({ kind: 'add-rule', rule })),
  ]
}

const numbers = { ip: 2, ip6: 10 } as const
/** NFTA_CHAIN_HANDLE, NFTA_SET_HANDLE, NFTA_RULE_HANDLE and _POSITION: numbers that the kernel gives. */
const handles = { getChain: [2], getSet: [16], getRule: [3, 6] } as const

/** The dumps of a table in text, without handles; the elements of sets in an order of their own. */
async function bytesOf(worker: Worker<NftMethods>, family: NftFamily): Promise<string[]> {
  const dump = async (what: 'getChain' | 'getSet' | 'getRule' | 'getElements', set?: string): Promise<Buffer[]> =>
    unpack(await worker.call('dump', { family: numbers[family], what, ...(set !== undefined && { set }) }))
  const all: string[] = []
  for (const what of ['getChain', 'getSet', 'getRule'] as const) {
    for (const payload of await dump(what)) {
      const attributes: [number, string][] = []
      eachAttribute(payload, 4, payload.length, (type, from, to) => {
        if (!handles[what].some(handle => handle === type)) attributes.push([type, payload.toString('hex', from, to)])
      })
      all.push(`${what} ${JSON.stringify(attributes)}`)
    }
  }
  for (const { name } of (await read(worker, family)).contents.sets) {
    const elements: string[] = []
    for (const payload of await dump('getElements', name)) {
      eachAttribute(payload, 4, payload.length, (type, from, to) => {
        if (type === 3) eachAttribute(payload, from, to, (_, a, b) => elements.push(payload.toString('hex', a, b)))
      })
    }
    all.push(`${name}: ${elements.sort().join(' ')}`)
  }
  return all
}

describe.each(['ip', 'ip6'] as const)('family %s', family => {
  test('a table of nft that is read, and written elsewhere, is the same there to the byte', async () => {
    await nft('left', script(family))
    const whole = await read(left, family)
    expect(whole.contents.rules).toHaveLength(24)
    const refused = await right.call('commit', { family, operations: pack(operationsOf(whole)) })
    expect(refused).toEqual([])
    const listed = (await list('left', family)).replace('\tcomment "ours"\n', '')
    expect(await list('right', family)).toBe(listed)
    expect(await bytesOf(right, family)).toEqual(await bytesOf(left, family))
  })

  test('of our shapes only a counter is unknown', async () => {
    await nft('left', script(family))
    const { contents } = await read(left, family)
    const unknown = contents.rules
      .flatMap(({ expressions }) => expressions)
      .flatMap(expression => (expression.kind === 'unknown' ? [expression.name] : []))
    expect(unknown).toEqual(['counter'])
  })
})

const goTo = (chain: string) => ({ kind: 'goto', chain }) as const
const ports = { name: 'ports', flags: setFlag.map, keyType: 13, keyLength: 2, dataType: 0xffffff00 } as const
const port = (number: number): Buffer => Buffer.from([number >> 8, number & 0xff])
const base: readonly NftOperation[] = [
  { kind: 'add-table', flags: 0 },
  { kind: 'add-chain', chain: { name: 'in', hook: { number: 1, priority: -5, type: 'filter', policy: 'drop' } } },
  { kind: 'add-chain', chain: { name: 'web' } },
  { kind: 'add-set', set: { ...ports, id: 1 } },
  { kind: 'add-elements', set: 'ports', setId: 1, elements: [{ key: port(80), data: goTo('web') }] },
  {
    kind: 'add-rule',
    rule: {
      chain: 'in',
      expressions: [
        { kind: 'meta', key: 16, to: 1 },
        { kind: 'cmp', from: 1, op: 0, data: Buffer.from([6]) },
        { kind: 'payload', base: 2, offset: 2, length: 2, to: 1 },
        { kind: 'lookup', set: 'ports', setId: 1, from: 1, to: 0, inverted: false },
      ],
    },
  },
  { kind: 'add-rule', rule: { chain: 'web', expressions: [{ kind: 'immediate', to: 0, data: { kind: 'return' } }] } },
]

describe('what is written', () => {
  test('nft lists as meant', async () => {
    expect(await commit(base)).toEqual([])
    expect((await list('left', 'ip')).replace(/\s+/g, ' ')).toBe(
      'table ip penstock { map ports { type inet_service : verdict elements = { 80 : goto web } } ' +
        'chain in { type filter hook input priority filter - 5; policy drop; tcp dport vmap @ports } chain web { return } } ',
    )
  })

  test('goes away again', async () => {
    await commit(base)
    const gone: NftOperation[] = [
      { kind: 'flush-chain', name: 'in' },
      { kind: 'delete-elements', set: 'ports', elements: [{ key: port(80) }] },
      { kind: 'delete-set', name: 'ports' },
      { kind: 'delete-chain', name: 'web' },
    ]
    expect(await commit(gone)).toEqual([])
    const { contents } = await read(left, 'ip')
    expect([contents.chains.map(({ name }) => name), contents.rules, contents.sets]).toEqual([['in'], [], []])
    expect(await commit([{ kind: 'delete-table' }])).toEqual([])
    expect(unpack(await left.call('read', 'ip'))).toBeUndefined()
    expect(await commit([{ kind: 'delete-table' }])).toMatchObject([{ operation: 0, code: 'ENOENT' }])
  })

  test('what is there already is no error, and rules are appended', async () => {
    await commit(base)
    expect(await commit(base)).toEqual([])
    expect((await read(left, 'ip')).contents.rules.map(({ chain }) => chain)).toEqual(['in', 'in', 'web', 'web'])
  })

  test('may be no elements', async () => {
    await commit(base)
    const none = { set: 'ports', elements: [] }
    expect(
      await commit([
        { kind: 'add-elements', ...none },
        { kind: 'delete-elements', ...none },
      ]),
    ).toEqual([])
  })
})

describe('a batch that is refused', () => {
  test('leaves nothing behind, and says what was at fault, each', async () => {
    await commit(base)
    const before = await list('left', 'ip')
    const generation = await left.call('generation', undefined)
    const bad: NftOperation[] = [
      { kind: 'add-chain', chain: { name: 'new' } },
      { kind: 'delete-chain', name: 'none' },
      { kind: 'add-elements', set: 'ports', elements: [{ key: port(81), data: goTo('none') }] },
      { kind: 'add-elements', set: 'ports', elements: [{ key: port(80), data: { kind: 'drop' } }] },
      { kind: 'flush-chain', name: 'web' },
    ]
    expect(await commit(bad)).toMatchObject([
      { operation: 1, code: 'ENOENT' },
      { operation: 2, code: 'ENOENT' },
      { operation: 3, code: 'EEXIST' },
    ])
    expect(await list('left', 'ip')).toBe(before)
    expect(await left.call('generation', undefined)).toBe(generation)
  })

  test('is known for refused when the errors do not fit the receive buffer', async () => {
    await commit(base)
    const bad = Array.from({ length: 20_000 }, (): NftOperation => ({ kind: 'delete-chain', name: 'none' }))
    const refused = await commit([...base, ...bad])
    expect(refused.length).toBeGreaterThan(0)
    expect(refused[0]).toMatchObject({ operation: base.length, code: 'ENOENT' })
    expect(await commit([{ kind: 'delete-table' }])).toEqual([])
  })
})

test('a batch of many elements is taken whole, in several messages, and read whole', async () => {
  const count = 60_000
  const key = (n: number): Buffer => Buffer.from([10, n >> 16, n >> 8, n])
  const elements = Array.from({ length: count }, (_, n): NftElement => ({ key: key(n), data: goTo(`c${n % 50}`) }))
  const chains = Array.from({ length: 50 }, (_, n): NftOperation => ({ kind: 'add-chain', chain: { name: `c${n}` } }))
  const map = { name: 'many', flags: setFlag.map, keyType: 7, keyLength: 4, dataType: 0xffffff00, id: 1 }
  const operations: NftOperation[] = [
    { kind: 'add-table', flags: 0 },
    ...chains,
    { kind: 'add-set', set: map },
    { kind: 'add-elements', set: 'many', elements },
  ]
  expect(await commit(operations)).toEqual([])
  const [found] = (await read(left, 'ip')).elements
  const text = ({ key: bytes, data }: NftElement): string => `${bytes.toString('hex')} ${JSON.stringify(data)}`
  expect(found?.elements.map(text).sort()).toEqual(elements.map(text).sort())
})

test('a batch that does not fit the send buffer is refused as such', async () => {
  await commit(base)
  const chains = (count: number): string =>
    pack(Array.from({ length: count }, (_, n): NftOperation => ({ kind: 'add-chain', chain: { name: `chain-${n}` } })))
  expect(await left.call('commitSmall', { family: 'ip', operations: chains(100_000) })).toBe('EMSGSIZE')
  expect((await read(left, 'ip')).contents.chains).toHaveLength(2)
  expect(await left.call('commitSmall', { family: 'ip', operations: chains(100) })).toEqual([])
})

test('without the right to change the network, one sentence says so', async () => {
  const module = join(import.meta.dirname, '../../src/kernel/netlink/nft.ts')
  const program = `import { openNft } from '${module}'; console.log(await openNft(why => console.log(why)))`
  const node = [process.execPath, '--input-type=module', '-e', program]
  const argv = ['setpriv', '--bounding-set=-net_admin', '--', ...node]
  expect(await sandbox.check({ namespace: 'left', argv })).toBe(
    'nf_tables cannot be spoken to: the kernel refused: EPERM\nundefined\n',
  )
})

test('intervals of nft are read as their beginnings and ends', async () => {
  await nft('left', 'table ip penstock {\n set s { type inet_service; flags interval; elements = { 80-90 }; }\n }\n')
  const [found] = (await read(left, 'ip')).elements
  const ofOurs = found?.elements.filter(({ key }) => !key.equals(port(0)))
  expect(ofOurs?.toSorted((a, b) => Buffer.compare(a.key, b.key))).toEqual([
    { key: port(80) },
    { key: port(91), flags: elementFlag.intervalEnd },
  ])
})

describe.runIf(hasPersist)('a table with an owner (a kernel from 6.9 on)', () => {
  test('is changed by nobody else, and outlives it', async () => {
    const flags = tableFlag.owner | tableFlag.persist
    expect(await commit([{ kind: 'add-table', flags }])).toEqual([])
    expect(
      await commit([
        { kind: 'add-table', flags },
        { kind: 'add-chain', chain: { name: 'c' } },
      ]),
    ).toEqual([])
    expect((await read(left, 'ip')).contents.table.flags).toBe(flags)
    const { exitCode } = await sandbox.exec({ namespace: 'left', argv: ['nft', 'delete', 'table', 'ip', 'penstock'] })
    expect(exitCode).not.toBe(0)
    await left.call('close', undefined)
    // A new connection takes it over.
    expect(
      await commit([
        { kind: 'add-table', flags },
        { kind: 'delete-chain', name: 'c' },
      ]),
    ).toEqual([])
    await left.call('close', undefined)
  })
})

test('a watch hears what others write, not what an adopted connection does', async () => {
  await right.call('watch', undefined)
  const write = (operations: readonly NftOperation[]) =>
    right.call('commit', { family: 'ip', operations: pack(operations) })
  expect(await write(base)).toEqual([])
  await nft('right', 'add chain ip penstock theirs\n')
  await expect.poll(() => right.call('heard', undefined)).toEqual(['ours nft'])
})
