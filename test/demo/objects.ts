// The demo's cluster on paper: nodes, pods, clients, and the Kubernetes objects that describe them.

export const nodes = {
  'node-a': { address: '192.168.100.1', podCIDR: '10.244.1.0/24' },
  'node-b': { address: '192.168.100.2', podCIDR: '10.244.2.0/24' },
} as const
export type NodeName = keyof typeof nodes

export interface Pod {
  readonly name: string
  readonly node: NodeName
  readonly address: string
}

/** Pods that serve, in the order they are started. */
export const webPods: readonly Pod[] = [
  { name: 'web-1', node: 'node-a', address: '10.244.1.11' },
  { name: 'web-2', node: 'node-b', address: '10.244.2.12' },
  { name: 'web-3', node: 'node-a', address: '10.244.1.13' },
  { name: 'web-4', node: 'node-b', address: '10.244.2.14' },
  { name: 'web-5', node: 'node-b', address: '10.244.2.15' },
]

/** A pod that only asks. */
export const askingPod: Pod = { name: 'shell', node: 'node-a', address: '10.244.1.100' }

/** Who sends requests, and from which address. The last two are one machine outside the cluster with two addresses. */
export const senders = {
  pod: { called: 'pod shell', address: askingPod.address },
  'node-b': { called: 'node-b itself', address: nodes['node-b'].address },
  client: { called: 'the client outside', address: '198.51.100.10' },
  stranger: { called: 'another client outside', address: '198.51.100.20' },
} as const
export type Sender = keyof typeof senders

export const controlAddress = '192.168.100.10'
export const serviceCIDR = '10.96.0.0/16'
export const podPort = 8080
export const namespace = 'shop'

export interface ObjectReference {
  readonly kind: 'Service' | 'EndpointSlice' | 'Node'
  readonly name: string
}

/** An object as it is sent to the API server. */
export interface ApiObject extends Record<string, unknown> {
  readonly kind: ObjectReference['kind']
  readonly metadata: { readonly name: string } & Record<string, unknown>
}

/** A pod as an endpoint: `terminating` is what the API says of one that was asked to stop and still serves. */
export interface EndpointState {
  readonly pod: Pod
  readonly terminating?: boolean
}

export function nodeObject(name: NodeName): ApiObject {
  const { address, podCIDR } = nodes[name]
  return {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name, labels: { 'kubernetes.io/hostname': name } },
    spec: { podCIDR, podCIDRs: [podCIDR] },
    status: { addresses: [{ type: 'InternalIP', address }] },
  }
}

/** A Service `name` with one port, 80; `spec` is laid over the defaults. */
export function serviceObject(
  name: string,
  clusterIP: string,
  spec: Readonly<Record<string, unknown>> = {},
  loadBalancerIP?: string,
): ApiObject {
  const { nodePort, ...rest } = spec
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name, namespace },
    spec: {
      type: 'ClusterIP',
      clusterIP,
      clusterIPs: [clusterIP],
      ipFamilies: ['IPv4'],
      ipFamilyPolicy: 'SingleStack',
      ports: [
        {
          name: 'http',
          protocol: 'TCP',
          port: 80,
          targetPort: podPort,
          ...(nodePort === undefined ? {} : { nodePort }),
        },
      ],
      ...rest,
    },
    ...(loadBalancerIP === undefined
      ? {}
      : { status: { loadBalancer: { ingress: [{ ip: loadBalancerIP, ipMode: 'VIP' }] } } }),
  }
}

/** The EndpointSlice of a Service. */
export function sliceObject(service: string, endpoints: readonly EndpointState[]): ApiObject {
  return {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: { name: `${service}-1`, namespace, labels: { 'kubernetes.io/service-name': service } },
    addressType: 'IPv4',
    ports: [{ name: 'http', protocol: 'TCP', port: podPort }],
    endpoints: endpoints.map(({ pod, terminating = false }) => ({
      addresses: [pod.address],
      nodeName: pod.node,
      conditions: { ready: !terminating, serving: true, terminating },
      targetRef: { kind: 'Pod', name: pod.name, namespace },
    })),
  }
}
