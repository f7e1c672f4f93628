// Request bodies: reading, their media types, and what a patch of each type means.
import type { IncomingMessage } from 'node:http'
import { load } from 'js-yaml'
import { isObject, type JsonObject } from './json.ts'
import { jsonPatch, mergePatch } from './patch.ts'
import { badRequest, errorOfCode, unsupportedMediaType } from './status.ts'
import { strategicMerge } from './strategic-merge.ts'

/** As the API server limits request bodies. */
const maxBytes = 3 * 1024 * 1024

const patchTypes = [
  'application/json-patch+json',
  'application/merge-patch+json',
  'application/strategic-merge-patch+json',
]

const mediaType = (request: IncomingMessage): string =>
  (request.headers['content-type'] ?? 'application/json').split(';')[0]?.trim().toLowerCase() ?? ''

/** The parsed body: JSON, or YAML if it says so; undefined if it is empty. Throws an ApiError: 400, 413, 415. */
export async function readBody(request: IncomingMessage): Promise<unknown> {
  const type = mediaType(request)
  const chunks: Buffer[] = []
  let length = 0
  for await (const chunk of request) {
    if (!Buffer.isBuffer(chunk)) continue
    length += chunk.length
    if (length > maxBytes) throw errorOfCode(413, `request is too large: the limit is ${maxBytes} bytes`)
    chunks.push(chunk)
  }
  if (length === 0) return undefined
  const text = Buffer.concat(chunks).toString()
  if (type !== 'application/yaml' && !type.endsWith('json'))
    throw unsupportedMediaType(type, ['application/json', 'application/yaml'])
  try {
    return type === 'application/yaml' ? load(text) : JSON.parse(text)
  } catch (error) {
    throw badRequest(
      `the body of the request cannot be parsed: ${error instanceof Error ? error.message : String(error)}`,
    )
  }
}

/** The body as an object. Throws a 400 ApiError if it is none. */
export async function readObject(request: IncomingMessage): Promise<JsonObject> {
  const body = await readBody(request)
  if (!isObject(body)) throw badRequest('the body of the request must be an object')
  return body
}

/**
 * What a patch request makes of an object. Throws an ApiError: 415 for other types than JSON, merge and strategic merge
 * patch; server-side apply is not among them.
 */
export async function readPatch(request: IncomingMessage, kind: string): Promise<(object: JsonObject) => JsonObject> {
  const type = mediaType(request)
  if (!patchTypes.includes(type)) throw unsupportedMediaType(type, patchTypes)
  const patch = await readBody(request)
  return object => {
    const patched =
      type === 'application/json-patch+json'
        ? jsonPatch(object, patch)
        : type === 'application/strategic-merge-patch+json' && isObject(patch)
          ? strategicMerge(kind, object, patch)
          : mergePatch(object, patch)
    if (!isObject(patched)) throw badRequest('a patch must leave an object')
    return patched
  }
}
