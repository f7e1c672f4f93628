// IPVS mode by netlink: no program for a change, and what the kernel says is heard.
import { describe, expect, test } from 'vitest'
import type { Command } from '../../../src/backend/ipvs/commands.ts'
import { ipvsBackend } from '../../../src/backend/ipvs/index.ts'
import { refusalOf } from '../../../src/backend/ipvs/kernel.ts'
import { type IpvsNetlink, overNetlink } from '../../../src/backend/ipvs/netlink.ts'
import { programs } from '../../../src/backend/ipvs/programs.ts'
import { errnoName, NetlinkError } from '../../../src/kernel/netlink/message.ts'
import type { Frontend, ServicePort } from '../../../src/policy/service-port.ts'
import { Committer } from '../../../src/sync/committer.ts'
import { ip } from '../../model/build.ts'
import { StrictIpvs } from '../../support/strict-ipvs/machine.ts'
import { networkAt } from './network.ts'

const { signal } = new AbortController()
const network = networkAt(ip('192.168.100.1'))
const nodePort: Frontend = { kind: 'NodePort', address: 'node-ports', port: 30_080, traffic: 'external' }

function port(number: number, addresses: readonly string[], frontends: readonly Frontend[] = []): ServicePort {
  const endpoints = addresses.map(address => ({ address: ip(address), port: 80, isLocal: false, isTerminating: false }))
  const choice = { kind: 'endpoints', endpoints } as const
  return {
    service: `a/s${number}`,
    name: `a/s${number}`,
    protocol: 'TCP',
    frontends: [{ kind: 'ClusterIP', address: ip(`10.96.0.${number}`), port: 80, traffic: 'internal' }, ...frontends],
    internal: choice,
    external: choice,
    externalFromNode: choice,
    externalMasquerade: frontends.length === 0,
    healthCheckNodePort: 0,
  }
}

/** A node in memory whose kernel is spoken to by netlink. */
function nodeOf(machine = new StrictIpvs(), netlink: IpvsNetlink = machine.netlink()) {
  let opened = 0
  let closed = 0
  const backend = ipvsBackend({
    family: 'IPv4',
    exec: machine,
    netlink: async () => {
      opened++
      const close = async (): Promise<void> => void closed++
      return { ...netlink, route: { ...netlink.route, close } }
    },
  })
  const committer = new Committer(backend, { refused: () => undefined, giveUp: () => false })
  const set = (item: ServicePort): void => committer.replace(item.name, backend.compile(item, network))
  const start = async (): Promise<void> => {
    committer.replaceSkeleton(backend.skeleton(network))
    await committer.compare(signal)
    await committer.commit(true, signal)
  }
  return { machine, backend, committer, set, start, sockets: () => ({ opened, closed }) }
}

describe('by netlink', () => {
  test('a change starts no program, and programs read what it wrote', async () => {
    const { machine, backend, committer, set, start } = nodeOf()
    await start()
    const from = machine.calls.length
    set(port(1, ['10.0.0.1', '10.0.0.2']))
    set(port(2, ['10.0.0.1'], [nodePort]))
    await committer.commit(false, signal)
    set(port(1, ['10.0.0.2', '10.0.0.3']))
    set(port(2, ['10.0.0.2']))
    await committer.commit(false, signal)
    committer.replace('a/s1', [])
    await committer.commit(false, signal)
    expect(machine.calls.slice(from)).toEqual([])
    const byPrograms = await ipvsBackend({ family: 'IPv4', exec: machine }).read(signal)
    expect([...byPrograms].sort()).toEqual([...(await backend.read(signal))].sort())
    expect([...byPrograms].sort()).toEqual([...committer.program.objects].sort())
    expect(byPrograms.has('virtual tcp 10.96.0.2:80')).toBe(true)
  })

  test('a plan is the same text whoever writes it', async () => {
    const { machine, backend, committer, set, start } = nodeOf()
    await start()
    set(port(1, ['10.0.0.1'], [nodePort]))
    const delta = committer.program.pending()
    const other = ipvsBackend({ family: 'IPv4', exec: machine })
    const text = (of: typeof backend): string[] => of.plan(delta, committer.program.objects).steps.map(one => one.text)
    expect(text(backend)).toEqual(text(other))
    expect(text(backend).join('')).toContain('-a -t 10.96.0.1:80 -r 10.0.0.1:80 -m -w 1\n')
  })

  test('sockets are opened once, and closed at the end', async () => {
    const { backend, start, sockets } = nodeOf()
    expect(sockets()).toEqual({ opened: 0, closed: 0 })
    await start()
    await backend.isIntact?.(signal)
    expect(sockets()).toEqual({ opened: 1, closed: 0 })
    backend.stop?.()
    await expect.poll(sockets).toEqual({ opened: 1, closed: 1 })
    expect((await backend.read(signal)).size).toBeGreaterThan(0)
    expect(sockets()).toEqual({ opened: 2, closed: 1 })
  })

  test('where there is no netlink, programs do the same', async () => {
    const machine = new StrictIpvs()
    const backend = ipvsBackend({ family: 'IPv4', exec: machine, netlink: async () => undefined })
    await backend.read(signal)
    expect(machine.calls.map(({ command }) => command)).toEqual(expect.arrayContaining(['ipset', 'ipvsadm', 'ip']))
  })

  test('without IPVS it is loaded by a program, and if that does not help, said', async () => {
    const machine = new StrictIpvs()
    const { ipvs, ...others } = machine.netlink()
    let isThere = false
    const kernel = overNetlink({ ...others, ipvs: { ...ipvs, isThere: async () => isThere } }, async () => {
      isThere = true
    })
    expect(await kernel.servers('IPv4', signal)).toEqual([])
    const without = overNetlink({ ...others, ipvs: { ...ipvs, isThere: async () => false } }, async () => undefined)
    await expect(without.servers('IPv4', signal)).rejects.toMatchObject({ kind: 'unsupported' })
    await expect(without.load()).rejects.toThrow('this kernel has no IPVS')
  })

  test('somebody who does not wait any longer is let go', async () => {
    const kernel = overNetlink(new StrictIpvs().netlink(), async () => undefined)
    const command: Command = { kind: 'add-address', address: ip('10.96.0.1') }
    const aborted = AbortSignal.abort(new Error('enough'))
    await expect(kernel.change([command], 'IPv4', aborted)).rejects.toMatchObject({ kind: 'transient' })
  })
})

