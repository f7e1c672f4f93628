// What others do to sets, virtual servers and addresses: a digest tells that it happened, a comparison what, a commit mends it.
import { beforeEach, describe, expect, it } from 'vitest'
import type { Backend } from '../../../src/backend/backend.ts'
import { ipvsBackend } from '../../../src/backend/ipvs/index.ts'
import type { Frontend, ServicePort } from '../../../src/policy/service-port.ts'
import { Committer } from '../../../src/sync/committer.ts'
import { ip } from '../../model/build.ts'
import { StrictIpvs } from '../../support/strict-ipvs/machine.ts'
import { networkAt } from './network.ts'

const { signal } = new AbortController()

const network = networkAt(ip('192.168.100.1'))

function port(number: number, ...addresses: readonly string[]): ServicePort {
  const endpoints = addresses.map(address => ({
    address: ip(address),
    port: 8080,
    isLocal: false,
    isTerminating: false,
  }))
  const choice = { kind: 'endpoints', endpoints } as const
  const clusterIP: Frontend = { kind: 'ClusterIP', address: ip(`10.96.0.${number}`), port: 80, traffic: 'internal' }
  return {
    service: `a/s${number}`,
    name: `a/s${number}`,
    protocol: 'TCP',
    frontends: [clusterIP],
    internal: choice,
    external: choice,
    externalFromNode: choice,
    externalMasquerade: false,
    healthCheckNodePort: 0,
  }
}

