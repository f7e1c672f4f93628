// How an object is kept: its JSON text without the revision, so that one serialisation serves lists, watches and deletions.
import { isDeepStrictEqual } from 'node:util'
import { eventFromCore } from './event-conversion.ts'
import { isObject, type JsonObject, objectAt, textAt } from './json.ts'
import { apiVersionOf, labelsOf, type Resource, selectableFields } from './resources.ts'

export interface Entry {
  /** `namespace/name`, or `name`. */
  readonly key: string
  readonly namespace: string
  readonly name: string
  readonly uid: string
  readonly resourceVersion: number
  readonly labels: Readonly<Record<string, string>>
  readonly fields: Readonly<Record<string, string>>
  /** All of the object's JSON that follows `"metadata":{"resourceVersion":"…"`. */
  readonly body: string
}

/** `namespace/name`, or the name alone where there is no namespace. */
export const keyOf = (namespace: string, name: string): string => (namespace === '' ? name : `${namespace}/${name}`)

/** Serialises an object in its storage form. */
export function encode(storage: string, key: string, object: JsonObject, resourceVersion: number): Entry {
  const { kind: _kind, apiVersion: _apiVersion, metadata, ...content } = object
  const { resourceVersion: _resourceVersion, ...rest } = isObject(metadata) ? metadata : {}
  const restText = JSON.stringify(rest)
  const contentText = JSON.stringify(content)
  return {
    key,
    namespace: textAt(metadata, 'namespace'),
    name: textAt(metadata, 'name'),
    uid: textAt(metadata, 'uid'),
    resourceVersion,
    labels: labelsOf(object),
    fields: selectableFields(storage, object),
    body: `${restText === '{}' ? '}' : `,${restText.slice(1)}`}${contentText === '{}' ? '}' : `,${contentText.slice(1)}`}`,
  }
}

/** True if two entries say the same but for their revision. */
export const sameContent = (a: Entry, b: Entry): boolean =>
  a.body === b.body || (a.body.length === b.body.length && isDeepStrictEqual(parseBody(a), parseBody(b)))

const parseBody = (entry: Entry): unknown => JSON.parse(`{"metadata":{"resourceVersion":""${entry.body}`)

/** An entry as the object of a resource, a fresh copy. */
export function decode(resource: Resource, entry: Entry): JsonObject {
  const parsed: unknown = JSON.parse(coreJson(resource, entry))
  if (!isObject(parsed)) throw new Error(`${resource.plural} ${entry.key} is no object`)
  return resource.group === 'events.k8s.io' ? eventFromCore(parsed) : parsed
}

/** JSON of an entry with `kind` and `apiVersion`, as in a watch event or the answer to a get. */
export const objectJson = (resource: Resource, entry: Entry): string =>
  resource.group === 'events.k8s.io' ? JSON.stringify(decode(resource, entry)) : coreJson(resource, entry)

/** JSON of an entry without `kind` and `apiVersion`: a real server leaves them out of the items of a list. */
export function itemJson(resource: Resource, entry: Entry): string {
  if (resource.group !== 'events.k8s.io')
    return `{"metadata":{"resourceVersion":"${entry.resourceVersion}"${entry.body}`
  const { kind: _kind, apiVersion: _apiVersion, ...item } = decode(resource, entry)
  return JSON.stringify(item)
}

const coreJson = (resource: Resource, entry: Entry): string =>
  `{"kind":"${resource.kind}","apiVersion":"${apiVersionOf(resource)}","metadata":{"resourceVersion":"${entry.resourceVersion}"${entry.body}`

/** The metadata of an object, put there first if there is none. */
export function metadataOf(object: JsonObject): JsonObject {
  const found = objectAt(object, 'metadata')
  if (found !== undefined) return found
  const made: JsonObject = {}
  object.metadata = made
  return made
}
