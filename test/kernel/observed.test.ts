// What the daemon says of itself, asked as a kubelet, a load balancer, Prometheus and an operator would ask.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { KernelNode, until } from '../daemon/kernel-node.ts'
import { type ManifestObject, manifest, serviceObjects } from '../daemon/manifests.ts'
import { bundle } from '../daemon/program.ts'

let directory: string
let program: string
let node: KernelNode
let count = 0
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'penstock-observed-'))
  program = await bundle(directory)
})
afterAll(async () => {
  await rm(directory, { recursive: true, force: true })
})
beforeEach(async () => {
  node = await KernelNode.open('nft', program, join(directory, `node-${count++}`))
})
afterEach(async () => {
  await node.close()
})

interface Answer {
  readonly code: number
  readonly headers: string
  readonly body: string
}

async function get(url: string): Promise<Answer> {
  const text = await node.sandbox.exec({ namespace: 'node', argv: ['curl', '-s', '-i', '-m', '5', `http://${url}`] })
  const [headers = '', ...body] = text.stdout.split('\r\n\r\n')
  return { code: Number(/^HTTP\/1.1 (\d+)/.exec(headers)?.[1] ?? 0), headers, body: body.join('\r\n\r\n') }
}
const answers = (url: string, code: number) =>
  until(`status ${code} from ${url}`, async () => (await get(url)).code === code)

const web = serviceObjects('web', '10.96.0.20', ['10.244.1.11', '10.244.1.12'])

/** A LoadBalancer under policy Local, with its health check; its endpoints are on the node named. */
function balanced(port: number, nodeName: string): ManifestObject[] {
  const [service, slice] = serviceObjects('lb', '10.96.0.30', ['10.244.1.13'])
  if (service === undefined || slice === undefined) throw new Error('no objects')
  const spec = {
    type: 'LoadBalancer',
    clusterIP: '10.96.0.30',
    clusterIPs: ['10.96.0.30'],
    externalTrafficPolicy: 'Local',
    healthCheckNodePort: port,
    ports: [{ name: 'http', port: 80, protocol: 'TCP', nodePort: 30080 }],
  }
  const endpoints = [{ addresses: ['10.244.1.13'], conditions: { ready: true }, nodeName }]
  return [Object.assign({}, service, { spec }), Object.assign({}, slice, { endpoints })]
}

const nodeObject = (more: object = {}) => ({
  apiVersion: 'v1',
  kind: 'Node',
  metadata: { name: 'node-a' },
  status: { addresses: [{ type: 'InternalIP', address: '192.168.100.1' }] },
  ...more,
})

describe('against an API server', () => {
  it('is ready once it has programmed the node, and not while the node is leaving; alive all the time', async () => {
    const api = await node.api()
    const kubeconfig = await node.write('kubeconfig', await api.call('kubeconfig', undefined as never))
    await api.call('fault', { fault: { kind: 'status', code: 503, resource: 'services' } })
    const daemon = await node.start('--kubeconfig', kubeconfig)
    await answers('127.0.0.1:10256/livez', 200)
    const waiting = await get('127.0.0.1:10256/healthz')
    expect(waiting.code).toBe(503)
    expect(JSON.parse(waiting.body).problems).toContainEqual(
      expect.stringContaining('no rules have been programmed yet'),
    )

    await api.call('clearFaults', undefined as never)
    await api.call('put', { objects: [...web, nodeObject()] })
    await answers('127.0.0.1:10256/healthz', 200)
    expect(JSON.parse((await get('127.0.0.1:10256/healthz')).body)).toMatchObject({ nodeEligible: true, healthy: true })

    const taints = [{ key: 'ToBeDeletedByClusterAutoscaler', effect: 'NoSchedule' }]
    await api.call('put', { objects: [nodeObject({ spec: { taints } })] })
    await answers('127.0.0.1:10256/healthz', 503)
    expect((await get('127.0.0.1:10256/livez')).code).toBe(200)
    await api.call('put', { objects: [nodeObject()] })
    await answers('127.0.0.1:10256/healthz', 200)

    const status = JSON.parse((await get('127.0.0.1:10249/debug/status')).body)
    expect(status).toMatchObject({ mode: 'iptables', node: { name: 'node-a', eligible: true }, problems: [] })
    expect(status.watches.map(({ kind }: { kind: string }) => kind).sort()).toEqual([
      'EndpointSlice',
      'Node',
      'Service',
      'ServiceCIDR',
    ])
    expect((await daemon.end('SIGTERM')).exitCode).toBe(0)
  })

  it('writes an event when it starts, and one on a Service whose health check it cannot serve', async () => {
    const api = await node.api()
    const kubeconfig = await node.write('kubeconfig', await api.call('kubeconfig', undefined as never))
    await api.call('put', { objects: [...web, nodeObject(), ...balanced(10_256, 'node-a')] })
    const daemon = await node.start('--kubeconfig', kubeconfig)
    const reasons = async () => {
      const events = await api.call('list', { kind: 'Event' })
      return events.map(event => {
        const {
          reason,
          regarding,
          involvedObject = regarding,
        } = event as Record<string, { kind: string; name: string }>
        return `${reason} ${involvedObject?.kind}/${involvedObject?.name}`
      })
    }
    await until('both events', async () => (await reasons()).length >= 2)
    expect((await reasons()).sort()).toEqual(['FailedToStartServiceHealthcheck Service/lb', 'Starting Node/node-a'])
    expect((await daemon.end('SIGTERM')).exitCode).toBe(0)
  })
})

