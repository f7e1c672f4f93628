// One open watch: the events a client asked for, its bookmarks, its end.
// Rules: KEP-956 (bookmarks), KEP-3157 (sendInitialEvents), apiserver's storage/cacher.
import type { ServerResponse } from 'node:http'
import { type Entry, objectJson } from './codec.ts'
import { firstHalf, type StreamFault } from './faults.ts'
import type { JsonObject } from './json.ts'
import { type Filter, revisionOf } from './list.ts'
import { apiVersionOf, type Resource } from './resources.ts'
import { ResponseStream } from './response-stream.ts'
import { ApiError, errorOfCode, expired, invalidListOptions, tooLarge } from './status.ts'
import type { Change, Store } from './store.ts'

/** What the server makes of `sendInitialEvents`: serves it (1.32 on), refuses it with 422, or never heard of it (before 1.19). */
export type WatchListSupport = 'served' | 'refused' | 'unknown'

/** What the parameters of a watch ask for. */
export interface WatchRequest {
  /** Events after this revision; undefined: from the present. */
  readonly after: number | undefined
  /** The present state comes first, as ADDED events. */
  readonly initial: boolean
  /** An annotated bookmark closes the initial events. */
  readonly initialEnd: boolean
  readonly bookmarks: boolean
  /** Undefined: as the server likes. */
  readonly timeoutSeconds: number | undefined
}

/** Reads the parameters of a watch. Throws an ApiError, 400 or 422. */
export function watchRequestOf(query: URLSearchParams, support: WatchListSupport): WatchRequest {
  const after = revisionOf(query)
  const asked = support === 'unknown' ? null : query.get('sendInitialEvents')
  const match = query.get('resourceVersionMatch') ?? ''
  if (asked !== null && support === 'refused') {
    throw invalidListOptions(
      'sendInitialEvents',
      'Forbidden: sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled',
    )
  }
  if (asked !== null && match !== 'NotOlderThan') {
    throw invalidListOptions(
      'resourceVersionMatch',
      'Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan',
    )
  }
  if (asked === null && match !== '' && support !== 'unknown') {
    throw invalidListOptions(
      'resourceVersionMatch',
      'Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided',
    )
  }
  const sends = isTrue(asked)
  const timeout = Number.parseInt(query.get('timeoutSeconds') ?? '', 10)
  const bookmarks = isTrue(query.get('allowWatchBookmarks'))
  return {
    after: after === 0 ? undefined : after,
    initial: sends || (asked === null && (after === undefined || after === 0)),
    initialEnd: sends && bookmarks,
    bookmarks,
    timeoutSeconds: timeout > 0 ? timeout : undefined,
  }
}

/** Truth of a query parameter as apimachinery decodes it: anything but `0` and `false`, also nothing. */
export const isTrue = (text: string | null): boolean => text !== null && !/^(?:0|false)$/i.test(text)

export interface WatchContext {
  readonly store: Store
  readonly resource: Resource
  readonly filter: Filter
  readonly response: ServerResponse
  /** Milliseconds between bookmarks. */
  readonly bookmarkIntervalMs: number
  /** Where the client sets none. */
  readonly defaultTimeoutSeconds: number
  /** The object of an event as the client wants it: as it is, or as a Table row. */
  readonly render: (entry: Entry) => string
  /** Drops the TCP connection. */
  readonly reset: () => void
}

/** An open watch; begins on construction and ends with the response. */
export class Watch {
  readonly resource: Resource
  readonly #context: WatchContext
  readonly #stream: ResponseStream
  readonly #request: WatchRequest
  readonly #unsubscribe: () => void
  readonly #timers: NodeJS.Timeout[] = []
  #sent = 0
  #fault: StreamFault | undefined
  #done = false

