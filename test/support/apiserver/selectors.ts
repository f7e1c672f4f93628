// Label and field selectors, with the grammar and the meaning of apimachinery's `labels.Parse` and `fields.ParseSelector`.
import type { Resource } from './resources.ts'
import { badRequest } from './status.ts'

type Values = Readonly<Record<string, string>>

/** True if an object's labels or fields are selected. */
export type Selector = (values: Values) => boolean

const everything: Selector = () => true
const hasOwn = Object.hasOwn

/**
 * Parses a label selector: `a=b`, `a==b`, `a!=b`, `a in (x,y)`, `a notin (x,y)`, `a`, `!a`, `a>1`, `a<1`, joined by commas.
 * `!=` and `notin` hold for objects without the label. Throws a 400 ApiError.
 */
export function parseLabelSelector(text: string): Selector {
  if (text.trim() === '') return everything
  const requirements = splitOutsideParentheses(text).map(parseRequirement)
  return labels => requirements.every(holds => holds(labels))
}

/** Splits at commas, but not at those inside `( )`. */
function splitOutsideParentheses(text: string): string[] {
  const parts: string[] = []
  let depth = 0
  let start = 0
  for (let i = 0; i < text.length; i++) {
    if (text[i] === '(') depth++
    else if (text[i] === ')') depth--
    else if (text[i] === ',' && depth === 0) {
      parts.push(text.slice(start, i))
      start = i + 1
    }
    if (depth < 0 || depth > 1) throw badRequest(`unable to parse requirement: unbalanced parentheses in "${text}"`)
  }
  if (depth !== 0) throw badRequest(`unable to parse requirement: unbalanced parentheses in "${text}"`)
  parts.push(text.slice(start))
  return parts
}

const keyPattern = /^(?:[a-z0-9](?:[-a-z0-9.]*[a-z0-9])?\/)?[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?$/
const valuePattern = /^(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?)?$/

function checked(text: string, pattern: RegExp, whole: string): string {
  if (!pattern.test(text)) throw badRequest(`unable to parse requirement: "${text}" is not valid in "${whole}"`)
  return text
}

function parseRequirement(part: string): Selector {
  const text = part.trim()
  const set = /^(\S+)\s+(in|notin)\s*\(([^)]*)\)$/.exec(text)
  if (set !== null) {
    const [, key = '', operator, list = ''] = set
    checked(key, keyPattern, text)
    const wanted = new Set(list.split(',').map(value => checked(value.trim(), valuePattern, text)))
    return operator === 'in'
      ? labels => hasOwn(labels, key) && wanted.has(labels[key] ?? '')
      : labels => !hasOwn(labels, key) || !wanted.has(labels[key] ?? '')
  }
  const binary = /^([^=!<>]+?)\s*(==|=|!=|>|<)\s*(.*)$/.exec(text)
  if (binary !== null) {
    const [, key = '', operator = '', value = ''] = binary
    return comparison(checked(key, keyPattern, text), operator, checked(value, valuePattern, text), text)
  }
  if (text.startsWith('!')) {
    const key = checked(text.slice(1).trim(), keyPattern, text)
    return labels => !hasOwn(labels, key)
  }
  const key = checked(text, keyPattern, text)
  return labels => hasOwn(labels, key)
}

function comparison(key: string, operator: string, value: string, text: string): Selector {
  if (operator === '!=') return labels => !hasOwn(labels, key) || labels[key] !== value
  if (operator === '=' || operator === '==') return labels => hasOwn(labels, key) && labels[key] === value
  const bound = Number(value)
  if (!Number.isInteger(bound)) throw badRequest(`unable to parse requirement: "${text}" compares with no integer`)
  return labels => {
    const found = hasOwn(labels, key) ? Number(labels[key]) : Number.NaN
    return operator === '>' ? found > bound : found < bound
  }
}

/**
 * Parses a field selector of a resource: `a=b`, `a==b`, `a!=b`, joined by commas. Throws a 400 ApiError, also for a field
 * that this resource cannot be selected by.
 */
export function parseFieldSelector(resource: Resource, text: string): Selector {
  if (text.trim() === '') return everything
  const requirements = text.split(',').map(part => {
    const parsed = /^\s*([^=!]+?)\s*(==|=|!=)\s*(.*?)\s*$/.exec(part)
    if (parsed === null) throw badRequest(`invalid selector: "${text}"; can't understand "${part}"`)
    const [, field = '', operator, value = ''] = parsed
    if (field !== 'metadata.name' && field !== 'metadata.namespace' && !resource.fields.includes(field)) {
      throw badRequest(
        `Unable to find "${resource.plural}" that match field selector "${text}": field label not supported: ${field}`,
      )
    }
    return operator === '!='
      ? (fields: Values) => (fields[field] ?? '') !== value
      : (fields: Values) => (fields[field] ?? '') === value
  })
  return fields => requirements.every(holds => holds(fields))
}
