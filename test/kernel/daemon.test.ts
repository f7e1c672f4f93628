// The daemon on a real kernel, on both variants of iptables: stopped, killed, started again, and next to others.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { type Daemon, KernelNode, syncsOf, until, type Variant } from '../daemon/kernel-node.ts'
import { manifest, manyServices, serviceObjects } from '../daemon/manifests.ts'
import { bundle } from '../daemon/program.ts'

let directory: string
let program: string
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'penstock-daemon-'))
  program = await bundle(directory)
})
afterAll(async () => {
  await rm(directory, { recursive: true, force: true })
})

const web = serviceObjects('web', '10.96.0.20', ['10.244.1.11', '10.244.1.12'])
const toEndpoint = (lines: readonly string[], address: string): boolean =>
  lines.some(line => line.endsWith(`--to-destination ${address}:8080`))

/** Rules of others, around which ours come and go. */
const foreign = `*nat
:CNI-OUT - [0:0]
:POSTROUTING ACCEPT [0:0]
-A CNI-OUT -s 10.244.0.0/16 -j ACCEPT
-A POSTROUTING -m comment --comment "of the CNI" -j CNI-OUT
-A PREROUTING -p tcp -m tcp --dport 7 -j ACCEPT
COMMIT
*filter
:FORWARD DROP [0:0]
:FIREWALL - [0:0]
-A FIREWALL -p udp -m udp --dport 9 -j DROP
-A INPUT -j FIREWALL
-A FORWARD -i lo -j ACCEPT
COMMIT
`

