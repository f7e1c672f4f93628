// Random clusters of every kind of Service, crowded enough to collide and at times large enough to make trees split.
import fc from 'fast-check'
import type { EndpointRecord, EndpointSliceRecord, ModelEvent, ServiceRecord } from '../../src/model/records.ts'
import type { Family, IP } from '../../src/net/ip.ts'
import type { Packet } from '../../src/net/packet.ts'
import { protocols } from '../../src/net/protocol.ts'
import { cidr, endpoint, gone, ip, service, serviceEvent, slice, sliceEvent } from '../model/build.ts'

/** Everything of one address family. */
interface Plan {
  readonly cluster: (n: number) => IP
  readonly bulk: (n: number) => IP
  readonly pod: (n: number) => IP
  readonly vips: readonly IP[]
  readonly ranges: readonly string[]
  readonly sources: readonly IP[]
  readonly node: IP
}

const hex = (n: number): string => n.toString(16)

/** Addresses by family; sources are a local pod, an outside client inside a range, one outside all, and the node. */
export const plans: Readonly<Record<Family, Plan>> = {
  IPv4: {
    cluster: n => ip(`10.96.0.${n + 1}`),
    bulk: n => ip(`10.96.${n >> 4}.${(n & 15) * 16}`),
    pod: n => ip(`10.244.1.${n + 10}`),
    vips: ['203.0.113.1', '203.0.113.2', '203.0.113.9', '192.0.2.1'].map(ip),
    ranges: ['198.51.100.0/24', '192.168.100.0/24', '0.0.0.0/0'],
    sources: ['10.244.1.10', '198.51.100.10', '203.0.112.7', '192.168.100.1'].map(ip),
    node: ip('192.168.100.1'),
  },
  IPv6: {
    cluster: n => ip(`fd00:10:96::${hex(n + 1)}`),
    bulk: n => ip(`fd00:10:96::${hex((n >> 4) + 1)}:${hex((n & 15) * 16)}`),
    pod: n => ip(`fd00:10:244:1::${hex(n + 10)}`),
    vips: ['2001:db8:113::1', '2001:db8:113::2', '2001:db8:113::9', '2001:db8:2::1'].map(ip),
    ranges: ['2001:db8:51::/64', 'fd00:100::/64', '::/0'],
    sources: ['fd00:10:244:1::a', '2001:db8:51::10', '2001:db8:52::7', 'fd00:100::1'].map(ip),
    node: ip('fd00:100::1'),
  },
}

const families: readonly Family[] = ['IPv4', 'IPv6']
export const family = fc.constantFrom<Family>(...families)
export const variant = fc.constantFrom<'nft' | 'legacy'>('nft', 'legacy')

const names = ['a', 'b', 'c', 'd']
const portNumbers = [80, 81]
const nodePorts = [30080, 30081, 30082]
const policy = fc.constantFrom<'Cluster' | 'Local'>('Cluster', 'Local')
const vips = families.flatMap(of => plans[of].vips)

const servicePorts = fc.uniqueArray(
  fc.record({
    name: fc.constantFrom('p', 'q'),
    protocol: fc.constantFrom(...protocols),
    port: fc.constantFrom(...portNumbers),
    nodePort: fc.constantFrom(0, ...nodePorts),
  }),
  { minLength: 1, maxLength: 2, selector: ({ name }) => name },
)

const oneService = (index: number): fc.Arbitrary<ServiceRecord> =>
  fc
    .record({
      createdAt: fc.constantFrom(0, 1, 2),
      type: fc.constantFrom<ServiceRecord['type']>('ClusterIP', 'NodePort', 'LoadBalancer'),
      of: fc.constantFrom<readonly Family[]>(['IPv4'], ['IPv6'], ['IPv4', 'IPv6']),
      ports: servicePorts,
      externalIPs: fc.subarray(vips, { maxLength: 2 }),
      loadBalancerIPs: fc.subarray(vips, { maxLength: 2 }),
      loadBalancerSourceRanges: fc.subarray(
        families.flatMap(name => plans[name].ranges.map(cidr)),
        { maxLength: 2 },
      ),
      affinitySeconds: fc.constantFrom(undefined, undefined, 10_800),
      internalTrafficPolicy: policy,
      externalTrafficPolicy: policy,
      healthCheckNodePort: fc.constantFrom(0, 32_000 + index),
    })
    .map(({ of, affinitySeconds, ...fields }) =>
      service({
        namespace: 'ns',
        name: names[index] ?? '',
        clusterIPs: of.map(name => plans[name].cluster(index)),
        ...fields,
        ...(affinitySeconds === undefined ? {} : { affinitySeconds }),
      }),
    )

const hints = (words: readonly string[]) => fc.option(fc.subarray([...words]), { nil: undefined, freq: 3 })

