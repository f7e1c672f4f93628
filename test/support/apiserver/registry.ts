// Writes: what becomes of an object between the request and the store. Used by HTTP requests and in-process calls alike.
import { randomUUID } from 'node:crypto'
import type { Allocator } from './allocator.ts'
import { decode, type Entry, keyOf, metadataOf } from './codec.ts'
import { applyDefaults, heldBy } from './defaults.ts'
import { eventToCore } from './event-conversion.ts'
import { type JsonObject, objectAt, textAt } from './json.ts'
import { apiVersionOf, type Resource, resourceNamed } from './resources.ts'
import { alreadyExists, badRequest, conflict, errorOfCode, notFound } from './status.ts'
import type { Store } from './store.ts'
import { isFinalized, preconditionsOf, validate } from './validation.ts'

export interface WriteOptions {
  /** In-process writes are taken as they are: status, uid and creationTimestamp included, nothing refused. */
  readonly trusted?: boolean
  /** Goes through everything but the write itself. */
  readonly dryRun?: boolean
}

const now = (): string => new Date().toISOString().replace(/\.\d+Z$/, 'Z')

/** Creates, updates and deletes objects of one store. */
export class Registry {
  readonly #store: Store
  readonly #allocator: Allocator
  readonly #namespaces = resourceNamed('namespaces')

  constructor(store: Store, allocator: Allocator) {
    this.#store = store
    this.#allocator = allocator
  }

  /** The present object, a fresh copy. Throws a 404 ApiError. */
  get(resource: Resource, key: string): JsonObject {
    return decode(resource, this.entry(resource, key))
  }

  /** The present entry. Throws a 404 ApiError. */
  entry(resource: Resource, key: string): Entry {
    const entry = this.#store.get(resource.storage, key)
    if (entry === undefined) throw notFound(resource, key.slice(key.lastIndexOf('/') + 1))
    return entry
  }

  /** Creates an object in a namespace (empty for cluster-scoped kinds) and returns what was stored. Throws an ApiError. */
  create(resource: Resource, namespace: string, given: JsonObject, options: WriteOptions = {}): JsonObject {
    const object = this.#normalised(resource, namespace, given)
    const metadata = metadataOf(object)
    if (textAt(metadata, 'name') === '' && textAt(metadata, 'generateName') !== '') {
      metadata.name = `${textAt(metadata, 'generateName')}${randomUUID().slice(0, 5)}`
    }
    const name = textAt(metadata, 'name')
    if (name === '') throw badRequest(`${resource.kind}: name or generateName is required`)
    const key = keyOf(namespace, name)
    if (this.#store.get(resource.storage, key) !== undefined) throw alreadyExists(resource, name)
    if (options.trusted !== true) {
      if (textAt(metadata, 'resourceVersion') !== '')
        throw badRequest('resourceVersion should not be set on objects to be created')
      for (const field of ['uid', 'creationTimestamp', 'deletionTimestamp', 'generation']) delete metadata[field]
      // Only the kubelet's own Node comes with a status: pkg/registry/core/{service,node}/strategy.go.
      if (resource.status && resource.kind !== 'Node') delete object.status
    }
    metadata.uid ??= randomUUID()
    metadata.creationTimestamp ??= now()
    if (resource.generation) metadata.generation ??= 1
    return this.#save(resource, key, object, undefined, options)
  }

  /**
   * Replaces an object, or only its status. A resourceVersion in the new object must be the stored one. Throws an ApiError.
   */
  update(
    resource: Resource,
    namespace: string,
    name: string,
    given: JsonObject,
    options: WriteOptions & { readonly statusOnly?: boolean } = {},
  ): JsonObject {
    const key = keyOf(namespace, name)
    const old = this.get(resource, key)
    const object = this.#normalised(resource, namespace, given)
    const metadata = metadataOf(object)
    if (textAt(metadata, 'name') !== name) {
      throw badRequest(
        `the name of the object (${textAt(metadata, 'name')}) does not match the name on the URL (${name})`,
      )
    }
    const oldMetadata = metadataOf(old)
    if (options.trusted !== true) {
      this.#checkPreconditions(resource, name, oldMetadata, metadata)
      for (const field of ['uid', 'creationTimestamp', 'deletionTimestamp', 'generation'])
        metadata[field] = oldMetadata[field]
      if (resource.status && options.statusOnly !== true) restore(object, 'status', old)
    } else {
      for (const field of ['uid', 'creationTimestamp', 'generation']) metadata[field] ??= oldMetadata[field]
    }
    if (options.statusOnly === true) {
      return this.#save(resource, key, { ...old, status: object.status }, old, options)
    }
    return this.#save(resource, key, object, old, options)
  }

  /** Creates or replaces an object as it is: the in-process way in. */
  put(resource: Resource, given: JsonObject): JsonObject {
    const namespace = resource.namespaced ? textAt(given, 'metadata', 'namespace') || 'default' : ''
    const name = textAt(given, 'metadata', 'name')
    const exists = this.#store.get(resource.storage, keyOf(namespace, name)) !== undefined
    return exists
      ? this.update(resource, namespace, name, given, { trusted: true })
      : this.create(resource, namespace, given, { trusted: true })
  }

  /**
   * Deletes an object, or marks it as being deleted while it has finalizers; returns its last state. Throws an ApiError,
   * 409 if the preconditions of the DeleteOptions do not hold.
   */
  delete(resource: Resource, key: string, deleteOptions: JsonObject = {}, options: WriteOptions = {}): JsonObject {
    const old = this.get(resource, key)
    const metadata = metadataOf(old)
    const name = textAt(metadata, 'name')
    this.#checkPreconditions(resource, name, metadata, preconditionsOf(deleteOptions))
    if (options.dryRun === true) return old
    const finalizers = metadata.finalizers
    if (options.trusted !== true && Array.isArray(finalizers) && finalizers.length > 0) {
      metadata.deletionTimestamp ??= now()
      metadata.deletionGracePeriodSeconds ??= 0
      return this.#commit(resource, key, old)
    }
    this.#remove(resource, key)
    return old
  }

  #normalised(resource: Resource, namespace: string, given: JsonObject): JsonObject {
    const apiVersion = given.apiVersion ?? apiVersionOf(resource)
    const kind = given.kind ?? resource.kind
    if (apiVersion !== apiVersionOf(resource) || kind !== resource.kind) {
      throw badRequest(
        `${String(kind)} in version "${String(apiVersion)}" cannot be handled as a ${resource.kind} of ${apiVersionOf(resource)}`,
      )
    }
    const object: JsonObject = { ...structuredClone(given), kind, apiVersion }
    const metadata = metadataOf(object)
    if (!resource.namespaced) delete metadata.namespace
    else {
      metadata.namespace ??= namespace
      if (metadata.namespace !== namespace) {
        throw badRequest('the namespace of the provided object does not match the namespace sent on the request')
      }
    }
    return object
  }

