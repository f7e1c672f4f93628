// What a Service port compiles to: the objects that the kernel is given, read by people.
import { describe, expect, it } from 'vitest'
import { compileServicePort } from '../../../src/backend/nftables/compile.ts'
import { skeleton } from '../../../src/backend/nftables/skeleton.ts'
import { type IP, parseCIDR, parseIP } from '../../../src/net/ip.ts'
import type { Network } from '../../../src/policy/network.ts'
import type { Endpoint, EndpointChoice, Frontend, ServicePort } from '../../../src/policy/service-port.ts'

const ip = (text: string): IP => parseIP(text) ?? expect.fail(`${text} is no address`)
const cidr = (text: string) => parseCIDR(text) ?? expect.fail(`${text} is no CIDR`)

const network: Network = {
  family: 'IPv4',
  detector: { kind: 'source-cidr', cidr: cidr('10.1.0.0/16') },
  masqueradeAll: false,
  masqueradeMark: 0x4000,
  nodePortAddresses: { kind: 'all' },
  localhostNodePorts: false,
  dropInvalid: true,
  nodeAddresses: [],
}

const local: Endpoint = { address: ip('10.1.2.3'), port: 8080, isLocal: true, isTerminating: false }
const remote: Endpoint = { address: ip('10.1.3.4'), port: 8080, isLocal: false, isTerminating: false }
const all: EndpointChoice = { kind: 'endpoints', endpoints: [local, remote] }
const none: EndpointChoice = { kind: 'reject' }
const clusterIP: Frontend = { kind: 'ClusterIP', address: ip('10.96.0.20'), port: 80, traffic: 'internal' }
const nodePort: Frontend = { kind: 'NodePort', address: 'node-ports', port: 30080, traffic: 'external' }
const vip: Frontend = { kind: 'LoadBalancer', address: ip('203.0.113.7'), port: 80, traffic: 'external' }

const web: ServicePort = {
  service: 'shop/web',
  name: 'shop/web:http',
  protocol: 'TCP',
  frontends: [clusterIP],
  internal: all,
  external: all,
  externalFromNode: all,
  externalMasquerade: true,
  healthCheckNodePort: 0,
}

const compiled = (port: ServicePort, on: Network = network): Record<string, string[]> =>
  Object.fromEntries([...compileServicePort(port, on)].map(({ key, value }) => [key, value.split('\n')]))

const many = (count: number): EndpointChoice => ({
  kind: 'endpoints',
  endpoints: Array.from({ length: count }, (_, i) => ({ ...remote, address: ip(`10.1.${i >> 8}.${i & 255}`) })),
})

