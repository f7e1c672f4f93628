// The refusals clients meet in practice; everything else is taken as it comes.
import { parseCIDR, parseIP } from '../../../src/net/ip.ts'
import type { Allocator } from './allocator.ts'
import { keyOf } from './codec.ts'
import { heldBy } from './defaults.ts'
import { arrayAt, isObject, type JsonObject, textAt, valueAt } from './json.ts'
import type { Resource } from './resources.ts'
import { invalid } from './status.ts'

const subdomain = /^[a-z0-9](?:[-a-z0-9.]*[a-z0-9])?$/

/** Checks an object that came over HTTP, after defaulting. Throws a 422 ApiError that names the field. */
export function validate(
  resource: Resource,
  object: JsonObject,
  old: JsonObject | undefined,
  allocator: Allocator,
): void {
  const name = textAt(object, 'metadata', 'name')
  const refuse = (field: string, message: string): never => {
    throw invalid(resource, name, field, message)
  }
  if (name.length > 253 || !subdomain.test(name)) {
    refuse(
      'metadata.name',
      `Invalid value: "${name}": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.'`,
    )
  }
  if (resource.kind === 'Service') validateService(object, old, allocator, refuse)
  if (resource.kind === 'EndpointSlice') {
    const type = textAt(object, 'addressType')
    if (!['IPv4', 'IPv6', 'FQDN'].includes(type)) refuse('addressType', `Unsupported value: "${type}"`)
    if (old !== undefined && textAt(old, 'addressType') !== type) refuse('addressType', 'field is immutable')
  }
  if (resource.kind === 'ServiceCIDR') {
    for (const cidr of arrayAt(object, 'spec', 'cidrs')) {
      if (parseCIDR(String(cidr)) === undefined) refuse('spec.cidrs', `Invalid value: "${String(cidr)}"`)
    }
  }
}

type Refuse = (field: string, message: string) => never

function validateService(service: JsonObject, old: JsonObject | undefined, allocator: Allocator, refuse: Refuse): void {
  const type = textAt(service, 'spec', 'type')
  if (!['ClusterIP', 'NodePort', 'LoadBalancer', 'ExternalName'].includes(type)) {
    refuse('spec.type', `Unsupported value: "${type}"`)
  }
  const ports = arrayAt(service, 'spec', 'ports').filter(isObject)
  if (ports.length === 0 && type !== 'ExternalName' && textAt(service, 'spec', 'clusterIP') !== 'None') {
    refuse('spec.ports', 'Required value')
  }
  for (const [index, port] of ports.entries()) {
    if (!isPort(port.port))
      refuse(
        `spec.ports[${index}].port`,
        `Invalid value: ${JSON.stringify(port.port)}: must be between 1 and 65535, inclusive`,
      )
    if (!['TCP', 'UDP', 'SCTP'].includes(String(port.protocol))) {
      refuse(`spec.ports[${index}].protocol`, `Unsupported value: ${JSON.stringify(port.protocol)}`)
    }
    if (ports.length > 1 && typeof port.name !== 'string') refuse(`spec.ports[${index}].name`, 'Required value')
  }
  validateHeld(service, old, allocator, refuse)
}

function validateHeld(service: JsonObject, old: JsonObject | undefined, allocator: Allocator, refuse: Refuse): void {
  const self = keyOf(textAt(service, 'metadata', 'namespace'), textAt(service, 'metadata', 'name'))
  const before = textAt(old, 'spec', 'clusterIP')
  const after = textAt(service, 'spec', 'clusterIP')
  if (before !== '' && after !== '' && before !== after)
    refuse('spec.clusterIPs[0]', `Invalid value: ["${after}"]: may not change once set`)
  const { ips, nodePorts } = heldBy(service)
  for (const ip of ips) {
    if (parseIP(ip) === undefined) refuse('spec.clusterIPs', `Invalid value: "${ip}": must be a valid IP address`)
    if ((allocator.ownerOfIP(ip) ?? self) !== self) {
      refuse(
        'spec.clusterIPs',
        `Invalid value: ["${ip}"]: failed to allocate IP ${ip}: provided IP is already allocated`,
      )
    }
  }
  for (const port of nodePorts) {
    if ((allocator.ownerOfNodePort(port) ?? self) !== self) {
      refuse('spec.ports[0].nodePort', `Invalid value: ${port.split('/')[1]}: provided port is already allocated`)
    }
  }
}

const isPort = (port: unknown): boolean =>
  typeof port === 'number' && Number.isInteger(port) && port > 0 && port < 65_536

/** True if the object is waiting for its finalizers and has none left. */
export const isFinalized = (object: JsonObject): boolean =>
  textAt(object, 'metadata', 'deletionTimestamp') !== '' && arrayAt(object, 'metadata', 'finalizers').length === 0

/** The uid and resourceVersion a delete insists on. */
export const preconditionsOf = (options: JsonObject): { uid?: string; resourceVersion?: string } => {
  const uid = valueAt(options, 'preconditions', 'uid')
  const resourceVersion = valueAt(options, 'preconditions', 'resourceVersion')
  return {
    ...(typeof uid === 'string' ? { uid } : {}),
    ...(typeof resourceVersion === 'string' ? { resourceVersion } : {}),
  }
}
