// IPVS by netlink against ipvsadm, on a kernel that has it: what either writes the other reads, and the backend lives by netlink
// alone, connections that drain among it. In a network namespace of the virtual machine:
//   hack/vm node_modules/.bin/node test/vm/netlink-ipvs.ts
import { deepStrictEqual, equal, ok } from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { ipvsBackend } from '../../src/backend/ipvs/index.ts'
import type { IpvsKernel } from '../../src/backend/ipvs/kernel.ts'
import { openIpvsNetlink, overNetlink } from '../../src/backend/ipvs/netlink.ts'
import { programs } from '../../src/backend/ipvs/programs.ts'
import { type Exec, machineExec } from '../../src/kernel/exec.ts'
import type { IpvsService, IpvsServiceId } from '../../src/kernel/netlink/ipvs-messages.ts'
import { type Family, type IP, parseIP } from '../../src/net/ip.ts'
import type { ServicePort } from '../../src/policy/service-port.ts'
import { Committer } from '../../src/sync/committer.ts'
import { networkAt } from '../backend/ipvs/network.ts'

const inside = '--inside'
const { signal } = new AbortController()
const families: readonly Family[] = ['IPv4', 'IPv6']
const run = (program: string, args: readonly string[], input?: string): string =>
  execFileSync(program, args, { encoding: 'utf8', ...(input === undefined ? {} : { input }) })
const saved = (): string[] =>
  run('ipvsadm', ['-Sn'])
    .split('\n')
    .filter(line => line !== '')
    .sort()
const say = (line: string): boolean => process.stdout.write(`${line}\n`)

function ip(text: string): IP {
  const parsed = parseIP(text)
  if (parsed === undefined) throw new Error(`${text} is no address`)
  return parsed
}

/** Programs that were started, by name. */
const started: string[] = []
const exec: Exec = {
  run: (command, args, options) => {
    started.push(command)
    return machineExec.run(command, args, options)
  },
}

async function open(): Promise<IpvsKernel> {
  const netlink = await openIpvsNetlink(say)
  if (netlink === undefined) throw new Error('no netlink')
  return overNetlink(netlink, programs(exec).load)
}

const web = { kind: 'address', protocol: 'TCP', address: ip('10.96.0.1'), port: 80 } as const satisfies IpvsServiceId
const settings = (id: IpvsServiceId, more: Partial<IpvsService> = {}): IpvsService => {
  const isSix = id.kind === 'mark' ? id.family === 'IPv6' : id.address.includes(':')
  return { id, scheduler: 'rr', flags: 0, timeout: 0, netmask: isSix ? 128 : 0xffffffff, ...more }
}

