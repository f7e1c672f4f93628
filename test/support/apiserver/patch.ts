// JSON merge patch (RFC 7386) and JSON patch (RFC 6902). Pure: the given object is never changed.
import { isDeepStrictEqual } from 'node:util'
import { isObject, type JsonObject } from './json.ts'
import { badRequest, errorOfCode } from './status.ts'

/** RFC 7386: null removes, objects merge, everything else replaces. */
export function mergePatch(target: unknown, patch: unknown): unknown {
  if (!isObject(patch)) return patch
  const out: JsonObject = isObject(target) ? { ...target } : {}
  for (const [field, value] of Object.entries(patch)) {
    if (value === null) delete out[field]
    else out[field] = mergePatch(out[field], value)
  }
  return out
}

/** RFC 6902. Throws a 400 ApiError for a malformed patch, 422 for one that does not fit the object. */
export function jsonPatch(target: unknown, patch: unknown): unknown {
  if (!Array.isArray(patch)) throw badRequest('a JSON patch must be an array of operations')
  let state: unknown = structuredClone(target)
  for (const operation of patch) {
    if (!isObject(operation)) throw badRequest('an operation of a JSON patch must be an object')
    state = applyOperation(state, operation)
  }
  return state
}

function applyOperation(state: unknown, operation: JsonObject): unknown {
  const path = pointer(operation.path)
  switch (operation.op) {
    case 'add':
      return edit(state, path, 'add', structuredClone(operation.value))
    case 'remove':
      return edit(state, path, 'remove', undefined)
    case 'replace':
      read(state, path)
      return edit(state, path, 'replace', structuredClone(operation.value))
    case 'copy':
      return edit(state, path, 'add', structuredClone(read(state, pointer(operation.from))))
    case 'move': {
      const from = pointer(operation.from)
      const moved = read(state, from)
      return edit(edit(state, from, 'remove', undefined), path, 'add', moved)
    }
    case 'test':
      if (!isDeepStrictEqual(read(state, path), operation.value)) {
        throw errorOfCode(422, `testing value ${String(operation.path)} failed`)
      }
      return state
    default:
      throw badRequest(`unknown operation ${JSON.stringify(operation.op)} in a JSON patch`)
  }
}

function pointer(text: unknown): string[] {
  if (typeof text !== 'string' || (text !== '' && !text.startsWith('/'))) {
    throw badRequest(`${JSON.stringify(text)} is no JSON pointer`)
  }
  return text
    .split('/')
    .slice(1)
    .map(part => part.replaceAll('~1', '/').replaceAll('~0', '~'))
}

const missing = (path: readonly string[]): Error => errorOfCode(422, `the path /${path.join('/')} does not exist`)

function read(state: unknown, path: readonly string[]): unknown {
  let here = state
  for (const part of path) {
    if (Array.isArray(here) && /^\d+$/.test(part) && Number(part) < here.length) here = here[Number(part)]
    else if (isObject(here) && Object.hasOwn(here, part)) here = here[part]
    else throw missing(path)
  }
  return here
}

function edit(state: unknown, path: readonly string[], how: 'add' | 'remove' | 'replace', value: unknown): unknown {
  const last = path.at(-1)
  if (last === undefined) return how === 'remove' ? null : value
  const parent = read(state, path.slice(0, -1))
  if (Array.isArray(parent)) {
    const index = last === '-' && how === 'add' ? parent.length : /^\d+$/.test(last) ? Number(last) : -1
    if (index < 0 || index > parent.length || (how !== 'add' && index === parent.length)) throw missing(path)
    parent.splice(index, how === 'add' ? 0 : 1, ...(how === 'remove' ? [] : [value]))
  } else if (isObject(parent)) {
    if (how === 'remove' && !Object.hasOwn(parent, last)) throw missing(path)
    if (how === 'remove') delete parent[last]
    else parent[last] = value
  } else throw missing(path)
  return state
}
