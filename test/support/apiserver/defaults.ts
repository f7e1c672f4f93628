// What the API server fills into objects on write. Source: pkg/apis/core/v1/defaults.go and
// pkg/registry/core/service (storage and REST allocator) of Kubernetes 1.36.
import { type Family, familyOf, parseIP } from '../../../src/net/ip.ts'
import type { Allocator } from './allocator.ts'
import { arrayAt, ensureObject, isObject, type JsonObject, objectAt, textAt, valueAt } from './json.ts'

/** Fills in the defaults of an object in place. `old` is the stored object on an update. */
export function applyDefaults(
  kind: string,
  object: JsonObject,
  old: JsonObject | undefined,
  allocator: Allocator,
): void {
  if (kind === 'Service') defaultService(object, old, allocator)
  else if (kind === 'EndpointSlice') defaultEndpointSlice(object)
  else if (kind === 'Namespace') {
    setDefault(ensureObject(object, 'spec'), 'finalizers', ['kubernetes'])
    setDefault(ensureObject(object, 'status'), 'phase', 'Active')
  }
}

function setDefault(object: JsonObject, field: string, value: unknown): void {
  if (object[field] === undefined || object[field] === null || object[field] === '') object[field] = value
}

function defaultEndpointSlice(slice: JsonObject): void {
  for (const port of arrayAt(slice, 'ports')) {
    if (!isObject(port)) continue
    if (typeof port.name !== 'string') port.name = ''
    setDefault(port, 'protocol', 'TCP')
  }
  if (slice.endpoints === undefined) slice.endpoints = null
  if (slice.ports === undefined) slice.ports = null
}

function defaultService(service: JsonObject, old: JsonObject | undefined, allocator: Allocator): void {
  const spec = ensureObject(service, 'spec')
  const oldSpec = objectAt(old, 'spec')
  setDefault(spec, 'type', 'ClusterIP')
  for (const port of portsOf(spec)) {
    setDefault(port, 'protocol', 'TCP')
    setDefault(port, 'targetPort', port.port)
  }
  setDefault(spec, 'sessionAffinity', 'None')
  if (spec.sessionAffinity === 'ClientIP') {
    setDefault(ensureObject(ensureObject(spec, 'sessionAffinityConfig'), 'clientIP'), 'timeoutSeconds', 10_800)
  } else delete spec.sessionAffinityConfig
  if (spec.type === 'ExternalName') {
    for (const field of ['clusterIP', 'clusterIPs', 'ipFamilies', 'ipFamilyPolicy', 'internalTrafficPolicy'])
      delete spec[field]
  } else {
    setDefault(spec, 'internalTrafficPolicy', 'Cluster')
    defaultAddresses(spec, oldSpec, allocator)
  }
  defaultNodePorts(spec, oldSpec, allocator)
  ensureObject(ensureObject(service, 'status'), 'loadBalancer')
}

function defaultAddresses(spec: JsonObject, old: JsonObject | undefined, allocator: Allocator): void {
  // An update without addresses keeps those the Service has: clients send back what they first applied.
  if (textAt(spec, 'clusterIP') === '' && arrayAt(spec, 'clusterIPs').length === 0 && textAt(old, 'clusterIP') !== '') {
    spec.clusterIP = textAt(old, 'clusterIP')
    spec.clusterIPs = arrayAt(old, 'clusterIPs')
    setDefault(spec, 'ipFamilies', old?.ipFamilies)
    setDefault(spec, 'ipFamilyPolicy', old?.ipFamilyPolicy)
  }
  const given = textAt(spec, 'clusterIP') === '' ? [] : [textAt(spec, 'clusterIP')]
  const ips = arrayAt(spec, 'clusterIPs').length > 0 ? arrayAt(spec, 'clusterIPs').map(String) : given
  if (ips[0] === 'None') {
    spec.clusterIP = 'None'
    spec.clusterIPs = ['None']
    setDefault(spec, 'ipFamilyPolicy', 'SingleStack')
    setDefault(spec, 'ipFamilies', familiesFor(spec, [], allocator))
    return
  }
  setDefault(
    spec,
    'ipFamilyPolicy',
    ips.length > 1 || arrayAt(spec, 'ipFamilies').length > 1 ? 'RequireDualStack' : 'SingleStack',
  )
  const families = familiesFor(spec, ips, allocator)
  spec.ipFamilies = families
  spec.clusterIPs = families.map((family, index) => ips[index] ?? allocator.freeIP(family))
  spec.clusterIP = arrayAt(spec, 'clusterIPs')[0]
}