describe.each(['programs', 'netlink'])('IPVS mode by %s', by => {
  let machine: StrictIpvs
  let backend: Backend
  let committer: Committer
  const run = (command: string, ...args: string[]) => machine.run(command, args)
  const replace = (item: ServicePort) => committer.replace(item.name, backend.compile(item, network))
  const digest = async () => (await backend.fingerprint?.(signal, false))?.digest

  beforeEach(async () => {
    machine = new StrictIpvs({ schedulers: ['rr', 'sh'] })
    const options = by === 'netlink' ? { netlink: async () => machine.netlink() } : {}
    backend = ipvsBackend({ family: 'IPv4', exec: machine, ...options })
    committer = new Committer(backend, { refused: () => undefined, giveUp: () => false })
    committer.replaceSkeleton(backend.skeleton(network))
    for (const number of [1, 2, 3]) replace(port(number, '10.0.0.1', '10.0.0.2'))
    await committer.compare(signal)
    await committer.commit(true, signal)
    return () => backend.stop?.()
  })

  it('nothing happens, and the digest stays', async () => {
    const before = await digest()
    expect(await digest()).toBe(before)
    expect(await committer.compare(signal)).toMatchObject({ missing: 0, foreign: 0, changed: 0 })
  })

  it.each<[what: string, argv: readonly [string, ...string[]], key: string]>([
    ['everything', ['ipvsadm', '-C'], 'virtual tcp 10.96.0.1:80'],
    ['one virtual server', ['ipvsadm', '-D', '-t', '10.96.0.2:80'], 'virtual tcp 10.96.0.2:80'],
    ['one real server', ['ipvsadm', '-d', '-t', '10.96.0.2:80', '-r', '10.0.0.2:8080'], 'virtual tcp 10.96.0.2:80'],
    [
      'a foreign real server',
      ['ipvsadm', '-a', '-t', '10.96.0.2:80', '-r', '10.0.0.9:8080', '-m'],
      'virtual tcp 10.96.0.2:80',
    ],
    [
      'one address',
      ['ip', ...'route del local 10.96.0.3/32 dev lo table local proto 112 metric 112'.split(' ')],
      'address 10.96.0.3',
    ],
  ])('%s', async (_, [command, ...args], key) => {
    const before = await digest()
    const result =
      command === 'ip'
        ? await machine.run('ip', ['-batch', '-'], { input: `${args.join(' ')}\n` })
        : await run(command, ...args)
    expect(result, result.stderr).toMatchObject({ exitCode: 0 })
    expect(await digest()).not.toBe(before)
    const found = await committer.compare(signal, 20)
    expect(found.examples.map(example => example.key)).toContain(key)
    await committer.commit(true, signal)
    expect(await digest()).toBe(before)
  })

  it.each([
    ['one member', 'del PENSTOCK-INTERNAL 10.96.0.1,tcp:80\n', 'member PENSTOCK-INTERNAL 10.96.0.1,tcp:80'],
    ['a set', 'flush PENSTOCK-INTERNAL\n', 'member PENSTOCK-INTERNAL 10.96.0.2,tcp:80'],
    ['a foreign member', 'add PENSTOCK-INTERNAL 10.9.9.9,tcp:80\n', 'member PENSTOCK-INTERNAL 10.9.9.9,tcp:80'],
  ])('%s of a set', async (_, input, key) => {
    const before = await digest()
    const result = await machine.run('ipset', ['restore'], { input })
    expect(result, result.stderr).toMatchObject({ exitCode: 0 })
    expect(await digest()).not.toBe(before)
    expect((await committer.compare(signal, 20)).examples.map(example => example.key)).toContain(key)
    await committer.commit(true, signal)
    expect(await digest()).toBe(before)
  })

  it('rules that lead into the sets', async () => {
    const before = await digest()
    machine.iptables('IPv4', 'nft').restore('*mangle\n-F PENSTOCKVS-SERVICES\nCOMMIT\n', { noflush: true })
    expect(await digest()).not.toBe(before)
    expect(await committer.compare(signal)).toMatchObject({ missing: 0, foreign: 0, changed: 1 })
    await committer.commit(true, signal)
    expect(await digest()).toBe(before)
    expect(backend.watched?.().map(({ kind, table }) => `${kind} ${table}`)).toEqual([
      'nf_tables mangle',
      'nf_tables nat',
      'nf_tables filter',
    ])
  })

  it('the route or the device that is gone shows at a glance', async () => {
    expect(await backend.isIntact?.(signal)).toBe(true)
    const all = await machine.run('ip', '-4 route show table local proto 112'.split(' '))
    const [address = ''] = /10\.96\.0\.3/.exec(all.stdout) ?? []
    const to = `local ${address}/32 dev lo table local proto 112 metric 112`
    await machine.run('ip', ['-batch', '-'], { input: `route del ${to}\n` })
    expect(await backend.isIntact?.(signal)).toBe(false)
    await machine.run('ip', ['-batch', '-'], { input: `route append ${to}\n` })
    expect(await backend.isIntact?.(signal)).toBe(true)
    await machine.run('ip', ['link', 'del', 'kube-ipvs0'])
    expect(await backend.isIntact?.(signal)).toBe(false)
  })

  it('what is no address of a single machine gets no route', () => {
    const special = ['224.0.0.18', '255.255.255.255', '127.0.0.9', '0.0.0.1']
    const item: ServicePort = {
      ...port(9, '10.0.0.1'),
      frontends: [...special, '203.0.113.9'].map(text => ({
        kind: 'LoadBalancer',
        address: ip(text),
        port: 80,
        traffic: 'external',
      })),
    }
    const keys = [...backend.compile(item, network)].map(({ key }) => key)
    expect(keys.filter(key => key.startsWith('virtual '))).toHaveLength(5)
    const layout = backend.layout?.()
    if (layout === undefined) throw new Error('IPVS mode has a layout')
    for (const object of backend.compile(item, network)) if (layout.isEntry(object.key)) layout.set(object)
    const wanted = [...layout.drain()].map(({ key }) => key)
    expect(wanted.filter(key => key.startsWith('address '))).toEqual(['address 203.0.113.9'])
  })

  it('sets and addresses of others, the other family, and what is being drained do not count', async () => {
    const before = await digest()
    await machine.run('ipset', ['restore'], { input: 'create OTHER hash:ip family inet\nadd OTHER 10.1.1.1\n' })
    await run('ipvsadm', '-A', '-t', '[fd00::1]:80', '-s', 'rr')
    expect(await digest()).toBe(before)
    replace(port(2, '10.0.0.1'))
    await committer.commit(false, signal)
    const drained = await digest()
    expect(drained).not.toBe(before)
    await run('ipvsadm', '-d', '-t', '10.96.0.2:80', '-r', '10.0.0.2:8080')
    expect(await digest()).toBe(drained)
  })
})
