// Random histories of a small, crowded cluster: few names and addresses, so that everything collides.
import fc from 'fast-check'
import type {
  EndpointRecord,
  EndpointSliceRecord,
  ModelEvent,
  NodeRecord,
  ServiceCIDRRecord,
  ServiceRecord,
} from '../../src/model/records.ts'
import type { Family } from '../../src/net/ip.ts'
import { cidr, gone, ip, node } from './build.ts'

const serviceNames = ['a', 'b', 'c']
const family = fc.constantFrom<Family>('IPv4', 'IPv6')
const policy = fc.constantFrom<'Cluster' | 'Local'>('Cluster', 'Local')
const flag = fc.boolean()
const addresses = ['10.96.0.1', '10.96.0.2', '192.0.2.1', '192.0.2.2', 'fd00:96::1', '2001:db8::1'].map(ip)
const ranges = ['198.51.100.0/24', '192.168.0.0/16', '0.0.0.0/0', '2001:db8:51::/48'].map(cidr)
const ports = fc.uniqueArray(
  fc.record({
    name: fc.constantFrom('http', 'dns'),
    protocol: fc.constantFrom<'TCP' | 'UDP'>('TCP', 'UDP'),
    port: fc.constantFrom(80, 81),
    nodePort: fc.constantFrom(0, 30080),
  }),
  { minLength: 1, maxLength: 3, selector: ({ name, protocol }) => `${name}/${protocol}` },
)

const serviceNamed = (name: string): fc.Arbitrary<ServiceRecord> =>
  fc
    .record({
      createdAt: fc.constantFrom(0, 1, 2),
      type: fc.constantFrom<ServiceRecord['type']>('ClusterIP', 'NodePort', 'LoadBalancer'),
      clusterIPs: fc.constantFrom(['10.96.0.1'], ['10.96.0.2', 'fd00:96::1'], ['fd00:96::1']).map(list => list.map(ip)),
      ports,
      externalIPs: fc.subarray(addresses, { maxLength: 2 }),
      loadBalancerIPs: fc.subarray(addresses, { maxLength: 2 }),
      loadBalancerSourceRanges: fc.subarray(ranges, { maxLength: 2 }),
      internalTrafficPolicy: policy,
      externalTrafficPolicy: policy,
    })
    .map(fields => ({ namespace: 'ns', name, uid: name, healthCheckNodePort: 0, ...fields }))

const hints = fc.option(fc.subarray(['zone-a', 'zone-b']), { nil: undefined })
const nodeHints = fc.option(fc.subarray(['node-a', 'node-b']), { nil: undefined })

const endpointOf = (of: Family): fc.Arbitrary<EndpointRecord> =>
  fc
    .record({
      address: fc
        .constantFrom(...(of === 'IPv4' ? ['10.0.0.1', '10.0.0.2', '10.0.0.3'] : ['fd00::1', 'fd00::2']))
        .map(ip),
      ready: flag,
      serving: flag,
      terminating: flag,
      nodeName: fc.constantFrom('node-a', 'node-b'),
      zoneHints: hints,
      nodeHints,
    })
    .map(({ zoneHints, nodeHints: forNodes, ...rest }) => ({
      ...rest,
      ...(zoneHints === undefined ? {} : { zoneHints }),
      ...(forNodes === undefined ? {} : { nodeHints: forNodes }),
    }))

const sliceNamed = (name: string): fc.Arbitrary<EndpointSliceRecord> =>
  family.chain(of =>
    fc.record({
      namespace: fc.constant('ns'),
      name: fc.constant(name),
      service: fc.constantFrom(...serviceNames),
      family: fc.constant(of),
      ports: fc.uniqueArray(
        fc.record({
          name: fc.constantFrom('http', 'dns'),
          protocol: fc.constantFrom<'TCP' | 'UDP'>('TCP', 'UDP'),
          port: fc.constantFrom(8080, 8081),
        }),
        { minLength: 1, maxLength: 3, selector: ({ name: portName, protocol }) => `${portName}/${protocol}` },
      ),
      endpoints: fc.array(endpointOf(of), { maxLength: 4 }),
    }),
  )

const aNode: fc.Arbitrary<NodeRecord> = fc
  .record({
    zone: fc.constantFrom('zone-a', 'zone-b'),
    address: fc.constantFrom('192.168.0.1', '172.16.0.1'),
    eligible: flag,
  })
  .map(({ zone, address, eligible }) => node({ zone, addresses: [ip(address)], eligible }))

const serviceCIDRNamed = (name: string): fc.Arbitrary<ServiceCIDRRecord> =>
  fc
    .subarray(['10.96.0.0/16', '10.97.0.0/16', 'fd00:96::/112'].map(cidr), { minLength: 1 })
    .map(cidrs => ({ name, cidrs }))

type Kind = Exclude<ModelEvent['kind'], 'synced'>

function historyOf(kind: Kind, key: string, event: fc.Arbitrary<ModelEvent>): fc.Arbitrary<readonly ModelEvent[]> {
  return fc.array(fc.oneof({ arbitrary: event, weight: 3 }, { arbitrary: fc.constant(gone(kind, key)), weight: 1 }), {
    maxLength: 4,
  })
}

/** What happens to each object of a cluster, in order; one list an object. */
export const histories: fc.Arbitrary<readonly (readonly ModelEvent[])[]> = fc.tuple(
  ...serviceNames.map(name => {
    const key = `ns/${name}`
    return historyOf(
      'Service',
      key,
      serviceNamed(name).map(record => ({ kind: 'Service', key, record })),
    )
  }),
  ...['s1', 's2', 's3', 's4'].map(name => {
    const key = `ns/${name}`
    return historyOf(
      'EndpointSlice',
      key,
      sliceNamed(name).map(record => ({ kind: 'EndpointSlice', key, record })),
    )
  }),
  historyOf(
    'Node',
    'node-a',
    aNode.map(record => ({ kind: 'Node', key: 'node-a', record })),
  ),
  ...['c1', 'c2'].map(key =>
    historyOf(
      'ServiceCIDR',
      key,
      serviceCIDRNamed(key).map(record => ({ kind: 'ServiceCIDR', key, record })),
    ),
  ),
)

/** One order in which histories can arrive: `picks` says whose turn it is; what is left over follows. */
export function interleave(lists: readonly (readonly ModelEvent[])[], picks: readonly number[]): ModelEvent[] {
  const queues = lists.map(list => [...list])
  const events: ModelEvent[] = []
  for (const pick of picks) {
    const event = queues[pick % queues.length]?.shift()
    if (event !== undefined) events.push(event)
  }
  return [...events, ...queues.flat()]
}

/** Turns, for `interleave`. */
export const turns: fc.Arbitrary<readonly number[]> = fc.array(fc.nat(1000), { maxLength: 40 })
