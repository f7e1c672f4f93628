// Sets and local routes by netlink against ipset and ip, in a namespace: what is written there they show, what they write is read.
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import type { Command } from '../../src/backend/ipvs/commands.ts'
import { setName, setRoles } from '../../src/backend/ipvs/names.ts'
import { setType } from '../../src/backend/ipvs/sets.ts'
import type { Family, IP } from '../../src/net/ip.ts'
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

test('a device comes and goes', async () => {
  const [EEXIST, ENODEV] = [17, 19]
  expect(await worker.call('link', { name: 'kube-ipvs0' })).toBe(ENODEV)
  // Not every kernel has dummy devices.
  expect(await worker.call('link', { name: 'kube-ipvs0', type: 'bridge' })).toBe(0)
  expect(await worker.call('link', { name: 'kube-ipvs0', type: 'bridge' })).toBe(EEXIST)
  expect(await run(['ip', '-o', 'link', 'show', 'dev', 'kube-ipvs0'])).toContain(' kube-ipvs0: ')
  expect(await change('IPv4', { kind: 'delete-device' })).toEqual([])
  expect(await change('IPv4', { kind: 'delete-device' })).toEqual(['missing: delete-device'])
})

describe('local routes', () => {
  const { ESRCH, EEXIST, ENETDOWN } = { ESRCH: 3, EEXIST: 17, ENETDOWN: 100 }
  const families: readonly Family[] = ['IPv4', 'IPv6']
  const bits: Readonly<Record<Family, number>> = { IPv4: 32, IPv6: 128 }
  const hosts: Readonly<Record<Family, readonly [own: string, other: string, third: string]>> = {
    IPv4: ['10.96.0.1', '10.96.0.2', '10.96.0.3'],
    IPv6: ['fd00:96::1', 'fd00:96::2', 'fd00:96::3'],
  }
  const batch = (...lines: readonly string[]) => run(['ip', '-batch', '-'], `${lines.join('\n')}\n`)
  /** What ip shows of the table of local routes. */
  const shown = async (family: Family, ...which: readonly string[]): Promise<string[]> => {
    const argv = ['ip', family === 'IPv4' ? '-4' : '-6', 'route', 'show', 'table', 'local', ...which]
    const lines = (await run(argv)).split('\n').map(line => line.trim())
    return lines.filter(line => line !== '')
  }
  /** How ip shows one of ours when it is asked for all protocols. */
  const line = (family: Family, address: string, protocol = 112): string =>
    `local ${address} dev lo proto ${protocol} ${family === 'IPv4' ? 'scope host metric 112' : 'metric 112 pref medium'}`
  const exact = (family: Family, address: string) => shown(family, 'exact', `${address}/${bits[family]}`)
  const locals = (family: Family, mark = { protocol: 112, metric: 112 }) => worker.call('locals', { family, mark })

  beforeAll(async () => {
    await batch('link set lo up', 'link add veth0 type veth peer name veth1', 'link set veth0 up', 'link set veth1 up')
  })

  // What a failed test left is not in the next one's way.
  afterEach(async () => {
    for (const option of ['-4', '-6'])
      for (const protocol of ['112', '113'])
        await run(['ip', option, 'route', 'flush', 'table', 'local', 'proto', protocol])
  })

  test.each(families)('of %s come and go by netlink as by ip', async family => {
    const [own, other, third] = hosts[family]
    expect(await locals(family)).toEqual([])
    const errnos = await worker.call('changeRoutes', { add: [other, own, other], remove: [third] })
    expect(errnos).toEqual([0, 0, EEXIST, ESRCH])
    expect(await exact(family, own)).toEqual([line(family, own)])
    const short = line(family, own).replace(' proto 112', '')
    expect(await shown(family, 'proto', '112')).toEqual([short, short.replace(own, other)])
    expect(await locals(family)).toEqual([own, other])
    expect(await worker.call('isOurs', { addresses: [own, third] })).toEqual([true, false])
    expect(await worker.call('changeRoutes', { remove: [other, other] })).toEqual([0, ESRCH])
    const to = (address: string) => `local ${address}/${bits[family]} dev lo table local proto 112 metric 112`
    // What ip wrote, netlink cannot write again; what netlink wrote, ip takes away.
    await batch(`route append ${to(other)}`, `route append ${to(third)}`, `route del ${to(own)}`)
    expect(await worker.call('changeRoutes', { add: [other] })).toEqual([EEXIST])
    expect(await locals(family)).toEqual([other, third])
    expect(await worker.call('changeRoutes', { remove: [own, other, third] })).toEqual([ESRCH, 0, 0])
    expect(await shown(family, 'proto', '112')).toEqual([])
  })

  test.each(families)('of %s are not refused for what their address is', async family => {
    const some = {
      IPv4: ['0.0.0.0', '0.0.0.1', '127.0.0.1', '169.254.1.1', '224.0.0.1', '255.255.255.255'],
      IPv6: ['::', '::1', '64:ff9b::1', 'fe80::9', 'ff02::1'],
    }[family]
    expect(await worker.call('changeRoutes', { add: some })).toEqual(some.map(() => 0))
    expect(await locals(family)).toEqual(some)
    expect((await worker.call('addresses', { family })).programs.own).toEqual(some)
    expect(await worker.call('changeRoutes', { remove: some })).toEqual(some.map(() => 0))
    expect(await locals(family)).toEqual([])
  })

  test.each(families)('of %s that others made are none of ours', async family => {
    const [own, other, third] = hosts[family]
    const net = family === 'IPv4' ? '10.97.0.0/16' : 'fd00:97::/64'
    const nowhere = family === 'IPv4' ? '198.51.100.7' : '2001:db8::7'
    const before = await shown(family)
    const to = (address: string) => `local ${address}/${bits[family]} dev lo`
    const lines = [
      `${to(other)} table local proto 113`,
      `${to(other)} table local proto 112 metric 113`,
      `${to(third)} table 99 proto 112`,
      `local ${net} dev lo table local proto 112`,
      `unreachable ${nowhere}/${bits[family]} table local proto 112`,
      `${to(own)} table local proto 112 metric 112`,
    ]
    await batch(...lines.map(text => `route append ${text}`))
    expect(await locals(family)).toEqual([own])
    expect(await locals(family, { protocol: 113, metric: family === 'IPv4' ? 0 : 1024 })).toEqual([other])
    expect(await locals(family, { protocol: 112, metric: 113 })).toEqual([other])
    const { netlink, programs } = await worker.call('addresses', { family })
    expect(netlink.own).toEqual([own])
    expect(netlink).toEqual(programs)
    // Whoever made it so, and be it for a range.
    const within = family === 'IPv4' ? '10.97.1.1' : 'fd00:97::1:1'
    const isLocal = await worker.call('isLocal', { addresses: [own, other, third, within, nowhere] })
    expect(isLocal).toEqual([true, true, false, true, false])
    const isOurs = await worker.call('isOurs', { addresses: [own, other, third, within] })
    expect(isOurs).toEqual([true, false, false, false])
    expect(await worker.call('changeRoutes', { remove: [other, third] })).toEqual([ESRCH, ESRCH])
    // Of IPv6, unlike IPv4, the same route of another protocol were the very same one if not for its metric.
    expect(await worker.call('changeRoutes', { add: [other] })).toEqual([0])
    expect(await exact(family, other)).toContain(line(family, other))
    expect(await worker.call('changeRoutes', { remove: [other] })).toEqual([0])
    await batch(...lines.map(text => `route del ${text}`))
    expect(await shown(family)).toEqual(before)
  })

  test.each(families.flatMap(family => ['lo', 'veth0'].map(device => ({ family, device }))))(
    'of $family are beside the address that $device has, and neither takes the other with it',
    async ({ family, device }) => {
      const [own] = hosts[family]
      const address = `${own}/${bits[family]} dev ${device}`
      const add = `addr add ${address}${family === 'IPv6' ? ' nodad' : ''}`
      const ours = line(family, own)
      const isKernels = expect.stringContaining(`local ${own} dev ${device} proto kernel `)
      const both = expect.arrayContaining([ours, isKernels])
      const first = { add: [own] }
      const last = { remove: [own] }
      await batch(add)
      expect(await worker.call('onDevice', { device })).toContain(own)
      expect(await worker.call('isLocal', { addresses: [own] })).toEqual([true])
      expect(await worker.call('isOurs', { addresses: [own] })).toEqual([false])
      expect(await worker.call('changeRoutes', last)).toEqual([ESRCH])
      expect(await worker.call('changeRoutes', first)).toEqual([0])
      expect(await exact(family, own)).toEqual(both)
      expect(await locals(family)).toEqual([own])
      await batch(`addr del ${address}`)
      expect(await exact(family, own)).toEqual([ours])
      expect(await worker.call('isLocal', { addresses: [own] })).toEqual([true])
      await batch(add)
      expect(await exact(family, own)).toEqual(both)
      expect(await worker.call('changeRoutes', last)).toEqual([0])
      expect(await exact(family, own)).toEqual([isKernels])
      expect(await worker.call('onDevice', { device })).toContain(own)
      await batch(`addr del ${address}`)
      expect(await worker.call('isLocal', { addresses: [own] })).toEqual([false])
    },
  )

  test.each(families)('of %s are thousands, and the listing is whole', async family => {
    const many = Array.from({ length: 5_000 }, (_, n) =>
      family === 'IPv4' ? `10.98.${n >> 8}.${n & 255}` : `fd00:98::${(n + 1).toString(16)}`,
    )
    const errnos = await worker.call('changeRoutes', { add: many })
    expect(errnos.filter(errno => errno !== 0)).toEqual([])
    expect(await locals(family)).toEqual(many)
    expect(await worker.call('addresses', { family })).toMatchObject({
      netlink: { own: many },
      programs: { own: many },
    })
    await worker.call('changeRoutes', { remove: many })
    expect(await locals(family)).toEqual([])
  })

  test.each(families)('of %s are made and read by commands', async family => {
    const [own, other] = hosts[family]
    const commands = [own, other].map((address): Command => ({ kind: 'add-address', address: address as IP }))
    expect(await change(family, ...commands, ...commands.slice(0, 1))).toEqual([`exists: add-address ${own}`])
    const all = { own: [own, other], proxy: [] }
    expect(await worker.call('addresses', { family })).toEqual({ netlink: all, programs: all })
    const remove: Command = { kind: 'delete-address', address: own as IP }
    expect(await change(family, remove, remove)).toEqual([`missing: delete-address ${own}`])
    expect(await change(family, { kind: 'delete-address', address: other as IP })).toEqual([])
  })

  test('and the addresses on the device of kube-proxy are told apart', async () => {
    expect(await worker.call('onDevice', { device: 'kube-ipvs0' })).toBe('none')
    // Not every kernel has dummy devices.
    await batch(
      'link add kube-ipvs0 type bridge',
      'link set kube-ipvs0 up',
      'addr add 10.96.0.9/32 dev kube-ipvs0',
      'addr add 10.97.0.0/16 dev kube-ipvs0',
      'addr add fd00:96::9/128 dev kube-ipvs0 nodad',
      'addr add fd00:96::7/64 dev kube-ipvs0 preferred_lft 0 nodad',
    )
    await worker.call('changeRoutes', { add: ['10.96.0.9', '10.96.0.1', 'fd00:96::9', 'fd00:96::1'] })
    const four = { own: ['10.96.0.1', '10.96.0.9'], proxy: ['10.96.0.9', '10.97.0.0'] }
    const six = { own: ['fd00:96::1', 'fd00:96::9'], proxy: ['fd00:96::7', 'fd00:96::9'] }
    expect(await worker.call('addresses', { family: 'IPv4' })).toEqual({ netlink: four, programs: four })
    expect(await worker.call('addresses', { family: 'IPv6' })).toEqual({ netlink: six, programs: six })
    expect(await worker.call('onDevice', { device: 'kube-ipvs0' })).toEqual([...four.proxy, ...six.proxy])
    // Ours outlive the device.
    await batch('link del kube-ipvs0')
    const [left4, left6] = [
      { own: four.own, proxy: [] },
      { own: six.own, proxy: [] },
    ]
    expect(await worker.call('addresses', { family: 'IPv4' })).toEqual({ netlink: left4, programs: left4 })
    expect(await worker.call('addresses', { family: 'IPv6' })).toEqual({ netlink: left6, programs: left6 })
    await worker.call('changeRoutes', { remove: [...four.own, ...six.own] })
  })

  test('of IPv6 go with the device lo, and cannot be made while it is down', async () => {
    const all = ['10.96.0.1', 'fd00:96::1']
    expect(await worker.call('changeRoutes', { add: all })).toEqual([0, 0])
    await batch('link set lo down')
    expect([await locals('IPv4'), await locals('IPv6')]).toEqual([['10.96.0.1'], []])
    expect(await worker.call('changeRoutes', { add: ['10.96.0.2', 'fd00:96::2'] })).toEqual([0, ENETDOWN])
    await batch('link set lo up')
    expect([await locals('IPv4'), await locals('IPv6')]).toEqual([['10.96.0.1', '10.96.0.2'], []])
    expect(await worker.call('changeRoutes', { remove: ['10.96.0.1', '10.96.0.2'] })).toEqual([0, 0])
  })
})
