// Strict reading of untyped YAML: every complaint names the file and the field.

/** A scenario file is wrong. The message starts with the file and the field. */
export class ScenarioError extends Error {
  constructor(place: string, problem: string) {
    super(`${place}: ${problem}`)
    this.name = 'ScenarioError'
  }
}

export type Fields = Record<string, unknown>

/** A mapping with no fields but these. */
export function fieldsOf(value: unknown, place: string, known: readonly string[]): Fields {
  const fields = mapping(value, place)
  for (const field of Object.keys(fields)) {
    if (!known.includes(field))
      throw new ScenarioError(`${place}.${field}`, `unknown field; known: ${known.join(', ')}`)
  }
  return fields
}

/** A mapping with any fields. */
export function mapping(value: unknown, place: string): Fields {
  if (!isMapping(value)) throw new ScenarioError(place, 'must be a mapping')
  return value
}

const isMapping = (value: unknown): value is Fields =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** A text that is not empty. */
export function text(value: unknown, place: string): string {
  if (typeof value !== 'string' || value === '') throw new ScenarioError(place, 'must be a text that is not empty')
  return value
}

/** A list; absent is empty. */
export function list(value: unknown, place: string): readonly unknown[] {
  if (value === undefined) return []
  if (!Array.isArray(value)) throw new ScenarioError(place, 'must be a list')
  return value
}

/** A list of texts; absent is empty. */
export const texts = (value: unknown, place: string): readonly string[] =>
  list(value, place).map((element, index) => text(element, `${place}[${index}]`))

/** True or false; absent is `otherwise`. */
export function flag(value: unknown, place: string, otherwise: boolean): boolean {
  if (value === undefined) return otherwise
  if (typeof value !== 'boolean') throw new ScenarioError(place, 'must be true or false')
  return value
}

/** One of some words. */
export function oneOf<T extends string>(value: unknown, place: string, words: readonly T[]): T {
  const found = words.find(word => word === value)
  if (found === undefined) throw new ScenarioError(place, `must be one of ${words.join(', ')}`)
  return found
}
