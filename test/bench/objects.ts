// The cluster that is measured: so many Services of so many endpoints each, and two Services for single measurements. Every
// address is one that answers here.

/** Pods and cluster addresses; both are local to the namespace, so that connects end in it. */
export const podCIDR = '10.244.0.0/14'
export const serviceCIDR = '10.96.0.0/16'
export const nodeName = 'node-a'
export const nodeAddress = '192.168.100.1'
/** A pod of this node that only asks. */
export const client = '10.244.0.9'
export const servicePort = 80
/** The first two have the probe's listener: a change moves a Service from one to the other. The third takes streams. */
export const ports = { before: 8080, after: 9090, sink: 7070 } as const

/** As many Services as their address range holds here. */
export const mostServices = 60_000
/** As many endpoints as one Service may have here: six times as many pod addresses are set apart for it. */
export const mostEndpoints = 10_000
/** Endpoints in one EndpointSlice at most, the default of the controller's --max-endpoints-per-slice. */
export const sliceSize = 100

/** The Service whose endpoints are replaced in steps. */
export const rollingIP = '10.96.255.10'
/** The Service that takes streams. */
export const sinkIP = '10.96.255.11'

export interface ApiObject {
  readonly apiVersion: string
  readonly kind: string
  readonly metadata: { readonly name: string }
}

const namespace = 'bench'
/** The last part of the pod range is for the Service whose endpoints are replaced. */
const rollingBase = 3 * 65_536

const dotted = (low: number): string => `10.96.${low >> 8}.${low & 255}`

/** Number n of the pod range. */
const podIP = (n: number): string => `10.${244 + (n >> 16)}.${(n >> 8) & 255}.${n & 255}`

const padded = (index: number): string => String(index).padStart(5, '0')

/** Cluster address of the Service of that number. Behind the middle one an address is left free. */
export const clusterIP = (index: number, services: number): string =>
  dotted(index + 10 + (index > services >> 1 ? 1 : 0))

/** An address among those of the Services that none of them has. */
export const freeIP = (services: number): string => dotted((services >> 1) + 11)

/** The cluster's objects, Services and their slices. */
export function cluster(services: number, endpoints: number): ApiObject[] {
  const objects: ApiObject[] = [node]
  for (let index = 0; index < services; index++) {
    objects.push(
      service(`app-${padded(index)}`, clusterIP(index, services), ports.before),
      ...slices(index, endpoints, ports.before),
    )
  }
  return objects
}

/** This node, as the API knows it. */
export const node: ApiObject & { readonly spec: object; readonly status: object } = {
  apiVersion: 'v1',
  kind: 'Node',
  metadata: { name: nodeName },
  spec: { podCIDR, podCIDRs: [podCIDR] },
  status: { addresses: [{ type: 'InternalIP', address: nodeAddress }] },
}

function service(name: string, address: string, targetPort: number): ApiObject {
  const spec = {
    type: 'ClusterIP',
    clusterIP: address,
    clusterIPs: [address],
    ipFamilies: ['IPv4'],
    selector: { app: name },
    ports: [{ name: 'http', protocol: 'TCP', port: servicePort, targetPort }],
  }
  return Object.assign({ apiVersion: 'v1', kind: 'Service', metadata: { name, namespace } }, { spec })
}

function slice(owner: string, part: number, addresses: readonly string[], port: number): ApiObject {
  const metadata = { name: `${owner}-${part}`, namespace, labels: { 'kubernetes.io/service-name': owner } }
  return Object.assign(
    { apiVersion: 'discovery.k8s.io/v1', kind: 'EndpointSlice', metadata },
    {
      addressType: 'IPv4',
      ports: [{ name: 'http', protocol: 'TCP', port }],
      endpoints: addresses.map((address, place) => ({
        addresses: [address],
        conditions: { ready: true, serving: true, terminating: false },
        nodeName: place === 0 ? nodeName : `node-${place}`,
        targetRef: { kind: 'Pod', namespace, name: `${owner}-${part}-${place}` },
      })),
    },
  )
}

/** The slices of a Service, with its endpoints at this port. Up to 196,000 endpoints have pod addresses of their own. */
export function slices(index: number, endpoints: number, port: number): ApiObject[] {
  const first = index * endpoints
  const addresses = Array.from({ length: endpoints }, (_, place) => podIP(256 + ((first + place) % 196_000)))
  return parts(endpoints).map(part =>
    slice(`app-${padded(index)}`, part, addresses.slice(part * sliceSize, (part + 1) * sliceSize), port),
  )
}

const parts = (endpoints: number): number[] =>
  Array.from({ length: Math.ceil(endpoints / sliceSize) }, (_, part) => part)

/** The Service whose endpoints are replaced in steps. */
export const rollingService = (): ApiObject => service('rolling', rollingIP, ports.before)

/** One pod of it: the endpoint at a place, of a generation. */
export const rollingAddress = (endpoints: number, place: number, generation: number): string =>
  podIP(rollingBase + generation * endpoints + place)

/** The reverse of `rollingAddress`; undefined for an address that is no endpoint of that Service. */
export function rollingEndpoint(
  address: string,
  endpoints: number,
): { readonly place: number; readonly generation: number } | undefined {
  const [, second = 0, third = 0, fourth = 0] = address.split('.').map(Number)
  const n = (second - 244) * 65_536 + third * 256 + fourth - rollingBase
  return n < 0 ? undefined : { place: n % endpoints, generation: Math.floor(n / endpoints) }
}

/** One of its slices; `generations` has the generation at each place of the whole Service. */
export function rollingSlice(generations: readonly number[], part: number): ApiObject {
  const addresses = generations
    .map((generation, place) => rollingAddress(generations.length, place, generation))
    .slice(part * sliceSize, (part + 1) * sliceSize)
  return slice('rolling', part, addresses, ports.before)
}

/** The parts (slice numbers) that places `from` up to, not including, `to` are in. */
export const partsOf = (from: number, to: number): number[] => parts(to).filter(part => (part + 1) * sliceSize > from)

/** The Service that takes streams, and its slice. */
export const sink = (): ApiObject[] => [
  service('sink', sinkIP, ports.sink),
  slice('sink', 0, [rollingAddress(1, 0, 65_000)], ports.sink),
]
/** Its endpoint, to reach it without the Service. */
export const sinkEndpoint = rollingAddress(1, 0, 65_000)