describe.each<Variant>(['nft', 'legacy'])('iptables-%s', variant => {
  let node: KernelNode
  let count = 0
  beforeEach(async () => {
    node = await KernelNode.open(variant, program, join(directory, `${variant}-${count++}`))
  })
  afterEach(async () => {
    await node.close()
  })

  const isSynced = (daemon: Daemon) =>
    until('the first sync of both families', async () => {
      const families = syncsOf(await daemon.log()).map(({ family }) => family)
      return new Set(families).size === 2
    })

  it('SIGTERM ends the daemon with status 0 and leaves the rules; a restart writes nothing', async () => {
    const manifests = ['--manifests', await node.write('objects.json', manifest(web))]
    const first = await node.start(...manifests)
    await isSynced(first)
    expect(await first.end('SIGTERM')).toEqual({ exitCode: 0, signal: null })
    expect((await first.log()).at(-1)?.msg).toBe('stopped; the rules stay')

    // A packet is counted, so that rules which are written again can be told: they would begin to count anew.
    await node.sandbox.exec({ namespace: 'node', argv: ['timeout', '1', 'bash', '-c', ': >/dev/tcp/10.96.0.20/80'] })
    const counted = (await node.save('IPv4', variant, '-c')).filter(line => line.includes('PENSTOCK-'))
    expect(counted.some(line => /^\[[1-9]\d*:\d+\] -A PENSTOCK-SERVICES /.test(line))).toBe(true)

    const second = await node.start(...manifests)
    await isSynced(second)
    expect(await second.end('SIGTERM')).toEqual({ exitCode: 0, signal: null })
    expect(syncsOf(await second.log())).toMatchObject([
      { msg: 'nothing to write', added: 0, changed: 0, removed: 0 },
      { msg: 'nothing to write', added: 0, changed: 0, removed: 0 },
    ])
    expect((await node.save('IPv4', variant, '-c')).filter(line => line.includes('PENSTOCK-'))).toEqual(counted)
  })

  it('run --once and plan say by their status what the kernel holds', async () => {
    const path = await node.write('objects.json', manifest(web))
    const before = await node.penstock(['plan', '--manifests', path])
    expect(before.exitCode).toBe(2)
    expect(before.stdout).toContain('+ nat/PENSTOCK-SERVICES')
    expect(await node.save()).not.toContainEqual(expect.stringContaining('PENSTOCK-'))

    expect((await node.penstock(['run', '--once', '--manifests', path])).exitCode).toBe(0)
    expect(toEndpoint(await node.save(), '10.244.1.12')).toBe(true)
    const after = await node.penstock(['plan', '--manifests', path])
    expect(after).toMatchObject({
      exitCode: 0,
      stdout: 'IPv4, iptables: nothing to do\nIPv6, iptables: nothing to do\n',
    })

    await node.write('objects.json', manifest(serviceObjects('web', '10.96.0.20', ['10.244.1.13'])))
    const changed = await node.penstock(['plan', '-o', 'json', '--manifests', path])
    expect(changed.exitCode).toBe(2)
    expect(JSON.parse(changed.stdout).families[0]).toMatchObject({ added: [], changed: [{}], removed: [] })

    expect((await node.penstock(['run', '--once', '--manifests', `${path}.gone`])).exitCode).toBe(1)
    const powerless = ['setpriv', '--bounding-set=-net_admin', '--inh-caps=-net_admin']
    const denied = await node.penstock(['run', '--once', '--manifests', path], powerless)
    expect(denied.exitCode).toBe(1)
    expect(denied.stderr).toContain('denied')
    expect(toEndpoint(await node.save(), '10.244.1.12')).toBe(true)
  })

  it('changed manifests are in the kernel without a restart', async () => {
    const path = await node.write('objects.json', manifest(web))
    const daemon = await node.start('--manifests', path)
    await isSynced(daemon)
    await node.write('objects.json', manifest(serviceObjects('web', '10.96.0.20', ['10.244.1.13'])))
    await until('the new endpoint', async () => toEndpoint(await node.save(), '10.244.1.13'))
    expect(toEndpoint(await node.save(), '10.244.1.11')).toBe(false)
    expect(await daemon.end('SIGINT')).toEqual({ exitCode: 0, signal: null })
  })

  it('puts its rules back after somebody flushed a table', async () => {
    const manifests = ['--manifests', await node.write('objects.json', manifest(web))]
    const daemon = await node.start(...manifests, '--iptables-sync-period', '1s')
    await isSynced(daemon)
    for (const flush of ['*nat\nCOMMIT\n', '*filter\nCOMMIT\n']) {
      const before = (await node.save()).filter(line => line.includes('PENSTOCK-'))
      await node.check(
        `iptables-${variant}-restore`,
        '-T',
        flush.slice(1, flush.indexOf('\n')),
        await node.write('flush', flush),
      )
      await until('the rules to be back', async () => {
        const now = (await node.save()).filter(line => line.includes('PENSTOCK-'))
        return [...now].sort().join() === [...before].sort().join()
      })
    }
    const log = await daemon.log()
    expect(log.filter(({ msg }) => msg.startsWith('somebody removed rules of ours')).length).toBeGreaterThanOrEqual(2)
    expect((await daemon.end('SIGTERM')).exitCode).toBe(0)
  })

  it('takes over from its own former mode and leaves nothing of it', async () => {
    const path = await node.write('objects.json', manifest(web))
    const isEmpty = async () => !(await node.save()).some(line => line.includes('PENSTOCK-'))
    const hasTable = async () => (await node.check('nft', 'list', 'tables')).includes('table ip penstock')
    for (const mode of ['iptables', 'nftables', 'iptables']) {
      const once = await node.penstock(['run', '--once', '--manifests', path, '--proxy-mode', mode])
      expect(once.exitCode, once.stderr).toBe(0)
      expect((await node.penstock(['plan', '--manifests', path, '--proxy-mode', mode])).exitCode).toBe(0)
      expect({ iptables: !(await isEmpty()), nftables: await hasTable() }).toEqual({
        iptables: mode === 'iptables',
        nftables: mode === 'nftables',
      })
    }
    expect((await node.penstock(['cleanup'])).exitCode).toBe(0)
    expect({ iptables: !(await isEmpty()), nftables: await hasTable() }).toEqual({ iptables: false, nftables: false })
  })

  it('cleanup leaves the rules of others as they were', async () => {
    const own = (lines: readonly string[]) => lines.filter(line => !line.includes('PENSTOCK-'))
    await node.restore(foreign, 'nft')
    await node.restore(foreign, 'legacy')
    const before = { nft: await node.save('IPv4', 'nft'), legacy: await node.save('IPv4', 'legacy') }
    const path = await node.write('objects.json', manifest(manyServices(50)))
    expect((await node.penstock(['run', '--once', '--manifests', path])).exitCode).toBe(0)
    expect(toEndpoint(await node.save(), '10.244.0.49')).toBe(true)
    expect(own(await node.save())).toEqual(before[variant])

    expect((await node.penstock(['cleanup'])).exitCode).toBe(0)
    expect(await node.save('IPv4', 'nft')).toEqual(before.nft)
    expect(await node.save('IPv4', 'legacy')).toEqual(before.legacy)
    const left = [...(await node.save('IPv6', 'nft')), ...(await node.save('IPv6', 'legacy'))]
    expect(left.filter(line => line.includes('PENSTOCK-'))).toEqual([])
    expect((await node.penstock(['--cleanup'])).exitCode).toBe(0)
    expect(await node.save()).toEqual(before[variant])
  })

  it('follows an API server: a thousand Services at once, single changes, and being killed in the middle', async () => {
    const api = await node.api()
    const kubeconfig = await node.write('kubeconfig', await api.call('kubeconfig', undefined as never))
    const connected = ['--kubeconfig', kubeconfig]
    const isProgrammed = (what: string) =>
      until(what, async () => (await node.penstock(['plan', ...connected])).exitCode === 0)
    await api.call('put', { objects: web })
    const first = await node.start(...connected)
    await isSynced(first)
    expect(toEndpoint(await node.save(), '10.244.1.11')).toBe(true)

    await api.call('put', { objects: manyServices(1_000) })
    await isProgrammed('a thousand Services')
    expect(toEndpoint(await node.save(), '10.244.6.231')).toBe(true)
    await api.call('remove', { reference: { kind: 'Service', namespace: 'shop', name: 'svc-5' } })
    await until('the deletion', async () => !toEndpoint(await node.save(), '10.244.0.5'))

    // Killed while a restore for the next thousand is under way.
    await api.call('put', { objects: manyServices(2_000, 1_000) })
    // The brackets keep the search from finding itself.
    const search = "grep -aqs 'tables-[a-z]*-[r]estore' /proc/[0-9]*/cmdline"
    const restoring = `for i in $(seq 5000); do ${search} && exit 0; done; exit 1`
    await node.sandbox.check({ argv: ['sh', '-c', restoring] })
    expect(await first.end('SIGKILL')).toMatchObject({ signal: 'SIGKILL' })
    await api.call('remove', { reference: { kind: 'Service', namespace: 'shop', name: 'svc-6' } })

    const second = await node.start(...connected)
    await isProgrammed('two thousand Services')
    expect(toEndpoint(await node.save(), '10.244.15.207')).toBe(true)
    expect(toEndpoint(await node.save(), '10.244.0.6')).toBe(false)
    expect(await second.end('SIGTERM')).toEqual({ exitCode: 0, signal: null })
  })

  it('prunes nothing before the API server has told of all Services and EndpointSlices', async () => {
    const api = await node.api()
    const kubeconfig = await node.write('kubeconfig', await api.call('kubeconfig', undefined as never))
    await api.call('put', { objects: web })
    expect((await node.penstock(['run', '--once', '--kubeconfig', kubeconfig])).exitCode).toBe(0)
    const before = await node.save()

    for (const verb of ['list', 'watch'] as const) {
      await api.call('fault', { fault: { kind: 'status', code: 500, verb, resource: 'endpointslices' } })
    }
    const daemon = await node.start('--kubeconfig', kubeconfig)
    await until('the failed list', async () =>
      (await daemon.log()).some(({ msg }) => msg === 'not in step with the API server'),
    )
    expect(await node.save()).toEqual(before)
    expect(syncsOf(await daemon.log())).toEqual([])
    await api.call('clearFaults', undefined as never)
    await isSynced(daemon)
    expect(await node.save()).toEqual(before)
    expect(await daemon.end('SIGTERM')).toEqual({ exitCode: 0, signal: null })
  })

  it('SIGTERM ends the daemon while it waits for the API server', async () => {
    const api = await node.api()
    const kubeconfig = await node.write('kubeconfig', await api.call('kubeconfig', undefined as never))
    await api.call('fault', { fault: { kind: 'stall' } })
    const daemon = await node.start('--kubeconfig', kubeconfig)
    await until('the start', async () => (await daemon.log()).some(({ msg }) => msg === 'starting'))
    expect(await daemon.end('SIGTERM')).toEqual({ exitCode: 0, signal: null })
  })
})

it('the lock of the legacy variant is waited for, also longer than one call waits', async () => {
  const node = await KernelNode.open('legacy', program, join(directory, 'lock'))
  try {
    const path = await node.write('objects.json', manifest(web))
    const held = join(node.directory, 'held')
    const released = join(node.directory, 'released')
    const hold = `flock /run/xtables.lock sh -c 'touch ${held}; sleep 7; touch ${released}'`
    await node.sandbox.start({ argv: ['sh', '-c', hold], output: join(node.directory, 'holder.log') })
    const exists = async (file: string) => (await node.sandbox.exec({ argv: ['test', '-e', file] })).exitCode === 0
    await until('the lock', () => exists(held))
    expect(await exists(released)).toBe(false)
    expect((await node.penstock(['run', '--once', '--manifests', path])).exitCode).toBe(0)
    expect(await exists(released)).toBe(true)
    expect(toEndpoint(await node.save(), '10.244.1.11')).toBe(true)
  } finally {
    await node.close()
  }
})
