// The cluster whose traffic must not notice a switch of modes, and that traffic: who asks whom, and what must come of it.
import { world } from '../../conformance/world.ts'

export interface Target {
  readonly name: string
  readonly src: string
  readonly dst: string
  readonly port: number
  readonly protocol: 'TCP' | 'UDP'
  readonly expect: 'answer' | 'refusal' | 'silence'
  /** Endpoints that may answer. */
  readonly endpoints: readonly string[]
  /** The endpoint must see the client's own address; otherwise anything will do. */
  readonly seesClient: boolean
  /** All new connections go to one endpoint for as long as one mode is in charge. */
  readonly sticky: boolean
}

export interface Listener {
  readonly address: string
  readonly port: number
  readonly protocol: 'TCP' | 'UDP'
}

/** One family's addresses, by the last part of each. */
interface Plan {
  readonly family: 'IPv4' | 'IPv6'
  readonly clusterIP: (host: number) => string
  readonly vip: (host: number) => string
  readonly local: (host: number) => string
  readonly remote: (host: number) => string
  readonly node: string
  /** Inside and outside of the source ranges of `guarded`. */
  readonly client: string
  readonly stranger: string
  readonly range: string
}

const plans: readonly Plan[] = [
  {
    family: 'IPv4',
    clusterIP: host => `10.96.0.${host}`,
    vip: host => `203.0.113.${host}`,
    local: host => `10.244.1.${host}`,
    remote: host => `10.244.2.${host}`,
    node: '192.168.100.1',
    client: '198.51.100.10',
    stranger: '198.51.100.50',
    range: '198.51.100.0/27',
  },
  {
    family: 'IPv6',
    clusterIP: host => `fd00:10:96::${host}`,
    vip: host => `2001:db8:113::${host}`,
    local: host => `fd00:10:244:1::${host}`,
    remote: host => `fd00:10:244:2::${host}`,
    node: 'fd00:100::1',
    client: '2001:db8:51::10',
    stranger: '2001:db8:51::50',
    range: '2001:db8:51::/122',
  },
]

interface ServicePlan {
  readonly name: string
  /** Last part of the cluster IP, and of the load balancer's address if there is one. */
  readonly host: number
  readonly local: readonly number[]
  readonly remote: readonly number[]
  readonly nodePort?: number
  readonly spec?: Readonly<Record<string, unknown>>
  readonly type?: 'ClusterIP' | 'NodePort' | 'LoadBalancer'
}

/** Every Service has port 80 over TCP, and over UDP; node ports of UDP are one above those of TCP. */
const services: readonly ServicePlan[] = [
  { name: 'web', host: 20, local: [11], remote: [11], type: 'NodePort', nodePort: 30_080 },
  { name: 'self', host: 21, local: [12], remote: [] },
  {
    name: 'edge',
    host: 22,
    local: [13],
    remote: [13],
    type: 'LoadBalancer',
    nodePort: 30_082,
    spec: { externalTrafficPolicy: 'Local' },
  },
  {
    name: 'guarded',
    host: 23,
    local: [14],
    remote: [14],
    type: 'LoadBalancer',
    nodePort: 30_084,
    spec: { loadBalancerSourceRanges: plans.map(({ range }) => range) },
  },
  {
    name: 'sticky',
    host: 24,
    local: [15],
    remote: [15, 16],
    spec: { sessionAffinity: 'ClientIP', sessionAffinityConfig: { clientIP: { timeoutSeconds: 10_800 } } },
  },
  { name: 'empty', host: 25, local: [], remote: [], type: 'NodePort', nodePort: 30_086 },
]

const frontPort = 80
const podPort = 8080
const protocols = ['TCP', 'UDP'] as const

function serviceObjects(plan: ServicePlan): object[] {
  const { name, host, type = 'ClusterIP', nodePort, spec = {} } = plan
  const clusterIPs = plans.map(({ clusterIP }) => clusterIP(host))
  const service = {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name, namespace: 'shop', creationTimestamp: '2026-01-01T00:00:00Z' },
    spec: {
      type,
      clusterIP: clusterIPs[0],
      clusterIPs,
      ipFamilies: plans.map(({ family }) => family),
      ipFamilyPolicy: 'RequireDualStack',
      ports: protocols.map((protocol, index) => ({
        name: protocol.toLowerCase(),
        protocol,
        port: frontPort,
        targetPort: podPort,
        ...(nodePort === undefined ? {} : { nodePort: nodePort + index }),
      })),
      ...spec,
    },
    ...(type === 'LoadBalancer'
      ? { status: { loadBalancer: { ingress: plans.map(({ vip }) => ({ ip: vip(host), ipMode: 'VIP' })) } } }
      : {}),
  }
  const slices = plans.map(({ family, local, remote }) => ({
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: {
      name: `${name}-${family.toLowerCase()}`,
      namespace: 'shop',
      labels: { 'kubernetes.io/service-name': name },
    },
    addressType: family,
    endpoints: [
      ...plan.local.map(pod => endpoint(local(pod), world.nodeName)),
      ...plan.remote.map(pod => endpoint(remote(pod), world.otherNodeName)),
    ],
    ports: protocols.map(protocol => ({ name: protocol.toLowerCase(), protocol, port: podPort })),
  }))
  return [service, ...slices]
}

