// EndpointSlice, Node and ServiceCIDR objects and what becomes of them, and when two records are the same.
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { decodeEvent, modelKinds } from '../../src/api/decode.ts'
import { decodeNode, decodeServiceCIDR } from '../../src/api/decode-node.ts'
import { decodeEndpointSlice } from '../../src/api/decode-slice.ts'
import { DecodeError, intern, type JSONObject, type Problem } from '../../src/api/fields.ts'
import { createProblemLog } from '../../src/api/problem-log.ts'
import { equalNodes, equalRecords, equalSlices } from '../../src/model/equal.ts'
import type { EndpointSliceRecord } from '../../src/model/records.ts'

const metadata = { name: 'web-abc', namespace: 'shop', labels: { 'kubernetes.io/service-name': 'web' } }
const endpoint = { addresses: ['10.244.1.1'] }
const ports = [{ name: 'http', protocol: 'TCP', port: 8080 }]
const whole: JSONObject = { metadata, addressType: 'IPv4', ports, endpoints: [endpoint] }

function decode(change: JSONObject): { record: EndpointSliceRecord | undefined; problems: string[] } {
  const problems: Problem[] = []
  const record = decodeEndpointSlice({ ...whole, ...change }, problem => problems.push(problem))
  return { record, problems: problems.map(problem => problem.field) }
}

function fieldOf(run: () => unknown): string {
  try {
    run()
  } catch (error) {
    if (error instanceof DecodeError) return error.problem.field
    throw error
  }
  return 'not refused'
}

