// One GET from dialling to the last byte, with a watchdog over its silence. Whatever happens, the body is destroyed.
import type { IncomingMessage } from 'node:http'
import { StreamError, statusError } from './errors.ts'
import { type Connection, type Query, readAll } from './transport.ts'

export interface ExchangeOptions {
  readonly signal: AbortSignal
  /** Milliseconds without a byte after which the connection counts as dead. */
  readonly idleMs: number
}

/** Milliseconds of silence that are allowed now; may be changed while the exchange runs. */
export interface Patience {
  idleMs: number
}

/**
 * Runs a GET and hands its body's chunks to `use`. Only the time spent waiting for the server counts as silence.
 * @throws StatusError for an answer that is not 200; StreamError `idle` after too long a silence; what `use` throws.
 */
export async function exchange<T>(
  connection: Connection,
  path: string,
  query: Query,
  options: ExchangeOptions,
  use: (chunks: AsyncIterable<Buffer>, patience: Patience) => Promise<T>,
): Promise<T> {
  const attempt = new AbortController()
  const abort = (): void => attempt.abort(options.signal.reason)
  options.signal.throwIfAborted()
  options.signal.addEventListener('abort', abort, { once: true })
  const patience: Patience = { idleMs: options.idleMs }
  const waiting = async <R>(promise: Promise<R>): Promise<R> => {
    const ms = patience.idleMs
    const timer = setTimeout(() => attempt.abort(new StreamError('idle', `not a byte for ${ms} ms`)), ms)
    try {
      return await promise
    } catch (error) {
      throw attempt.signal.aborted ? attempt.signal.reason : error
    } finally {
      clearTimeout(timer)
    }
  }
  let body: IncomingMessage | undefined
  try {
    const response = await waiting(connection.request(path, query, { signal: attempt.signal }))
    body = response.body
    // A body that is destroyed while nobody reads it would raise an error that nobody catches.
    body.on('error', () => undefined)
    if (response.status !== 200) {
      throw statusError(response.status, response.headers['retry-after'], await waiting(readAll(body)))
    }
    return await use(chunksOf(body, waiting), patience)
  } finally {
    options.signal.removeEventListener('abort', abort)
    // Read to its end, its connection is kept for the next request; else there is no other way to stop it.
    if (body !== undefined && !body.readableEnded) body.destroy()
  }
}

async function* chunksOf(
  body: IncomingMessage,
  waiting: <R>(promise: Promise<R>) => Promise<R>,
): AsyncGenerator<Buffer> {
  const iterator: AsyncIterator<unknown> = body[Symbol.asyncIterator]()
  for (;;) {
    const { done, value } = await waiting(Promise.resolve(iterator.next()))
    if (done === true) return
    if (Buffer.isBuffer(value)) yield value
  }
}
