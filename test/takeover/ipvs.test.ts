// A kube-proxy of mode ipvs gives way: to our own mode ipvs, which adopts what it needs, and to the others.
import { describe, expect, test } from 'vitest'
import { ipvsBackend } from '../../src/backend/ipvs/index.ts'
import { parseAddresses, parseLocals, parseServers } from '../../src/backend/ipvs/parse.ts'
import type { Exec } from '../../src/kernel/exec.ts'
import { type Family, type IP, parseCIDR, parseIP } from '../../src/net/ip.ts'
import type { EndpointChoice, ServicePort } from '../../src/policy/service-port.ts'
import { DesiredProgram } from '../../src/sync/program.ts'
import { type Retired, retireKubeProxy } from '../../src/takeover/retire.ts'
import { networkAt } from '../backend/ipvs/network.ts'
import type { ProxiedCluster, ProxiedPort } from '../support/kube-proxy/cluster.ts'
import { ipvsInputs } from '../support/kube-proxy/ipvs.ts'
import { StrictIpvs } from '../support/strict-ipvs/machine.ts'

const { signal } = new AbortController()
const nodeAddresses: Readonly<Record<Family, readonly string[]>> = {
  IPv4: ['192.168.100.1', '172.20.0.1'],
  IPv6: ['fd00:100::1', 'fd00:200::1'],
}

function ip(text: string): IP {
  const parsed = parseIP(text)
  if (parsed === undefined) throw new Error(`${text} is no address`)
  return parsed
}

const web = (family: Family): ProxiedPort => ({
  namespace: 'shop',
  service: 'web',
  portName: 'http',
  protocol: 'tcp',
  clusterIP: family === 'IPv4' ? '10.96.0.20' : 'fd00:10:96::20',
  port: 80,
  nodePort: 30_080,
  vips: [family === 'IPv4' ? '203.0.113.20' : '2001:db8:113::20'],
  ranges: [],
  externalLocal: false,
  affinity: undefined,
  endpoints: (family === 'IPv4' ? ['10.244.1.11', '10.244.2.11'] : ['fd00:10:244:1::11', 'fd00:10:244:2::11']).map(
    (address, i) => ({ ip: address, port: 8080, local: i === 0 }),
  ),
})

const clusterOf = (family: Family, ...ports: readonly ProxiedPort[]): ProxiedCluster => ({
  family,
  ports,
  clusterCIDR: family === 'IPv4' ? '10.244.0.0/16' : 'fd00:10:244::/56',
  nodeAddresses: nodeAddresses[family],
})

/** A machine that kube-proxy has programmed. */
async function programmed(...clusters: readonly ProxiedCluster[]): Promise<StrictIpvs> {
  const machine = new StrictIpvs()
  const give = async (command: string, args: readonly string[], input: string): Promise<void> => {
    const result = await machine.run(command, args, { input })
    if (result.exitCode !== 0) throw new Error(`${command}: ${result.stderr}`)
  }
  for (const cluster of clusters) {
    const inputs = ipvsInputs(cluster)
    // The machine in memory has no hash:ip,port,ip; what the element's last part may be is all the difference.
    await give('ipset', ['restore'], inputs.ipset.replaceAll(/ hash:ip,port,ip /g, ' hash:ip,port,net '))
    const tool = cluster.family === 'IPv4' ? 'iptables' : 'ip6tables'
    await give(`${tool}-nft-restore`, ['--noflush'], inputs.iptables)
    if (cluster === clusters[0]) await give('ip', ['-batch', '-'], inputs.link)
    await give('ip', ['-batch', '-'], inputs.addresses)
    await give('ipvsadm', ['--restore'], inputs.ipvsadm)
  }
  return machine
}

const retire = (
  machine: StrictIpvs,
  family: Family,
  keepConnections = true,
  excluded: string[] = [],
): Promise<Retired> =>
  retireKubeProxy(
    {
      exec: machine,
      family,
      excludeCIDRs: excluded.map(text => parseCIDR(text) ?? fail(text)),
      keepConnections,
    },
    signal,
  )

const fail = (text: string): never => {
  throw new Error(`${text} is no CIDR`)
}

const says = async (machine: StrictIpvs, command: string, ...args: string[]): Promise<string> =>
  (await machine.run(command, args)).stdout

const bothFamilies: readonly Family[] = ['IPv4', 'IPv6']

