// Node and ServiceCIDR, as the API has them, to the records that are kept of them.
import type { NodeRecord, ServiceCIDRRecord } from '../model/records.ts'
import { type CIDR, type IP, parseCIDR } from '../net/ip.ts'
import {
  addressList,
  isObject,
  type JSONObject,
  listAt,
  objectAt,
  openSubject,
  type Report,
  type Subject,
  show,
  stringAt,
} from './fields.ts'

const zoneLabel = 'topology.kubernetes.io/zone'
/** Set by the cluster autoscaler before it removes a node: load balancers should turn away first (KEP-3836). */
const removalTaint = 'ToBeDeletedByClusterAutoscaler'

/**
 * Decodes a core/v1 Node.
 * @throws DecodeError when the object as a whole cannot be used.
 */
export function decodeNode(value: unknown, report: Report): NodeRecord {
  const subject = openSubject('Node', value, 'subdomain', report)
  const object: JSONObject = isObject(value) ? value : {}
  const spec = objectAt(object, 'spec')
  const listed = listAt(spec, 'podCIDRs')
  const single = stringAt(spec, 'podCIDR')
  const zone = stringAt(objectAt(subject.metadata, 'labels'), zoneLabel)
  const leaving = subject.metadata.deletionTimestamp !== undefined && subject.metadata.deletionTimestamp !== null
  const tainted = listAt(spec, 'taints').some(taint => isObject(taint) && taint.key === removalTaint)
  return {
    name: subject.meta.name,
    addresses: nodeAddresses(object, subject),
    podCIDRs: cidrList(listed.length > 0 || single === '' ? listed : [single], 'spec.podCIDRs', subject),
    ...(zone === '' ? {} : { zone }),
    eligible: !leaving && !tainted,
  }
}

/**
 * Decodes a networking.k8s.io/v1 ServiceCIDR.
 * @throws DecodeError when the object as a whole cannot be used.
 */
export function decodeServiceCIDR(value: unknown, report: Report): ServiceCIDRRecord {
  const subject = openSubject('ServiceCIDR', value, 'subdomain', report)
  const spec = objectAt(isObject(value) ? value : {}, 'spec')
  return { name: subject.meta.name, cidrs: cidrList(listAt(spec, 'cidrs'), 'spec.cidrs', subject) }
}

function nodeAddresses(object: JSONObject, subject: Subject): IP[] {
  const addresses = listAt(objectAt(object, 'status'), 'addresses').filter(isObject)
  const ofType = (type: string): IP[] =>
    addressList(
      addresses.filter(entry => entry.type === type).map(entry => entry.address),
      `status.addresses[type=${type}]`,
      subject,
    )
  return [...new Set([...ofType('InternalIP'), ...ofType('ExternalIP')])]
}

function cidrList(values: readonly unknown[], field: string, subject: Subject): CIDR[] {
  const found: CIDR[] = []
  for (const [index, value] of values.entries()) {
    const cidr = typeof value === 'string' ? parseCIDR(value.trim()) : undefined
    if (cidr === undefined) subject.report(`${field}[${index}]`, `${show(value)} is not a CIDR; it is left out`)
    else found.push(cidr)
  }
  return found
}
