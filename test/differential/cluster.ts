// Random clusters as the API would hold them: Services of every kind, slices in every state, and the node's configuration.
import type { Family, IP } from '../../src/net/ip.ts'
import { protocols } from '../../src/net/protocol.ts'
import { type ApiObject, worldNode } from '../conformance/objects.ts'
import type { ScenarioConfig } from '../conformance/scenario.ts'
import { world } from '../conformance/world.ts'
import { type Places, places } from './places.ts'
import type { Random } from './random.ts'
import { slicesOf } from './slices.ts'

export interface RandomCluster {
  readonly config: ScenarioConfig
  /** Everything the node owns besides loopback. */
  readonly nodeAddresses: readonly IP[]
  readonly objects: readonly ApiObject[]
}

/** A port of a Service, with what its slices need of it. */
export interface RandomPort {
  readonly name?: string
  readonly protocol: string
  readonly port: number
  readonly nodePort?: number
}

export interface ClusterOptions {
  /** Small enough to be met by real packets within seconds. */
  readonly small?: boolean
}

export const families: readonly Family[] = ['IPv4', 'IPv6']

/** Some are node ports as well: an address bound on the node then answers for both. */
export const portNumbers = [80, 80, 80, 81, 443, 53, 8080, 30_080, 1, 65_535]
export const nodePortNumbers = [30_080, 30_081, 30_082, 30_083, 30_088, 31_000, 32_767, 8_080, 80]

/** A cluster; the same for the same stream of numbers. */
export function randomCluster(random: Random, { small = false }: ClusterOptions = {}): RandomCluster {
  // Load balancers of some kinds are bound on the node itself.
  const bound = families.flatMap(family =>
    random.some([...places[family].vips.slice(0, 2), ...places[family].externalIPs.slice(0, 1)], 0.15),
  )
  const count = small ? random.int(4, 8) : random.chance(0.08) ? random.int(34, 90) : random.int(1, 12)
  const services = Array.from({ length: count }, (_, index) => oneService(random, index, count, small))
  return {
    config: randomConfig(random),
    nodeAddresses: [...world.nodeAddresses, ...bound],
    objects: [randomNode(random), ...randomServiceCIDRs(random), ...services.flat()],
  }
}

function randomConfig(random: Random): ScenarioConfig {
  return {
    clusterCIDR: random.pick([
      world.clusterCIDR,
      world.clusterCIDR,
      '10.244.0.0/16',
      'fd00:10:244::/56',
      '10.244.1.0/25,fd00:10:244:1::/121',
    ]),
    detectLocalMode: random.pick([
      'ClusterCIDR',
      'ClusterCIDR',
      'NodeCIDR',
      'BridgeInterface',
      'InterfaceNamePrefix',
    ] as const),
    detectLocal: {
      bridgeInterface: random.pick(['vethc0', 'vethe0', 'veth']),
      interfaceNamePrefix: random.pick(['veth', 'vethc', 'vethc0', 'eth']),
    },
    nodePortAddresses: random.pick([
      [],
      [],
      ['primary'],
      ['192.168.100.0/24', 'fd00:100::/64'],
      ['172.20.0.0/22'],
      ['fd00:200::1/128', '172.20.0.1/32', '172.0.0.0/7'],
      ['192.168.100.0/24', '0.0.0.0/0'],
      ['127.0.0.0/8', '192.168.100.0/24'],
      ['203.0.113.0/28', '2001:db8:113::/126', '127.0.0.1/32'],
    ]),
    masqueradeAll: random.chance(0.2),
    masqueradeBit: random.pick([14, 14, 0, 31]),
    localhostNodePorts: random.chance(0.8),
  }
}

function randomNode(random: Random): ApiObject {
  const node = worldNode(random.pick([undefined, 'zone-a', 'zone-a', 'zone-b']))
  if (random.chance(0.8)) return node
  // A node of which only one family is known.
  const of = random.int(0, 1)
  return {
    ...node,
    spec: { podCIDRs: [random.pick(['10.244.1.0/24', 'fd00:10:244:1::/64'])] },
    status: { addresses: [{ type: 'InternalIP', address: world.nodeIPs[of] }] },
  }
}

function randomServiceCIDRs(random: Random): ApiObject[] {
  if (random.chance(0.5)) return []
  const cidrs = families.map(family => places[family].serviceCIDR)
  return [
    {
      apiVersion: 'networking.k8s.io/v1',
      kind: 'ServiceCIDR',
      metadata: { name: 'kubernetes' },
      spec: { cidrs: random.chance(0.2) ? ['10.96.0.0/20'] : cidrs },
    },
  ]
}