describe('a compiled Service port', () => {
  it('is elements alone where it can be', () => {
    expect(compiled(web)).toEqual({
      'element cluster-ips 10.96.0.20': [''],
      'indexed endpoints 10.96.0.20 . tcp . 80': ['10.1.2.3 . 8080', '10.1.3.4 . 8080'],
      'element services 10.96.0.20 . tcp . 80': ['comment "shop/web:http" : goto pick-2'],
    })
  })

  it('is elements also for external frontends under the Cluster policy', () => {
    const { 'element cluster-ips 10.96.0.20': _, ...objects } = compiled({
      ...web,
      frontends: [clusterIP, nodePort, vip],
    })
    expect(objects).toEqual({
      'indexed endpoints 10.96.0.20 . tcp . 80': ['10.1.2.3 . 8080', '10.1.3.4 . 8080'],
      'element services 10.96.0.20 . tcp . 80': ['comment "shop/web:http" : goto pick-2'],
      'indexed node-port-endpoints tcp . 30080': ['10.1.2.3 . 8080', '10.1.3.4 . 8080'],
      'element node-ports tcp . 30080': ['comment "shop/web:http" : goto node-port-2'],
      'indexed endpoints 203.0.113.7 . tcp . 80': ['10.1.2.3 . 8080', '10.1.3.4 . 8080'],
      'element services 203.0.113.7 . tcp . 80': ['comment "shop/web:http" : goto masquerade-2'],
    })
  })

  it('tells origins apart under the Local policy', () => {
    const objects = compiled({
      ...web,
      frontends: [clusterIP, nodePort],
      external: { kind: 'endpoints', endpoints: [local] },
      externalMasquerade: false,
    })
    expect(objects['element node-ports tcp . 30080']).toEqual([
      'comment "shop/web:http" : goto external/shop/web/tcp/http',
    ])
    expect(objects['chain external/shop/web/tcp/http']).toEqual([
      'ip saddr 10.1.0.0/16 goto cluster/shop/web/tcp/http',
      'fib saddr type local meta mark set meta mark | 0x4000 goto cluster/shop/web/tcp/http',
      'meta l4proto tcp dnat to 10.1.2.3:8080',
    ])
    expect(objects['chain cluster/shop/web/tcp/http']).toEqual([
      'numgen random mod 2 0 meta l4proto tcp dnat to 10.1.2.3:8080',
      'meta l4proto tcp dnat to 10.1.3.4:8080',
    ])
    const dropped = compiled({
      ...web,
      frontends: [clusterIP, nodePort],
      external: { kind: 'drop' },
      externalMasquerade: false,
    })
    expect(dropped['chain external/shop/web/tcp/http']?.at(-1)).toBe('drop')
  })

  it('lets no source past its ranges', () => {
    const ranges = ['198.51.100.0/25', '198.51.100.128/25', '192.0.2.1/32', '192.0.2.0/31'].map(cidr)
    const objects = compiled({ ...web, frontends: [clusterIP, { ...vip, sourceRanges: ranges }] })
    // Merged as nft itself merges them: what is listed must be what was written.
    expect(objects['chain firewall/shop/web/tcp/http']).toEqual([
      'ip saddr { 192.0.2.0/31, 198.51.100.0/24 } goto masquerade-2',
      'drop',
    ])
    expect(objects['element services 203.0.113.7 . tcp . 80']).toEqual([
      'comment "shop/web:http" : goto firewall/shop/web/tcp/http',
    ])
  })

  it('refuses by the same element', () => {
    expect(
      compiled({
        ...web,
        frontends: [clusterIP, nodePort],
        internal: { kind: 'drop' },
        external: none,
        externalFromNode: none,
      }),
    ).toEqual({
      'element cluster-ips 10.96.0.20': [''],
      'element services 10.96.0.20 . tcp . 80': ['comment "shop/web:http" : drop'],
      'element node-ports tcp . 30080': ['comment "shop/web:http" : goto refused'],
    })
  })

  it('remembers clients by endpoint', () => {
    const objects = compiled({ ...web, affinitySeconds: 60, name: 'shop/web' })
    expect(objects['set aff-60/shop/web/tcp/10.1.2.3/8080']).toEqual([
      'type ipv4_addr; size 4096; flags dynamic,timeout; timeout 60s;',
    ])
    expect(objects['chain endpoint/shop/web/tcp/10.1.2.3/8080']).toEqual([
      'update @aff-60/shop/web/tcp/10.1.2.3/8080 { ip saddr }',
      'meta l4proto tcp dnat to 10.1.2.3:8080',
    ])
    expect(objects['chain service/shop/web/tcp']).toEqual([
      'ip saddr @aff-60/shop/web/tcp/10.1.2.3/8080 goto endpoint/shop/web/tcp/10.1.2.3/8080',
      'ip saddr @aff-60/shop/web/tcp/10.1.3.4/8080 goto endpoint/shop/web/tcp/10.1.3.4/8080',
      'numgen random mod 2 0 goto endpoint/shop/web/tcp/10.1.2.3/8080',
      'goto endpoint/shop/web/tcp/10.1.3.4/8080',
    ])
  })

  it.each([undefined, 60])(
    'groups many endpoints: a change rewrites one group and its way there (affinity %s)',
    affinity => {
      const port = (count: number): ServicePort => ({
        ...web,
        internal: many(count),
        ...(affinity === undefined ? {} : { affinitySeconds: affinity }),
      })
      const objects = (count: number) =>
        new Map([...compileServicePort(port(count), network)].map(o => [o.key, o.value]))
      const before = objects(1000)
      const after = objects(1001)
      const differing = [...after].filter(([key, value]) => before.get(key) !== value)
      // With affinity also the endpoint's set and chain, and the group's list of clients.
      expect(differing.length).toBeLessThanOrEqual(affinity === undefined ? 4 : 8)
      for (const [key, value] of after) expect(value.split('\n').length, key).toBeLessThanOrEqual(80)
    },
  )

  it('has names that nft takes, however long those of Kubernetes are', () => {
    const long = 'n'.repeat(63)
    const address = ip('fd00:1111:2222:3333:4444:5555:6666:7777')
    const endpoints = Array.from({ length: 40 }, (_, i) => ({ ...remote, address, port: 65_000 + i }))
    const port: ServicePort = {
      ...web,
      name: `${long}/${long}:${long}`,
      protocol: 'SCTP',
      frontends: [{ ...clusterIP, address: ip('fd00:10:96::20') }],
      internal: { kind: 'endpoints', endpoints },
      affinitySeconds: 86_400,
    }
    for (const { key, value } of compileServicePort(port, { ...network, family: 'IPv6' })) {
      const [kind, name = ''] = key.split(' ')
      if (kind !== 'element' && kind !== 'indexed') expect(name.length, name).toBeLessThanOrEqual(255)
      const comment = /comment "(.*)"/.exec(value)?.[1]
      if (comment !== undefined) expect(comment.length).toBeLessThanOrEqual(127)
    }
  })
})

