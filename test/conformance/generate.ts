// `generate:`: many like objects, list elements or packets from one template, so that large scenarios stay readable.
import { ScenarioError } from './check.ts'

/** True for `{generate: N, as: template}`, with an optional `var:`. */
export function isGenerator(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && 'generate' in value
}

/**
 * Expands every generator among the elements of every list in a value. A template is repeated with `${…}` in its strings
 * replaced; a string that is nothing but one `${…}` becomes a number. Throws ScenarioError if a generator is wrong.
 */
export function expand(value: unknown, place: string): unknown {
  if (Array.isArray(value)) return expandList(value, place)
  if (typeof value !== 'object' || value === null) return value
  if (isGenerator(value))
    throw new ScenarioError(place, 'generate may only stand for elements of a list or for documents')
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, expand(inner, `${place}.${key}`)]))
}

/** Expands the elements of one list. */
export function expandList(list: readonly unknown[], place: string): unknown[] {
  return list.flatMap((element, index) => {
    const here = `${place}[${index}]`
    return isGenerator(element) ? repeat(element, here) : [expand(element, here)]
  })
}

function repeat(generator: Record<string, unknown>, place: string): unknown[] {
  const { generate: count, as: template, var: variable = 'i', ...unknown } = generator
  const [field] = Object.keys(unknown)
  if (field !== undefined) throw new ScenarioError(`${place}.${field}`, 'unknown field')
  if (typeof count !== 'number' || !Number.isInteger(count) || count < 1 || count > 10_000)
    throw new ScenarioError(`${place}.generate`, 'must be a whole number from 1 to 10000')
  if (typeof variable !== 'string' || !/^[a-z]+$/.test(variable))
    throw new ScenarioError(`${place}.var`, 'must be a lower-case word')
  if (template === undefined) throw new ScenarioError(`${place}.as`, 'missing')
  return Array.from({ length: count }, (_, index) => index).flatMap(index =>
    expandList([substitute(template, variable, index)], place),
  )
}

function substitute(value: unknown, variable: string, index: number): unknown {
  if (typeof value === 'string') return substituteText(value, variable, index)
  if (Array.isArray(value)) return value.map(element => substitute(element, variable, index))
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, substitute(inner, variable, index)]))
}

function substituteText(text: string, variable: string, index: number): unknown {
  const pattern = new RegExp(`\\$\\{${variable}((?:[-+*/%]\\d+)*)(:x)?\\}`, 'g')
  const whole = text.match(pattern)
  const replaced = text.replace(pattern, (_, operations: string, hex: string | undefined) =>
    evaluate(index, operations).toString(hex === undefined ? 10 : 16),
  )
  return whole?.[0] === text && !text.endsWith(':x}') ? Number(replaced) : replaced
}

/** Left to right, whole numbers only: `+20`, `/250%4`. */
function evaluate(start: number, operations: string): number {
  let value = start
  for (const [, operator, digits] of operations.matchAll(/([-+*/%])(\d+)/g)) {
    const operand = Number(digits)
    if (operator === '+') value += operand
    else if (operator === '-') value -= operand
    else if (operator === '*') value *= operand
    else if (operator === '/') value = Math.floor(value / operand)
    else value %= operand
  }
  return value
}
