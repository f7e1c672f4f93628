// Reading fields of unknown JSON: what every decoder shares. A field that is not as it should be is a value, never a crash.
import { type IP, parseIP } from '../net/ip.ts'

export type JSONObject = { readonly [field: string]: unknown }

/** Something in an object that could not be used. The rest of the object is in use unless the whole was refused. */
export interface Problem {
  /** `Service shop/web`. */
  readonly object: string
  /** Path of the field, `spec.ports[1].port`. */
  readonly field: string
  /** What is wrong and what was done about it. */
  readonly message: string
}

export type Report = (problem: Problem) => void

/** An object that cannot be used at all: its record from before, if there is one, stays in force. */
export class DecodeError extends Error {
  override readonly name = 'DecodeError'
  readonly problem: Problem

  constructor(problem: Problem) {
    super(`${problem.object}: ${problem.field}: ${problem.message}`)
    this.problem = problem
  }
}

/** True for a JSON object: not null, not an array. */
export const isObject = (value: unknown): value is JSONObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

const empty: JSONObject = {}

/** The object at a field; an empty one when the field is missing or is something else. */
export function objectAt(parent: JSONObject, field: string): JSONObject {
  const value = parent[field]
  return isObject(value) ? value : empty
}

/** The list at a field; an empty one when the field is missing or is something else. */
export function listAt(parent: JSONObject, field: string): readonly unknown[] {
  const value = parent[field]
  return Array.isArray(value) ? value : []
}

/** The string at a field; empty when the field is missing or is something else. */
export function stringAt(parent: JSONObject, field: string): string {
  const value = parent[field]
  return typeof value === 'string' ? value : ''
}

/** True for a whole number between two bounds, both included. */
export const isIntegerIn = (value: unknown, low: number, high: number): value is number =>
  typeof value === 'number' && Number.isInteger(value) && value >= low && value <= high

/** True for a port number, 1 to 65535. */
export const isPort = (value: unknown): value is number => isIntegerIn(value, 1, 65535)

/** A value as it is shown in a message: JSON, cut where it grows long. */
export function show(value: unknown): string {
  const text = JSON.stringify(value) ?? 'nothing'
  return text.length > 80 ? `${text.slice(0, 77)}...` : text
}

const dns1123Label = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/
const dns1123Subdomain = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/

/** RFC 1123 label as Kubernetes reads it: names of namespaces, Services and their ports. */
export const isLabelName = (name: string): boolean => dns1123Label.test(name)

/** RFC 1123 subdomain as Kubernetes reads it: names of Nodes, EndpointSlices, ServiceCIDRs. */
export const isSubdomainName = (name: string): boolean => name.length <= 253 && dns1123Subdomain.test(name)

const interned = new Map<string, string>()
const internedLimit = 65_536

/** One copy of each name that repeats (nodes, zones, Services): 10,000 slices hold 27 MB this way instead of 73 MB. */
export function intern(text: string): string {
  const known = interned.get(text)
  if (known !== undefined) return known
  // Names of objects long gone would pile up; starting over costs no more than some duplicates.
  if (interned.size >= internedLimit) interned.clear()
  interned.set(text, text)
  return text
}

/** Identity of an object, read before anything else in it. */
export interface Meta {
  /** Empty when the object is not namespaced. */
  readonly namespace: string
  readonly name: string
  readonly resourceVersion: string
  /** `namespace/name`, or `name`. */
  readonly key: string
}

/** Reads namespace, name and resourceVersion; undefined when the value is no object or has no name. */
export function metaOf(value: unknown): Meta | undefined {
  if (!isObject(value)) return undefined
  const metadata = objectAt(value, 'metadata')
  const name = stringAt(metadata, 'name')
  if (name === '') return undefined
  const namespace = stringAt(metadata, 'namespace')
  const key = namespace === '' ? name : `${namespace}/${name}`
  return { namespace, name, resourceVersion: stringAt(metadata, 'resourceVersion'), key }
}

/** What a decoder needs at hand: the object's identity and where its problems go. */
export interface Subject {
  readonly meta: Meta
  readonly metadata: JSONObject
  readonly title: string
  readonly report: (field: string, message: string) => void
  readonly refuse: (field: string, message: string) => DecodeError
}

/**
 * Opens an object for decoding and checks its names: they end up in comments of kernel rules, so nothing but what the
 * API server itself admits may pass.
 * @throws DecodeError when a name is missing or not well formed.
 */
export function openSubject(kind: string, value: unknown, nameIs: 'label' | 'subdomain', report: Report): Subject {
  const meta = metaOf(value)
  const title = meta === undefined ? kind : `${kind} ${meta.key}`
  const refuse = (field: string, message: string): DecodeError => new DecodeError({ object: title, field, message })
  if (!isObject(value)) throw refuse('.', `must be an object, not ${show(value)}`)
  if (meta === undefined) throw refuse('metadata.name', 'must be a string that is not empty')
  if (!(nameIs === 'label' ? isLabelName(meta.name) : isSubdomainName(meta.name))) {
    throw refuse('metadata.name', `${show(meta.name)} is not a DNS-1123 ${nameIs}; the object is ignored`)
  }
  return {
    meta,
    metadata: objectAt(value, 'metadata'),
    title,
    report: (field, message) => report({ object: title, field, message }),
    refuse,
  }
}

/**
 * Checks the namespace of a namespaced object.
 * @throws DecodeError when it is missing or no DNS-1123 label.
 */
export function requireNamespace(subject: Subject): void {
  if (isLabelName(subject.meta.namespace)) return
  throw subject.refuse(
    'metadata.namespace',
    `${show(subject.meta.namespace)} is not a DNS-1123 label; the object is ignored`,
  )
}

/** Parses each address of a list; blank entries pass in silence, others that are no address are reported and left out. */
export function addressList(values: readonly unknown[], field: string, subject: Subject): IP[] {
  const found: IP[] = []
  for (const [index, value] of values.entries()) {
    if (value === '') continue
    const ip = typeof value === 'string' ? parseIP(value) : undefined
    if (ip === undefined) subject.report(`${field}[${index}]`, `${show(value)} is not an IP address; it is left out`)
    else if (!found.includes(ip)) found.push(ip)
  }
  return found
}
