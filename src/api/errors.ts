// What can go wrong between us and the API server, as values that say what to do next.
import { isObject, objectAt, stringAt } from './fields.ts'

/** Kinds of failure, as they are counted. `unavailable`: no connection could be made. */
export type ErrorKind =
  | 'unavailable'
  | 'reset'
  | 'tls'
  | 'idle'
  | 'status'
  | 'gone'
  | 'error-event'
  | 'bad-frame'
  | 'short-watch'
  | 'no-initial-events'
  | 'credentials'

/** An answer of the server that is not a success. */
export class StatusError extends Error {
  override readonly name = 'StatusError'
  readonly status: number
  /** Machine-readable word of the Status object, `Expired`; empty when there was none. */
  readonly reason: string
  /** From the Retry-After header. */
  readonly retryAfterMs: number | undefined

  constructor(status: number, reason: string, message: string, retryAfterMs?: number) {
    super(message)
    this.status = status
    this.reason = reason
    this.retryAfterMs = retryAfterMs
  }
}

/** A failure that is no HTTP status. */
export class StreamError extends Error {
  override readonly name = 'StreamError'
  readonly kind: ErrorKind

  constructor(kind: ErrorKind, message: string, options?: ErrorOptions) {
    super(message, options)
    this.kind = kind
  }
}

/** An `ERROR` event inside a watch. */
export class ErrorEvent extends Error {
  override readonly name = 'ErrorEvent'
  readonly code: number
  /** From the Status object. */
  readonly retryAfterMs: number | undefined

  constructor(object: unknown) {
    const status = isObject(object) ? object : {}
    super(
      `the watch ended with an error: ${stringAt(status, 'message') || stringAt(status, 'reason') || 'no reason given'}`,
    )
    this.code = typeof status.code === 'number' ? status.code : 0
    const seconds = objectAt(status, 'details').retryAfterSeconds
    this.retryAfterMs = typeof seconds === 'number' && seconds >= 0 ? seconds * 1000 : undefined
  }
}

/** Builds the error of an unsuccessful answer from its status line, Retry-After header and body. */
export function statusError(status: number, retryAfter: string | undefined, body: string): StatusError {
  let reason = ''
  let message = ''
  try {
    const parsed: unknown = JSON.parse(body)
    if (isObject(parsed)) {
      reason = stringAt(parsed, 'reason')
      message = stringAt(parsed, 'message')
    }
  } catch {
    // Proxies in between answer with HTML or nothing; the status code is enough.
  }
  const text = message === '' ? `the API server answered ${status}` : `the API server answered ${status}: ${message}`
  return new StatusError(status, reason, text, retryAfterMs(retryAfter))
}

/** Milliseconds of a Retry-After header in seconds; undefined for a date or nonsense, which no API server sends. */
function retryAfterMs(header: string | undefined): number | undefined {
  return header !== undefined && /^\d{1,6}$/.test(header.trim()) ? Number(header) * 1000 : undefined
}

/** True when the resourceVersion is no longer known: only a fresh list helps. */
export const isGone = (error: unknown): boolean =>
  (error instanceof StatusError && (error.status === 410 || error.reason === 'Expired')) ||
  (error instanceof ErrorEvent && error.code === 410)

/** Kind of any failure of an exchange. */
export function errorKind(error: unknown): ErrorKind {
  if (error instanceof StreamError) return error.kind
  if (isGone(error)) return 'gone'
  if (error instanceof StatusError) return 'status'
  if (error instanceof ErrorEvent) return 'error-event'
  const code = codeOf(error)
  if (isTLSCode(code)) return 'tls'
  return unavailableCodes.has(code) ? 'unavailable' : 'reset'
}

/** What a failure is called in a message. */
export const messageOf = (error: unknown): string => {
  const text = error instanceof Error ? error.message || codeOf(error) : String(error)
  return text === '' ? 'unknown error' : text
}

/** `code` of a system or TLS error; empty when there is none. */
export const codeOf = (error: unknown): string =>
  error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : ''

const unavailableCodes = new Set([
  'ECONNREFUSED',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'EHOSTDOWN',
  'ENETDOWN',
  'ETIMEDOUT',
  'ENOTFOUND',
  'EAI_AGAIN',
])

/** True for failures of certificates and handshakes, which new credentials or a new CA may cure. */
export const isTLSCode = (code: string): boolean =>
  code.startsWith('ERR_TLS') ||
  code.startsWith('ERR_SSL') ||
  code.startsWith('CERT_') ||
  code.startsWith('UNABLE_TO_') ||
  code === 'EPROTO' ||
  code === 'SELF_SIGNED_CERT_IN_CHAIN' ||
  code === 'DEPTH_ZERO_SELF_SIGNED_CERT'