describe('EndpointSlice', () => {
  test('whole, with every default', () => {
    expect(decode({})).toEqual({
      record: {
        namespace: 'shop',
        name: 'web-abc',
        service: 'web',
        family: 'IPv4',
        ports: [{ name: 'http', protocol: 'TCP', port: 8080 }],
        endpoints: [{ address: '10.244.1.1', ready: true, serving: true, terminating: false }],
      },
      problems: [],
    })
  })

  test.each<[string, JSONObject]>([
    ['names instead of addresses', { addressType: 'FQDN' }],
    ['headless', { metadata: { ...metadata, labels: { ...metadata.labels, 'service.kubernetes.io/headless': '' } } }],
    ['no Service', { metadata: { name: 'x', namespace: 'shop' } }],
    ['an empty Service', { metadata: { ...metadata, labels: { 'kubernetes.io/service-name': '' } } }],
  ])('nothing for us: %s', (_name, change) => {
    expect(decode(change).record).toBeUndefined()
  })

  test.each<[string, JSONObject, string]>([
    ['an unknown address type', { addressType: 'IPX' }, 'addressType'],
    ['no address type', { addressType: undefined }, 'addressType'],
    ['a name that is no subdomain', { metadata: { ...metadata, name: 'a_b' } }, 'metadata.name'],
    [
      'a Service that is no label',
      { metadata: { ...metadata, labels: { 'kubernetes.io/service-name': 'a b' } } },
      'metadata.labels["kubernetes.io/service-name"]',
    ],
  ])('refused: %s', (_name, change, field) => {
    expect(fieldOf(() => decode(change))).toBe(field)
  })

  test.each<[string, JSONObject, string]>([
    ['a port without a name', { ports: [{ port: 1 }, ...ports] }, 'ports[0].name'],
    ['a port without a number', { ports: [{ name: 'a' }, ...ports] }, 'ports[0].port'],
    ['port 0', { ports: [{ name: 'a', port: 0 }, ...ports] }, 'ports[0].port'],
    [
      'a port of an unknown protocol',
      { ports: [{ name: 'a', port: 1, protocol: 'X' }, ...ports] },
      'ports[0].protocol',
    ],
    ['an endpoint without addresses', { endpoints: [{ addresses: [] }, endpoint] }, 'endpoints[0].addresses[0]'],
    ['an endpoint that is null', { endpoints: [null, endpoint] }, 'endpoints[0].addresses[0]'],
    ['an address that is none', { endpoints: [{ addresses: ['x'] }, endpoint] }, 'endpoints[0].addresses[0]'],
    [
      'an address of the other family',
      { endpoints: [{ addresses: ['fd00::1'] }, endpoint] },
      'endpoints[0].addresses[0]',
    ],
  ])('reported, and the rest kept: %s', (_name, change, field) => {
    const { record, problems } = decode(change)
    expect(record?.ports).toHaveLength(1)
    expect(record?.endpoints).toHaveLength(1)
    expect(problems).toEqual([field])
  })

  test('only the first address counts, in canonical form', () => {
    const { record } = decode({ endpoints: [{ addresses: ['10.244.001.010', '10.244.1.11'] }] })
    expect([...(record?.endpoints ?? [])].map(({ address }) => address)).toEqual(['10.244.1.10'])
  })

  test('conditions, node and hints as they are', () => {
    const full = {
      addresses: ['10.244.1.1'],
      conditions: { ready: false, serving: true, terminating: true },
      nodeName: 'node-a',
      zone: 'zone-x',
      hints: { forZones: [{ name: 'zone-a' }, {}], forNodes: [{ name: 'node-a' }] },
    }
    expect(decode({ endpoints: [full] }).record?.endpoints).toEqual([
      {
        address: '10.244.1.1',
        ready: false,
        serving: true,
        terminating: true,
        nodeName: 'node-a',
        zoneHints: ['zone-a'],
        nodeHints: ['node-a'],
      },
    ])
  })

  test('conditions that are null count as their defaults, serving apart from ready', () => {
    const conditions = { ready: false, serving: null, terminating: null }
    expect(decode({ endpoints: [{ ...endpoint, conditions }] }).record?.endpoints).toMatchObject([
      { ready: false, serving: true, terminating: false },
    ])
  })

  test('the trigger time is read, and alone makes no difference', () => {
    const at = (time: string) =>
      decode({ metadata: { ...metadata, annotations: { 'endpoints.kubernetes.io/last-change-trigger-time': time } } })
        .record
    const [a, b] = [at('2026-01-01T00:00:00Z'), at('2026-01-01T00:00:01.5Z')]
    expect(a?.triggeredAt).toBe(Date.UTC(2026, 0, 1))
    expect(b?.triggeredAt).toBe(Date.UTC(2026, 0, 1, 0, 0, 1, 500))
    expect(at('yesterday')?.triggeredAt).toBeUndefined()
    expect(a !== undefined && b !== undefined && equalSlices(a, b)).toBe(true)
  })

  test.each<[string, JSONObject]>([
    ['another endpoint', { endpoints: [endpoint, { addresses: ['10.244.1.2'] }] }],
    ['another state', { endpoints: [{ ...endpoint, conditions: { ready: false } }] }],
    ['a hint', { endpoints: [{ ...endpoint, hints: { forZones: [{ name: 'z' }] } }] }],
    ['a node', { endpoints: [{ ...endpoint, nodeName: 'node-a' }] }],
    ['another port', { ports: [{ name: 'http', port: 8081 }] }],
    ['another Service', { metadata: { ...metadata, labels: { 'kubernetes.io/service-name': 'api' } } }],
  ])('not the same any more: %s', (_name, change) => {
    expect(equalRecords({ kind: 'EndpointSlice', a: decode({}).record, b: decode(change).record })).toBe(false)
    expect(equalRecords({ kind: 'EndpointSlice', a: decode(change).record, b: decode(change).record })).toBe(true)
  })
})

