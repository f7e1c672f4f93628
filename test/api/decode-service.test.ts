// Service objects and what becomes of them, one changed field a row.
import { describe, expect, test } from 'vitest'
import { decodeService } from '../../src/api/decode-service.ts'
import { DecodeError, type JSONObject, type Problem } from '../../src/api/fields.ts'
import type { ServiceRecord } from '../../src/model/records.ts'

const metadata = { name: 'web', namespace: 'shop', uid: 'u1', creationTimestamp: '2026-01-02T03:04:05Z' }
const spec: JSONObject = {
  type: 'ClusterIP',
  clusterIP: '10.96.0.1',
  clusterIPs: ['10.96.0.1'],
  ipFamilies: ['IPv4'],
  ports: [{ name: 'http', protocol: 'TCP', port: 80, targetPort: 8080 }],
}

function decode(change: JSONObject, rest: JSONObject = {}): { record: ServiceRecord | undefined; problems: string[] } {
  const problems: Problem[] = []
  const object = { apiVersion: 'v1', kind: 'Service', metadata, spec: { ...spec, ...change }, ...rest }
  const record = decodeService(object, problem => problems.push(problem))
  return { record, problems: problems.map(problem => problem.field) }
}

test('a plain Service, whole', () => {
  expect(decode({})).toEqual({
    record: {
      namespace: 'shop',
      name: 'web',
      uid: 'u1',
      createdAt: Date.UTC(2026, 0, 2, 3, 4, 5),
      type: 'ClusterIP',
      clusterIPs: ['10.96.0.1'],
      ports: [{ name: 'http', protocol: 'TCP', port: 80, nodePort: 0 }],
      externalIPs: [],
      loadBalancerIPs: [],
      loadBalancerSourceRanges: [],
      internalTrafficPolicy: 'Cluster',
      externalTrafficPolicy: 'Cluster',
      healthCheckNodePort: 0,
    },
    problems: [],
  })
})

test.each<[string, JSONObject, JSONObject]>([
  ['headless', { clusterIP: 'None', clusterIPs: ['None'] }, {}],
  ['ExternalName', { type: 'ExternalName' }, {}],
  ['ExternalName with a leftover address', { type: 'ExternalName', clusterIP: '10.96.0.1' }, {}],
  ['no address yet', { clusterIP: '', clusterIPs: [] }, {}],
  ['another proxy', {}, { metadata: { ...metadata, labels: { 'service.kubernetes.io/service-proxy-name': 'x' } } }],
  [
    'another proxy without a name',
    {},
    { metadata: { ...metadata, labels: { 'service.kubernetes.io/service-proxy-name': '' } } },
  ],
])('nothing for us: %s', (_name, change, rest) => {
  expect(decode(change, rest).record).toBeUndefined()
})

test.each<[string, unknown, string]>([
  ['no object', 'text', '.'],
  ['no metadata', {}, 'metadata.name'],
  ['a name that is no label', { metadata: { name: 'web; -j ACCEPT', namespace: 'shop' }, spec }, 'metadata.name'],
  ['a name with a dot', { metadata: { name: 'web.x', namespace: 'shop' }, spec }, 'metadata.name'],
  ['a name that is too long', { metadata: { name: 'a'.repeat(64), namespace: 'shop' }, spec }, 'metadata.name'],
  ['no namespace', { metadata: { name: 'web' }, spec }, 'metadata.namespace'],
  ['a namespace that is no label', { metadata: { name: 'web', namespace: 'Shop"' }, spec }, 'metadata.namespace'],
  ['an unknown type', { metadata, spec: { ...spec, type: 'Magic' } }, 'spec.type'],
  ['no usable address', { metadata, spec: { clusterIP: 'ten' } }, 'spec.clusterIP'],
])('refused: %s', (_name, object, field) => {
  let caught: unknown
  try {
    decodeService(object, () => undefined)
  } catch (error) {
    caught = error
  }
  expect(caught).toBeInstanceOf(DecodeError)
  expect(caught instanceof DecodeError ? caught.problem.field : '').toBe(field)
})

