// Endpoints that go keep their connections, foreign virtual servers are left alone, and a mode that is given up gives way.
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { CommitError } from '../../../src/backend/backend.ts'
import { Drainer } from '../../../src/backend/ipvs/drain.ts'
import { type IpvsOptions, ipvsBackend } from '../../../src/backend/ipvs/index.ts'
import { virtualServer } from '../../../src/backend/ipvs/names.ts'
import { overNetlink } from '../../../src/backend/ipvs/netlink.ts'
import { defaultIpvsSettings } from '../../../src/backend/ipvs/settings.ts'
import { type IP, parseCIDR, parseIP } from '../../../src/net/ip.ts'
import type { Protocol } from '../../../src/net/protocol.ts'
import type { Endpoint, ServicePort } from '../../../src/policy/service-port.ts'
import { DesiredProgram } from '../../../src/sync/program.ts'
import { StrictIpvs } from '../../support/strict-ipvs/machine.ts'
import { networkAt } from './network.ts'

const network = networkAt()

const { signal } = new AbortController()
function ip(text: string): IP {
  const parsed = parseIP(text)
  if (parsed === undefined) throw new Error(`${text} is no address`)
  return parsed
}

const endpoints = (...names: readonly string[]): Endpoint[] =>
  names.map(name => ({ address: ip(name), port: 8080, isLocal: false, isTerminating: false }))

function port(protocol: Protocol, reals: readonly string[], more: Partial<ServicePort> = {}): ServicePort {
  const choice =
    reals.length === 0
      ? ({ kind: 'reject' } as const)
      : ({ kind: 'endpoints', endpoints: endpoints(...reals) } as const)
  return {
    service: 'a/web',
    name: 'a/web:p',
    protocol,
    frontends: [{ kind: 'ClusterIP', address: ip('10.96.0.20'), port: 80, traffic: 'internal' }],
    internal: choice,
    external: choice,
    externalFromNode: choice,
    externalMasquerade: true,
    healthCheckNodePort: 0,
    ...more,
  }
}

/** How the kernel is spoken to. */
type Means = 'programs' | 'netlink'
const means: readonly Means[] = ['programs', 'netlink']
const optionsFor = (by: Means, machine: StrictIpvs): Pick<IpvsOptions, 'netlink'> =>
  by === 'programs' ? {} : { netlink: async () => machine.netlink() }

class Node {
  readonly machine: StrictIpvs
  readonly backend: ReturnType<typeof ipvsBackend>
  readonly program: DesiredProgram

  constructor(by: Means, machine = new StrictIpvs(), settings = defaultIpvsSettings) {
    this.machine = machine
    this.backend = ipvsBackend({ family: 'IPv4', exec: machine, settings, ...optionsFor(by, machine) })
    this.program = new DesiredProgram(this.backend.layout?.())
    this.program.replace('skeleton', this.backend.skeleton(network))
  }

  async compare(): Promise<void> {
    this.program.rebase(await this.backend.read(signal))
  }

  async wants(...ports: readonly ServicePort[]): Promise<void> {
    for (const item of ports) this.program.replace(`${item.name}/${item.protocol}`, this.backend.compile(item, network))
    await this.settle()
  }

  async settle(): Promise<void> {
    await this.backend.commit(this.backend.plan(this.program.pending(), this.program.objects), signal)
    this.program.settle()
  }

  /** What ipvsadm would print of real servers, with their weights. */
  async real(): Promise<string[]> {
    const { stdout } = await this.machine.run('ipvsadm', ['-Sn'])
    return [...stdout.matchAll(/^-a \S+ \S+ -r (\S+) -m -w (\d+)/gm)].map(([, real, weight]) => `${real} ${weight}`)
  }

  connections(protocol: Protocol, real: string, active: number, inactive = 0): void {
    const id = { kind: 'address', protocol, address: ip('10.96.0.20'), port: 80 } as const
    this.machine.servers.setConnections(id, { address: ip(real), port: 8080 }, { active, inactive })
  }
}

/** Lets time pass, and the machine's programs end, which take a turn of the real loop each. */
async function pass(ms: number): Promise<void> {
  for (let passed = 0; passed < ms; passed += 500) {
    await vi.advanceTimersByTimeAsync(500)
    for (let turn = 0; turn < 5; turn++) await new Promise(next => setImmediate(next))
  }
}

