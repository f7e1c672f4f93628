// EndpointSlice, as the API has it, to the record that is kept of it.
import type { EndpointPortRecord, EndpointRecord, EndpointSliceRecord } from '../model/records.ts'
import { type Family, familyOf, parseIP } from '../net/ip.ts'
import { protocolOf } from './decode-service.ts'
import {
  intern,
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

/** On the slices of headless Services (since Kubernetes 1.22). */
export const headlessLabel = 'service.kubernetes.io/headless'
const serviceNameLabel = 'kubernetes.io/service-name'
const triggerAnnotation = 'endpoints.kubernetes.io/last-change-trigger-time'

/**
 * Decodes a discovery.k8s.io/v1 EndpointSlice by the rules of kube-proxy 1.36. Undefined when there is nothing in it for us: addresses
 * are names, the Service is headless, or no Service is named.
 * @throws DecodeError when the object as a whole cannot be used.
 */
export function decodeEndpointSlice(value: unknown, report: Report): EndpointSliceRecord | undefined {
  const subject = openSubject('EndpointSlice', value, 'subdomain', report)
  requireNamespace(subject)
  const object: JSONObject = isObject(value) ? value : {}
  const labels = objectAt(subject.metadata, 'labels')
  if (Object.hasOwn(labels, headlessLabel) || object.addressType === 'FQDN') return undefined
  const service = stringAt(labels, serviceNameLabel)
  if (service === '') {
    subject.report(`metadata.labels["${serviceNameLabel}"]`, 'is missing or empty: the slice belongs to no Service')
    return undefined
  }
  if (!isLabelName(service)) {
    throw subject.refuse(`metadata.labels["${serviceNameLabel}"]`, `${show(service)} is not the name of a Service`)
  }
  const family = object.addressType
  if (family !== 'IPv4' && family !== 'IPv6') {
    throw subject.refuse('addressType', `${show(family)} is not IPv4, IPv6 or FQDN; the object is ignored`)
  }
  const triggeredAt = Date.parse(stringAt(objectAt(subject.metadata, 'annotations'), triggerAnnotation))
  return {
    namespace: intern(subject.meta.namespace),
    name: subject.meta.name,
    service: intern(service),
    family,
    ports: portsOf(object, subject),
    endpoints: endpointsOf(object, family, subject),
    ...(Number.isNaN(triggeredAt) ? {} : { triggeredAt }),
  }
}

function portsOf(object: JSONObject, subject: Subject): EndpointPortRecord[] {
  const ports: EndpointPortRecord[] = []
  for (const [index, value] of listAt(object, 'ports').entries()) {
    const field = `ports[${index}]`
    const { name, port, protocol: protocolValue } = isObject(value) ? value : ({} as JSONObject)
    const protocol = protocolOf(protocolValue)
    // The API says that no port number means all ports; kube-proxy never did that, and neither do we.
    if (typeof name !== 'string' || (name !== '' && !isLabelName(name))) {
      subject.report(`${field}.name`, `${show(name)} is not the name of a port; the port is left out`)
    } else if (!isPort(port)) {
      subject.report(`${field}.port`, `${show(port)} is not a port number; the port is left out`)
    } else if (protocol === undefined) {
      subject.report(`${field}.protocol`, `${show(protocolValue)} is not TCP, UDP or SCTP; the port is left out`)
    } else ports.push({ name: intern(name), protocol, port })
  }
  return ports
}

function endpointsOf(object: JSONObject, family: Family, subject: Subject): EndpointRecord[] {
  const endpoints: EndpointRecord[] = []
  for (const [index, value] of listAt(object, 'endpoints').entries()) {
    const endpoint = endpointOf(isObject(value) ? value : {}, family, `endpoints[${index}]`, subject)
    if (endpoint !== undefined) endpoints.push(endpoint)
  }
  return endpoints
}

/** Only the first address counts: the API calls the others fungible, and kube-proxy never used them. */
function endpointOf(value: JSONObject, family: Family, field: string, subject: Subject): EndpointRecord | undefined {
  const text = listAt(value, 'addresses')[0]
  const address = typeof text === 'string' ? parseIP(text) : undefined
  if (address === undefined || familyOf(address) !== family) {
    subject.report(`${field}.addresses[0]`, `${show(text)} is not an ${family} address; the endpoint is left out`)
    return undefined
  }
  const conditions = objectAt(value, 'conditions')
  const hints = objectAt(value, 'hints')
  const nodeName = stringAt(value, 'nodeName')
  const zoneHints = hintNames(hints, 'forZones')
  const nodeHints = hintNames(hints, 'forNodes')
  return {
    address,
    ready: flag(conditions.ready, true),
    serving: flag(conditions.serving, true),
    terminating: flag(conditions.terminating, false),
    ...(nodeName === '' ? {} : { nodeName: intern(nodeName) }),
    ...(zoneHints.length === 0 ? {} : { zoneHints }),
    ...(nodeHints.length === 0 ? {} : { nodeHints }),
  }
}

const flag = (value: unknown, otherwise: boolean): boolean => (typeof value === 'boolean' ? value : otherwise)

function hintNames(hints: JSONObject, field: 'forZones' | 'forNodes'): string[] {
  const names: string[] = []
  for (const hint of listAt(hints, field)) {
    const name = isObject(hint) ? stringAt(hint, 'name') : ''
    if (name !== '') names.push(intern(name))
  }
  return names
}