describe.each(bothFamilies)('%s, another mode of ours', family => {
  test('everything of kube-proxy goes, and what others have stays', async () => {
    const machine = await programmed(clusterOf(family, web(family)))
    const foreign = family === 'IPv4' ? '192.168.100.9:6443' : '[fd00:100::9]:6443'
    await machine.run('ipvsadm', ['--restore'], { input: `-A -t ${foreign} -s rr\n` })
    await machine.run('ipset', ['restore'], { input: 'create KUBE-SRC-ABC hash:ip\n' })

    const retired = await retire(machine, family)

    expect(retired.busy).toBe(0)
    expect(retired.wasInCharge).toBe(true)
    expect(retired.removed).toEqual([
      '11 chains and 9 jumps of iptables (nft)',
      '4 virtual servers',
      '2 addresses of kube-ipvs0',
      '17 sets',
    ])
    expect(await says(machine, 'ipvsadm', '-Sn')).toBe(`-A -t ${foreign} -s rr\n`)
    expect(await says(machine, 'ipset', 'save')).toMatch(/^create KUBE-SRC-ABC hash:ip [^\n]*\n$/)
    expect((await machine.run('ip', ['-o', 'link', 'show', 'dev', 'kube-ipvs0'])).exitCode).not.toBe(0)
    const tool = family === 'IPv4' ? 'iptables' : 'ip6tables'
    expect(await says(machine, `${tool}-nft-save`)).not.toContain('KUBE-')
  })

  test('a second pass finds nothing and writes nothing', async () => {
    const machine = await programmed(clusterOf(family, web(family)))
    await retire(machine, family)
    const writes = machine.writes()
    expect(await retire(machine, family)).toEqual({ removed: [], kept: [], wasInCharge: false, busy: 0 })
    expect(machine.writes()).toBe(writes)
  })

  test('virtual servers with connections take no new ones, keep their address, and go when those have ended', async () => {
    const port = web(family)
    const machine = await programmed(clusterOf(family, port))
    const [endpoint] = port.endpoints
    if (endpoint === undefined) throw new Error('there is an endpoint')
    const id = { kind: 'address', protocol: 'TCP', address: ip(port.clusterIP), port: port.port } as const
    const real = { address: ip(endpoint.ip), port: endpoint.port }
    machine.servers.setConnections(id, real, { active: 3, inactive: 1 })

    expect((await retire(machine, family)).busy).toBe(1)
    const drained = parseServers(await says(machine, 'ipvsadm', '-Sn'), family)
    expect(drained).toHaveLength(1)
    expect(drained[0]?.real.map(({ weight }) => weight)).toEqual([0, 0])
    const option = family === 'IPv4' ? '-4' : '-6'
    const held = await says(machine, 'ip', option, '-o', 'addr', 'show', 'dev', 'kube-ipvs0')
    expect(held).toContain(port.clusterIP)
    expect(held).not.toContain(port.vips[0])

    machine.servers.setConnections(id, real, { active: 0, inactive: 0 })
    expect((await retire(machine, family)).busy).toBe(0)
    expect(await says(machine, 'ipvsadm', '-Sn')).toBe('')
    expect(await says(machine, 'ipset', 'save')).toBe('')
  })

  test('after the time for connections the rest goes, whatever it has', async () => {
    const port = web(family)
    const machine = await programmed(clusterOf(family, port))
    const id = { kind: 'address', protocol: 'TCP', address: ip(port.clusterIP), port: 80 } as const
    const real = { address: ip(port.endpoints[0]?.ip ?? ''), port: 8080 }
    machine.servers.setConnections(id, real, { active: 3, inactive: 1 })
    expect((await retire(machine, family, false)).busy).toBe(0)
    expect(await says(machine, 'ipvsadm', '-Sn')).toBe('')
  })

  test('excluded addresses are left alone', async () => {
    const port = web(family)
    const machine = await programmed(clusterOf(family, port))
    const range = family === 'IPv4' ? '203.0.113.0/24' : '2001:db8:113::/64'
    await retire(machine, family, true, [range])
    const left = parseServers(await says(machine, 'ipvsadm', '-Sn'), family)
    expect(left.map(({ server }) => server)).toEqual([
      family === 'IPv4' ? 'tcp 203.0.113.20:80' : 'tcp [2001:db8:113::20]:80',
    ])
  })
})

test('the other family keeps its part, and the device, until its turn', async () => {
  const machine = await programmed(clusterOf('IPv4', web('IPv4')), clusterOf('IPv6', web('IPv6')))
  await retire(machine, 'IPv4')
  expect(parseServers(await says(machine, 'ipvsadm', '-Sn'), 'IPv6')).toHaveLength(4)
  expect((await machine.run('ip', ['-o', 'link', 'show', 'dev', 'kube-ipvs0'])).exitCode).toBe(0)
  await retire(machine, 'IPv6')
  expect((await machine.run('ip', ['-o', 'link', 'show', 'dev', 'kube-ipvs0'])).exitCode).not.toBe(0)
})