const atExternalIP: Partial<ServicePort> = {
  frontends: [{ kind: 'ExternalIP', address: ip('192.0.2.80'), port: 80, traffic: 'external' }],
}
const elsewhere: ServicePort['frontends'] = [
  { kind: 'ClusterIP', address: ip('10.96.0.99'), port: 80, traffic: 'internal' },
]

const minutes = (count: number): number => count * 60_000

describe.each(means)('an endpoint that goes, by %s', by => {
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] })
  })
  afterEach(() => {
    vi.useRealTimers()
  })

  test('is deleted soon where it has no connections', async () => {
    const node = new Node(by)
    await node.wants(port('TCP', ['10.0.0.1', '10.0.0.2']))
    await node.wants(port('TCP', ['10.0.0.1']))
    expect(await node.real()).toEqual(['10.0.0.1:8080 1', '10.0.0.2:8080 0'])
    await pass(1_500)
    expect(await node.real()).toEqual(['10.0.0.1:8080 1'])
  })

  test('keeps its connections until they end, and then goes', async () => {
    const node = new Node(by)
    await node.wants(port('TCP', ['10.0.0.1', '10.0.0.2']))
    node.connections('TCP', '10.0.0.2', 3, 1)
    await node.wants(port('TCP', ['10.0.0.1']))
    await pass(minutes(10))
    expect(await node.real()).toEqual(['10.0.0.1:8080 1', '10.0.0.2:8080 0'])
    node.connections('TCP', '10.0.0.2', 0, 1)
    await pass(minutes(1))
    expect(await node.real()).toContain('10.0.0.2:8080 0')
    node.connections('TCP', '10.0.0.2', 0, 0)
    await pass(minutes(1))
    expect(await node.real()).toEqual(['10.0.0.1:8080 1'])
  })

  test.each([
    ['TCP', minutes(14), minutes(2)],
    ['SCTP', minutes(14), minutes(2)],
    ['UDP', 5_000, 25_000],
  ] as const)('%s: has a limit', async (protocol, before, beyond) => {
    const node = new Node(by)
    await node.wants(port(protocol, ['10.0.0.1', '10.0.0.2']))
    node.connections(protocol, '10.0.0.2', 0, 5)
    await node.wants(port(protocol, ['10.0.0.1']))
    await pass(before)
    expect(await node.real()).toContain('10.0.0.2:8080 0')
    await pass(beyond)
    expect(await node.real()).toEqual(['10.0.0.1:8080 1'])
  })

  test('gets its weight back when it comes back, and keeps its connections', async () => {
    const node = new Node(by)
    await node.wants(port('TCP', ['10.0.0.1', '10.0.0.2']))
    node.connections('TCP', '10.0.0.2', 1)
    await node.wants(port('TCP', ['10.0.0.1']))
    await pass(3_000)
    await node.wants(port('TCP', ['10.0.0.1', '10.0.0.2']))
    expect(await node.real()).toEqual(['10.0.0.1:8080 1', '10.0.0.2:8080 1'])
    const { stdout } = await node.machine.run('ipvsadm', ['-Ln'])
    expect(stdout).toMatch(/10\.0\.0\.2:8080 +Masq +1 +1 +0/)
    await pass(minutes(20))
    expect(await node.real()).toEqual(['10.0.0.1:8080 1', '10.0.0.2:8080 1'])
  })

  test('is drained on by the next run, and is no difference to it', async () => {
    const node = new Node(by)
    await node.wants(port('TCP', ['10.0.0.1', '10.0.0.2']))
    node.connections('TCP', '10.0.0.2', 1)
    await node.wants(port('TCP', ['10.0.0.1']))
    const next = new Node(by, node.machine)
    next.program.replace('a/web:p/TCP', next.backend.compile(port('TCP', ['10.0.0.1']), network))
    await next.compare()
    expect(next.program.pending()).toEqual({ added: [], changed: [], removed: [] })
    node.connections('TCP', '10.0.0.2', 0)
    await node.backend.cleanup(signal).catch(() => undefined)
    const last = new Node(by, node.machine)
    expect((await last.backend.read(signal)).size).toBe(0)
  })

  test('a virtual server by mark that is wanted again stays, also where the commit that took it back failed on the way', async () => {
    const node = new Node(by)
    const local = port('TCP', ['10.0.0.1', '10.0.0.2'], { externalMasquerade: false, ...atExternalIP })
    const marked = async (): Promise<number> =>
      (await node.machine.run('ipvsadm', ['-Sn'])).stdout.match(/^-A -f /gm)?.length ?? 0
    await node.wants(local)
    expect(await marked()).toBe(1)
    await node.wants(port('TCP', ['10.0.0.1', '10.0.0.2'], atExternalIP))
    const other = port('TCP', ['10.0.0.3'], { name: 'a/bad:p', scheduler: 'nosuch', frontends: elsewhere })
    await expect(node.wants(local, other)).rejects.toMatchObject({ kind: 'refused' })
    node.program.replace('a/bad:p/TCP', [])
    await node.compare()
    await node.settle()
    await pass(10_000)
    expect(await marked()).toBe(1)
    await node.compare()
    expect(node.program.pending()).toEqual({ added: [], changed: [], removed: [] })
  })

  test('the last one of a Service drains too, while new connections are refused', async () => {
    const node = new Node(by)
    await node.wants(port('TCP', ['10.0.0.1']))
    node.connections('TCP', '10.0.0.1', 2)
    await node.wants(port('TCP', []))
    await pass(minutes(5))
    expect(await node.real()).toEqual(['10.0.0.1:8080 0'])
    const packet = { src: ip('10.9.9.9'), dst: ip('10.96.0.20'), port: 80, protocol: 'TCP' } as const
    expect(node.backend.trace(await node.backend.read(signal), packet, network).verdict).toBe('reject')
  })
})

