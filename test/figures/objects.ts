// The cluster that is measured: so many Services of so many endpoints each, every address one that answers here.

/** Pods and cluster addresses; both are local to the namespace, so that connects end in it. */
export const podCIDR = '10.244.0.0/16'
export const serviceCIDR = '10.96.0.0/16'
export const nodeName = 'node-a'
export const nodeAddress = '192.168.100.1'
/** A pod of this node that only asks. */
export const client = '10.244.255.254'
export const servicePort = 80
/** Both have a listener. A change moves a Service from one to the other. */
export const ports = { before: 8080, after: 9090 } as const

/** As many Services as their address range holds here. */
export const mostServices = 60_000

export interface ApiObject {
  readonly apiVersion: string
  readonly kind: string
  readonly metadata: { readonly name: string }
}

const dotted = (high: string, low: number): string => `${high}.${low >> 8}.${low & 255}`

const padded = (index: number): string => String(index).padStart(5, '0')

/** Cluster address of the Service of that number. Behind the middle one an address is left free. */
export function clusterIP(index: number, services: number): string {
  return dotted('10.96', index + 10 + (index > services >> 1 ? 1 : 0))
}

/** An address among those of the Services that none of them has. */
export const freeIP = (services: number): string => dotted('10.96', (services >> 1) + 11)

/** The cluster's objects, Services and their slices. */
export function cluster(services: number, endpoints: number): ApiObject[] {
  const objects: ApiObject[] = [node]
  for (let index = 0; index < services; index++) {
    objects.push(service(index, services), slice(index, endpoints, ports.before))
  }
  return objects
}

const node: ApiObject & { readonly spec: object; readonly status: object } = {
  apiVersion: 'v1',
  kind: 'Node',
  metadata: { name: nodeName },
  spec: { podCIDR, podCIDRs: [podCIDR] },
  status: { addresses: [{ type: 'InternalIP', address: nodeAddress }] },
}

function service(index: number, services: number): ApiObject {
  const address = clusterIP(index, services)
  const spec = {
    type: 'ClusterIP',
    clusterIP: address,
    clusterIPs: [address],
    ipFamilies: ['IPv4'],
    selector: { app: `app-${padded(index)}` },
    ports: [{ name: 'http', protocol: 'TCP', port: servicePort, targetPort: ports.before }],
  }
  const metadata = { name: `app-${padded(index)}`, namespace: 'figures' }
  return Object.assign({ apiVersion: 'v1', kind: 'Service', metadata }, { spec })
}

/** The slice of a Service, with its endpoints at this port. Every endpoint has a pod address of its own. */
export function slice(index: number, endpoints: number, port: number): ApiObject {
  const name = `app-${padded(index)}`
  const metadata = { name: `${name}-x7k2p`, namespace: 'figures', labels: { 'kubernetes.io/service-name': name } }
  return Object.assign(
    { apiVersion: 'discovery.k8s.io/v1', kind: 'EndpointSlice', metadata },
    {
      addressType: 'IPv4',
      ports: [{ name: 'http', protocol: 'TCP', port }],
      endpoints: Array.from({ length: endpoints }, (_, place) => ({
        addresses: [dotted('10.244', 256 + ((index * endpoints + place) % 64_000))],
        conditions: { ready: true, serving: true, terminating: false },
        nodeName: place === 0 ? nodeName : `node-${place}`,
        targetRef: { kind: 'Pod', namespace: 'figures', name: `${name}-${place}` },
      })),
    },
  )
}