describe.each(bothFamilies)('%s, our own mode ipvs', family => {
  const network = { ...networkAt(...nodeAddresses[family].map(ip)), family }

  function ours(port: ProxiedPort): ServicePort {
    const choice: EndpointChoice = {
      kind: 'endpoints',
      endpoints: port.endpoints.map(({ ip: address, local }) => ({
        address: ip(address),
        port: 8080,
        isLocal: local,
        isTerminating: false,
      })),
    }
    return {
      service: 'shop/web',
      name: 'shop/web:http',
      protocol: 'TCP',
      frontends: [
        { kind: 'ClusterIP', address: ip(port.clusterIP), port: 80, traffic: 'internal' },
        ...port.vips.map(vip => ({
          kind: 'LoadBalancer' as const,
          address: ip(vip),
          port: 80,
          traffic: 'external' as const,
        })),
        { kind: 'NodePort', address: 'node-ports', port: 30_080, traffic: 'external' },
      ],
      internal: choice,
      external: choice,
      externalFromNode: choice,
      externalMasquerade: true,
      healthCheckNodePort: 0,
    }
  }

  /** As the syncer does it: what is stale is read again. */
  async function sync(machine: StrictIpvs, port: ProxiedPort) {
    const backend = ipvsBackend({ family, exec: machine })
    const program = new DesiredProgram(backend.layout?.())
    program.replace('skeleton', backend.skeleton(network))
    program.replace('shop/web', backend.compile(ours(port), network))
    for (let left = 5; left > 0; left--) {
      program.rebase(await backend.read(signal))
      const delta = program.pending()
      if (delta.added.length + delta.changed.length + delta.removed.length === 0) return
      try {
        await backend.commit(backend.plan(delta, program.objects), signal)
        program.settle()
      } catch (error) {
        if (!/stale/.test(String((error as { kind?: string }).kind))) throw error
      }
    }
  }

  test('adopts the virtual servers, which have their endpoints at every step, and removes the rest', async () => {
    const port = web(family)
    const gone: ProxiedPort = {
      ...port,
      service: 'old',
      clusterIP: family === 'IPv4' ? '10.96.0.99' : 'fd00:10:96::99',
      nodePort: 30_099,
      vips: [],
    }
    const machine = await programmed(clusterOf(family, port, gone))
    const where = [port.clusterIP, ...port.vips, ...nodeAddresses[family]]
    const keys = where.map((address, i) => {
      const host = address.includes(':') ? `[${address}]` : address
      return `tcp ${host}:${i < 2 ? 80 : 30_080}`
    })
    const short: string[] = []
    const steps: Promise<void>[] = []
    const option = family === 'IPv4' ? '-4' : '-6'
    const arrives = async (frozen: Exec): Promise<void> => {
      const device = await frozen.run('ip', [option, '-o', 'addr', 'show', 'dev', 'kube-ipvs0'])
      const routes = await frozen.run('ip', [option, ...'route show table local proto 112'.split(' ')])
      const local = [...parseAddresses(device.stdout, family), ...parseLocals(routes.stdout, 112)]
      for (const address of [port.clusterIP, ...port.vips]) {
        if (!local.includes(ip(address))) short.push(`${address} does not arrive`)
      }
    }
    machine.onCommit((changed, frozen) => {
      if (changed !== family) return
      steps.push(
        arrives(frozen),
        frozen.run('ipvsadm', ['-Sn']).then(({ stdout }) => {
          const held = new Map(parseServers(stdout, family).map(item => [item.server, item]))
          for (const key of keys) {
            const able = held.get(key)?.real.filter(({ weight }) => weight > 0).length ?? 0
            if (able < 2) short.push(`${key}: ${able} endpoints`)
          }
        }),
      )
    })
    await sync(machine, port)
    const retired = await retire(machine, family)
    await sync(machine, port)
    await Promise.all(steps)

    expect(short).toEqual([])
    expect(steps.length).toBeGreaterThan(3)
    expect(retired.busy).toBe(0)
    const held = parseServers(await says(machine, 'ipvsadm', '-Sn'), family)
    expect(held.map(({ server }) => server).sort()).toEqual([...keys].sort())
    // The device stays, empty.
    expect(await machine.run('ip', ['-o', 'addr', 'show', 'dev', 'kube-ipvs0'])).toMatchObject({
      exitCode: 0,
      stdout: '',
    })
    const sets = (await says(machine, 'ipset', 'save')).match(/^create \S+/gm) ?? []
    expect(sets.length).toBeGreaterThan(0)
    expect(sets.filter(line => !line.startsWith('create PENSTOCK-'))).toEqual([])
    const tool = family === 'IPv4' ? 'iptables' : 'ip6tables'
    expect(await says(machine, `${tool}-nft-save`)).not.toMatch(/[ :]KUBE-/)

    const writes = machine.writes()
    await sync(machine, port)
    expect((await retire(machine, family)).removed).toEqual([])
    expect(machine.writes()).toBe(writes)
  })
})