const anEndpoint = (of: Family): fc.Arbitrary<EndpointRecord> =>
  fc
    .record({
      pod: fc.nat(4),
      state: fc.constantFrom('ready', 'ready', 'ready', 'dying', 'dead', 'unready'),
      nodeName: fc.constantFrom('node-a', 'node-b', undefined),
      zoneHints: hints(['zone-a', 'zone-b']),
      nodeHints: hints(['node-a', 'node-b']),
    })
    .map(({ pod, state, nodeName, zoneHints, nodeHints }) =>
      endpoint(plans[of].pod(pod), {
        ready: state === 'ready',
        serving: state === 'ready' || state === 'dying',
        terminating: state === 'dying' || state === 'dead',
        ...(nodeName === undefined ? {} : { nodeName }),
        ...(zoneHints === undefined ? {} : { zoneHints }),
        ...(nodeHints === undefined ? {} : { nodeHints }),
      }),
    )

const slicePorts = fc.subarray(
  ['p', 'q'].flatMap(name => protocols.map((protocol, i) => ({ name, protocol, port: 8080 + i }))),
  { minLength: 3 },
)

const someEndpoints = (of: Family): fc.Arbitrary<readonly EndpointRecord[]> =>
  fc.oneof(
    { arbitrary: fc.array(anEndpoint(of), { maxLength: 3 }), weight: 6 },
    {
      // Enough for groups of endpoints with chains of their own.
      arbitrary: fc
        .integer({ min: 31, max: 50 })
        .map(count => Array.from({ length: count }, (_, n) => endpoint(plans[of].pod(n), { nodeName: 'node-a' }))),
      weight: 1,
    },
  )

const oneSlice = (of: Family, name: string): fc.Arbitrary<EndpointSliceRecord> =>
  fc
    .record({ of: fc.constantFrom(...names), ports: slicePorts, endpoints: someEndpoints(of) })
    .map(({ of: owner, ports, endpoints }) =>
      slice(endpoints, { namespace: 'ns', name, service: owner, family: of, ports }),
    )

/** A crowd of plain Services comes, loses its endpoints, or goes: trees of chains grow and shrink. */
const crowd = fc
  .record({
    first: fc.nat(40),
    count: fc.integer({ min: 20, max: 60 }),
    become: fc.constantFrom<'ready' | 'empty' | 'gone'>('ready', 'empty', 'gone'),
  })
  .map(({ first, count, become }) => Array.from({ length: count }, (_, i) => bulkService(first + i, become)).flat())

/** Number n of the crowd, at its address, with one endpoint, with none, or gone. */
export function bulkService(n: number, become: 'ready' | 'empty' | 'gone'): ModelEvent[] {
  const name = `bulk-${n}`
  const sliceOf = (of: Family): EndpointSliceRecord =>
    slice(become === 'ready' ? [endpoint(plans[of].pod(n % 40))] : [], {
      namespace: 'ns',
      name: `${name}-${of.toLowerCase()}`,
      service: name,
      family: of,
    })
  if (become === 'gone') return [gone('Service', `ns/${name}`)]
  const record = service({ namespace: 'ns', name, clusterIPs: families.map(of => plans[of].bulk(n)) })
  return [serviceEvent(record), ...families.map(of => sliceEvent(sliceOf(of)))]
}

const change: fc.Arbitrary<readonly ModelEvent[]> = fc.oneof(
  {
    arbitrary: fc
      .nat(names.length - 1)
      .chain(oneService)
      .map(record => [serviceEvent(record)]),
    weight: 6,
  },
  {
    arbitrary: fc
      .record({ of: family, n: fc.nat(5) })
      .chain(({ of, n }) => oneSlice(of, `slice-${n}-${of.toLowerCase()}`))
      .map(record => [sliceEvent(record)]),
    weight: 8,
  },
  { arbitrary: fc.constantFrom(...names).map(name => [gone('Service', `ns/${name}`)]), weight: 1 },
  {
    arbitrary: fc
      .record({ of: family, n: fc.nat(5) })
      .map(({ of, n }) => [gone('EndpointSlice', `ns/slice-${n}-${of.toLowerCase()}`)]),
    weight: 1,
  },
  { arbitrary: crowd, weight: 2 },
)

/** What happens between two syncs. */
export const batch: fc.Arbitrary<readonly ModelEvent[]> = fc
  .array(change, { minLength: 1, maxLength: 8 })
  .map(changes => changes.flat())

/** A cluster's life: one batch a sync. */
export const life: fc.Arbitrary<readonly (readonly ModelEvent[])[]> = fc.array(batch, { minLength: 1, maxLength: 5 })

/** Packets to everything a Service of these clusters can be reached by. */
export function packetsOf(of: Family): Packet[] {
  const plan = plans[of]
  const packets: Packet[] = []
  const add = (src: IP, dst: IP, ports: readonly number[], under: readonly (typeof protocols)[number][]): void => {
    for (const port of ports) for (const protocol of under) packets.push({ src, dst, port, protocol })
  }
  for (const src of plan.sources) {
    for (const vip of plan.vips) add(src, vip, [80], protocols)
    add(src, plan.node, nodePorts, ['TCP', 'UDP'])
  }
  for (const n of names.keys()) add(plan.pod(0), plan.cluster(n), portNumbers, protocols)
  for (let n = 0; n < 100; n += 7) add(plan.pod(1), plan.bulk(n), [80], ['TCP'])
  return packets
}
