// What a Service port compiles to: the text that the kernel is given, read by people.
import { describe, expect, it } from 'vitest'
import { compileServicePort } from '../../../src/backend/iptables/compile.ts'
import { skeleton } from '../../../src/backend/iptables/skeleton.ts'
import { parseRule } from '../../../src/backend/xtables/rule-parser.ts'
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
  localhostNodePorts: true,
  dropInvalid: true,
  nodeAddresses: [],
}

const local: Endpoint = { address: ip('10.1.2.3'), port: 8080, isLocal: true, isTerminating: false }
const remote: Endpoint = { address: ip('10.1.3.4'), port: 8080, isLocal: false, isTerminating: false }
const all: EndpointChoice = { kind: 'endpoints', endpoints: [local, remote] }
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
  Object.fromEntries(
    [...compileServicePort(port, on)].map(({ key, value }) => [
      key.replace(/-[A-Z2-7]{15}$/, ''),
      value.split('\n').map(line => line.replaceAll(/(PENSTOCK-[A-Z]{3})-[A-Z2-7]{15}/g, '$1')),
    ]),
  )

describe('a compiled Service port', () => {
  it('has one chain for a ClusterIP', () => {
    expect(compiled(web)).toEqual({
      'nat/PENSTOCK-SVC': [
        '! -s 10.1.0.0/16 -d 10.96.0.20/32 -j MARK --set-xmark 0x4000/0x4000',
        '-p tcp -m statistic --mode random --probability 0.50000000000 -j DNAT --to-destination 10.1.2.3:8080',
        '-p tcp -j DNAT --to-destination 10.1.3.4:8080',
      ],
      'nat/PENSTOCK-ADDR@0a60001410050': [
        '-d 10.96.0.20/32 -p tcp -m tcp --dport 80 -m comment --comment "shop/web:http" -g PENSTOCK-SVC',
      ],
    })
  })

  it('shares the chain with external frontends under the Cluster policy', () => {
    const objects = compiled({ ...web, frontends: [clusterIP, nodePort, vip] })
    expect(Object.keys(objects)).toHaveLength(4)
    expect(objects['nat/PENSTOCK-SVC']?.slice(0, 2)).toEqual([
      '! -s 10.1.0.0/16 -d 10.96.0.20/32 -j MARK --set-xmark 0x4000/0x4000',
      '! -d 10.96.0.20/32 -j MARK --set-xmark 0x4000/0x4000',
    ])
    expect(objects['nat/PENSTOCK-PORT@17580']).toEqual([
      '-p tcp -m tcp --dport 30080 -m comment --comment "shop/web:http" -g PENSTOCK-SVC',
    ])
  })

  it('tells origins apart under the Local policy', () => {
    const objects = compiled({
      ...web,
      frontends: [clusterIP, nodePort],
      external: { kind: 'endpoints', endpoints: [local] },
      externalMasquerade: false,
    })
    expect(objects['nat/PENSTOCK-EXT']).toEqual([
      '-s 10.1.0.0/16 -g PENSTOCK-SVC',
      '-m addrtype --src-type LOCAL -j MARK --set-xmark 0x4000/0x4000',
      '-m addrtype --src-type LOCAL -g PENSTOCK-SVC',
      '-p tcp -j DNAT --to-destination 10.1.2.3:8080',
    ])
  })

  it('lets no source past its ranges', () => {
    const ranged: Frontend = { ...vip, sourceRanges: [cidr('198.51.100.0/24')] }
    const objects = compiled({ ...web, frontends: [clusterIP, ranged] })
    expect(objects['nat/PENSTOCK-SRC']).toEqual(['-s 198.51.100.0/24 -g PENSTOCK-SVC', '-j ACCEPT'])
    expect(objects['filter/PENSTOCK-ADDR@cb00710710050']).toEqual([
      '-d 203.0.113.7/32 -p tcp -m tcp --dport 80 -m comment --comment "shop/web:http" -j DROP',
    ])
  })

  it('refuses in filter what has no endpoint', () => {
    const none: EndpointChoice = { kind: 'reject' }
    expect(compiled({ ...web, internal: none, external: none, externalFromNode: none })).toEqual({
      'filter/PENSTOCK-ADDR@0a60001410050': [
        '-d 10.96.0.20/32 -p tcp -m tcp --dport 80 -m comment --comment "shop/web:http" -j REJECT --reject-with icmp-port-unreachable',
      ],
    })
  })

  it('remembers clients without a chain for each endpoint', () => {
    const objects = compiled({ ...web, affinitySeconds: 60 })
    const rules = objects['nat/PENSTOCK-SVC'] ?? []
    const list = '--name PENSTOCK-AFF --mask 255.255.255.255 --rsource'
    expect(rules[1]).toBe(
      `-p tcp -m recent --update --seconds 60 --reap ${list} -j DNAT --to-destination 10.1.2.3:8080`,
    )
    expect(rules[4]).toBe(`-p tcp -m recent --set ${list} -j DNAT --to-destination 10.1.3.4:8080`)
    expect(Object.keys(objects)).toHaveLength(2)
  })

  it('groups many endpoints, and a change of one rewrites one group and its way there', () => {
    const many = (count: number): EndpointChoice => ({
      kind: 'endpoints',
      endpoints: Array.from({ length: count }, (_, i) => ({ ...remote, address: ip(`10.1.${i >> 8}.${i & 255}`) })),
    })
    const objects = (count: number) =>
      new Map([...compileServicePort({ ...web, internal: many(count) }, network)].map(o => [o.key, o.value]))
    const before = objects(1000)
    const after = objects(1001)
    const differing = [...after].filter(([key, value]) => before.get(key) !== value)
    expect(after.size, 'chains for a thousand endpoints').toBeLessThan(100)
    expect(differing.length).toBeLessThanOrEqual(4)
    for (const [, value] of after) expect(value.split('\n').length).toBeLessThanOrEqual(66)
    expect(objects(33).size, 'one more than fits in a chain').toBeLessThanOrEqual(4)
  })

  it('takes everybody for local when the detector covers all addresses', () => {
    const everything: Network = { ...network, detector: { kind: 'source-cidr', cidr: cidr('0.0.0.0/0') } }
    const local = { ...web, frontends: [clusterIP, nodePort], external: all, externalMasquerade: false }
    const rules = Object.values(compiled(local, everything)).flat()
    expect(rules.filter(rule => rule.includes('0.0.0.0/0'))).toEqual([])
    expect(compiled(local, everything)['nat/PENSTOCK-EXT']?.[0]).toBe('-g PENSTOCK-SVC')
    expect(compiled(local, everything)['nat/PENSTOCK-SVC']?.[0]).toMatch(/^-p tcp -m statistic/)
  })

  it('is made of rules that trace understands', () => {
    const everything: ServicePort = {
      ...web,
      frontends: [clusterIP, nodePort, { ...vip, sourceRanges: [cidr('198.51.100.0/24')] }],
      external: { kind: 'drop' },
      externalMasquerade: false,
      affinitySeconds: 10,
      healthCheckNodePort: 32000,
    }
    for (const detector of [network.detector, { kind: 'interface-prefix', prefix: 'veth' } as const]) {
      for (const object of [
        ...compileServicePort(everything, { ...network, detector }),
        ...skeleton({ ...network, detector, nodePortAddresses: { kind: 'cidrs', cidrs: [cidr('192.168.0.0/16')] } }),
      ]) {
        for (const line of object.value.split('\n')) expect(() => parseRule(line), line).not.toThrow()
      }
    }
  })
})