async function writesWhatIpvsadmShows(): Promise<void> {
  const netlink = await openIpvsNetlink(say)
  if (netlink === undefined) throw new Error('no netlink')
  const { ipvs } = netlink
  const six: IpvsServiceId = { kind: 'address', protocol: 'UDP', address: ip('fd00::1'), port: 53 }
  const mark = { kind: 'mark', family: 'IPv4', mark: 0x5ea00010 } as const satisfies IpvsServiceId
  const markSix: IpvsServiceId = { ...mark, family: 'IPv6' }
  const real = (address: string, weight: number) => ({ address: ip(address), port: 8080, forward: 0, weight })
  const acks = await ipvs.apply([
    { kind: 'add-service', service: settings(web, { flags: 1, timeout: 10_800 }) },
    { kind: 'add-service', service: settings({ ...web, protocol: 'SCTP' }, { scheduler: 'mh', flags: 0x10 }) },
    { kind: 'add-service', service: settings(six, { scheduler: 'sh', flags: 0x18 }) },
    { kind: 'add-service', service: settings(mark) },
    { kind: 'add-service', service: settings(markSix) },
    { kind: 'add-destination', id: web, destination: real('10.0.0.1', 1) },
    { kind: 'add-destination', id: web, destination: real('10.0.0.2', 7) },
    { kind: 'add-destination', id: web, destination: real('10.0.0.3', 1) },
    { kind: 'edit-destination', id: web, destination: real('10.0.0.1', 0) },
    { kind: 'delete-destination', id: web, destination: real('10.0.0.3', 0) },
    { kind: 'add-destination', id: six, destination: real('fd00::9', 1) },
    { kind: 'add-destination', id: mark, destination: real('10.0.0.1', 1) },
    { kind: 'add-destination', id: markSix, destination: real('fd00::9', 1) },
    // What the kernel says to what cannot be.
    { kind: 'add-service', service: settings(web) },
    { kind: 'edit-service', service: settings({ ...web, port: 81 }) },
    { kind: 'delete-service', id: { ...web, port: 81 } },
    { kind: 'add-service', service: settings({ ...web, port: 82 }, { scheduler: 'nosuch' }) },
    { kind: 'edit-service', service: settings(mark, { scheduler: 'nosuch' }) },
    { kind: 'add-destination', id: { ...web, port: 82 }, destination: real('10.0.0.1', 1) },
    { kind: 'add-destination', id: web, destination: real('10.0.0.1', 1) },
    { kind: 'add-destination', id: web, destination: real('239.1.1.1', 1) },
    { kind: 'edit-destination', id: web, destination: real('10.0.0.9', 1) },
    { kind: 'delete-destination', id: web, destination: real('10.0.0.9', 1) },
  ])
  const [EEXIST, ESRCH, ENOENT, EINVAL] = [17, 3, 2, 22]
  deepStrictEqual(
    acks.map(({ errno }) => errno),
    [...Array(13).fill(0), EEXIST, ESRCH, ESRCH, ENOENT, ENOENT, ESRCH, EEXIST, EINVAL, ENOENT, ENOENT],
  )
  deepStrictEqual(
    saved(),
    [
      '-A -t 10.96.0.1:80 -s rr -p 10800',
      '-a -t 10.96.0.1:80 -r 10.0.0.1:8080 -m -w 0',
      '-a -t 10.96.0.1:80 -r 10.0.0.2:8080 -m -w 7',
      '-A --sctp-service 10.96.0.1:80 -s mh -b mh-port',
      '-A -u [fd00::1]:53 -s sh -b sh-fallback,sh-port',
      '-a -u [fd00::1]:53 -r [fd00::9]:8080 -m -w 1',
      '-A -f 1587544080 -s rr',
      '-a -f 1587544080 -r 10.0.0.1:8080 -m -w 1',
      '-A -f 1587544080 -6 -s rr',
      '-a -f 1587544080 -6 -r [fd00::9]:8080 -m -w 1',
    ].sort(),
  )
  ok(await ipvs.hasService(web))
  ok(!(await ipvs.hasService({ ...web, port: 81 })))
  await ipvs.apply([
    { kind: 'edit-service', service: settings(web, { scheduler: 'wlc' }) },
    { kind: 'delete-service', id: six },
  ])
  ok(saved().includes('-A -t 10.96.0.1:80 -s wlc'))
  ok(!saved().some(line => line.startsWith('-A -u')))
  await ipvs.setTimeouts({ tcp: 1000, tcpFin: 0, udp: 77 })
  deepStrictEqual(await ipvs.timeouts(), { tcp: 1000, tcpFin: 120, udp: 77 })
  equal(run('ipvsadm', ['-L', '--timeout']).trim(), 'Timeout (tcp tcpfin udp): 1000 120 77')
  run('ipvsadm', ['-C'])
  say('ok: what is written by netlink ipvsadm shows')
}

const foreign = `-A -t 10.96.0.1:80 -s rr
-a -t 10.96.0.1:80 -r 10.0.0.1:80 -m -w 1
-a -t 10.96.0.1:80 -r 10.0.0.2:80 -m -w 0
-A -t 10.96.0.2:80 -s mh -p 300 -b mh-port
-A -t 10.96.0.3:80 -s rr -p 300 -M 255.255.255.0
-A --sctp-service 10.96.0.2:80 -s lc
-a --sctp-service 10.96.0.2:80 -r 10.0.0.3:80 -g -w 5
-A -u 10.96.0.2:53 -s wrr -o
-a -u 10.96.0.2:53 -r 10.0.0.3:53 -i -w 65535
-A -u [fd00::9]:53 -s sh -p 100 -b sh-fallback,sh-port
-A -t [fd00::9]:80 -s rr -p 100 -M 64
-A -t [fd00::a]:80 -s rr -b flag-1,flag-3
-a -t [fd00::a]:80 -r [fd00::b]:80 -m -w 1
-A -f 1588204384 -s rr
-a -f 1588204384 -r 10.0.0.2:80 -m -w 1
-A -f 6 -6 -s rr
-a -f 6 -6 -r [fd00::1]:80 -m -w 0
`