describe('cluster addresses', () => {
  test.each<[string, JSONObject, string[], string[]]>([
    [
      'by index of ipFamilies',
      { clusterIPs: ['10.96.0.1', 'fd00::0001'], ipFamilies: ['IPv4', 'IPv6'] },
      ['10.96.0.1', 'fd00::1'],
      [],
    ],
    [
      'IPv6 first',
      { clusterIP: 'fd00::1', clusterIPs: ['fd00::1', '10.96.0.1'], ipFamilies: ['IPv6', 'IPv4'] },
      ['fd00::1', '10.96.0.1'],
      [],
    ],
    ['only clusterIP', { clusterIPs: undefined, ipFamilies: undefined }, ['10.96.0.1'], []],
    ['no ipFamilies', { clusterIPs: ['10.96.0.1', 'fd00::1'], ipFamilies: undefined }, ['10.96.0.1', 'fd00::1'], []],
    ['leading zeros are decimal', { clusterIP: '010.096.000.001', clusterIPs: ['010.096.000.001'] }, ['10.96.0.1'], []],
    ['more addresses than families', { clusterIPs: ['10.96.0.1', 'fd00::1'] }, ['10.96.0.1'], ['spec.clusterIPs[1]']],
    [
      'two of one family',
      { clusterIPs: ['10.96.0.1', '10.96.0.2'], ipFamilies: ['IPv4', 'IPv4'] },
      ['10.96.0.1'],
      ['spec.clusterIPs[1]'],
    ],
    [
      'one that is none',
      { clusterIPs: ['10.96.0.1', 'x'], ipFamilies: ['IPv4', 'IPv6'] },
      ['10.96.0.1'],
      ['spec.clusterIPs[1]'],
    ],
  ])('%s', (_name, change, addresses, problems) => {
    const found = decode(change)
    expect(found.record?.clusterIPs).toEqual(addresses)
    expect(found.problems).toEqual(problems)
  })
})

describe('ports: a bad one does not lose the others', () => {
  const good = { name: 'good', port: 443 }
  test.each<[string, unknown, string]>([
    ['a name that is no label', { name: 'a b', port: 1 }, 'spec.ports[0].name'],
    ['a number too high', { name: 'a', port: 65_536 }, 'spec.ports[0].port'],
    ['zero', { name: 'a', port: 0 }, 'spec.ports[0].port'],
    ['a fraction', { name: 'a', port: 80.5 }, 'spec.ports[0].port'],
    ['a text', { name: 'a', port: '80' }, 'spec.ports[0].port'],
    ['an unknown protocol', { name: 'a', port: 1, protocol: 'QUIC' }, 'spec.ports[0].protocol'],
    ['a protocol in lower case', { name: 'a', port: 1, protocol: 'tcp' }, 'spec.ports[0].protocol'],
    ['no object', 7, 'spec.ports[0]'],
  ])('%s', (_name, bad, field) => {
    const { record, problems } = decode({ ports: [bad, good] })
    expect(record?.ports).toEqual([{ name: 'good', protocol: 'TCP', port: 443, nodePort: 0 }])
    expect(problems).toEqual([field])
  })

  test('one number under two protocols is two ports', () => {
    const ports = [
      { name: 'dns', port: 53, protocol: 'UDP', nodePort: 30_053 },
      { name: 'dns-tcp', port: 53 },
    ]
    const { record, problems } = decode({ ports })
    expect(record?.ports.map(port => `${port.name} ${port.protocol} ${port.nodePort}`)).toEqual([
      'dns UDP 30053',
      'dns-tcp TCP 0',
    ])
    expect(problems).toEqual([])
  })

  test('the second of two with one name, or one number, is left out', () => {
    const { record, problems } = decode({
      ports: [
        { name: 'a', port: 1 },
        { name: 'a', port: 2 },
        { name: 'b', port: 1 },
      ],
    })
    expect(record?.ports).toHaveLength(1)
    expect(problems).toEqual(['spec.ports[1]', 'spec.ports[2]'])
  })

  test('a NodePort that is none leaves the port without', () => {
    const { record, problems } = decode({ ports: [{ port: 80, nodePort: 70_000 }] })
    expect(record?.ports).toEqual([{ name: '', protocol: 'TCP', port: 80, nodePort: 0 }])
    expect(problems).toEqual(['spec.ports[0].nodePort'])
  })
})