test('a commit waits for some virtual servers of a look, not for all of them', async () => {
  const kernel = overNetlink(new StrictIpvs().netlink(), async () => undefined)
  const order: string[] = []
  let committed: Promise<void> | undefined
  const drainer = new Drainer({
    family: 'IPv4',
    kernel: async () => ({
      ...kernel,
      loadsPerTurn: 16,
      loads(servers, family) {
        order.push(`${servers.length} looked at`)
        committed ??= drainer.alone(async () => {
          order.push('a commit')
        })
        return kernel.loads(servers, family)
      },
    }),
  })
  for (let host = 1; host <= 40; host++) drainer.add(virtualServer('TCP', ip(`10.96.1.${host}`), 80), '10.0.0.1:8080')
  expect(drainer.size).toBe(40)
  await drainer.look()
  await committed
  expect(order).toEqual(['16 looked at', 'a commit', '16 looked at', '8 looked at'])
  // None of them is in that kernel.
  expect(drainer.size).toBe(0)
  drainer.stop()
})

describe.each(means)('what others keep in IPVS, by %s', by => {
  test('is not looked at, changed or removed', async () => {
    const machine = new StrictIpvs()
    const foreign = '-A -t 192.0.2.1:25 -s wlc\n-a -t 192.0.2.1:25 -r 10.9.0.1:25 -g -w 7\n-A -f 7 -s rr\n'
    await machine.run('ipvsadm', ['--restore'], { input: foreign })
    const node = new Node(by, machine)
    await node.compare()
    await node.wants(port('TCP', ['10.0.0.1']))
    await node.compare()
    expect(node.program.pending()).toEqual({ added: [], changed: [], removed: [] })
    await node.backend.cleanup(signal)
    const { stdout } = await machine.run('ipvsadm', ['-Sn'])
    expect(stdout.trim().split('\n').sort()).toEqual(foreign.trim().split('\n').sort())
  })

  test('is left on the device too, inside excludeCIDRs', async () => {
    const machine = new StrictIpvs()
    const excluded = parseCIDR('10.200.0.0/16')
    const node = new Node(by, machine, {
      ...defaultIpvsSettings,
      excludeCIDRs: excluded === undefined ? [] : [excluded],
    })
    await node.compare()
    await node.wants(port('TCP', ['10.0.0.1']))
    await machine.run('ip', ['-batch', '-'], {
      input: ['addr add 10.200.0.1/32 dev kube-ipvs0\naddr add 10.201.0.1/32 dev kube-ipvs0\n'].join(''),
    })
    await machine.run('ipvsadm', ['--restore'], { input: '-A -t 10.200.0.1:80 -s rr\n-A -t 10.201.0.1:80 -s rr\n' })
    await node.compare()
    expect(
      node.program
        .pending()
        .removed.map(({ key }) => key)
        .sort(),
    ).toEqual(['virtual tcp 10.201.0.1:80'])
  })
})

