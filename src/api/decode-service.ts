// Service, as the API has it, to the record that is kept of it.
import type { ServicePortRecord, ServiceRecord } from '../model/records.ts'
import { type CIDR, type Family, familyOf, type IP, parseCIDR, parseIP } from '../net/ip.ts'
import type { Protocol } from '../net/protocol.ts'
import {
  addressList,
  intern,
  isIntegerIn,
  isLabelName,
  isObject,
  isPort,
  type JSONObject,
  listAt,
  objectAt,
  openSubject,
  type Report,
  requireNamespace,
  type Subject,
  show,
  stringAt,
} from './fields.ts'

/** Its presence, whatever its value, hands a Service to another proxy. */
export const proxyNameLabel = 'service.kubernetes.io/service-proxy-name'

/** The IPVS scheduler of one Service, with its flags: `mh`, `sh,sh-port`. */
export const schedulerAnnotation = 'kube-penstock.io/ipvs-scheduler'

const defaultAffinitySeconds = 10_800
const maximumAffinitySeconds = 86_400

/**
 * Decodes a core/v1 Service by the rules of kube-proxy 1.36. Undefined when there is nothing in it for us: headless, ExternalName, no
 * cluster address yet, or handed to another proxy.
 * @throws DecodeError when the object as a whole cannot be used.
 */
export function decodeService(value: unknown, report: Report): ServiceRecord | undefined {
  const subject = openSubject('Service', value, 'label', report)
  requireNamespace(subject)
  const object: JSONObject = isObject(value) ? value : {}
  if (Object.hasOwn(objectAt(subject.metadata, 'labels'), proxyNameLabel)) return undefined
  const spec = objectAt(object, 'spec')
  const type = spec.type ?? 'ClusterIP'
  if (type === 'ExternalName') return undefined
  if (type !== 'ClusterIP' && type !== 'NodePort' && type !== 'LoadBalancer') {
    throw subject.refuse('spec.type', `${show(type)} is not a type of Service; the object is ignored`)
  }
  const clusterIPs = clusterIPsOf(spec, subject)
  if (clusterIPs === undefined) return undefined
  const externalTrafficPolicy = effectiveExternalPolicy(spec, type, subject)
  const affinitySeconds = affinityOf(spec, subject)
  const scheduler = stringAt(objectAt(subject.metadata, 'annotations'), schedulerAnnotation).trim()
  return {
    namespace: intern(subject.meta.namespace),
    name: intern(subject.meta.name),
    uid: stringAt(subject.metadata, 'uid'),
    createdAt: timeOf(subject.metadata.creationTimestamp),
    type,
    clusterIPs,
    ports: portsOf(spec, subject),
    externalIPs: addressList(listAt(spec, 'externalIPs'), 'spec.externalIPs', subject),
    loadBalancerIPs: ingressOf(object, subject),
    loadBalancerSourceRanges: sourceRangesOf(spec, subject),
    ...(affinitySeconds === undefined ? {} : { affinitySeconds }),
    ...(scheduler === '' ? {} : { scheduler: intern(scheduler) }),
    internalTrafficPolicy: policyOf(spec, 'internalTrafficPolicy', subject),
    externalTrafficPolicy,
    healthCheckNodePort:
      type === 'LoadBalancer' && externalTrafficPolicy === 'Local' ? healthCheckNodePortOf(spec, subject) : 0,
  }
}

/** Milliseconds since the epoch of an RFC 3339 time; 0 when there is none. */
function timeOf(value: unknown): number {
  const time = typeof value === 'string' ? Date.parse(value) : Number.NaN
  return Number.isNaN(time) ? 0 : time
}

/** Undefined: headless or without an address. With ipFamilies, addresses are taken by index, as kube-proxy does. */
function clusterIPsOf(spec: JSONObject, subject: Subject): IP[] | undefined {
  const listed = listAt(spec, 'clusterIPs')
  const first = stringAt(spec, 'clusterIP') || (typeof listed[0] === 'string' ? listed[0] : '')
  if (first === 'None') return undefined
  if (first === '') {
    subject.report('spec.clusterIP', 'is empty: nothing is programmed until the Service has a cluster address')
    return undefined
  }
  const families = listAt(spec, 'ipFamilies')
  const texts = listed.length > 0 ? listed : [first]
  const byFamily = new Map<Family, IP>()
  for (const [index, text] of texts.entries()) {
    const ip = typeof text === 'string' ? parseIP(text) : undefined
    const field = listed.length > 0 ? `spec.clusterIPs[${index}]` : 'spec.clusterIP'
    if (ip === undefined) subject.report(field, `${show(text)} is not an IP address; it is left out`)
    else if (families.length > 0 && families[index] !== familyOf(ip)) {
      subject.report(field, `${ip} is not of the family spec.ipFamilies[${index}] says; it is left out`)
    } else if (byFamily.has(familyOf(ip))) {
      subject.report(field, `${ip} is a second address of family ${familyOf(ip)}; it is left out`)
    } else byFamily.set(familyOf(ip), ip)
  }
  if (byFamily.size === 0) throw subject.refuse('spec.clusterIP', `${show(first)} gives no usable cluster address`)
  return [...byFamily.values()]
}

