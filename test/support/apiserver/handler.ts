// One request, from its path to its answer.
import type { IncomingMessage, ServerResponse } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { readBody, readObject, readPatch } from './bodies.ts'
import { itemJson, keyOf, objectJson } from './codec.ts'
import { discover } from './discovery.ts'
import { type Faults, firstHalf, type RequestFault, type Verb } from './faults.ts'
import { isObject, type JsonObject, textAt } from './json.ts'
import { filterOf, type Page, selectPage } from './list.ts'
import type { Registry } from './registry.ts'
import { parseRequest, type RequestLog, type ResourceRequest } from './requests.ts'
import { apiVersionOf } from './resources.ts'
import { ResponseStream } from './response-stream.ts'
import { ApiError, errorOfCode, methodNotAllowed, noSuchPath, unauthorized } from './status.ts'
import type { Store } from './store.ts'
import { tableOfEntry, tableOfPage, wantsTable } from './table.ts'
import { refuseCompacted, renderPlain, Watch, type WatchListSupport, watchRequestOf } from './watch.ts'

export interface HandlerContext {
  readonly store: Store
  readonly registry: Registry
  readonly faults: Faults
  readonly log: RequestLog
  readonly watches: Set<Watch>
  readonly watchList: WatchListSupport
  /** How a watch from a compacted revision is refused. */
  readonly gone: 'event' | 'response'
  readonly bookmarkIntervalMs: number
  readonly watchTimeoutSeconds: number
  readonly address: () => string
  readonly isAuthorized: (authorization: string | undefined) => boolean
  /** Drops the TCP connection of a request. */
  readonly reset: (request: IncomingMessage) => void
}

interface Exchange {
  readonly request: IncomingMessage
  readonly response: ServerResponse
  readonly path: string
  readonly query: URLSearchParams
  readonly fault: RequestFault | undefined
}

/** Answers a request; never throws. */
export async function handle(
  context: HandlerContext,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  try {
    await dispatch(context, request, response)
  } catch (error) {
    if (response.headersSent || response.destroyed) response.destroy()
    else sendError(response, error instanceof ApiError ? error : errorOfCode(500, String(error)))
  }
}

async function dispatch(context: HandlerContext, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const { pathname, searchParams: query } = new URL(request.url ?? '/', 'https://server')
  const path = pathname.length > 1 ? pathname.replace(/\/$/, '') : pathname
  const parsed = parseRequest(request.method ?? 'GET', path, query)
  const target = typeof parsed === 'object' ? parsed : undefined
  const verb: Verb = target?.verb ?? 'get'
  const name = target?.resource.plural ?? path
  const userAgent = request.headers['user-agent'] ?? ''
  context.log.add({ verb, resource: name, path, query, at: performance.now(), userAgent })
  const fault = context.faults.forRequest(verb, name)
  if (fault !== undefined && (await struck(context, fault, request, response))) return
  if (path === '/healthz' || path === '/livez' || path === '/readyz') {
    response.end('ok')
    return
  }
  if (!context.isAuthorized(request.headers.authorization)) throw unauthorized()
  if (parsed === 'unsupported') throw methodNotAllowed()
  if (target !== undefined) await serve(context, { request, response, path, query, fault }, target)
  else {
    const document = request.method === 'GET' ? discover(path, context.address()) : undefined
    if (document === undefined) throw noSuchPath()
    sendJson(response, 200, document)
  }
}