/** The families a Service is to have: those of its addresses, then those it names, then the cluster's as its policy asks. */
function familiesFor(spec: JsonObject, ips: readonly string[], allocator: Allocator): Family[] {
  const families: Family[] = []
  const add = (family: unknown): void => {
    if ((family === 'IPv4' || family === 'IPv6') && !families.includes(family)) families.push(family)
  }
  for (const text of ips) {
    const ip = parseIP(text)
    if (ip !== undefined) add(familyOf(ip))
  }
  for (const family of arrayAt(spec, 'ipFamilies')) add(family)
  if (families.length === 0) add(allocator.families[0] ?? 'IPv4')
  if (spec.ipFamilyPolicy === 'SingleStack') return families.slice(0, 1)
  for (const family of allocator.families) add(family)
  return families
}

function defaultNodePorts(spec: JsonObject, old: JsonObject | undefined, allocator: Allocator): void {
  const { type } = spec
  if (type === 'LoadBalancer') setDefault(spec, 'allocateLoadBalancerNodePorts', true)
  else delete spec.allocateLoadBalancerNodePorts
  const exposed = type === 'NodePort' || type === 'LoadBalancer'
  if (exposed || (type === 'ClusterIP' && arrayAt(spec, 'externalIPs').length > 0)) {
    setDefault(spec, 'externalTrafficPolicy', 'Cluster')
  } else delete spec.externalTrafficPolicy
  if (!exposed) for (const port of portsOf(spec)) delete port.nodePort
  if (type === 'NodePort' || (type === 'LoadBalancer' && spec.allocateLoadBalancerNodePorts === true)) {
    allocateNodePorts(spec, old, allocator)
  }
  if (type === 'LoadBalancer' && spec.externalTrafficPolicy === 'Local') {
    const kept = valueAt(old, 'healthCheckNodePort')
    if (typeof spec.healthCheckNodePort !== 'number' || spec.healthCheckNodePort === 0) {
      spec.healthCheckNodePort =
        typeof kept === 'number' && kept !== 0 ? kept : allocator.freeNodePort(['TCP'], portsTaken(spec))
    }
  } else delete spec.healthCheckNodePort
}

function allocateNodePorts(spec: JsonObject, old: JsonObject | undefined, allocator: Allocator): void {
  for (const port of portsOf(spec)) {
    if (typeof port.nodePort === 'number' && port.nodePort !== 0) continue
    const before = portsOf(old).find(p => p.port === port.port && p.protocol === port.protocol)
    // One number serves the same port of several protocols, as the real allocator has it for DNS over TCP and UDP.
    const sibling = portsOf(spec).find(
      p => p !== port && p.port === port.port && p.protocol !== port.protocol && typeof p.nodePort === 'number',
    )
    const taken = portsTaken(spec)
    const kept = before?.nodePort ?? sibling?.nodePort
    port.nodePort =
      typeof kept === 'number' && kept !== 0 ? kept : allocator.freeNodePort([String(port.protocol)], taken)
  }
}

const portsTaken = (spec: JsonObject): Set<number> =>
  new Set(portsOf(spec).flatMap(port => (typeof port.nodePort === 'number' ? [port.nodePort] : [])))

const portsOf = (spec: JsonObject | undefined): JsonObject[] => arrayAt(spec, 'ports').filter(isObject)

/** The cluster IPs and node ports (`TCP/30000`) a Service holds. */
export function heldBy(service: JsonObject): { ips: string[]; nodePorts: string[] } {
  const spec = objectAt(service, 'spec')
  const ips = arrayAt(spec, 'clusterIPs').map(String)
  const nodePorts = portsOf(spec).flatMap(port =>
    typeof port.nodePort === 'number' && port.nodePort !== 0 ? [`${String(port.protocol)}/${port.nodePort}`] : [],
  )
  const health = valueAt(spec, 'healthCheckNodePort')
  if (typeof health === 'number' && health !== 0) nodePorts.push(`TCP/${health}`)
  return { ips: ips.filter(ip => ip !== 'None'), nodePorts }
}
