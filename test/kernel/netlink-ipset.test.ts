// Sets and addresses by netlink against ipset and ip, in a namespace: what is written there they show, what they write is read.
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Command } from '../../src/backend/ipvs/commands.ts'
import { setName, setRoles } from '../../src/backend/ipvs/names.ts'
import { setType } from '../../src/backend/ipvs/sets.ts'
import type { Family } from '../../src/net/ip.ts'
import { Sandbox, type Worker } from '../support/netns/sandbox.ts'
import type { NetlinkMethods } from './netlink-ipset-worker.ts'

let sandbox: Sandbox
let worker: Worker<NetlinkMethods>
const namespace = 'node'
const run = (argv: readonly string[], input?: string): Promise<string> =>
  sandbox.check({ namespace, argv: [...argv], ...(input === undefined ? {} : { input }) })

beforeAll(async () => {
  sandbox = await Sandbox.open()
  await sandbox.addNamespaces([namespace])
  const module = join(import.meta.dirname, 'netlink-ipset-worker.ts')
  worker = await sandbox.worker<NetlinkMethods>({ namespace, module })
})
afterAll(async () => {
  await sandbox?.close()
})

const add = (set: string, element: string, value = '', replace = false): Command => ({
  kind: 'add-member',
  set,
  element,
  value,
  replace,
})
const remove = (set: string, element: string): Command => ({ kind: 'delete-member', set, element })
const change = (family: Family, ...commands: readonly Command[]) => worker.call('change', { commands, family })

const samples: Readonly<Record<Family, { address: string; ranges: readonly string[]; wide: string }>> = {
  IPv4: { address: '10.96.0.20', ranges: ['198.51.100.0/24', '203.0.113.7', '128.0.0.0/1'], wide: '0.0.0.0/0' },
  IPv6: { address: 'fd00::20', ranges: ['2001:db8::/32', '::1:2', '2001:db8::7'], wide: '::/0' },
}

