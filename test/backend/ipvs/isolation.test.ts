// One Service that the kernel refuses: it is named and set aside, and no other Service is touched.
import { describe, expect, test } from 'vitest'
import type { Backend } from '../../../src/backend/backend.ts'
import { ipvsBackend } from '../../../src/backend/ipvs/index.ts'
import type { IpvsNetlink } from '../../../src/backend/ipvs/netlink.ts'
import { type IP, parseIP } from '../../../src/net/ip.ts'
import type { Frontend, ServicePort } from '../../../src/policy/service-port.ts'
import { Committer } from '../../../src/sync/committer.ts'
import { StrictIpvs } from '../../support/strict-ipvs/machine.ts'
import type { StrictNetlinkOptions } from '../../support/strict-ipvs/netlink.ts'
import { networkAt } from './network.ts'

const { signal } = new AbortController()

function ip(text: string): IP {
  const parsed = parseIP(text)
  if (parsed === undefined) throw new Error(`${text} is no address`)
  return parsed
}

const network = networkAt(ip('192.168.100.1'))

const nodePort: Frontend = { kind: 'NodePort', address: 'node-ports', port: 30_080, traffic: 'external' }

function port(number: number, more: { real?: string; scheduler?: string; frontends?: readonly Frontend[] } = {}) {
  const endpoints = [{ address: ip(more.real ?? '10.0.0.1'), port: 8080, isLocal: false, isTerminating: false }]
  const choice = { kind: 'endpoints', endpoints } as const
  const clusterIP: Frontend = { kind: 'ClusterIP', address: ip(`10.96.0.${number}`), port: 80, traffic: 'internal' }
  const made: ServicePort = {
    service: `a/s${number}`,
    name: `a/s${number}`,
    protocol: 'TCP',
    frontends: [clusterIP, ...(more.frontends ?? [])],
    internal: choice,
    external: choice,
    externalFromNode: choice,
    externalMasquerade: false,
    healthCheckNodePort: 0,
    ...(more.scheduler === undefined ? {} : { scheduler: more.scheduler }),
  }
  return made
}

/** How the kernel is spoken to. */
type Means = 'programs' | 'netlink'
const means: readonly Means[] = ['programs', 'netlink']

class Node {
  readonly machine = new StrictIpvs({ schedulers: ['rr', 'sh'] })
  readonly refused: string[] = []
  readonly backend: Backend
  readonly committer: Committer

  constructor(by: Means, options: StrictNetlinkOptions = {}) {
    const netlink = async (): Promise<IpvsNetlink> => this.machine.netlink(options)
    this.backend = ipvsBackend({ family: 'IPv4', exec: this.machine, ...(by === 'netlink' ? { netlink } : {}) })
    this.committer = new Committer(this.backend, {
      refused: owner => void this.refused.push(owner),
      giveUp: () => false,
    })
  }

  async start(count: number): Promise<void> {
    this.committer.replaceSkeleton(this.backend.skeleton(network))
    for (let number = 1; number <= count; number++) this.replace(port(number))
    await this.committer.compare(signal)
    await this.committer.commit(true, signal)
  }

  replace(item: ServicePort): void {
    this.committer.replace(`${item.name}/${item.protocol}`, this.backend.compile(item, network))
  }

  /** Lines that any program was given since. */
  lines(from: number): string[] {
    return this.machine.calls.slice(from).flatMap(({ input }) => input?.split('\n') ?? [])
  }

  async program(): Promise<ReadonlyMap<string, string>> {
    return this.backend.read(signal)
  }
}