/** Lets a fault strike; true if that was all the answer there is. */
async function struck(
  context: HandlerContext,
  fault: RequestFault,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<boolean> {
  switch (fault.kind) {
    case 'reset':
      context.reset(request)
      return true
    case 'stall':
      return true
    case 'status':
      sendError(response, errorOfCode(fault.code, fault.message, fault.retryAfterSeconds))
      return true
    case 'delay':
      await sleep(fault.ms, undefined, { ref: false })
      return response.destroyed
    case 'drip':
      return false
  }
}

async function serve(context: HandlerContext, exchange: Exchange, target: ResourceRequest): Promise<void> {
  const { registry } = context
  const { request, response, query } = exchange
  const { resource, namespace, name, verb } = target
  const key = keyOf(namespace, name)
  const options = { dryRun: query.get('dryRun') === 'All' }
  const statusOnly = target.subresource === 'status'
  switch (verb) {
    case 'list':
      return list(context, exchange, target)
    case 'watch':
      return watch(context, exchange, target)
    case 'get': {
      const entry = registry.entry(resource, key)
      if (wantsTable(request.headers.accept)) sendJson(response, 200, tableOfEntry(resource, entry, wantsWhole(query)))
      else sendText(response, 200, objectJson(resource, entry))
      return
    }
    case 'create': {
      const object = await readObject(request)
      const inNamespace = resource.namespaced && namespace === '' ? textAt(object, 'metadata', 'namespace') : namespace
      if (resource.namespaced && inNamespace === '') throw methodNotAllowed()
      return sendJson(response, 201, registry.create(resource, inNamespace, object, options))
    }
    case 'update': {
      const object = await readObject(request)
      return sendJson(response, 200, registry.update(resource, namespace, name, object, { ...options, statusOnly }))
    }
    case 'patch': {
      const change = await readPatch(request, resource.kind)
      const patched = change(registry.get(resource, key))
      return sendJson(response, 200, registry.update(resource, namespace, name, patched, { ...options, statusOnly }))
    }
    case 'delete': {
      const body = await readBody(request)
      const deleted = registry.delete(resource, key, isObject(body) ? body : {}, options)
      const uid = textAt(deleted, 'metadata', 'uid')
      const { group, plural } = resource
      const details = { name, ...(group === '' ? {} : { group }), kind: plural, uid }
      return sendJson(response, 200, { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Success', details })
    }
    case 'deletecollection':
      return deleteCollection(context, exchange, target)
  }
}

async function deleteCollection(context: HandlerContext, exchange: Exchange, target: ResourceRequest): Promise<void> {
  const { registry, store } = context
  const { resource, namespace } = target
  await readBody(exchange.request)
  if (resource.namespaced && namespace === '') throw methodNotAllowed()
  const page = selectPage(store, resource, filterOf(resource, namespace, '', exchange.query), new URLSearchParams())
  const dryRun = exchange.query.get('dryRun') === 'All'
  const items = page.entries.map(entry => registry.delete(resource, entry.key, {}, { dryRun }))
  const metadata = { resourceVersion: String(store.resourceVersion) }
  sendJson(exchange.response, 200, {
    kind: `${resource.kind}List`,
    apiVersion: apiVersionOf(resource),
    metadata,
    items,
  })
}

async function list(context: HandlerContext, exchange: Exchange, target: ResourceRequest): Promise<void> {
  const { resource, namespace, name } = target
  const { request, response, query, fault } = exchange
  const page = selectPage(context.store, resource, filterOf(resource, namespace, name, query), query)
  if (wantsTable(request.headers.accept)) return sendJson(response, 200, tableOfPage(resource, page, wantsWhole(query)))
  response.writeHead(200, { 'content-type': 'application/json', 'cache-control': 'no-cache, private' })
  if (fault?.kind === 'drip') return drip(response, [...listPieces(target, page)].join(''), fault)
  await streamList(context, exchange, target, page)
}

async function streamList(
  context: HandlerContext,
  { request, response }: Exchange,
  target: ResourceRequest,
  page: Page,
): Promise<void> {
  const fault = context.faults.forStream('list', target.resource.plural)
  const breakAt = fault === undefined ? Number.POSITIVE_INFINITY : (fault.after ?? page.entries.length >> 1)
  const stream = new ResponseStream(response)
  // The first piece is the head of the list; piece n is its n-th item.
  let sent = -1
  for (const piece of listPieces(target, page)) {
    if (response.destroyed) return
    if (sent++ >= breakAt && fault !== undefined) {
      stream.write(fault.kind === 'stream-half-line' ? firstHalf(piece) : '')
      await stream.ready()
      if (fault.kind === 'stream-reset') setImmediate(() => context.reset(request))
      else if (fault.kind !== 'stream-freeze') stream.end()
      return
    }
    stream.write(piece)
    if (sent % 50 === 0) await stream.ready()
  }
  stream.end()
}

/** The text of a list: its head, each item, its end. */
function* listPieces({ resource }: ResourceRequest, page: Page): Iterable<string> {
  const metadata: JsonObject = { resourceVersion: String(page.resourceVersion) }
  if (page.continue !== undefined) metadata.continue = page.continue
  if (page.remaining !== undefined) metadata.remainingItemCount = page.remaining
  yield `{"kind":"${resource.kind}List","apiVersion":"${apiVersionOf(resource)}","metadata":${JSON.stringify(metadata)},"items":[`
  let comma = ''
  for (const entry of page.entries) {
    yield comma + itemJson(resource, entry)
    comma = ','
  }
  yield ']}\n'
}

async function drip(response: ServerResponse, text: string, fault: { bytes: number; everyMs: number }): Promise<void> {
  const bytes = Buffer.from(text)
  for (let at = 0; at < bytes.length && !response.destroyed; at += fault.bytes) {
    response.write(bytes.subarray(at, at + fault.bytes))
    await sleep(fault.everyMs, undefined, { ref: false })
  }
  response.end()
}

function watch(context: HandlerContext, { request, response, query }: Exchange, target: ResourceRequest): void {
  const { resource, namespace, name } = target
  const filter = filterOf(resource, namespace, name, query)
  const watchRequest = watchRequestOf(query, context.watchList)
  if (context.gone === 'response') refuseCompacted(context.store, resource, watchRequest)
  const table = wantsTable(request.headers.accept)
  const opened = new Watch(
    {
      store: context.store,
      resource,
      filter,
      response,
      bookmarkIntervalMs: context.bookmarkIntervalMs,
      defaultTimeoutSeconds: context.watchTimeoutSeconds,
      render: table ? entry => JSON.stringify(tableOfEntry(resource, entry, wantsWhole(query))) : renderPlain(resource),
      reset: () => context.reset(request),
    },
    watchRequest,
    context.faults.forStream('watch', resource.plural),
  )
  context.watches.add(opened)
  response.on('close', () => context.watches.delete(opened))
}

const wantsWhole = (query: URLSearchParams): boolean => query.get('includeObject') === 'Object'

function sendError(response: ServerResponse, error: ApiError): void {
  const { retryAfterSeconds } = error.details
  if (typeof retryAfterSeconds === 'number') response.setHeader('retry-after', String(retryAfterSeconds))
  sendJson(response, error.code, error.toStatus())
}

const sendJson = (response: ServerResponse, code: number, body: JsonObject): void =>
  sendText(response, code, JSON.stringify(body))

function sendText(response: ServerResponse, code: number, text: string): void {
  response.writeHead(code, { 'content-type': 'application/json', 'cache-control': 'no-cache, private' })
  response.end(`${text}\n`)
}