describe.each(['IPv4', 'IPv6'] as const)('sets of %s', family => {
  const name = (role: (typeof setRoles)[number]) => setName(family, role)
  const { address, ranges, wide } = samples[family]
  const pair = `${address},tcp:80`
  const all = (): Promise<{ netlink: unknown; programs: unknown }> => worker.call('sets', { family })

  test('are made by netlink as ipset makes them', async () => {
    const created = setRoles.map(
      (role): Command => ({ kind: 'create-set', set: name(role), type: setType(role, family) }),
    )
    expect(await change(family, ...created)).toEqual([])
    const held = await worker.call('sets', { family })
    expect(held.netlink).toEqual(held.programs)
    for (const role of setRoles) expect(held.programs[name(role)]?.type).toBe(setType(role, family))
    expect(await change(family, ...created.slice(0, 1))).toEqual([
      `exists: create-set ${name('INTERNAL')} ${setType('INTERNAL', family)}`,
    ])
  })

  test('get members by netlink that ipset shows, and are read alike', async () => {
    const refused = await change(
      family,
      add(name('INTERNAL'), pair, 'comment "shop/web:http"'),
      add(name('INTERNAL'), `${address},udp:53`, 'comment "kube-system/dns:dns"'),
      add(name('INTERNAL'), `${address},sctp:9`, 'comment "a/b"'),
      ...ranges.map(range => add(name('RANGES'), `${pair},${range}`)),
      add(name('MARK'), pair, 'skbmark 0x5ea00010'),
      add(name('ADDRESS'), address),
      add(name('HEALTH'), '32000'),
    )
    expect(refused).toEqual([])
    const { netlink, programs } = await worker.call('sets', { family })
    expect(netlink).toEqual(programs)
    expect(programs[name('INTERNAL')]?.members).toEqual({
      [pair]: 'comment "shop/web:http"',
      [`${address},udp:53`]: 'comment "kube-system/dns:dns"',
      [`${address},sctp:9`]: 'comment "a/b"',
    })
    expect(programs[name('MARK')]?.members).toEqual({ [pair]: 'skbmark 0x5ea00010' })
    expect(Object.keys(programs[name('RANGES')]?.members ?? {}).sort()).toEqual(
      ranges.map(range => `${pair},${range}`).sort(),
    )
  })

  test('say of each command what was wrong with it, and do the others', async () => {
    const refused = await change(
      family,
      add(name('INTERNAL'), pair, 'comment "again"'),
      add(name('INTERNAL'), `${address},tcp:81`, 'comment "new"'),
      add(name('RANGES'), `${pair},${wide}`),
      add('PENSTOCK-NO-SUCH', pair),
      remove(name('INTERNAL'), `${address},tcp:99`),
      remove(name('INTERNAL'), `${address},sctp:9`),
      add(name('INTERNAL'), `${address},udp:53`, 'comment "replaced"', true),
      add(name('MARK'), pair, 'skbmark 0x5ea00020', true),
      add(name('DROP'), pair, 'comment "where there are none"'),
    )
    expect(refused.map(line => line.split(' ').slice(0, 4).join(' '))).toEqual([
      `exists: add-member ${name('INTERNAL')} ${pair}`,
      `invalid: add-member ${name('RANGES')} ${pair},${wide}`,
      `missing: add-member PENSTOCK-NO-SUCH ${pair}`,
      `missing: delete-member ${name('INTERNAL')} ${address},tcp:99`,
      `invalid: add-member ${name('DROP')} ${pair}`,
    ])
    const { netlink, programs } = await worker.call('sets', { family })
    expect(netlink).toEqual(programs)
    expect(programs[name('INTERNAL')]?.members).toEqual({
      [pair]: 'comment "shop/web:http"',
      [`${address},tcp:81`]: 'comment "new"',
      [`${address},udp:53`]: 'comment "replaced"',
    })
    expect(programs[name('MARK')]?.members).toEqual({ [pair]: 'skbmark 0x5ea00020' })
  })

  test('are read as others left them', async () => {
    const unusual = family === 'IPv4' ? 'inet' : 'inet6'
    await run(
      ['ipset', 'restore'],
      [
        `flush ${name('INTERNAL')}`,
        `add ${name('INTERNAL')} ${address},udplite:7 comment "by hand"`,
        `add ${name('MARK')} ${address},tcp:7 skbmark 0x1/0xff`,
        `add ${name('RANGES')} ${pair},${family === 'IPv4' ? '192.0.2.0/24' : '2001:db8:1::/48'} nomatch`,
        `destroy ${name('DROP')}`,
        `create ${name('DROP')} hash:ip family ${unusual} maxelem 100 timeout 300 counters comment`,
        `destroy ${name('HEALTH')}`,
        `create ${name('HEALTH')} bitmap:port range 100-200`,
        `add ${name('HEALTH')} 150-160`,
        'create OTHERS hash:net',
        'add OTHERS 10.0.0.0/8',
        '',
      ].join('\n'),
    )
    const { netlink, programs } = await worker.call('sets', { family })
    // `nomatch` is behind the element, where a value would be: either way it is none of ours.
    const ofRanges = (sets: typeof programs) => {
      const { [name('RANGES')]: ranged, ...others } = sets
      const text = Object.entries(ranged?.members ?? {}).map(([element, value]) => `${element} ${value}`.trim())
      return { others, ranged: text.sort() }
    }
    expect(ofRanges(netlink)).toEqual(ofRanges(programs))
    expect(netlink[name('DROP')]?.type).toBe(`hash:ip family ${unusual} maxelem 100 timeout 300 counters comment`)
    await run(['ipset', 'destroy', 'OTHERS'])
  })

  test('are not gone while a rule looks into them, and then are', async () => {
    const [tool, rule] = [
      family === 'IPv4' ? 'iptables' : 'ip6tables',
      ['INPUT', '-m', 'set', '--match-set', name('EXTERNAL'), 'dst,dst'],
    ]
    await run([tool, '-A', ...rule])
    const destroy: Command = { kind: 'destroy-set', set: name('EXTERNAL') }
    expect(await change(family, destroy)).toEqual([`busy: destroy-set ${name('EXTERNAL')}`])
    await run([tool, '-D', ...rule])
    expect(await change(family, destroy, destroy)).toEqual([`missing: destroy-set ${name('EXTERNAL')}`])
    const rest = setRoles.filter(role => role !== 'EXTERNAL')
    await change(family, ...rest.map((role): Command => ({ kind: 'destroy-set', set: name(role) })))
    expect(await all()).toEqual({ netlink: {}, programs: {} })
  })
})

