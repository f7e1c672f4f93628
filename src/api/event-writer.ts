// Writes what an event recorder hands it: one request, and the answer's status as a value.
import { StatusError } from './errors.ts'
import type { Connection } from './transport.ts'

/** An answer of the API server; whether it is a success is told by the status. */
export interface WriteAnswer {
  /** HTTP status; 200 for every success. */
  readonly status: number
  /** From the Retry-After header. */
  readonly retryAfterMs?: number
}

/** Sends a body. Rejects when there is no answer: no connection, no credentials, ten seconds of silence. */
export type Writer = (
  method: 'POST' | 'PATCH',
  path: string,
  body: unknown,
  signal?: AbortSignal,
) => Promise<WriteAnswer>

/** A writer over a connection, which stays the caller's to close. A PATCH is a JSON merge patch (RFC 7386). */
export function createEventWriter(connection: Pick<Connection, 'send'>): Writer {
  return async (method, path, body, signal) => {
    try {
      await connection.send(method, path, body, signal)
      return { status: 200 }
    } catch (error) {
      if (!(error instanceof StatusError)) throw error
      const { status, retryAfterMs } = error
      return retryAfterMs === undefined ? { status } : { status, retryAfterMs }
    }
  }
}