async function readsWhatIpvsadmWrote(): Promise<void> {
  run('ipvsadm', ['--restore'], foreign)
  const [byNetlink, byPrograms] = [await open(), programs(exec)]
  const sorted = async (kernel: IpvsKernel, family: Family) => {
    const held = await kernel.servers(family, signal)
    return held
      .map(({ server, options, real }) => [
        server,
        // As a number, or as an address: whatever it is, it is a difference to what is ours.
        options.replace(/ -M \S+/, ' -M'),
        real.map(({ address, weight, rest }) => `${address} ${weight} ${rest.replace(' --tun-type ipip', '')}`).sort(),
      ])
      .sort()
  }
  for (const family of families) {
    const read = await sorted(byNetlink, family)
    ok(read.length >= 3)
    deepStrictEqual(read, await sorted(byPrograms, family))
    const names = (await byPrograms.servers(family, signal)).map(({ server }) => server)
    const [loads, known] = [await byNetlink.loads(names, family, signal), await byPrograms.loads(names, family, signal)]
    for (const server of known.keys()) {
      for (const [real, { weight, connections }] of known.get(server) ?? []) {
        const load = loads.get(server)?.get(real)
        deepStrictEqual([server, real, load?.weight, load?.connections], [server, real, weight, connections])
      }
    }
  }
  const before = (await byNetlink.fingerprint('IPv4', signal)).digest
  run('ipvsadm', ['-e', '-t', '10.96.0.1:80', '-r', '10.0.0.1:80', '-m', '-w', '3'])
  ok((await byNetlink.fingerprint('IPv4', signal)).digest !== before)
  run('ipvsadm', ['-e', '-t', '10.96.0.1:80', '-r', '10.0.0.1:80', '-m', '-w', '1'])
  run('ipvsadm', ['-d', '-t', '10.96.0.1:80', '-r', '10.0.0.2:80'])
  equal((await byNetlink.fingerprint('IPv4', signal)).digest, before)
  run('ipvsadm', ['-C'])
  say('ok: what ipvsadm wrote is read by netlink')
}

const network = networkAt(ip('192.168.100.1'))

function port(number: number, ...addresses: readonly string[]): ServicePort {
  const endpoints = addresses.map(address => ({
    address: ip(address),
    port: 8080,
    isLocal: true,
    isTerminating: false,
  }))
  const choice = { kind: 'endpoints', endpoints } as const
  return {
    service: `a/s${number}`,
    name: `a/s${number}`,
    protocol: 'TCP',
    frontends: [{ kind: 'ClusterIP', address: ip(`10.96.0.${number}`), port: 80, traffic: 'internal' }],
    internal: choice,
    external: choice,
    externalFromNode: choice,
    externalMasquerade: false,
    healthCheckNodePort: 0,
  }
}

async function until(what: string, isSo: () => boolean): Promise<void> {
  for (let left = 300; left > 0; left--) {
    if (isSo()) return
    await sleep(200)
  }
  throw new Error(`waited in vain for ${what}:\n${saved().join('\n')}`)
}

/** Answers each line with its own address. */
async function endpoint(address: string): Promise<void> {
  run('ip', ['addr', 'add', `${address}/32`, 'dev', 'lo'])
  const server = createServer(socket => {
    socket.on('data', data => socket.write(`${address} ${data}`))
    // Clients end with a reset.
    socket.on('error', () => socket.destroy())
  })
  server.listen(8080, address).unref()
  await once(server, 'listening')
}

async function ask(socket: Socket, text: string): Promise<string> {
  const answer = once(socket, 'data')
  socket.write(text)
  return String((await answer)[0])
}