describe('the skeleton', () => {
  const chain = (name: string, on: Network) =>
    [...skeleton(on)].find(({ key }) => key === `chain ${name}`)?.value.split('\n')

  it('leads from the hooks to the maps', () => {
    expect(chain('prerouting', network)).toEqual([
      'type nat hook prerouting priority -100; policy accept;',
      'jump services',
    ])
    expect(chain('services', network)).toEqual([
      'ip daddr @cluster-ips ip saddr != 10.1.0.0/16 meta mark set meta mark | 0x4000',
      'ip daddr . meta l4proto . th dport vmap @services',
      'ip daddr != 127.0.0.0/8 fib daddr type local meta l4proto . th dport vmap @node-ports',
      'ip daddr @cluster-ips fib daddr type != local reject',
    ])
    expect(chain('postrouting', network)).toEqual([
      'type nat hook postrouting priority 100; policy accept;',
      'meta mark & 0x4000 != 0x0 meta mark set meta mark ^ 0x4000 masquerade fully-random',
      'ct status dnat @nh,120,8 . @nh,152,8 @octets @nh,112,8 . @nh,144,8 @octets @nh,104,8 . @nh,136,8 @octets @nh,96,8 . @nh,128,8 @octets masquerade fully-random',
    ])
    expect(chain('pick-3', network)).toEqual([
      'dnat ip to ip daddr . meta l4proto . th dport . numgen random mod 3 map @endpoints',
      'dnat ip to ip daddr . meta l4proto . th dport . numgen random mod 1 map @endpoints',
      'drop',
    ])
  })

  it('keeps to the addresses that take node ports, and refuses what no Service has', () => {
    const rules = chain('services', {
      ...network,
      masqueradeAll: true,
      nodePortAddresses: { kind: 'cidrs', cidrs: [cidr('192.168.0.0/16'), cidr('192.168.1.0/24')] },
      serviceCIDRs: [cidr('10.96.0.0/16')],
    })
    expect(rules?.[0]).toBe('ip daddr @cluster-ips meta mark set meta mark | 0x4000')
    expect(rules?.[2]).toBe(
      'ip daddr != 127.0.0.0/8 ip daddr 192.168.0.0/16 fib daddr type local meta l4proto . th dport vmap @node-ports',
    )
    expect(rules?.[4]).toBe('ip daddr 10.96.0.0/16 fib daddr type != local drop')
  })
})
