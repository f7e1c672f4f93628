// Scripts: one command a line, as the backend writes them.
import type { Family } from '../../../src/net/ip.ts'
import { SyntaxProblem } from './problems.ts'
import { type HookName, type Statement, statementsOf, verdictOf } from './rule.ts'
import { type Expression, type Type, takeExpressions } from './types.ts'
import { nameOf, Words } from './words.ts'

export interface Hook {
  readonly type: 'nat' | 'filter'
  readonly hook: HookName
  readonly priority: number
  readonly policy: 'accept' | 'drop'
}

/** A set or map as it is declared. */
export interface Definition {
  readonly kind: 'set' | 'map'
  readonly key: readonly Type[]
  readonly data: readonly Type[] | 'verdict' | undefined
  readonly dynamic: boolean
  /** Lines between the braces, as listed. */
  readonly lines: readonly string[]
}

/** An element as it is written. */
export interface WrittenElement {
  readonly key: readonly string[]
  readonly comment: string | undefined
  readonly data: readonly string[] | { readonly text: string; readonly chain: string | undefined } | undefined
}

interface Place {
  readonly family: Family
  /** `ip penstock`. */
  readonly table: string
}

export type Command = Place &
  (
    | { readonly kind: 'add table' | 'delete table' }
    | { readonly kind: 'add chain'; readonly name: string; readonly hook: Hook | undefined }
    | { readonly kind: 'flush chain' | 'delete chain' | 'delete container'; readonly name: string }
    | { readonly kind: 'add container'; readonly name: string; readonly definition: Definition }
    | { readonly kind: 'add rule'; readonly name: string; readonly first: boolean; readonly rule: readonly Statement[] }
    | {
        readonly kind: 'add elements' | 'delete elements'
        readonly name: string
        readonly elements: readonly WrittenElement[]
      }
  )

/** Throws SyntaxProblem. */
export function parseCommand(line: string): Command {
  const words = new Words(line)
  const command = commandOf(words)
  if (!words.atEnd()) words.fail()
  return command
}

function commandOf(words: Words): Command {
  const verb = words.match(/^(?:add|insert|delete|flush)$/)
  const what = `${verb} ${words.match(/^(?:table|chain|rule|set|map|element)$/)}`
  const word = words.match(/^ip6?$/)
  const place: Place = { family: word === 'ip' ? 'IPv4' : 'IPv6', table: `${word} ${nameOf(words)}` }
  if (what === 'add table' || what === 'delete table') return { ...place, kind: what }
  const name = nameOf(words)
  switch (what) {
    case 'add chain':
      return { ...place, kind: what, name, hook: words.atEnd() ? undefined : hookOf(words) }
    case 'flush chain':
    case 'delete chain':
      return { ...place, kind: what, name }
    case 'add set':
    case 'add map':
      return { ...place, kind: 'add container', name, definition: definitionOf(what === 'add map', words) }
    // Either word will do.
    case 'delete set':
    case 'delete map':
      return { ...place, kind: 'delete container', name }
    case 'add rule':
    case 'insert rule':
      return { ...place, kind: 'add rule', name, first: verb === 'insert', rule: statementsOf(words) }
    case 'add element':
      return { ...place, kind: 'add elements', name, elements: elementsOf(words) }
    case 'delete element':
      return { ...place, kind: 'delete elements', name, elements: elementsOf(words) }
    default:
      throw new SyntaxProblem(`syntax error: ${what} is not known here`)
  }
}

function hookOf(words: Words): Hook {
  words.expect('{', 'type')
  const type = words.match(/^(?:nat|filter)$/)
  words.expect('hook')
  const hook = words.match(/^(?:prerouting|input|output|postrouting)$/)
  words.expect('priority')
  const priority = Number(words.match(/^-?\d+$/))
  words.expect(';', 'policy')
  const policy = words.match(/^(?:accept|drop)$/)
  words.expect(';', '}')
  return {
    type: type === 'nat' ? 'nat' : 'filter',
    hook: hookNames.find(name => name === hook) ?? words.fail(),
    priority,
    policy: policy === 'drop' ? 'drop' : 'accept',
  }
}

const hookNames: readonly HookName[] = ['prerouting', 'input', 'output', 'postrouting']

const namedTypes: readonly Type[] = ['ipv4_addr', 'ipv6_addr', 'inet_proto', 'inet_service']

function definitionOf(isMap: boolean, words: Words): Definition {
  words.expect('{')
  const by = words.match(/^type(?:of)?$/)
  const key = by === 'type' ? namesOf(words) : typedBy(words)
  const data = isMap ? dataOf(by, words) : undefined
  words.expect(';')
  const keyText = key.map(({ text }) => text).join(' . ')
  const lines = [`${by} ${keyText}${data === undefined ? '' : ` : ${data.text}`}`]
  const dynamic = !isMap && words.peek() === 'size'
  if (dynamic) {
    words.expect('size')
    lines.push(`size ${words.match(/^\d+$/)}`)
    words.expect(';', 'flags', 'dynamic', ',', 'timeout', ';', 'timeout')
    lines.push('flags dynamic,timeout', `timeout ${words.match(/^[1-9]\d*s$/)}`)
    words.expect(';')
  }
  words.expect('}')
  return { kind: isMap ? 'map' : 'set', key: key.map(({ type }) => type), data: data?.types, dynamic, lines }
}

function dataOf(by: string, words: Words): { text: string; types: readonly Type[] | 'verdict' } {
  words.expect(':')
  if (words.take('verdict')) return { text: 'verdict', types: 'verdict' }
  const parts = by === 'type' ? namesOf(words) : typedBy(words)
  return { text: parts.map(({ text }) => text).join(' . '), types: parts.map(({ type }) => type) }
}

function namesOf(words: Words): Expression[] {
  const names: Expression[] = []
  do {
    const word = words.next()
    const type = namedTypes.find(name => name === word) ?? words.fail()
    names.push({ text: word, type })
  } while (words.take('.'))
  return names
}

function typedBy(words: Words): Expression[] {
  const expressions = takeExpressions(words)
  return expressions.length === 0 ? words.fail() : expressions
}

function elementsOf(words: Words): WrittenElement[] {
  words.expect('{')
  const all = [elementOf(words)]
  while (words.take(',')) all.push(elementOf(words))
  words.expect('}')
  return all
}

const value = /^[\w.:/-]+$/

function elementOf(words: Words): WrittenElement {
  const key = partsOf(words)
  const comment = words.take('comment') ? words.match(/^"[^"]*"$/).slice(1, -1) : undefined
  if (!words.take(':')) return { key, comment, data: undefined }
  const data = /^(?:goto|jump|accept|drop|return)$/.test(words.peek()) ? verdictOf(words) : partsOf(words)
  return { key, comment, data }
}

function partsOf(words: Words): string[] {
  const parts = [words.match(value)]
  while (words.take('.')) parts.push(words.match(value))
  return parts
}