const endpoint = (address: string, nodeName: string): object => ({
  addresses: [address],
  conditions: { ready: true },
  nodeName,
})

const nodeObject = {
  apiVersion: 'v1',
  kind: 'Node',
  metadata: { name: world.nodeName, labels: { 'kubernetes.io/hostname': world.nodeName } },
  status: { addresses: world.nodeIPs.map(address => ({ type: 'InternalIP', address })) },
}

/** The cluster as a manifest file's text. */
export const manifest = JSON.stringify({
  apiVersion: 'v1',
  kind: 'List',
  items: [nodeObject, ...services.flatMap(serviceObjects)],
})

/** Everything that can be an endpoint. */
export const listeners: readonly Listener[] = plans.flatMap(({ local, remote }) =>
  services.flatMap(service =>
    [...service.local.map(local), ...service.remote.map(remote)].flatMap(address =>
      protocols.map(protocol => ({ address, port: podPort, protocol })),
    ),
  ),
)

function servicePlan(name: string): ServicePlan {
  const found = services.find(service => service.name === name)
  if (found === undefined) throw new Error(`the cluster has no Service ${name}`)
  return found
}

/** The traffic of one family: what asks, which frontend, what must come of it. */
function* traffic(plan: Plan): Iterable<Target> {
  const { family, clusterIP, vip, local, remote, node, client, stranger } = plan
  const pod = local(101)
  const remotePod = remote(101)
  const format = (address: string): string => (family === 'IPv4' ? `${address}:${podPort}` : `[${address}]:${podPort}`)
  const target = (
    protocol: Target['protocol'],
    [from, src]: readonly [string, string],
    service: ServicePlan,
    frontend: 'ClusterIP' | 'VIP' | 'NodePort',
    more: Partial<Target> = {},
  ): Target => {
    const udp = protocol === 'UDP' ? 1 : 0
    return {
      name: `${family} ${protocol} from ${from} to ${frontend} of ${service.name}`,
      src,
      dst: frontend === 'NodePort' ? node : (frontend === 'VIP' ? vip : clusterIP)(service.host),
      port: frontend === 'NodePort' ? (service.nodePort ?? 0) + udp : frontPort,
      protocol,
      expect: 'answer',
      endpoints: [...service.local.map(local), ...service.remote.map(remote)].map(format),
      seesClient: false,
      sticky: false,
      ...more,
    }
  }
  const fromPod = ['a local pod', pod] as const
  const fromRemotePod = ['a remote pod', remotePod] as const
  const fromNode = ['the node', node] as const
  const fromOutside = ['outside', client] as const
  const fromStranger = ['a stranger', stranger] as const
  const [web, self, edge, guarded, sticky, empty] = ['web', 'self', 'edge', 'guarded', 'sticky', 'empty'].map(
    servicePlan,
  ) as [ServicePlan, ServicePlan, ServicePlan, ServicePlan, ServicePlan, ServicePlan]
  const onlyLocal = { endpoints: edge.local.map(local).map(format), seesClient: true }

  for (const protocol of protocols) {
    yield target(protocol, fromPod, web, 'ClusterIP', { seesClient: true })
    yield target(protocol, fromNode, web, 'ClusterIP')
    yield target(protocol, fromOutside, web, 'NodePort')
    yield target(protocol, ['itself', local(12)], self, 'ClusterIP')
    yield target(protocol, fromOutside, edge, 'VIP', onlyLocal)
    yield target(protocol, fromOutside, guarded, 'VIP')
    yield target(protocol, fromStranger, guarded, 'VIP', { expect: 'silence' })
    yield target(protocol, fromPod, empty, 'ClusterIP', { expect: 'refusal' })
  }
  yield target('TCP', fromRemotePod, web, 'ClusterIP', { seesClient: true })
  yield target('TCP', fromNode, web, 'NodePort')
  yield target('TCP', fromOutside, edge, 'NodePort', onlyLocal)
  yield target('TCP', fromPod, edge, 'VIP')
  yield target('TCP', fromPod, sticky, 'ClusterIP', { sticky: true })
  yield target('TCP', fromNode, empty, 'ClusterIP', { expect: 'refusal' })
  yield target('TCP', fromOutside, empty, 'NodePort', { expect: 'refusal' })
}

/** All traffic. Sources of it are in the conformance world. */
export const targets: readonly Target[] = plans.flatMap(plan => [...traffic(plan)])