describe('with manifests', () => {
  it('tells a load balancer whether endpoints are here, on the port of the Service', async () => {
    const path = await node.write('objects.json', manifest(balanced(32_000, 'node-a')))
    const daemon = await node.start('--manifests', path)
    await answers('127.0.0.1:32000/', 200)
    const here = await get('[::1]:32000/whatever')
    // Its endpoints are IPv4 ones: IPv6 is not served at all, as there is no address of that family.
    expect(here.code).toBe(0)
    const answer = await get('127.0.0.1:32000/whatever')
    expect(answer.headers).toContain('X-Load-Balancing-Endpoint-Weight: 1')
    expect(JSON.parse(answer.body)).toEqual({
      service: { namespace: 'shop', name: 'lb' },
      localEndpoints: 1,
      serviceProxyHealthy: true,
    })
    await node.write('objects.json', manifest(balanced(32_000, 'node-b')))
    await answers('127.0.0.1:32000/', 503)
    await node.write('objects.json', manifest(balanced(32_001, 'node-a')))
    await answers('127.0.0.1:32001/', 200)
    expect((await get('127.0.0.1:32000/')).code).toBe(0)
    await node.write('objects.json', manifest(web))
    await until('nobody on the port', async () => (await get('127.0.0.1:32001/')).code === 0)
    expect((await daemon.end('SIGTERM')).exitCode).toBe(0)
  })

  it('serves kube-proxy’s metrics, and what it compiled for a Service', async () => {
    const path = await node.write('objects.json', manifest(web))
    const daemon = await node.start('--manifests', path, '--proxy-mode', 'nftables')
    await answers('127.0.0.1:10256/healthz', 200)
    const { body } = await get('127.0.0.1:10249/metrics')
    expect(body).toMatch(/^kubeproxy_sync_proxy_rules_duration_seconds_count\{ip_family="IPv4"\} [1-9]/m)
    expect(body).toMatch(/^penstock_services 1$/m)
    expect(body).toMatch(/^penstock_kernel_objects\{ip_family="IPv4"\} [1-9]\d+$/m)
    expect((await get('127.0.0.1:10249/proxyMode')).body).toBe('nftables')
    expect(JSON.parse((await get('127.0.0.1:10249/configz')).body)).toMatchObject({
      'kubeproxy.config.k8s.io': { mode: 'nftables', kind: 'KubeProxyConfiguration' },
    })
    const service = JSON.parse((await get('127.0.0.1:10249/debug/services/shop/web')).body)
    expect(JSON.stringify(service)).toContain('10.244.1.12')
    expect((await get('127.0.0.1:10249/debug/services/shop/other')).code).toBe(404)
    expect((await daemon.end('SIGTERM')).exitCode).toBe(0)
  })

  it('waits for a port that another has, says so once, and ends at once where it is told to', async () => {
    const path = await node.write('objects.json', manifest(web))
    const holder = await node.start('--manifests', path)
    await answers('127.0.0.1:10256/healthz', 200)
    const waiting = await node.start('--manifests', path)
    const complaints = async () => (await waiting.log()).filter(({ msg }) => msg === 'a server cannot listen')
    await until('both complaints', async () => (await complaints()).length === 2)
    const configuration = ['apiVersion: kubeproxy.config.k8s.io/v1alpha1', 'kind: KubeProxyConfiguration']
    const strict = await node.write('strict.conf', [...configuration, 'bindAddressHardFail: true', ''].join('\n'))
    const failed = await node.penstock(['run', '--manifests', path, '--config', strict])
    expect(failed).toMatchObject({ exitCode: 1 })
    expect(failed.stderr).toMatch(/10256/)

    expect((await holder.end('SIGTERM')).exitCode).toBe(0)
    await answers('127.0.0.1:10256/healthz', 200)
    expect(await complaints()).toHaveLength(2)
    expect((await waiting.end('SIGTERM')).exitCode).toBe(0)
  })

  it('takes a changed configuration file over in place, and keeps the former when the new one is bad', async () => {
    const path = await node.write('objects.json', manifest(web))
    const configured = (...lines: readonly string[]) =>
      node.write(
        'proxy.conf',
        ['apiVersion: kubeproxy.config.k8s.io/v1alpha1', 'kind: KubeProxyConfiguration', ...lines, ''].join('\n'),
      )
    const daemon = await node.start('--manifests', path, '--config', await configured('mode: iptables'))
    await answers('127.0.0.1:10256/healthz', 200)
    await configured('mode: iptables', 'clusterCIDR: nonsense')
    await until('the complaint', async () =>
      (await daemon.log()).some(({ msg }) => msg.startsWith('the changed configuration cannot be used')),
    )
    expect((await get('127.0.0.1:10249/proxyMode')).body).toBe('iptables')
    // Good to read, but a server cannot be had there, and it is told to insist.
    await configured('mode: nftables', 'metricsBindAddress: 192.0.2.1:10249', 'bindAddressHardFail: true')
    await until('the one before', async () =>
      (await daemon.log()).some(({ msg }) => msg.startsWith('the changed configuration does not work')),
    )
    await until('the former mode', async () => (await get('127.0.0.1:10249/proxyMode')).body === 'iptables')

    const localnet = async () => (await node.check('cat', '/proc/sys/net/ipv4/conf/all/route_localnet')).trim()
    await until('its setting', async () => (await localnet()) === '1')
    await configured('mode: nftables')
    const tables = () => node.check('nft', 'list', 'tables')
    await until('the other mode', async () => (await tables()).includes('table ip penstock'))
    await until('the former mode to be gone', async () => !(await node.save()).some(line => line.includes('PENSTOCK-')))
    await until('the new mode to be told', async () => (await get('127.0.0.1:10249/proxyMode')).body === 'nftables')
    expect((await get('127.0.0.1:10256/healthz')).code).toBe(200)
    // What iptables mode opened is closed with the rule that made it safe (CVE-2020-8558).
    expect(await localnet()).toBe('0')
    expect((await daemon.end('SIGTERM')).exitCode).toBe(0)
  })

  it('goes on answering load balancers while a changed configuration is taken over', async () => {
    const path = await node.write('objects.json', manifest(balanced(32_000, 'node-a')))
    const configured = (score: number) =>
      node.write(
        'proxy.conf',
        `apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\noomScoreAdj: ${score}\n`,
      )
    const daemon = await node.start('--manifests', path, '--config', await configured(100))
    await answers('127.0.0.1:32000/', 200)
    await configured(200)
    const starts = async () => (await daemon.log()).filter(({ msg }) => msg === 'starting').length
    const codes = new Set<number>()
    await until('the other configuration', async () => {
      codes.add((await get('127.0.0.1:32000/')).code)
      return (await starts()) === 2
    })
    for (let n = 0; n < 20; n++) codes.add((await get('127.0.0.1:32000/')).code)
    expect([...codes]).toEqual([200])
    expect((await daemon.end('SIGTERM')).exitCode).toBe(0)
  })
})