async function livesByNetlink(): Promise<void> {
  const backend = ipvsBackend({ family: 'IPv4', exec, netlink: () => openIpvsNetlink(say) })
  const refusedOwners: string[] = []
  const committer = new Committer(backend, { refused: owner => void refusedOwners.push(owner), giveUp: () => false })
  const set = (one: ServicePort): void => committer.replace(one.name, backend.compile(one, network))
  for (const address of ['10.0.0.1', '10.0.0.2']) await endpoint(address)
  const complaints = await backend.prepare?.({ release: '6.1.0', set: async () => undefined })
  deepStrictEqual(complaints, [])
  run('sysctl', ['-q', '-w', 'net.ipv4.vs.conntrack=1', 'net.ipv4.vs.expire_nodest_conn=1'])
  // Connections that have ended are forgotten after a second.
  run('ipvsadm', ['--set', '900', '1', '300'])
  await committer.compare(signal)
  committer.replaceSkeleton(backend.skeleton(network))
  set(port(20, '10.0.0.1', '10.0.0.2'))
  await committer.commit(true, signal)
  const ours = started.filter(name => name === 'ipset' || name === 'ip')
  deepStrictEqual(ours, [])

  started.length = 0
  set(port(21, '10.0.0.1'))
  await committer.commit(false, signal)
  deepStrictEqual([...(await backend.read(signal))].sort(), [...committer.program.objects].sort())
  const again = ipvsBackend({ family: 'IPv4', exec })
  deepStrictEqual([...(await again.read(signal))].sort(), [...committer.program.objects].sort())
  say('ok: what the backend writes by netlink, programs read')

  started.length = 0
  const socket = connect(80, '10.96.0.20')
  await once(socket, 'connect')
  const said = await ask(socket, 'hello')
  const [own = '', other = ''] = said.startsWith('10.0.0.1') ? ['10.0.0.1', '10.0.0.2'] : ['10.0.0.2', '10.0.0.1']
  ok(said.startsWith(own))
  set(port(20, other))
  await committer.commit(false, signal)
  await sleep(2_500)
  equal(await ask(socket, 'still'), `${own} still`)
  const fresh = connect(80, '10.96.0.20')
  ok((await ask(fresh, 'new')).startsWith(other))
  deepStrictEqual(started, [])
  ok(saved().includes(`-a -t 10.96.0.20:80 -r ${own}:8080 -m -w 0`))
  // A reset: IPVS keeps what ended in order for two minutes more.
  for (const one of [socket, fresh]) one.resetAndDestroy()
  await until('the drained endpoint to go', () => !saved().some(line => line.includes(`10.96.0.20:80 -r ${own}`)))
  deepStrictEqual(started, [])
  say('ok: an endpoint drains, and no program is started')

  set({ ...port(22, '10.0.0.1'), scheduler: 'nosuch' })
  set(port(23, '239.1.1.1'))
  set(port(24, '10.0.0.1'))
  await committer.commit(false, signal)
  deepStrictEqual(refusedOwners.sort(), ['a/s22', 'a/s23'])
  ok(saved().includes('-a -t 10.96.0.24:80 -r 10.0.0.1:8080 -m -w 1'))
  say('ok: what the kernel refuses is named, the others go in')

  const before = await backend.fingerprint?.(signal, false)
  ok(await backend.isIntact?.(signal))
  run('ipvsadm', ['-D', '-t', '10.96.0.24:80'])
  ok((await backend.fingerprint?.(signal, false))?.digest !== before?.digest)
  await committer.compare(signal)
  await committer.commit(true, signal)
  equal((await backend.fingerprint?.(signal, false))?.digest, before?.digest)
  say('ok: what others do is seen and mended')

  await backend.cleanup(signal)
  deepStrictEqual([saved(), run('ipset', ['save'])], [[], ''])
  equal(run('ip', ['route', 'show', 'table', 'local', 'proto', '112']), '')
  ok(spawnSync('ip', ['link', 'show', 'dev', 'kube-ipvs0']).status !== 0)
  backend.stop?.()
  say('ok: nothing is left')
}

if (process.argv.includes(inside)) {
  run('ip', ['link', 'set', 'lo', 'up'])
  const netlink = await openIpvsNetlink(say)
  const wasThere = await netlink?.ipvs.isThere()
  // By whatever means, reading has the module loaded.
  deepStrictEqual(await (await open()).servers('IPv4', signal), [])
  say(`ok: IPVS is there${wasThere === true ? '' : ', once it was asked for'}`)
  await writesWhatIpvsadmShows()
  await readsWhatIpvsadmWrote()
  await livesByNetlink()
  process.exit(0)
} else {
  const argv = ['-n', process.execPath, import.meta.filename, inside]
  const { status, signal } = spawnSync('unshare', argv, { stdio: 'inherit' })
  if (signal !== null) say(`ended by ${signal}`)
  process.exitCode = status ?? 1
}