  #checkPreconditions(resource: Resource, name: string, stored: JsonObject, asked: JsonObject): void {
    const uid = textAt(asked, 'uid')
    if (uid !== '' && uid !== stored.uid) {
      throw conflict(
        resource,
        name,
        `Precondition failed: UID in precondition: ${uid}, UID in object meta: ${String(stored.uid)}`,
      )
    }
    const resourceVersion = textAt(asked, 'resourceVersion')
    if (resourceVersion !== '' && resourceVersion !== stored.resourceVersion) {
      throw conflict(
        resource,
        name,
        'the object has been modified; please apply your changes to the latest version and try again',
      )
    }
  }

  #save(
    resource: Resource,
    key: string,
    object: JsonObject,
    old: JsonObject | undefined,
    options: WriteOptions,
  ): JsonObject {
    try {
      applyDefaults(resource.kind, object, old, this.#allocator)
    } catch (error) {
      throw errorOfCode(500, `${resource.kind} ${key}: ${error instanceof Error ? error.message : String(error)}`)
    }
    if (options.trusted !== true) validate(resource, object, old, this.#allocator)
    if (resource.generation && old !== undefined && contentChanged(old, object)) {
      const metadata = metadataOf(object)
      if (metadata.generation === metadataOf(old).generation) metadata.generation = Number(metadata.generation ?? 0) + 1
    }
    if (options.dryRun === true) return object
    if (options.trusted !== true && isFinalized(object)) {
      this.#remove(resource, key)
      return object
    }
    if (resource.namespaced) this.#ensureNamespace(textAt(object, 'metadata', 'namespace'))
    return this.#commit(resource, key, object)
  }

  #commit(resource: Resource, key: string, object: JsonObject): JsonObject {
    this.#store.put(resource.storage, key, resource.group === 'events.k8s.io' ? eventToCore(object) : object)
    if (resource.kind === 'Service') {
      const { ips, nodePorts } = heldBy(object)
      this.#allocator.hold(key, ips, nodePorts)
    }
    metadataOf(object).resourceVersion = String(this.entry(resource, key).resourceVersion)
    return object
  }

  #remove(resource: Resource, key: string): void {
    this.#store.remove(resource.storage, key)
    if (resource.kind === 'Service') this.#allocator.hold(key, [], [])
    if (resource.kind !== 'Namespace') return
    for (const name of ['services', 'endpointslices', 'events']) {
      const inside = resourceNamed(name)
      for (const entry of this.#store.list(inside.storage)) if (entry.namespace === key) this.#remove(inside, entry.key)
    }
  }

  /** A namespace comes to be with its first object: there is no need to create one. */
  #ensureNamespace(name: string): void {
    if (this.#store.get('namespaces', name) !== undefined) return
    this.create(
      this.#namespaces,
      '',
      { metadata: { name, labels: { 'kubernetes.io/metadata.name': name } } },
      { trusted: true },
    )
  }
}

function restore(object: JsonObject, field: string, from: JsonObject): void {
  if (from[field] === undefined) delete object[field]
  else object[field] = from[field]
}

/** True if anything but metadata and status differs: what `generation` counts. */
function contentChanged(a: JsonObject, b: JsonObject): boolean {
  const content = (object: JsonObject): string => {
    const { metadata: _metadata, status: _status, kind: _kind, apiVersion: _apiVersion, ...rest } = object
    return JSON.stringify(rest)
  }
  return content(a) !== content(b) && objectAt(a, 'metadata') !== undefined
}