/** A Service and its slices. */
function oneService(random: Random, index: number, count: number, small: boolean): ApiObject[] {
  const name = `s${index}`
  const type = random.pick(['ClusterIP', 'ClusterIP', 'NodePort', 'LoadBalancer', 'LoadBalancer'])
  const of = random.pick<readonly Family[]>([['IPv4'], ['IPv6'], families, families])
  const own = [...of].sort(() => (random.chance(0.5) ? 1 : -1))
  const ports = randomPorts(random, type, random.chance(count > 30 ? 0.8 : 0.3) ? 1 : random.int(1, 3))
  const service: ApiObject = {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: {
      name,
      namespace: 'shop',
      creationTimestamp: `2026-01-0${random.int(1, 3)}T00:00:00Z`,
      ...(random.chance(0.03) ? { labels: { 'service.kubernetes.io/service-proxy-name': 'other' } } : {}),
    },
    spec: {
      type: random.chance(0.02) ? 'ExternalName' : type,
      ...clusterIPsOf(random, own, index),
      ipFamilies: own,
      ports,
      ...externalsOf(random, index),
      ...policiesOf(random, type, index),
      ...(random.chance(0.15)
        ? { sessionAffinity: 'ClientIP', sessionAffinityConfig: { clientIP: { timeoutSeconds: 10_800 } } }
        : {}),
    },
    ...(type === 'LoadBalancer' || random.chance(0.05)
      ? { status: { loadBalancer: { ingress: ingressOf(random) } } }
      : {}),
  }
  return [service, ...families.flatMap(family => slicesOf(random, { name, family, ports, small }))]
}

function clusterIPsOf(random: Random, of: readonly Family[], index: number): object {
  if (random.chance(0.03)) return { clusterIP: 'None', clusterIPs: ['None'] }
  const addresses = of.map(family => places[family].clusterIPs[index])
  return { clusterIP: addresses[0], clusterIPs: addresses }
}

function randomPorts(random: Random, type: string, count: number): RandomPort[] {
  const taken = new Set<string>()
  const ports: RandomPort[] = []
  for (let i = 0; i < count; i++) {
    const protocol = random.pick(['TCP', 'TCP', ...protocols])
    const port = random.pick(portNumbers)
    if (taken.has(`${protocol} ${port}`)) continue
    taken.add(`${protocol} ${port}`)
    const hasNodePort = type !== 'ClusterIP' && random.chance(0.85)
    ports.push({
      ...(count === 1 && random.chance(0.5) ? {} : { name: `p${i}` }),
      protocol,
      port,
      ...(hasNodePort ? { nodePort: random.pick(nodePortNumbers) } : {}),
    })
  }
  return ports
}

/** External IPs; now and then an address that is something else as well. */
function externalsOf(random: Random, index: number): object {
  if (!random.chance(0.35)) return {}
  const pool = (at: Places): readonly IP[] => {
    if (random.chance(0.75)) return at.externalIPs
    return [
      ...at.nodeAddresses,
      at.otherNode,
      ...at.vips.slice(0, 2),
      ...at.clusterIPs.slice(0, Math.min(index + 1, 4)),
    ]
  }
  return { externalIPs: families.flatMap(family => random.some(pool(places[family]), 0.35)) }
}

function ingressOf(random: Random): object[] {
  const pool = (at: Places): readonly IP[] => (random.chance(0.95) ? at.vips : [...at.externalIPs, ...at.nodeAddresses])
  return families
    .flatMap(family => random.some(pool(places[family]), 0.35))
    .map(ip => (random.chance(0.05) ? { ip, ipMode: 'Proxy' } : random.chance(0.03) ? { hostname: 'lb' } : { ip }))
}

function policiesOf(random: Random, type: string, index: number): object {
  const externalTrafficPolicy = random.pick(['Cluster', 'Local'])
  const isLocalBalancer = type === 'LoadBalancer' && externalTrafficPolicy === 'Local'
  const ranges = families.flatMap(family => random.some(places[family].ranges, 0.15))
  return {
    internalTrafficPolicy: random.pick(['Cluster', 'Cluster', 'Local']),
    externalTrafficPolicy,
    ...(isLocalBalancer ? { healthCheckNodePort: 32_000 + index } : {}),
    ...(random.chance(0.5)
      ? { loadBalancerSourceRanges: ranges.map(range => (random.chance(0.1) ? ` ${range}` : range)) }
      : {}),
  }
}