test('a set of many members takes several messages to list', async () => {
  const set = setName('IPv4', 'INTERNAL')
  expect(await change('IPv4', { kind: 'create-set', set, type: setType('INTERNAL', 'IPv4') })).toEqual([])
  expect(await worker.call('fill', { set, count: 5_000 })).toBe(0)
  const { netlink, programs } = await worker.call('sets', { family: 'IPv4' })
  expect(Object.keys(netlink[set]?.members ?? {})).toHaveLength(5_000)
  expect(netlink).toEqual(programs)
})

describe('a device and its addresses', () => {
  const [EEXIST, ENODEV, EADDRNOTAVAIL] = [17, 19, 99]
  /** What ip shows of it, without what a device that is down has. */
  const shown = async (): Promise<string[]> => {
    const text = await run(['ip', '-o', 'addr', 'show', 'dev', 'kube-ipvs0'])
    return [...text.matchAll(/ inet6? (\S+) scope \S+ (deprecated )?/g)]
      .map(([, address = '', deprecated]) => `${address}${deprecated === undefined ? '' : ' deprecated'}`)
      .map(address => (address.includes('/') ? address : `${address}/32`))
      .filter(address => !address.startsWith('fe80:'))
      .sort()
  }

  test('come and go', async () => {
    expect(await worker.call('device', { family: 'IPv4' })).toEqual(['none', 'none'])
    expect(await worker.call('link', { name: 'kube-ipvs0' })).toBe(ENODEV)
    expect(await worker.call('link', { name: 'kube-ipvs0', type: 'bridge' })).toBe(0)
    expect(await worker.call('link', { name: 'kube-ipvs0', type: 'bridge' })).toBe(EEXIST)
    const none = { device: 'kube-ipvs0', add: [], remove: [], deprecated: false }
    const four = await worker.call('addresses', { ...none, add: ['10.96.0.1', '10.96.0.2', '10.96.0.1'] })
    expect(four).toEqual({ errnos: [0, 0, EEXIST], held: ['10.96.0.1/32', '10.96.0.2/32'] })
    const six = await worker.call('addresses', {
      ...none,
      add: ['fd00::1', 'fd00::2', 'ff02::1'],
      remove: ['fd00::2', 'fd00::3'],
      deprecated: true,
    })
    expect(six.errnos).toEqual([0, 0, EADDRNOTAVAIL, 0, EADDRNOTAVAIL])
    const held = ['10.96.0.1/32', '10.96.0.2/32', 'fd00::1/128 deprecated']
    expect(six.held).toEqual(held)
    expect(await shown()).toEqual(held)
    const gone = await worker.call('addresses', { ...none, remove: ['10.96.0.2', '10.96.0.9'] })
    expect(gone.errnos).toEqual([0, EADDRNOTAVAIL])
    expect(await shown()).toEqual(['10.96.0.1/32', 'fd00::1/128 deprecated'])
  })

  test('are read as ip left them', async () => {
    const lines = [
      'addr add 10.97.0.0/16 dev kube-ipvs0',
      'addr add fd00::7/64 dev kube-ipvs0',
      'addr add 10.1.1.1 dev lo',
    ]
    await run(['ip', '-batch', '-'], `${lines.join('\n')}\n`)
    for (const family of ['IPv4', 'IPv6'] as const) {
      const [netlink, programs] = await worker.call('device', { family })
      expect(netlink).toContain(family === 'IPv4' ? '10.97.0.0' : 'fd00::7')
      expect(netlink).toEqual(programs)
    }
    expect(await change('IPv4', { kind: 'delete-device' })).toEqual([])
    expect(await change('IPv4', { kind: 'delete-device' })).toEqual(['missing: delete-device'])
    expect(await worker.call('device', { family: 'IPv4' })).toEqual(['none', 'none'])
  })
})
