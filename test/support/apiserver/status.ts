// The API server's errors: `Status` objects with the codes, reasons and wording of a real server.
import type { JsonObject } from './json.ts'
import type { Resource } from './resources.ts'

/** An error that is answered as a `Status` object. */
export class ApiError extends Error {
  readonly code: number
  readonly reason: string
  readonly details: JsonObject
  /** Token of a list that may be continued at another revision; only with 410 of a `continue`. */
  readonly continueToken: string | undefined

  constructor(code: number, reason: string, message: string, details: JsonObject = {}, continueToken?: string) {
    super(message)
    this.name = 'ApiError'
    this.code = code
    this.reason = reason
    this.details = details
    this.continueToken = continueToken
  }

  /** The `Status` object that says this error. */
  toStatus(): JsonObject {
    return {
      kind: 'Status',
      apiVersion: 'v1',
      metadata: this.continueToken === undefined ? {} : { continue: this.continueToken },
      status: 'Failure',
      message: this.message,
      reason: this.reason,
      ...(Object.keys(this.details).length === 0 ? {} : { details: this.details }),
      code: this.code,
    }
  }
}

const detailsOf = (resource: Resource, name: string): JsonObject => ({
  name,
  ...(resource.group === '' ? {} : { group: resource.group }),
  kind: resource.plural,
})

const qualified = (resource: Resource): string =>
  resource.group === '' ? resource.plural : `${resource.plural}.${resource.group}`

/** 404 of an object. */
export const notFound = (resource: Resource, name: string): ApiError =>
  new ApiError(404, 'NotFound', `${qualified(resource)} "${name}" not found`, detailsOf(resource, name))

/** 404 of a path that no resource has. */
export const noSuchPath = (): ApiError =>
  new ApiError(404, 'NotFound', 'the server could not find the requested resource')

/** 409 of a create. */
export const alreadyExists = (resource: Resource, name: string): ApiError =>
  new ApiError(409, 'AlreadyExists', `${qualified(resource)} "${name}" already exists`, detailsOf(resource, name))

/** 409 of an update or a delete whose precondition (resourceVersion, uid) does not hold. */
export const conflict = (resource: Resource, name: string, why: string): ApiError =>
  new ApiError(
    409,
    'Conflict',
    `Operation cannot be fulfilled on ${qualified(resource)} "${name}": ${why}`,
    detailsOf(resource, name),
  )

/** 400. */
export const badRequest = (message: string): ApiError => new ApiError(400, 'BadRequest', message)

/** 401, as sent for a missing and for a wrong token alike. */
export const unauthorized = (): ApiError => new ApiError(401, 'Unauthorized', 'Unauthorized')

/** 405. */
export const methodNotAllowed = (): ApiError =>
  new ApiError(405, 'MethodNotAllowed', 'the server does not allow this method on the requested resource')

/** 415. */
export const unsupportedMediaType = (type: string, accepted: readonly string[]): ApiError =>
  new ApiError(
    415,
    'UnsupportedMediaType',
    `the body of the request was in an unknown format - accepted media types include: ${accepted.join(', ')} (not ${type})`,
  )

/** 422 of an object: one field and what is wrong with it. */
export const invalid = (resource: Resource, name: string, field: string, message: string): ApiError =>
  new ApiError(422, 'Invalid', `${resource.kind} "${name}" is invalid: ${field}: ${message}`, {
    ...detailsOf(resource, name),
    kind: resource.kind,
    causes: [{ reason: 'FieldValueInvalid', message, field }],
  })

/** 422 of the options of a list or watch, as `ValidateListOptions` of apimachinery words it. */
export const invalidListOptions = (field: string, message: string): ApiError =>
  new ApiError(422, 'Invalid', `ListOptions.meta.k8s.io "" is invalid: ${field}: ${message}`, {
    group: 'meta.k8s.io',
    kind: 'ListOptions',
    causes: [{ reason: 'FieldValueForbidden', message, field }],
  })

/** 410: the revision has been compacted. */
export const expired = (requested: number, oldest: number): ApiError =>
  new ApiError(410, 'Expired', `too old resource version: ${requested} (${oldest})`)

/** 410 of a `continue`; the token lets the client go on at the present revision, at the price of an inconsistent list. */
export const continueExpired = (token: string): ApiError =>
  new ApiError(
    410,
    'Expired',
    'The provided continue parameter is too old to display a consistent list result. You can start a new list without ' +
      'the continue parameter, or use the continue token in this response to retrieve the remainder of the results.',
    {},
    token,
  )

/** 504: the revision asked for lies in the future, as after a restore from an old backup. */
export const tooLarge = (requested: number, current: number): ApiError =>
  new ApiError(504, 'Timeout', `Timeout: Too large resource version: ${requested}, current: ${current}`, {
    causes: [{ reason: 'ResourceVersionTooLarge', message: 'Too large resource version' }],
    retryAfterSeconds: 1,
  })

const reasons: Readonly<Record<number, string>> = {
  400: 'BadRequest',
  401: 'Unauthorized',
  403: 'Forbidden',
  404: 'NotFound',
  409: 'Conflict',
  410: 'Expired',
  422: 'Invalid',
  429: 'TooManyRequests',
  500: 'InternalError',
  503: 'ServiceUnavailable',
  504: 'Timeout',
}

const messages: Readonly<Record<number, string>> = {
  410: 'too old resource version',
  429: 'Too many requests, please try again later.',
  500: 'Internal error occurred',
  503: 'the server is currently unable to handle the request',
}

/** The error a real server would give under this code; for injected faults. */
export const errorOfCode = (code: number, message?: string, retryAfterSeconds?: number): ApiError =>
  new ApiError(
    code,
    reasons[code] ?? 'Unknown',
    message ?? messages[code] ?? `injected error ${code}`,
    retryAfterSeconds === undefined ? {} : { retryAfterSeconds },
  )