test.each<[string, JSONObject, JSONObject, 'Cluster' | 'Local', number]>([
  [
    'LoadBalancer, Local',
    { type: 'LoadBalancer', externalTrafficPolicy: 'Local', healthCheckNodePort: 31_000 },
    {},
    'Local',
    31_000,
  ],
  [
    'LoadBalancer, Cluster',
    { type: 'LoadBalancer', externalTrafficPolicy: 'Cluster', healthCheckNodePort: 31_000 },
    {},
    'Cluster',
    0,
  ],
  [
    'NodePort, Local',
    { type: 'NodePort', externalTrafficPolicy: 'Local', healthCheckNodePort: 31_000 },
    {},
    'Local',
    0,
  ],
  ['ClusterIP, Local', { externalTrafficPolicy: 'Local' }, {}, 'Cluster', 0],
  ['ClusterIP with externalIPs, Local', { externalTrafficPolicy: 'Local', externalIPs: ['192.0.2.1'] }, {}, 'Local', 0],
])('effective externalTrafficPolicy: %s', (_name, change, rest, policy, healthCheckNodePort) => {
  const { record, problems } = decode(change, rest)
  expect(record?.externalTrafficPolicy).toBe(policy)
  expect(record?.healthCheckNodePort).toBe(healthCheckNodePort)
  expect(problems).toEqual([])
})

test.each<[string, JSONObject, string]>([
  [
    'a health check without a port',
    { type: 'LoadBalancer', externalTrafficPolicy: 'Local' },
    'spec.healthCheckNodePort',
  ],
  ['an unknown internal policy', { internalTrafficPolicy: 'Near' }, 'spec.internalTrafficPolicy'],
  ['an unknown external policy', { type: 'NodePort', externalTrafficPolicy: 'Near' }, 'spec.externalTrafficPolicy'],
  ['an externalIP that is none', { externalIPs: ['x', '192.0.2.1'] }, 'spec.externalIPs[0]'],
  [
    'an affinity out of bounds',
    { sessionAffinity: 'ClientIP', sessionAffinityConfig: { clientIP: { timeoutSeconds: 0 } } },
    'spec.sessionAffinityConfig.clientIP.timeoutSeconds',
  ],
  [
    'a source range that is none',
    { loadBalancerSourceRanges: ['10.0.0.0/8', '10.0.0.1'] },
    'spec.loadBalancerSourceRanges[1]',
  ],
])('reported, and the Service kept: %s', (_name, change, field) => {
  const { record, problems } = decode(change)
  expect(record).toBeDefined()
  expect(problems).toEqual([field])
})

test('externalIPs: canonical, each once, blank ones in silence', () => {
  const { record, problems } = decode({ externalIPs: ['192.0.2.010', '', '192.0.2.10', '2001:DB8:0::1'] })
  expect(record?.externalIPs).toEqual(['192.0.2.10', '2001:db8::1'])
  expect(problems).toEqual([])
})

test('source ranges are trimmed and have their host bits cleared', () => {
  const { record } = decode({ loadBalancerSourceRanges: [' 10.1.2.3/8 ', 'fd00::1/64'] })
  expect(record?.loadBalancerSourceRanges).toEqual([
    { address: '10.0.0.0', prefix: 8 },
    { address: 'fd00::', prefix: 64 },
  ])
})

test('source ranges of which none is usable are told to leave the Service open', () => {
  const { record, problems } = decode({ loadBalancerSourceRanges: ['all'] })
  expect(record?.loadBalancerSourceRanges).toEqual([])
  expect(problems).toEqual(['spec.loadBalancerSourceRanges[0]', 'spec.loadBalancerSourceRanges'])
})

test('load balancer addresses: VIPs only, whatever the type', () => {
  const ingress = [
    { ip: '203.0.113.1' },
    { ip: '203.0.113.2', ipMode: 'VIP' },
    { ip: '203.0.113.3', ipMode: 'Proxy' },
    { hostname: 'lb.example' },
    { ip: '' },
    { ip: 'x' },
  ]
  const { record, problems } = decode({}, { status: { loadBalancer: { ingress } } })
  expect(record?.loadBalancerIPs).toEqual(['203.0.113.1', '203.0.113.2'])
  expect(problems).toEqual(['status.loadBalancer.ingress[5].ip'])
})

test.each<[string, JSONObject, number | undefined]>([
  ['none', { sessionAffinity: 'None' }, undefined],
  ['by default three hours', { sessionAffinity: 'ClientIP' }, 10_800],
  ['as configured', { sessionAffinity: 'ClientIP', sessionAffinityConfig: { clientIP: { timeoutSeconds: 60 } } }, 60],
])('affinity: %s', (_name, change, seconds) => {
  expect(decode(change).record?.affinitySeconds).toBe(seconds)
})
