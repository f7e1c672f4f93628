// Reading and comparing plain JSON values of unknown shape.

/** A JSON object: what an API object is before anything is known of it. */
export type JsonObject = { [field: string]: unknown }

/** True for JSON objects; false for arrays, null and scalars. */
export const isObject = (value: unknown): value is JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** The object at this path, or undefined if anything on the way is missing or not an object. */
export function objectAt(value: unknown, ...path: readonly string[]): JsonObject | undefined {
  let here: unknown = value
  for (const field of path) here = isObject(here) ? here[field] : undefined
  return isObject(here) ? here : undefined
}

/** The value at this path, or undefined if anything on the way is missing. */
export function valueAt(value: unknown, ...path: readonly string[]): unknown {
  let here: unknown = value
  for (const field of path) here = isObject(here) ? here[field] : undefined
  return here
}

/** The text at this path; the empty string, as Go has it, where there is none. */
export function textAt(value: unknown, ...path: readonly string[]): string {
  const found = valueAt(value, ...path)
  return typeof found === 'string' ? found : ''
}

/** The array at this path; empty where there is none. */
export function arrayAt(value: unknown, ...path: readonly string[]): readonly unknown[] {
  const found = valueAt(value, ...path)
  return Array.isArray(found) ? found : []
}

/** The object under this field, put there first if there is none. */
export function ensureObject(parent: JsonObject, field: string): JsonObject {
  const found = parent[field]
  if (isObject(found)) return found
  const made: JsonObject = {}
  parent[field] = made
  return made
}