describe('one Service that the kernel refuses', () => {
  const cases = [
    ['gets a scheduler that it does not have', port(3, { scheduler: 'wlc' })],
    ['becomes a node port with such a scheduler', port(3, { scheduler: 'wlc', frontends: [nodePort] })],
    ['gets an endpoint that cannot be one', port(3, { real: '239.1.1.1' })],
  ] as const
  const both = cases.flatMap(([what, bad]) => means.map(by => [what, by, bad] as const))
  test.each(both)(
    '%s, by %s: it keeps what it had, the others are not touched, and what is new goes in',
    async (_, by, bad) => {
      const node = new Node(by)
      await node.start(8)
      const before = await node.program()
      const from = node.machine.calls.length
      node.replace(bad)
      node.replace(port(9))
      await node.committer.commit(false, signal)
      expect(node.refused).toEqual(['a/s3/TCP'])
      const after = await node.program()
      for (const [key, value] of before) expect([key, after.get(key)]).toEqual([key, value])
      expect(after.get('virtual tcp 10.96.0.9:80')).toBe('-s rr\n10.0.0.1:8080')
      expect(after.has('address 10.96.0.9')).toBe(true)
      const touched = node.lines(from).filter(line => /10\.96\.0\.[1245678][:,/]/.test(line))
      expect(touched).toEqual([])
    },
  )

  test('a program that fails in words nobody knows takes nobody else along', async () => {
    const node = new Node('programs')
    await node.start(8)
    const before = await node.program()
    node.machine.failNext('ip', {
      kind: 'other',
      exitCode: 1,
      stderr: 'RTNETLINK answers: Invalid argument\nCommand failed -:1\n',
    })
    const from = node.machine.calls.length
    node.replace(port(9))
    await node.committer.commit(false, signal)
    const after = await node.program()
    for (const [key, value] of before) expect([key, after.get(key)]).toEqual([key, value])
    expect(node.lines(from).filter(line => /10\.96\.0\.[1-8][:,/]/.test(line))).toEqual([])
  })

  test('an address that no route can be made to, told by netlink, is the fault of its Service alone', async () => {
    const EINVAL = 22
    const node = new Node('netlink', {
      refuse: operation => (operation.kind === 'add-local' && operation.address === '10.96.0.7' ? EINVAL : undefined),
    })
    await node.start(2)
    node.replace(port(7))
    node.replace(port(8))
    await node.committer.commit(false, signal)
    expect(node.refused).toEqual(['a/s7/TCP'])
    const after = await node.program()
    expect(after.has('virtual tcp 10.96.0.2:80')).toBe(true)
    expect(after.has('address 10.96.0.8')).toBe(true)
    expect(after.has('virtual tcp 10.96.0.7:80')).toBe(false)
  })

  test('an address that no route can be made to is the fault of its Service alone', async () => {
    const node = new Node('programs')
    await node.start(2)
    const stderr = 'RTNETLINK answers: Invalid argument\nCommand failed -:1\n'
    const failure = { kind: 'other', exitCode: 1, stderr } as const
    node.machine.failNext('ip', failure, failure)
    node.replace(port(7))
    await node.committer.commit(false, signal)
    expect(node.refused).toEqual(['a/s7/TCP'])
    expect((await node.program()).has('virtual tcp 10.96.0.2:80')).toBe(true)
  })
})

describe.each(means)('a policy that flips, by %s', by => {
  test('drains the virtual server by mark instead of ending its connections', async () => {
    const node = new Node(by)
    await node.start(1)
    node.replace(port(2, { frontends: [nodePort] }))
    await node.committer.commit(false, signal)
    const mark = [...(await node.program()).keys()].find(key => key.startsWith('virtual mark '))?.split(' ')[2]
    expect(mark).toMatch(/^0x5ea/)
    node.replace({ ...port(2, { frontends: [nodePort] }), externalMasquerade: true })
    const from = node.machine.calls.length
    await node.committer.commit(false, signal)
    expect(node.lines(from).filter(line => line.startsWith('-D'))).toEqual([])
    const { stdout } = await node.machine.run('ipvsadm', ['-Sn'])
    expect(stdout).toMatch(/^-a -f \d+ -r 10\.0\.0\.1:8080 -m -w 0$/m)
    // And it comes back with its connections.
    node.replace(port(2, { frontends: [nodePort] }))
    await node.committer.commit(false, signal)
    expect((await node.program()).get(`virtual mark ${mark}`)).toBe('-s rr\n10.0.0.1:8080')
  })
})
