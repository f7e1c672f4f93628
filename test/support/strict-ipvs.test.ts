// The strict IPVS machine by itself, and against what the real tools were recorded to say; test/kernel and test/vm ask them.
import { describe, expect, test } from 'vitest'
import type { Exec } from '../../src/kernel/exec.ts'
import type { LinkAddress } from '../../src/kernel/netlink/route-messages.ts'
import type { Family, IP } from '../../src/net/ip.ts'
import { recordedAnswers, sampleCases, strictAnswers } from './strict-ipvs/cases.ts'
import { StrictIpvs } from './strict-ipvs/machine.ts'

const lines = (...text: string[]): string => text.map(line => `${line}\n`).join('')
const sets = (machine: Exec, ...text: string[]) => machine.run('ipset', ['restore'], { input: lines(...text) })
const servers = (machine: Exec, ...text: string[]) => machine.run('ipvsadm', ['--restore'], { input: lines(...text) })
const devices = (machine: Exec, ...text: string[]) => machine.run('ip', ['-batch', '-'], { input: lines(...text) })
const routes = ['-4', 'route', 'show', 'table', 'local', 'proto', '112']
const ours = { protocol: 112, metric: 112 }
const routeTo = (address: string) => `local ${address} dev lo table local proto 112 metric 112`
const stdout = async (machine: Exec, command: string, ...args: string[]) => (await machine.run(command, args)).stdout
const mangle = (...rules: string[]) => lines('*mangle', ':X - [0:0]', ...rules, 'COMMIT')

describe('recorded answers', () => {
  const recorded = recordedAnswers()
  const samples = sampleCases()

  test('are there for every sample of ipvsadm and ip', () => {
    const asked = samples.map(({ name }) => name).filter(name => /^ip(?:vsadm)?: /.test(name))
    expect(asked.length).toBeGreaterThan(10)
    expect([...recorded.keys()]).toEqual(asked)
  })

  test.each([...recorded])('%s', async (name, answers) => {
    const sample = samples.find(one => one.name === name)
    expect(sample && (await strictAnswers(sample))).toEqual(answers)
  })
})

describe('what the machine remembers', () => {
  test('a copy does not see later writes, nor the machine those of the copy', async () => {
    const machine = new StrictIpvs()
    await sets(machine, 'create a hash:ip', 'add a 10.0.0.1')
    await servers(machine, '-A -t 10.0.0.1:80 -s rr')
    await devices(machine, 'link add d0 type dummy', `route append ${routeTo('10.0.0.2/32')}`)
    const copy = machine.frozen()
    await sets(machine, 'add a 10.0.0.2')
    await sets(copy, 'add a 10.0.0.3')
    await servers(machine, '-a -t 10.0.0.1:80 -r 10.1.0.1:80 -m')
    await devices(machine, 'addr add 10.0.0.1/32 dev d0', `route append ${routeTo('10.0.0.3/32')}`)
    await devices(copy, `route del ${routeTo('10.0.0.2/32')}`)
    expect(machine.sets.elements('a').toSorted()).toEqual(['10.0.0.1', '10.0.0.2'])
    expect(copy.sets.elements('a').toSorted()).toEqual(['10.0.0.1', '10.0.0.3'])
    expect(await stdout(copy, 'ipvsadm', '-Sn')).toBe('-A -t 10.0.0.1:80 -s rr\n')
    expect(await stdout(copy, 'ip', '-o', 'addr', 'show')).toBe('')
    expect(await stdout(copy, 'ip', ...routes)).toBe('')
    expect(machine.routes.all('IPv4')).toEqual(['10.0.0.2', '10.0.0.3'])
  })

  test('a set that a rule of a copy uses is free in the machine, once it is free there', async () => {
    const machine = new StrictIpvs()
    await sets(machine, 'create a hash:ip')
    const rule = mangle('-A X -m set --match-set a dst -j DROP')
    expect((await machine.run('iptables-nft-restore', ['--noflush'], { input: rule })).exitCode).toBe(0)
    const copy = machine.frozen()
    await machine.run('iptables-nft-restore', ['--noflush'], { input: lines('*mangle', '-F X', 'COMMIT') })
    expect((await sets(machine, 'destroy a')).exitCode).toBe(0)
    expect((await sets(copy, 'destroy a')).stderr).toContain('in use by a kernel component')
  })

  test('elements are not saved in the order in which they came', async () => {
    const machine = new StrictIpvs()
    const elements = Array.from({ length: 50 }, (_, index) => `10.0.0.${index + 1}`)
    await sets(machine, 'create a hash:ip', ...elements.map(element => `add a ${element}`))
    expect(machine.sets.elements('a')).not.toEqual(elements)
    expect(machine.sets.elements('a').toSorted()).toEqual(elements.toSorted())
  })

  test('a hash has more buckets once it holds much', async () => {
    const machine = new StrictIpvs()
    const elements = Array.from({ length: 300 }, (_, index) => `add a 10.0.${index >> 7}.${index & 127 || 200}`)
    await sets(machine, 'create a hash:ip hashsize 64', ...elements)
    expect(await stdout(machine, 'ipset', 'save')).toContain('create a hash:ip family inet hashsize 128 ')
  })
})