describe('what the kernel says', () => {
  const member: Command = {
    kind: 'add-member',
    set: 'PENSTOCK-DROP',
    element: '10.0.0.1,tcp:80',
    value: '',
    replace: false,
  }
  const deletion: Command = { kind: 'delete-member', set: 'PENSTOCK-DROP', element: '10.0.0.1,tcp:80' }
  const creation: Command = { kind: 'create-set', set: 'PENSTOCK-DROP', type: 'hash:ip family inet maxelem 9' }
  const destruction: Command = { kind: 'destroy-set', set: 'PENSTOCK-DROP' }
  const server: Command = { kind: 'add-server', server: 'tcp 10.96.0.1:80', options: '-s rr' }
  const edited: Command = { kind: 'edit-server', server: 'tcp 10.96.0.1:80', options: '-s rr' }
  const real: Command = { kind: 'add-real', server: 'tcp 10.96.0.1:80', real: '10.0.0.1:80', weight: 1 }
  const drained: Command = { kind: 'edit-real', server: 'tcp 10.96.0.1:80', real: '10.0.0.1:80', weight: 0 }
  const goneReal: Command = { kind: 'delete-real', server: 'tcp 10.96.0.1:80', real: '10.0.0.1:80' }
  const goneServer: Command = { kind: 'delete-server', server: 'tcp 10.96.0.1:80' }
  const address: Command = { kind: 'add-address', address: ip('10.96.0.1') }
  const goneAddress: Command = { kind: 'delete-address', address: ip('10.96.0.1') }
  const device: Command = { kind: 'add-device' }
  const goneDevice: Command = { kind: 'delete-device' }
  const [EPERM, ENOENT, ESRCH, EAGAIN, ENOMEM, EACCES, EEXIST, ENODEV, EINVAL, EOPNOTSUPP, ENETDOWN, ENOBUFS] = [
    1, 2, 3, 11, 12, 13, 17, 19, 22, 95, 100, 105,
  ]
  /** IPSET_ERR_*. */
  const [findType, busy, exists, full] = [4098, 4100, 4103, 4352]

  test.each([
    [member, EPERM, 'denied', []],
    [server, EPERM, 'denied', []],
    [device, EPERM, 'denied', []],
    [server, EACCES, 'denied', []],
    [address, EPERM, 'denied', []],
    [member, ENOMEM, 'transient', []],
    [server, ENOBUFS, 'transient', []],
    [address, EAGAIN, 'transient', []],
    [destruction, busy, 'transient', []],
    [creation, findType, 'unsupported', []],
    [device, EOPNOTSUPP, 'unsupported', []],
    [address, ENETDOWN, 'transient', []],
    // lo has no IPv6.
    [address, EACCES, 'transient', []],
    [creation, EEXIST, 'stale', []],
    [destruction, ENOENT, 'stale', []],
    [member, exists, 'stale', []],
    [member, ENOENT, 'stale', []],
    [deletion, exists, 'stale', []],
    [server, EEXIST, 'stale', []],
    [edited, ESRCH, 'stale', []],
    [real, EEXIST, 'stale', []],
    [real, ESRCH, 'stale', []],
    [goneDevice, ENODEV, 'stale', []],
    [member, full, 'refused', ['member PENSTOCK-DROP 10.0.0.1,tcp:80']],
    [server, ENOENT, 'refused', ['virtual tcp 10.96.0.1:80']],
    [edited, ENOENT, 'refused', ['virtual tcp 10.96.0.1:80']],
    [real, EINVAL, 'refused', ['virtual tcp 10.96.0.1:80']],
    [address, EINVAL, 'refused', ['address 10.96.0.1']],
    // The kernel holds it anyway.
    [device, EEXIST, undefined, []],
    [address, EEXIST, undefined, []],
    [goneAddress, ESRCH, undefined, []],
    [goneServer, ESRCH, undefined, []],
    [goneReal, ENOENT, undefined, []],
    [goneReal, ESRCH, undefined, []],
    [drained, ENOENT, undefined, []],
  ] as const)('to $kind, with errno %i, means %s', async (command, errno, kind, keys) => {
    const kernel = overNetlink(new StrictIpvs().netlink({ refuse: () => errno ?? 0 }), async () => undefined)
    const outcome = kernel.change([command], 'IPv4', signal).then(refusalOf, (error: unknown) => error)
    if (kind === undefined) expect(await outcome).toBeUndefined()
    else expect(await outcome).toMatchObject({ name: 'CommitError', kind, keys })
  })

  test.each(['programs', 'netlink'])('what is there already does not keep %s from the rest', async by => {
    const machine = new StrictIpvs()
    const kernel = by === 'programs' ? programs(machine) : overNetlink(machine.netlink(), async () => undefined)
    const add = (text: string): Command => ({ kind: 'add-address', address: ip(text) })
    const remove = (text: string): Command => ({ kind: 'delete-address', address: ip(text) })
    expect(await kernel.change([add('10.96.0.2')], 'IPv4', signal)).toEqual([])
    const commands = [add('10.96.0.1'), add('10.96.0.2'), remove('10.96.0.9'), add('10.96.0.3'), remove('10.96.0.1')]
    const refused = await kernel.change(commands, 'IPv4', signal)
    expect(refused.map(({ command, why }) => [command, why])).toEqual([
      [commands[1], 'exists'],
      [commands[2], 'missing'],
    ])
    expect(refusalOf(refused)).toBeUndefined()
    expect(await kernel.addresses('IPv4', signal)).toEqual(['10.96.0.2', '10.96.0.3'])
  })

  test('of several that are refused names each, once', () => {
    const refused = [server, real, address].map(command => ({ command, why: 'invalid', message: 'no' }) as const)
    const stale = { command: member, why: 'exists', message: 'there' } as const
    expect(refusalOf([stale, ...refused])).toMatchObject({
      kind: 'refused',
      keys: ['virtual tcp 10.96.0.1:80', 'address 10.96.0.1'],
    })
  })

  test('to a question is heard, too', async () => {
    const { ipvs, sets, route } = new StrictIpvs().netlink()
    const failing = (errno: number) => {
      const fail = (): Promise<never> => Promise.reject(new NetlinkError('the kernel refused', errno))
      const broken = { ...ipvs, services: fail, hasService: fail }
      return overNetlink(
        { ipvs: broken, sets: { ...sets, list: fail }, route: { ...route, link: fail, locals: fail, isLocal: fail } },
        async () => {
          throw new Error(errnoName(errno))
        },
      )
    }
    await expect(failing(EPERM ?? 0).sets('IPv4', signal)).rejects.toMatchObject({ kind: 'denied' })
    // Without the module of ipset.
    await expect(failing(EINVAL ?? 0).sets('IPv4', signal)).rejects.toMatchObject({ kind: 'unsupported' })
    await expect(failing(ENOMEM ?? 0).servers('IPv4', signal)).rejects.toMatchObject({ kind: 'transient' })
    await expect(failing(92).hasServer('mark 0x1', 'IPv4', signal)).rejects.toMatchObject({ kind: 'unsupported' })
    await expect(failing(ENOBUFS ?? 0).addresses('IPv4', signal)).rejects.toMatchObject({ kind: 'transient' })
    await expect(failing(ENOBUFS ?? 0).proxyAddresses('IPv4', signal)).rejects.toMatchObject({ kind: 'transient' })
    await expect(failing(EPERM ?? 0).isLocal(ip('10.96.0.1'), signal)).rejects.toMatchObject({ kind: 'denied' })
  })
})