function portsOf(spec: JSONObject, subject: Subject): ServicePortRecord[] {
  const ports: ServicePortRecord[] = []
  for (const [index, value] of listAt(spec, 'ports').entries()) {
    const field = `spec.ports[${index}]`
    const port = portOf(value, field, subject)
    if (port === undefined) continue
    const twin = ports.find(
      other => other.protocol === port.protocol && (other.name === port.name || other.port === port.port),
    )
    if (twin === undefined) ports.push(port)
    else subject.report(field, `has the name or the number of another ${port.protocol} port; it is left out`)
  }
  return ports
}

function portOf(value: unknown, field: string, subject: Subject): ServicePortRecord | undefined {
  if (!isObject(value)) {
    subject.report(field, `must be an object, not ${show(value)}; it is left out`)
    return undefined
  }
  const name = value.name ?? ''
  if (typeof name !== 'string' || (name !== '' && !isLabelName(name))) {
    subject.report(`${field}.name`, `${show(name)} is not a DNS-1123 label; the port is left out`)
    return undefined
  }
  const protocol = protocolOf(value.protocol)
  if (protocol === undefined) {
    subject.report(`${field}.protocol`, `${show(value.protocol)} is not TCP, UDP or SCTP; the port is left out`)
    return undefined
  }
  if (!isPort(value.port)) {
    subject.report(`${field}.port`, `${show(value.port)} is not a port number; the port is left out`)
    return undefined
  }
  let nodePort = value.nodePort ?? 0
  if (!isIntegerIn(nodePort, 0, 65535)) {
    subject.report(`${field}.nodePort`, `${show(nodePort)} is not a port number; the port has no NodePort`)
    nodePort = 0
  }
  return { name: intern(name), protocol, port: value.port, nodePort: typeof nodePort === 'number' ? nodePort : 0 }
}

/** A protocol as the API writes it; TCP when it is left out; undefined for anything else. */
export function protocolOf(value: unknown): Protocol | undefined {
  if (value === undefined || value === null || value === 'TCP') return 'TCP'
  return value === 'UDP' || value === 'SCTP' ? value : undefined
}

/** `ipMode: Proxy` and hostname-only entries are for the load balancer itself (KEP-1860). The type is not looked at. */
function ingressOf(object: JSONObject, subject: Subject): IP[] {
  const ingress = listAt(objectAt(objectAt(object, 'status'), 'loadBalancer'), 'ingress')
  const found: IP[] = []
  for (const [index, entry] of ingress.entries()) {
    if (!isObject(entry)) continue
    if (entry.ipMode !== undefined && entry.ipMode !== null && entry.ipMode !== 'VIP') continue
    const text = entry.ip ?? ''
    if (text === '') continue
    const ip = typeof text === 'string' ? parseIP(text) : undefined
    const field = `status.loadBalancer.ingress[${index}].ip`
    if (ip === undefined) subject.report(field, `${show(text)} is not an IP address; it is left out`)
    else if (!found.includes(ip)) found.push(ip)
  }
  return found
}

function sourceRangesOf(spec: JSONObject, subject: Subject): CIDR[] {
  const found: CIDR[] = []
  for (const [index, value] of listAt(spec, 'loadBalancerSourceRanges').entries()) {
    const cidr = typeof value === 'string' ? parseCIDR(value.trim()) : undefined
    const field = `spec.loadBalancerSourceRanges[${index}]`
    if (cidr === undefined) subject.report(field, `${show(value)} is not a CIDR; it is left out`)
    else found.push(cidr)
  }
  if (found.length === 0 && listAt(spec, 'loadBalancerSourceRanges').length > 0) {
    subject.report('spec.loadBalancerSourceRanges', 'holds no usable CIDR: the load balancer is open to every source')
  }
  return found
}

function affinityOf(spec: JSONObject, subject: Subject): number | undefined {
  if (spec.sessionAffinity !== 'ClientIP') return undefined
  const configured = objectAt(objectAt(spec, 'sessionAffinityConfig'), 'clientIP').timeoutSeconds
  if (isIntegerIn(configured, 1, maximumAffinitySeconds)) return configured
  if (configured !== undefined && configured !== null) {
    const rule = `is not between 1 and ${maximumAffinitySeconds} seconds; ${defaultAffinitySeconds} is used`
    subject.report('spec.sessionAffinityConfig.clientIP.timeoutSeconds', `${show(configured)} ${rule}`)
  }
  return defaultAffinitySeconds
}

function policyOf(
  spec: JSONObject,
  field: 'internalTrafficPolicy' | 'externalTrafficPolicy',
  subject: Subject,
): 'Cluster' | 'Local' {
  const value = spec[field]
  if (value === 'Local') return 'Local'
  if (value !== undefined && value !== null && value !== '' && value !== 'Cluster') {
    subject.report(`spec.${field}`, `${show(value)} is neither Cluster nor Local; Cluster is used`)
  }
  return 'Cluster'
}

/** Local counts only where the Service can be reached from outside: by its type, or by externalIPs. */
function effectiveExternalPolicy(spec: JSONObject, type: ServiceRecord['type'], subject: Subject): 'Cluster' | 'Local' {
  const policy = policyOf(spec, 'externalTrafficPolicy', subject)
  return type === 'ClusterIP' && listAt(spec, 'externalIPs').length === 0 ? 'Cluster' : policy
}

function healthCheckNodePortOf(spec: JSONObject, subject: Subject): number {
  const value = spec.healthCheckNodePort
  if (isPort(value)) return value
  subject.report(
    'spec.healthCheckNodePort',
    `${show(value)} is not a port number; the load balancer gets no health check`,
  )
  return 0
}