describe('stricter than the tools', () => {
  test.each([
    '-m set --match-set pairs dst -j DROP',
    '-m set --match-set pairs dst,dst,dst -j DROP',
    '-j SET --map-set pairs dst,dst --map-mark',
  ])('a rule that could never do anything is refused: %s', async rule => {
    const machine = new StrictIpvs()
    await sets(machine, 'create pairs hash:ip,port')
    const input = mangle(`-A X ${rule}`)
    for (const variant of ['nft', 'legacy'])
      expect((await machine.run(`iptables-${variant}-restore`, ['--noflush'], { input })).exitCode).toBe(2)
  })

  test.each([
    ['a hash:ip', '10.0.0.1-10.0.0.9', 'cannot parse'],
    ['a hash:ip', '10.0.0.0/24', 'plain IP address must be supplied'],
    ['a hash:ip', '10.0.0.01', 'resolving to IPv4 address failed'],
    ['a hash:ip,port', '0.0.0.0,tcp:1', 'Invalid argument'],
    ['a hash:ip,port family inet6', '::,tcp:1', 'Invalid argument'],
    ['a hash:ip,port', '10.0.0.1,tcp:1-9', "cannot parse '1-9' as a tcp port"],
    ['a hash:ip,port', '10.0.0.1,icmp:8/0', "cannot parse 'icmp' as a protocol"],
    ['a bitmap:port range 0-65535', '1-9', "cannot parse '1-9' as a tcp port"],
    ['a bitmap:port range 0-65535', 'sctp:1', 'Only protocols TCP and UDP'],
  ])('a set of %s takes no %s', async (spec, element, message) => {
    const answer = await sets(new StrictIpvs(), `create ${spec}`, `add a ${element}`)
    expect(answer).toMatchObject({ exitCode: 1, stderr: expect.stringContaining(message) })
  })

  test('what nobody needs is refused in words of its own', async () => {
    const machine = new StrictIpvs()
    expect(await devices(machine, 'link add d0 type veth')).toMatchObject({ exitCode: 255 })
    await devices(machine, 'link add d0 type dummy')
    expect(await devices(machine, 'addr add 10.0.0.1/24 dev d0')).toMatchObject({ exitCode: 255 })
    expect(await devices(machine, 'addr add fd00::1/128 dev d0 preferred_lft 0')).toMatchObject({ exitCode: 255 })
    expect(await machine.run('ip', ['route'])).toMatchObject({ exitCode: 255, notFound: false })
    for (const line of [
      `route add ${routeTo('10.0.0.1/32')}`,
      `route append ${routeTo('10.0.0.0/24')}`,
      `route append ${routeTo('10.0.0.1')}`,
      `route append ${routeTo('10.0.0.1/32').replace('112', '113')}`,
      `route append ${routeTo('10.0.0.1/32')} metric 1`,
      'route append local 10.0.0.1/32 dev lo',
      'route append unreachable 10.0.0.1/32 dev lo table local proto 112 metric 112',
    ])
      expect(await devices(machine, line), line).toMatchObject({ exitCode: 255 })
    for (const args of [routes.slice(1), routes.slice(0, -2), [...routes.slice(0, -1), '113'], [...routes, 'exact']])
      expect(await machine.run('ip', args)).toMatchObject({ exitCode: 255 })
    expect(await machine.run('ipset', ['list'])).toMatchObject({ exitCode: 2 })
    expect(await machine.run('ipset', ['restore', '-exist'])).toMatchObject({ exitCode: 2 })
    expect(await machine.run('ipvsadm', ['-L'])).toMatchObject({ exitCode: 2 })
    expect(await servers(machine, '-Sn')).toMatchObject({ exitCode: 2 })
    await sets(machine, 'create f hash:ip')
    expect(await sets(machine, 'create f hash:ip family inet6 -exist')).toMatchObject({ exitCode: 1 })
    expect(await sets(machine, 'create d bitmap:port range 9-1')).toMatchObject({ exitCode: 1 })
  })
})