describe('Node', () => {
  const node = { metadata: { name: 'node-a', labels: { 'topology.kubernetes.io/zone': 'zone-a' } } }
  const none = (): void => undefined

  test('addresses: internal ones first, each once, others not at all', () => {
    const addresses = [
      { type: 'ExternalIP', address: '203.0.113.9' },
      { type: 'Hostname', address: 'node-a' },
      { type: 'InternalIP', address: '192.168.0.1' },
      { type: 'InternalIP', address: 'FD00::1' },
      { type: 'ExternalIP', address: '192.168.0.1' },
    ]
    const record = decodeNode(
      { ...node, status: { addresses }, spec: { podCIDRs: ['10.244.1.0/24', 'fd00:1::/64'] } },
      none,
    )
    expect(record).toEqual({
      name: 'node-a',
      addresses: ['192.168.0.1', 'fd00::1', '203.0.113.9'],
      podCIDRs: [
        { address: '10.244.1.0', prefix: 24 },
        { address: 'fd00:1::', prefix: 64 },
      ],
      zone: 'zone-a',
      eligible: true,
    })
  })

  test.each<[string, JSONObject]>([
    ['being deleted', { metadata: { name: 'node-a', deletionTimestamp: '2026-01-01T00:00:00Z' } }],
    [
      'about to be removed',
      { ...node, spec: { taints: [{ key: 'ToBeDeletedByClusterAutoscaler', effect: 'NoSchedule' }] } },
    ],
  ])('not eligible: %s', (_name, object) => {
    expect(decodeNode(object, none).eligible).toBe(false)
  })

  test('the old podCIDR field stands in for the new one', () => {
    expect(decodeNode({ ...node, spec: { podCIDR: '10.1.0.0/24' } }, none).podCIDRs).toHaveLength(1)
  })

  test('heartbeats make no difference', () => {
    const a = decodeNode({ ...node, status: { conditions: [{ lastHeartbeatTime: 1 }] } }, none)
    expect(equalNodes(a, decodeNode({ ...node, status: { conditions: [{ lastHeartbeatTime: 2 }] } }, none))).toBe(true)
    expect(equalNodes(a, decodeNode({ metadata: { name: 'node-a' } }, none))).toBe(false)
  })
})

test('ServiceCIDR: what cannot be read is reported, the rest kept', () => {
  const problems: Problem[] = []
  const object = { metadata: { name: 'kubernetes' }, spec: { cidrs: ['10.96.0.0/16', 'x'] } }
  const record = decodeServiceCIDR(object, problem => problems.push(problem))
  expect(record).toEqual({ name: 'kubernetes', cidrs: [{ address: '10.96.0.0', prefix: 16 }] })
  expect(problems).toEqual([
    { object: 'ServiceCIDR kubernetes', field: 'spec.cidrs[1]', message: '"x" is not a CIDR; it is left out' },
  ])
})

test('no JSON whatever makes a decoder do anything but decode, pass over or refuse', () => {
  const junk = fc.letrec(tie => ({
    value: fc.oneof(
      { depthSize: 'small' },
      fc.string(),
      fc.integer(),
      fc.constant(null),
      fc.boolean(),
      tie('list'),
      tie('object'),
    ),
    list: fc.array(tie('value'), { maxLength: 3 }),
    object: fc.dictionary(
      fc.constantFrom(
        'metadata',
        'spec',
        'status',
        'name',
        'namespace',
        'labels',
        'ports',
        'port',
        'clusterIP',
        'endpoints',
        'addresses',
        'hints',
        'conditions',
        'cidrs',
        'taints',
        'loadBalancer',
        'ingress',
        'kubernetes.io/service-name',
        '__proto__',
      ),
      tie('value'),
      { maxKeys: 5 },
    ),
  })).value
  fc.assert(
    fc.property(fc.constantFrom(...modelKinds), junk, fc.boolean(), (kind, value, named) => {
      const object =
        named && typeof value === 'object'
          ? { ...value, metadata: { name: 'a', namespace: 'b' }, addressType: 'IPv4' }
          : value
      try {
        expect(decodeEvent(kind, 'b/a', object, () => undefined).kind).toBe(kind)
      } catch (error) {
        expect(error).toBeInstanceOf(DecodeError)
      }
    }),
    { numRuns: 2_000 },
  )
})

test('one copy of each name is kept', () => {
  expect(intern(['node', 'a'].join('-'))).toBe('node-a')
  // However many names come and go, the table does not grow for ever, and stays right.
  for (let i = 0; i < 70_000; i++) intern(`n${i}`)
  expect(intern('n1')).toBe('n1')
})

test('a problem is told once, and again after the object was well', () => {
  const told: string[] = []
  const log = createProblemLog(problem => told.push(problem.message))
  const bad = (): void => {
    log.collect('Service', 'a/b', report => report({ object: 'o', field: 'f', message: 'bad' }))
  }
  bad()
  bad()
  expect(told).toHaveLength(1)
  log.collect('Service', 'a/b', () => undefined)
  bad()
  expect(told).toHaveLength(2)
  log.forget('Service', 'a/b')
  bad()
  expect(told).toHaveLength(3)
})
