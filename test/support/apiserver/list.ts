// Lists: which state and which part of it a request asks for. Pure but for the store it reads.
// Rules: https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions
import type { Entry } from './codec.ts'
import { decodeContinue, encodeContinue } from './continue-token.ts'
import type { Resource } from './resources.ts'
import { parseFieldSelector, parseLabelSelector } from './selectors.ts'
import { ApiError, badRequest, continueExpired, invalidListOptions, tooLarge } from './status.ts'
import type { Store } from './store.ts'

export interface Page {
  /** Of the list's metadata. */
  readonly resourceVersion: number
  readonly entries: readonly Entry[]
  /** Present when there is more. */
  readonly continue?: string
  /** Only known when nothing is filtered. */
  readonly remaining?: number
}

/** What a request's namespace and selectors let through; `all` if that is everything. */
export interface Filter {
  readonly all: boolean
  readonly matches: (entry: Entry) => boolean
}

/** The filter of a request. Throws a 400 ApiError for a malformed selector. */
export function filterOf(resource: Resource, namespace: string, name: string, query: URLSearchParams): Filter {
  const labelText = query.get('labelSelector') ?? ''
  const fieldText = query.get('fieldSelector') ?? ''
  const labels = parseLabelSelector(labelText)
  const fields = parseFieldSelector(resource, fieldText)
  return {
    all: labelText === '' && fieldText === '' && namespace === '' && name === '',
    matches: entry =>
      (namespace === '' || entry.namespace === namespace) &&
      (name === '' || entry.name === name) &&
      labels(entry.labels) &&
      fields(entry.fields),
  }
}

/** Parses a revision; undefined where none is given. Throws a 400 ApiError. */
export function revisionOf(query: URLSearchParams): number | undefined {
  const text = query.get('resourceVersion') ?? ''
  if (text === '') return undefined
  if (!/^\d{1,15}$/.test(text)) throw badRequest(`Invalid value: "${text}": resourceVersion is not a number`)
  return Number(text)
}

/** The page a list request asks for. Throws an ApiError: 400, 410, 422, 504. */
export function selectPage(store: Store, resource: Resource, filter: Filter, query: URLSearchParams): Page {
  const revision = revisionOf(query)
  const match = query.get('resourceVersionMatch') ?? ''
  const token = query.get('continue') ?? ''
  const limit = Math.max(0, Number.parseInt(query.get('limit') ?? '0', 10) || 0)
  if (query.get('sendInitialEvents') !== null) {
    throw invalidListOptions('sendInitialEvents', 'Forbidden: sendInitialEvents is forbidden for list')
  }
  if (match !== '' && revision === undefined) {
    throw invalidListOptions(
      'resourceVersionMatch',
      'Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided',
    )
  }
  if (match !== '' && match !== 'Exact' && match !== 'NotOlderThan') {
    throw invalidListOptions('resourceVersionMatch', `Unsupported value: "${match}"`)
  }
  if (token !== '') {
    if (revision !== undefined && revision !== 0) {
      throw badRequest('specifying resource version is not allowed when using continue')
    }
    return continuedPage(store, resource, filter, limit, token)
  }
  if (revision !== undefined && revision > store.resourceVersion) throw tooLarge(revision, store.resourceVersion)
  // A limit with a revision means that very revision, unless the client says otherwise.
  const exact = match === 'Exact' || (match === '' && limit > 0 && revision !== undefined && revision > 0)
  const at = exact && revision !== undefined ? revision : store.resourceVersion
  // Lists at revision 0 come from the watch cache, which gives everything whatever the limit.
  return page(store.list(resource.storage, at), at, filter, revision === 0 ? 0 : limit, '')
}

function continuedPage(store: Store, resource: Resource, filter: Filter, limit: number, text: string): Page {
  const { resourceVersion, after } = decodeContinue(text)
  const at = resourceVersion < 0 ? store.resourceVersion : resourceVersion
  try {
    return page(store.list(resource.storage, at), at, filter, limit, after)
  } catch (error) {
    if (!(error instanceof ApiError) || error.code !== 410) throw error
    throw continueExpired(encodeContinue({ resourceVersion: -1, after }))
  }
}

function page(entries: readonly Entry[], at: number, filter: Filter, limit: number, after: string): Page {
  const start = after === '' ? 0 : indexAfter(entries, after)
  if (limit === 0) {
    const rest = start === 0 ? entries : entries.slice(start)
    return { resourceVersion: at, entries: filter.all ? rest : rest.filter(filter.matches) }
  }
  const found: Entry[] = []
  for (let index = start; index < entries.length; index++) {
    const entry = entries[index]
    if (entry === undefined || !filter.matches(entry)) continue
    if (found.length === limit) {
      const token = encodeContinue({ resourceVersion: at, after: found.at(-1)?.key ?? '' })
      const more = { resourceVersion: at, entries: found, continue: token }
      return filter.all ? { ...more, remaining: entries.length - index } : more
    }
    found.push(entry)
  }
  return { resourceVersion: at, entries: found }
}

/** Index of the first entry after a key. */
function indexAfter(entries: readonly Entry[], key: string): number {
  let low = 0
  let high = entries.length
  while (low < high) {
    const middle = (low + high) >> 1
    if ((entries[middle]?.key ?? '') <= key) low = middle + 1
    else high = middle
  }
  return low
}