describe.each(means)('when another mode takes over, by %s', by => {
  test('what no connection lives in goes at once, the rest when they end', async () => {
    const node = new Node(by)
    const other = port('TCP', ['10.0.0.3'], {
      name: 'a/other',
      frontends: [{ kind: 'ClusterIP', address: ip('10.96.0.30'), port: 80, traffic: 'internal' }],
    })
    await node.wants(port('TCP', ['10.0.0.1']), other)
    node.connections('TCP', '10.0.0.1', 1)
    const former = ipvsBackend({ family: 'IPv4', exec: node.machine, ...optionsFor(by, node.machine) })
    expect(await former.retire?.(signal)).toBeGreaterThan(0)
    const left = await former.read(signal)
    const kinds = [...left.keys()].filter(key => !/^(?:set|member) /.test(key))
    expect(kinds.sort()).toEqual(['address 10.96.0.20', 'device kube-ipvs0', 'virtual tcp 10.96.0.20:80'])
    expect(await node.real()).toEqual(['10.0.0.1:8080 0'])
    node.connections('TCP', '10.0.0.1', 0)
    expect(await former.retire?.(signal)).toBeUndefined()
    expect((await former.read(signal)).size).toBe(0)
  })

  test('cleanup waits for nobody', async () => {
    const node = new Node(by)
    await node.wants(port('TCP', ['10.0.0.1']))
    node.connections('TCP', '10.0.0.1', 1)
    await node.backend.cleanup(signal)
    expect((await node.backend.read(signal)).size).toBe(0)
    for (const command of ['ipset', 'iptables-save']) {
      const { stdout } = await node.machine.run(command, command === 'ipset' ? ['save'] : [])
      expect(stdout).not.toContain('PENSTOCK')
    }
  })

  test('a machine on which IPVS mode never ran is not asked about IPVS, which would load it', async () => {
    const machine = new StrictIpvs({ missing: ['ipset', 'ipvsadm'] })
    const backend = ipvsBackend({ family: 'IPv4', exec: machine, ...optionsFor(by, machine) })
    await backend.cleanup(signal)
    expect(await backend.retire?.(signal)).toBeUndefined()
    expect(machine.calls.filter(({ command }) => /ipset|ipvsadm/.test(command))).toEqual([])
  })
})

describe.each(means)('what the kernel refuses, by %s', by => {
  test('names the Service whose scheduler it does not have', async () => {
    const node = new Node(by, new StrictIpvs({ schedulers: ['rr'] }))
    await node.wants(port('TCP', ['10.0.0.1']))
    const bad = port('UDP', ['10.0.0.1'], { name: 'a/bad', scheduler: 'wlc' })
    node.program.replace('a/bad/UDP', node.backend.compile(bad, network))
    const refused = node.settle()
    await expect(refused).rejects.toBeInstanceOf(CommitError)
    await expect(refused).rejects.toMatchObject({ kind: 'refused', keys: ['virtual udp 10.96.0.20:80'] })
  })

  test('an annotation that is no scheduler is named', () => {
    const { backend } = new Node(by)
    expect(() => [...backend.compile(port('TCP', [], { scheduler: 'rr; reboot' }), network)]).toThrow(/"rr; reboot"/)
  })

  test('a virtual server that is gone makes the next commit look anew, and the look at what is there tells', async () => {
    const node = new Node(by)
    await node.wants(port('TCP', ['10.0.0.1']))
    expect(await node.backend.isIntact?.(signal)).toBe(true)
    await node.machine.run('ipvsadm', ['--restore'], { input: '-D -t 10.96.0.20:80\n' })
    expect(await node.backend.isIntact?.(signal)).toBe(false)
    node.program.replace('a/web:p/TCP', node.backend.compile(port('TCP', ['10.0.0.2']), network))
    await expect(node.settle()).rejects.toBeInstanceOf(CommitError)
    await node.compare()
    await node.settle()
    expect(await node.real()).toEqual(['10.0.0.2:8080 1'])
  })
})
