// The two things that are asked of the API server about a resource: a list, and a watch.
import { ErrorEvent, StreamError } from './errors.ts'
import { type ExchangeOptions, exchange, type Patience } from './exchange.ts'
import { isObject, objectAt, stringAt } from './fields.ts'
import { jsonLines } from './json-lines.ts'
import { listParts } from './list-stream.ts'
import type { Pacer } from './pacer.ts'
import type { Connection, Query } from './transport.ts'

/** One resource as it is asked for. */
export interface Resource {
  /** `/api/v1/services`. */
  readonly path: string
  readonly labelSelector?: string
  readonly fieldSelector?: string
}

export interface RequestContext extends ExchangeOptions {
  readonly connection: Connection
  readonly resource: Resource
  readonly pacer: Pacer
}

/** `any`: whatever the server has at hand; `latest`: what is true now; else not older than this resourceVersion. */
export type ListFrom = 'any' | 'latest' | { readonly notOlderThan: string }

/**
 * Reads a list in pages and hands over each item as it comes; returns the list's resourceVersion. Items already handed
 * over when it fails are true, but not all.
 * @throws StatusError, StreamError; what `onItem` throws.
 */
export async function list(
  context: RequestContext,
  from: ListFrom,
  pageSize: number,
  onItem: (item: unknown) => void,
): Promise<string> {
  let token = ''
  for (;;) {
    const query = {
      ...selectors(context.resource),
      limit: pageSize,
      ...(token === '' ? listFrom(from) : { continue: token }),
    }
    const page = await exchange(context.connection, context.resource.path, query, context, async chunks => {
      for await (const part of listParts(chunks)) {
        if (part.kind === 'list') return objectAt(part.list, 'metadata')
        onItem(part.item)
        await context.pacer.pause()
      }
      throw new StreamError('bad-frame', 'a list without an end')
    })
    token = stringAt(page, 'continue')
    if (token !== '') continue
    const resourceVersion = stringAt(page, 'resourceVersion')
    if (resourceVersion === '') throw new StreamError('bad-frame', 'a list without a resourceVersion')
    return resourceVersion
  }
}

function listFrom(from: ListFrom): Query {
  if (from === 'latest') return {}
  if (from === 'any') return { resourceVersion: '0' }
  return { resourceVersion: from.notOlderThan, resourceVersionMatch: 'NotOlderThan' }
}

/** A line of a watch. `initial-end`: everything that exists has been sent. ERROR is thrown instead. */
export interface WatchEvent {
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED' | 'BOOKMARK' | 'initial-end'
  readonly object: unknown
  readonly resourceVersion: string
}

export interface WatchOptions {
  /** Absent: first everything that exists, as a stream (KEP-3157), then what changes. */
  readonly resourceVersion?: string
  /** Seconds after which the server ends it. */
  readonly timeoutSeconds: number
  /** Called when the server has accepted it. */
  readonly onOpen?: (patience: Patience) => void
}

const initialEndAnnotation = 'k8s.io/initial-events-end'

/**
 * Watches until the server ends it.
 * @throws ErrorEvent for an ERROR event; StatusError, StreamError; what `onEvent` throws.
 */
export function watch(
  context: RequestContext,
  options: WatchOptions,
  onEvent: (event: WatchEvent, patience: Patience) => void,
): Promise<void> {
  const start: Query =
    options.resourceVersion === undefined
      ? { sendInitialEvents: true, resourceVersionMatch: 'NotOlderThan' }
      : { resourceVersion: options.resourceVersion }
  const query = {
    ...selectors(context.resource),
    watch: true,
    allowWatchBookmarks: true,
    timeoutSeconds: options.timeoutSeconds,
    ...start,
  }
  return exchange(context.connection, context.resource.path, query, context, async (chunks, patience) => {
    options.onOpen?.(patience)
    for await (const line of jsonLines(chunks)) {
      onEvent(watchEvent(line), patience)
      await context.pacer.pause()
    }
  })
}

function watchEvent(line: unknown): WatchEvent {
  const type = isObject(line) ? line.type : undefined
  const object = isObject(line) ? line.object : undefined
  if (type === 'ERROR') throw new ErrorEvent(object)
  if (!isObject(object)) throw new StreamError('bad-frame', 'a watch event without an object')
  const metadata = objectAt(object, 'metadata')
  const resourceVersion = stringAt(metadata, 'resourceVersion')
  if (type === 'ADDED' || type === 'MODIFIED' || type === 'DELETED') return { type, object, resourceVersion }
  if (type !== 'BOOKMARK') throw new StreamError('bad-frame', `a watch event of unknown type ${JSON.stringify(type)}`)
  const isEnd = objectAt(metadata, 'annotations')[initialEndAnnotation] === 'true'
  return { type: isEnd ? 'initial-end' : 'BOOKMARK', object, resourceVersion }
}

function selectors(resource: Resource): Query {
  return {
    ...(resource.labelSelector === undefined ? {} : { labelSelector: resource.labelSelector }),
    ...(resource.fieldSelector === undefined ? {} : { fieldSelector: resource.fieldSelector }),
  }
}