  constructor(context: WatchContext, request: WatchRequest, fault?: StreamFault) {
    this.#context = context
    this.#request = request
    this.resource = context.resource
    this.#stream = new ResponseStream(context.response)
    this.#unsubscribe = context.store.subscribe(context.resource.storage, change => this.#onChange(change))
    context.response.on('close', () => this.#stop())
    context.response.writeHead(200, { 'content-type': 'application/json', 'cache-control': 'no-cache, private' })
    context.response.flushHeaders()
    if (fault !== undefined) this.inject(fault)
    this.#begin()
    if (this.#done) return
    if (request.bookmarks) {
      this.#timers.push(setInterval(() => this.bookmark(), context.bookmarkIntervalMs))
    }
    const seconds = request.timeoutSeconds ?? context.defaultTimeoutSeconds
    this.#timers.push(setTimeout(() => this.#expire(), seconds * 1000))
  }

  /** Number of events sent so far, bookmarks included. */
  get sent(): number {
    return this.#sent
  }

  /** Sends a bookmark now, if the client takes bookmarks. */
  bookmark(): void {
    if (this.#request.bookmarks) this.#send('BOOKMARK', this.#bookmarkJson(false))
  }

  /** Makes a fault strike this stream, once as many events are sent as it says. */
  inject(fault: StreamFault): void {
    this.#fault = fault
    this.#strike()
  }

  #begin(): void {
    const { store, resource, filter, render } = this.#context
    const { after, initial, initialEnd } = this.#request
    try {
      if (initial) {
        if (after !== undefined && after > store.resourceVersion) throw tooLarge(after, store.resourceVersion)
        for (const entry of store.list(resource.storage)) if (filter.matches(entry)) this.#send('ADDED', render(entry))
        if (initialEnd) this.#send('BOOKMARK', this.#bookmarkJson(true))
      } else if (after !== undefined) {
        for (const change of store.changesSince(resource.storage, after)) this.#onChange(change)
      }
    } catch (error) {
      // A watch that was admitted reports every later error as an event: apiserver's newErrWatcher.
      if (!(error instanceof ApiError)) throw error
      this.#fail(error)
    }
  }

  #onChange(change: Change): void {
    const { after, initial } = this.#request
    // A client may ask for events after a revision that is yet to come.
    if (!initial && after !== undefined && change.resourceVersion <= after) return
    const event = this.#seen(change)
    if (event !== undefined) this.#send(event.type, this.#context.render(event.entry))
  }

  /** What a change is to a watch with a selector: an object that leaves the selection is DELETED, one that enters is ADDED. */
  #seen(change: Change): { type: Change['type']; entry: Entry } | undefined {
    const { all, matches } = this.#context.filter
    if (all) return change
    const before = change.previous !== undefined && matches(change.previous)
    const now = change.type !== 'DELETED' && matches(change.entry)
    if (now) return { type: before ? 'MODIFIED' : 'ADDED', entry: change.entry }
    if (!before || change.previous === undefined) return undefined
    return { type: 'DELETED', entry: { ...change.previous, resourceVersion: change.resourceVersion } }
  }

  #send(type: string, objectText: string): void {
    if (this.#done) return
    const line = `{"type":"${type}","object":${objectText}}\n`
    if (this.#fault?.kind === 'stream-half-line' && this.#sent >= (this.#fault.after ?? 0)) {
      this.#stream.write(firstHalf(line))
      this.#finish()
      return
    }
    this.#stream.write(line)
    this.#sent++
    this.#strike()
  }

  #strike(): void {
    const fault = this.#fault
    if (fault === undefined || this.#done || this.#sent < (fault.after ?? 0)) return
    switch (fault.kind) {
      case 'stream-reset':
        this.#fault = undefined
        // After what is on its way: the client has read all that was sent before.
        setImmediate(this.#context.reset)
        this.#stop()
        break
      case 'stream-freeze':
        setImmediate(() => this.#stream.freeze())
        this.#stop()
        break
      case 'stream-close':
        this.#finish()
        break
      case 'stream-error':
        this.#fail(errorOfCode(fault.code, fault.message, fault.retryAfterSeconds))
        break
      case 'stream-half-line':
        break
    }
  }

  #fail(error: ApiError): void {
    this.#stream.write(`{"type":"ERROR","object":${JSON.stringify(error.toStatus())}}\n`)
    this.#finish()
  }

  /** A server that ends a watch in time sends a last bookmark, so that the next one starts where this one ended. */
  #expire(): void {
    this.bookmark()
    this.#finish()
  }

  #finish(): void {
    this.#stop()
    this.#stream.end()
  }

  #stop(): void {
    this.#done = true
    this.#unsubscribe()
    for (const timer of this.#timers) clearTimeout(timer)
  }

  #bookmarkJson(initialEnd: boolean): string {
    const { resource, store } = this.#context
    const metadata: JsonObject = { resourceVersion: String(store.resourceVersion), creationTimestamp: null }
    if (initialEnd) metadata.annotations = { 'k8s.io/initial-events-end': 'true' }
    return JSON.stringify({ kind: resource.kind, apiVersion: apiVersionOf(resource), metadata, ...resource.empty })
  }
}

/** An object of a watch event as it is stored. */
export const renderPlain =
  (resource: Resource) =>
  (entry: Entry): string =>
    objectJson(resource, entry)

/** The 410 of a watch from a compacted revision, for servers that answer it as a response instead of an event. */
export function refuseCompacted(store: Store, resource: Resource, request: WatchRequest): void {
  if (request.initial || request.after === undefined) return
  const oldest = store.compactedTo(resource.storage)
  if (request.after < oldest) throw expired(request.after, oldest)
}
