// What a request is for, and the record of those that came.
import type { Verb } from './faults.ts'
import { findResource, type Resource } from './resources.ts'
import { isTrue } from './watch.ts'

/** A request for a resource. */
export interface ResourceRequest {
  readonly verb: Verb
  readonly resource: Resource
  /** Empty: all namespaces, or a cluster-scoped kind. */
  readonly namespace: string
  /** Empty: the collection. */
  readonly name: string
  /** Empty or `status`. */
  readonly subresource: string
}

/** Verb and resource of a request; undefined if the path is no resource's; `unsupported` for methods nobody has. */
export function parseRequest(
  method: string,
  path: string,
  query: URLSearchParams,
): ResourceRequest | 'unsupported' | undefined {
  const target = parsePath(path)
  if (target === undefined) return undefined
  const verb = verbOf(method, target.name !== '', isTrue(query.get('watch')))
  return verb === undefined ? 'unsupported' : { ...target, verb }
}

function parsePath(path: string): Omit<ResourceRequest, 'verb'> | undefined {
  const parts = path.split('/').slice(1).map(decodeURIComponent)
  const [group, version, ...rest] =
    parts[0] === 'api' ? ['', ...parts.slice(1)] : parts[0] === 'apis' ? parts.slice(1) : []
  if (group === undefined || version === undefined) return undefined
  // `namespaces/x` is a namespace; `namespaces/x/services` is what is in one.
  const [first, namespaceName = '', plural, objectName = '', sub = '', ...more] = rest
  if (first === 'namespaces' && plural !== undefined && findResource(group, version, plural)?.namespaced === true) {
    const resource = findResource(group, version, plural)
    if (resource === undefined || more.length > 0) return undefined
    return checked({ resource, namespace: namespaceName, name: objectName, subresource: sub })
  }
  const [only = '', name = '', subresource = '', ...tail] = rest
  const resource = findResource(group, version, only)
  if (resource === undefined || tail.length > 0 || (resource.namespaced && name !== '')) return undefined
  return checked({ resource, namespace: '', name, subresource })
}

function checked(target: Omit<ResourceRequest, 'verb'>): Omit<ResourceRequest, 'verb'> | undefined {
  const { subresource, resource } = target
  return subresource === '' || (subresource === 'status' && resource.status) ? target : undefined
}

function verbOf(method: string, named: boolean, watch: boolean): Verb | undefined {
  switch (method) {
    case 'GET':
      return watch ? 'watch' : named ? 'get' : 'list'
    case 'POST':
      return named ? undefined : 'create'
    case 'PUT':
      return named ? 'update' : undefined
    case 'PATCH':
      return named ? 'patch' : undefined
    case 'DELETE':
      return named ? 'delete' : 'deletecollection'
    default:
      return undefined
  }
}

export interface RequestRecord {
  readonly verb: Verb
  /** Plural, or the path where the request is for no resource. */
  readonly resource: string
  readonly path: string
  readonly query: URLSearchParams
  /** Milliseconds on the process's monotonic clock. */
  readonly at: number
  readonly userAgent: string
}

const kept = 100_000

/** Requests in the order they came, those that were refused or broken included. */
export class RequestLog {
  #records: RequestRecord[] = []

  /** Adds a request. */
  add(record: RequestRecord): void {
    this.#records.push(record)
    if (this.#records.length > 2 * kept) this.#records = this.#records.slice(-kept)
  }

  /** The requests of this verb and resource; of any where left out. */
  find(verb?: Verb, resource?: string): readonly RequestRecord[] {
    return this.#records.filter(
      r => (verb === undefined || r.verb === verb) && (resource === undefined || r.resource === resource),
    )
  }

  /** Forgets what came so far. */
  clear(): void {
    this.#records = []
  }
}
