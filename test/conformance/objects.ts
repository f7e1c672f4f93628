// The API objects of scenarios: checked for misspelt fields, and the world's own Node.
import { formatCIDR } from '../../src/net/ip.ts'
import { type Fields, fieldsOf, list, mapping, oneOf, ScenarioError, text } from './check.ts'
import { world } from './world.ts'

export const objectKinds = ['Service', 'EndpointSlice', 'Node', 'ServiceCIDR'] as const
export type ObjectKind = (typeof objectKinds)[number]

/** An API object as it is in YAML or JSON. */
export interface ApiObject extends Fields {
  readonly apiVersion: string
  readonly kind: ObjectKind
  readonly metadata: Fields
}

/** Names one object: `namespace/name`, or `name` for kinds without a namespace. */
export interface ObjectRef {
  readonly kind: ObjectKind
  readonly key: string
}

const apiVersions: Record<ObjectKind, string> = {
  Service: 'v1',
  EndpointSlice: 'discovery.k8s.io/v1',
  Node: 'v1',
  ServiceCIDR: 'networking.k8s.io/v1',
}

const metadataFields = [
  'name',
  'namespace',
  'uid',
  'creationTimestamp',
  'labels',
  'annotations',
  'deletionTimestamp',
  'ownerReferences',
  'generateName',
  'resourceVersion',
  'generation',
  'finalizers',
  'managedFields',
]
const serviceSpecFields = [
  ...['type', 'clusterIP', 'clusterIPs', 'ipFamilies', 'ipFamilyPolicy', 'ports', 'selector', 'externalIPs'],
  ...['externalName', 'loadBalancerSourceRanges', 'loadBalancerIP', 'loadBalancerClass', 'sessionAffinity'],
  ...['sessionAffinityConfig', 'internalTrafficPolicy', 'externalTrafficPolicy', 'healthCheckNodePort'],
  ...['allocateLoadBalancerNodePorts', 'publishNotReadyAddresses', 'trafficDistribution'],
]
const endpointFields = [
  'addresses',
  'conditions',
  'hints',
  'hostname',
  'nodeName',
  'targetRef',
  'zone',
  'deprecatedTopology',
]

/** Checks an object's fields. Throws ScenarioError on one that Kubernetes does not have. */
export function objectOf(value: unknown, place: string): ApiObject {
  const fields = mapping(value, place)
  const kind = oneOf(fields.kind, `${place}.kind`, objectKinds)
  const apiVersion = oneOf(fields.apiVersion, `${place}.apiVersion`, [apiVersions[kind]])
  const metadata = fieldsOf(fields.metadata, `${place}.metadata`, metadataFields)
  text(metadata.name, `${place}.metadata.name`)
  if (isNamespaced(kind)) text(metadata.namespace, `${place}.metadata.namespace`)
  if (kind === 'Service') checkService(fields, place)
  if (kind === 'EndpointSlice') checkSlice(fields, place)
  return { ...fields, apiVersion, kind, metadata }
}

function checkService(fields: Fields, place: string): void {
  fieldsOf(fields, place, ['apiVersion', 'kind', 'metadata', 'spec', 'status'])
  const spec = fieldsOf(fields.spec, `${place}.spec`, serviceSpecFields)
  for (const [index, port] of list(spec.ports, `${place}.spec.ports`).entries())
    fieldsOf(port, `${place}.spec.ports[${index}]`, [
      'name',
      'protocol',
      'port',
      'targetPort',
      'nodePort',
      'appProtocol',
    ])
  if (fields.status === undefined) return
  const status = fieldsOf(fields.status, `${place}.status`, ['loadBalancer', 'conditions'])
  const balancer = fieldsOf(status.loadBalancer, `${place}.status.loadBalancer`, ['ingress'])
  for (const [index, ingress] of list(balancer.ingress, `${place}.status.loadBalancer.ingress`).entries())
    fieldsOf(ingress, `${place}.status.loadBalancer.ingress[${index}]`, ['ip', 'hostname', 'ipMode', 'ports'])
}

function checkSlice(fields: Fields, place: string): void {
  fieldsOf(fields, place, ['apiVersion', 'kind', 'metadata', 'addressType', 'endpoints', 'ports'])
  for (const [index, port] of list(fields.ports, `${place}.ports`).entries())
    fieldsOf(port, `${place}.ports[${index}]`, ['name', 'protocol', 'port', 'appProtocol'])
  for (const [index, endpoint] of list(fields.endpoints, `${place}.endpoints`).entries()) {
    const here = `${place}.endpoints[${index}]`
    const { conditions = {}, hints = {} } = fieldsOf(endpoint, here, endpointFields)
    fieldsOf(conditions, `${here}.conditions`, ['ready', 'serving', 'terminating'])
    fieldsOf(hints, `${here}.hints`, ['forZones', 'forNodes'])
  }
}

const isNamespaced = (kind: ObjectKind): boolean => kind === 'Service' || kind === 'EndpointSlice'

/** The name of an object. */
export function refOf(object: ApiObject): ObjectRef {
  const { name, namespace } = object.metadata
  return { kind: object.kind, key: isNamespaced(object.kind) ? `${namespace}/${name}` : `${name}` }
}

/** Parses `EndpointSlice/shop/web-1` or `Node/node-a`. */
export function parseRef(value: unknown, place: string): ObjectRef {
  const [kindText, ...rest] = text(value, place).split('/')
  const kind = oneOf(kindText, place, objectKinds)
  if (rest.length !== (isNamespaced(kind) ? 2 : 1) || rest.includes(''))
    throw new ScenarioError(place, isNamespaced(kind) ? 'must be Kind/namespace/name' : 'must be Kind/name')
  return { kind, key: rest.join('/') }
}

/** The Node object of the node under test; no zone label when the zone is undefined. */
export function worldNode(zone: string | undefined): ApiObject {
  const podCIDRs = world.podCIDRs.map(formatCIDR)
  return {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: {
      name: world.nodeName,
      labels: {
        'kubernetes.io/hostname': world.nodeName,
        ...(zone === undefined ? {} : { 'topology.kubernetes.io/zone': zone }),
      },
    },
    spec: { podCIDR: podCIDRs[0], podCIDRs },
    status: { addresses: world.nodeIPs.map(address => ({ type: 'InternalIP', address })) },
  }
}