describe('what tests can ask of it', () => {
  test('writes are counted, reads are not', async () => {
    const machine = new StrictIpvs()
    await sets(machine, 'create a hash:ip')
    await sets(machine, 'create a hash:ip')
    await servers(machine, '-A -t 10.0.0.1:80')
    await devices(machine, 'link add d0 type dummy')
    await machine.run('ipvsadm', ['--set', '0', '0', '300'])
    expect(machine.writes()).toBe(4)
    await machine.run('ipvsadm', ['--set', '0', '0', '301'])
    await machine.run('ipvsadm', ['-A', '-t', '10.0.0.2:80'])
    await machine.run('iptables-nft-restore', ['--noflush'], { input: mangle() })
    await machine.run('ip', ['route', 'append', ...routeTo('10.0.0.1/32').split(' ')])
    expect(machine.writes()).toBe(8)
    const listing = `ip ${routes.join(' ')}`
    const reads = ['ipset save', 'ipvsadm -Sn', 'ipvsadm -Ln', 'ip -o addr show', listing, 'iptables-nft-save', 'ip -V']
    for (const call of reads) {
      const [program = '', ...args] = call.split(' ')
      expect(await machine.run(program, args)).toMatchObject({ exitCode: 0 })
    }
    expect(machine.writes()).toBe(8)
    expect(machine.calls.at(-1)).toEqual({ command: 'ip', args: ['-V'], input: undefined })
  })

  test('listeners are told of every call that changed something, a family at a time, with the state of that moment', async () => {
    const machine = new StrictIpvs()
    const told: { family: Family; frozen: Exec }[] = []
    machine.onCommit((family, frozen) => told.push({ family, frozen }))
    await sets(machine, 'create a hash:ip', 'add a 10.0.0.1')
    await sets(machine, 'create b hash:ip family inet6', 'create b hash:ip')
    await sets(machine, 'create a hash:ip')
    await servers(machine, '-A -f 1 -s rr', '-A -f 1 -6 -s rr')
    await machine.run('ip6tables-nft-restore', ['--noflush'], { input: mangle() })
    machine.onCommit(undefined)
    await servers(machine, '-D -f 1')
    expect(told.map(({ family }) => family)).toEqual(['IPv4', 'IPv6', 'IPv4', 'IPv6', 'IPv6'])
    const [first, , , fourth] = told
    expect(first && (await stdout(first.frozen, 'ipset', 'save', 'a'))).toMatch(/^create a .*\nadd a 10.0.0.1\n$/)
    expect(first && (await stdout(first.frozen, 'ipvsadm', '-Sn'))).toBe('')
    expect(fourth && (await stdout(fourth.frozen, 'ipvsadm', '-Sn'))).toBe('-A -f 1 -s rr\n-A -f 1 -6 -s rr\n')
  })

  test('listeners are told of every change inside a call where a test wants to know', async () => {
    const machine = new StrictIpvs({ commits: 'changes' })
    const seen: string[] = []
    machine.onCommit((_, frozen) => {
      if (frozen instanceof StrictIpvs)
        seen.push(
          frozen.servers
            .list()
            .map(({ scheduler }) => scheduler)
            .join(' '),
        )
    })
    await servers(machine, '-A -t 10.0.0.1:80 -s rr', '-A -t 10.0.0.1:80 -s lc', '-E -t 10.0.0.1:80 -s lc', '-C')
    expect(seen).toEqual(['rr', 'lc', ''])
  })

  test('listeners are told of every route, by whichever way it comes', async () => {
    const machine = new StrictIpvs({ commits: 'changes' })
    const told: string[] = []
    machine.onCommit((family, frozen) => {
      if (frozen instanceof StrictIpvs) told.push(`${family}: ${frozen.routes.all(family).join(' ')}`)
    })
    await devices(machine, ...['10.0.0.2/32', '10.0.0.1/32', 'fd00::1/128'].map(to => `route append ${routeTo(to)}`))
    await devices(machine, `route append ${routeTo('10.0.0.1/32')}`)
    const { route } = machine.netlink()
    await route.apply([{ kind: 'delete-local', address: '10.0.0.2' as IP, ...ours }])
    expect(told).toEqual(['IPv4: 10.0.0.2', 'IPv4: 10.0.0.1 10.0.0.2', 'IPv6: fd00::1', 'IPv4: 10.0.0.1'])
  })

  test('netlink and ip speak of the same routes', async () => {
    const machine = new StrictIpvs()
    const { route } = machine.netlink()
    const [own, second, other] = ['10.0.0.1', '10.0.0.2', '10.0.0.3'] as IP[]
    if (own === undefined || second === undefined || other === undefined) throw new Error('no address')
    await devices(
      machine,
      'link add d0 type dummy',
      `addr add ${other}/32 dev d0`,
      `route append ${routeTo(`${own}/32`)}`,
    )
    const before = machine.writes()
    const operation = (kind: 'add-local' | 'delete-local', address: IP) => ({ kind, address, ...ours }) as const
    const acks = await route.apply([
      operation('add-local', own),
      operation('add-local', second),
      operation('delete-local', own),
      operation('delete-local', own),
      operation('add-local', 'fd00::1' as IP),
    ])
    expect(acks).toEqual([17, 0, 0, 3, 0].map(errno => ({ errno })))
    expect(machine.writes() - before).toBe(5)
    expect(await stdout(machine, 'ip', ...routes)).toBe('local 10.0.0.2 dev lo scope host metric 112 \n')
    expect(await stdout(machine, 'ip', ...routes, 'exact', '10.0.0.1/32')).toBe('')
    expect([await route.locals('IPv4', ours), await route.locals('IPv6', ours)]).toEqual([['10.0.0.2'], ['fd00::1']])
    expect(await route.locals('IPv4', { ...ours, protocol: 113 })).toEqual([])
    const local = await Promise.all([own, second, other].map(address => route.isLocal(address)))
    expect(local).toEqual([false, true, true])
    const index = (await route.link('d0'))?.index
    const seen: LinkAddress[] = []
    await route.addresses(index, 'IPv4', address => seen.push(address))
    expect(seen).toEqual([{ index, address: other }])
    await expect(route.apply([{ ...operation('add-local', own), protocol: 113 }])).rejects.toThrow('protocol 113')
  })

  test('connections outlive their real server and are there when it comes back', async () => {
    const machine = new StrictIpvs()
    const id = { kind: 'mark', mark: 1, family: 'IPv4' } as const
    await servers(machine, '-A -f 1 -s rr', '-a -f 1 -r 10.1.0.1:80 -m -w 3')
    const [server] = machine.servers.list()
    const [real] = server === undefined ? [] : server.real.values()
    if (real === undefined) throw new Error('the real server is not there')
    machine.servers.setConnections(id, real, { active: 2, inactive: 1 })
    const row = /-> 10\.1\.0\.1:80 +Masq +(\d+) +(\d+) +(\d+) *$/m
    const counts = async () => row.exec(await stdout(machine, 'ipvsadm', '-Ln'))?.slice(1)
    expect(await counts()).toEqual(['3', '2', '1'])
    await servers(machine, '-e -f 1 -r 10.1.0.1:80 -m -w 0')
    expect(await counts()).toEqual(['0', '2', '1'])
    await servers(machine, '-d -f 1 -r 10.1.0.1:80')
    expect(await counts()).toBeUndefined()
    await servers(machine, '-a -f 1 -r 10.1.0.1:80 -m -w 1')
    expect(await counts()).toEqual(['1', '2', '1'])
  })

  test('schedulers that the kernel lacks are refused, programs that are missing are not found', async () => {
    const machine = new StrictIpvs({ schedulers: ['rr'], missing: ['ipset'] })
    expect(await servers(machine, '-A -t 10.0.0.1:80 -s mh', '-A -t 10.0.0.2:80 -s rr')).toEqual({
      exitCode: 0,
      stdout: '',
      stderr: 'Scheduler or persistence engine not found\n',
      notFound: false,
    })
    expect(await machine.run('ipset', ['save'])).toMatchObject({ notFound: true })
    expect(await machine.run('modprobe', ['ip_vs'])).toMatchObject({ notFound: true })
  })

  test('calls fail as a test asks, one each, and reads do not', async () => {
    const machine = new StrictIpvs()
    machine.failNext('ipset', { kind: 'killed', afterChanges: 1 }, { kind: 'permission' })
    machine.failNext('ipvsadm', { kind: 'other', exitCode: 9, stderr: 'no\n' })
    expect(await sets(machine, 'create a hash:ip', 'create b hash:ip')).toMatchObject({ exitCode: -1 })
    expect(await machine.run('ipset', ['save'])).toMatchObject({ exitCode: 0 })
    expect(await sets(machine, 'create b hash:ip')).toMatchObject({
      exitCode: 1,
      stderr: 'ipset v7.17: Error in line 1: Kernel error received: Operation not permitted\n',
    })
    expect(await servers(machine, '-A -t 10.0.0.1:80')).toMatchObject({ exitCode: 9, stderr: 'no\n' })
    expect(await sets(machine, 'create c hash:ip')).toMatchObject({ exitCode: 0 })
    expect(await stdout(machine, 'ipset', 'save')).toMatch(/^create a [^\n]*\ncreate c [^\n]*\n$/)
  })

  test('a call that is ended before it begins does nothing', async () => {
    const machine = new StrictIpvs()
    const signal = AbortSignal.abort()
    const answer = await machine.run('ipset', ['restore'], { input: 'create a hash:ip\n', signal })
    expect(answer).toEqual({ exitCode: -1, stdout: '', stderr: '', notFound: false })
    expect(machine.sets.get('a')).toBeUndefined()
  })

  test('the other variant is announced as iptables-nft-save does it', async () => {
    const machine = new StrictIpvs()
    expect(await machine.run('iptables-nft-save', [])).toMatchObject({ stderr: '' })
    await machine.run('iptables-legacy-restore', ['--noflush'], { input: mangle() })
    expect(await machine.run('iptables-nft-save', [])).toMatchObject({
      exitCode: 0,
      stderr: '# Warning: iptables-legacy tables present, use iptables-legacy-save to see them\n',
    })
    expect(await machine.run('ip6tables-nft-save', [])).toMatchObject({ stderr: '' })
  })
})
