// Rules: the statements that the backend writes, and no others, as nft understands, refuses and lists them.
import type { Family } from '../../../src/net/ip.ts'
import { intervalSet, loneInterval } from './intervals.ts'
import { EvaluationProblem } from './problems.ts'
import {
  addressType,
  checkFamily,
  type Expression,
  listedValue,
  numberOf,
  sameTypes,
  type Type,
  takeExpression,
  takeExpressions,
  typesText,
} from './types.ts'
import { nameOf, type Words } from './words.ts'

export type HookName = 'prerouting' | 'input' | 'output' | 'postrouting'

/** What the kernel looks at in a rule. */
export type Effect =
  | { readonly kind: 'looks up'; readonly set: string; readonly verdicts: boolean }
  | { readonly kind: 'goes'; readonly chain: string }
  /** May be reached from these hooks only, and in chains of type nat only if so said. */
  | { readonly kind: 'needs'; readonly hooks: readonly HookName[]; readonly nat: boolean }

export interface Rule {
  /** As listed with `-n`. */
  readonly text: string
  readonly effects: readonly Effect[]
}

/** What nft knows of a set or map when it evaluates a rule. */
export interface KnownSet {
  readonly key: readonly Type[]
  /** Absent for a set. */
  readonly data: readonly Type[] | 'verdict' | undefined
  readonly dynamic: boolean
  /** Made by the same script. */
  readonly isNew: boolean
}

export interface Context {
  readonly family: Family
  /** Throws EvaluationProblem if there is none. */
  set(name: string): KnownSet
}

/** Understood, and not yet looked at. */
export interface Statement {
  /** Nothing may follow. */
  readonly ends: boolean
  /** Throws EvaluationProblem. `before`: what stands before it in the rule. */
  evaluate(context: Context, before: readonly Rule[]): Rule
}

/** Statements up to the end of the line. Throws SyntaxProblem. */
export function statementsOf(words: Words): readonly Statement[] {
  const statements = [statementOf(words)]
  while (!words.atEnd()) statements.push(statementOf(words))
  return statements
}

/** Throws EvaluationProblem. */
export function evaluateRule(statements: readonly Statement[], context: Context): Rule {
  const parts: Rule[] = []
  let ended = false
  for (const statement of statements) {
    if (ended) throw new EvaluationProblem('Statement after terminal statement has no effect')
    parts.push(statement.evaluate(context, parts))
    ended = statement.ends
  }
  return { text: parts.map(({ text }) => text).join(' '), effects: parts.flatMap(({ effects }) => effects) }
}

function statementOf(words: Words): Statement {
  if (words.peek() === 'meta' && words.peek(1) === 'mark') return markStatement(words)
  if (words.peek() === 'numgen' && words.peek(4) !== '.') return chance(words)
  const expressions = takeExpressions(words)
  if (expressions.length > 0) return matchOf(expressions, words)
  switch (words.peek()) {
    case 'iifname':
      return inputInterface(words)
    case 'fib':
      return addressKind(words)
    case 'ct':
      words.expect('ct', 'status', 'dnat')
      return plain('ct status 0x20')
    case 'update':
      return remember(words)
    case 'dnat':
      return destination(words)
    case 'masquerade':
      words.expect('masquerade', 'fully-random')
      return plain('masquerade fully-random', [{ kind: 'needs', hooks: ['postrouting'], nat: true }], true)
    case 'reject':
      words.expect('reject')
      return plain('reject', [{ kind: 'needs', hooks: ['prerouting', 'input', 'output'], nat: false }], true)
    default:
      return verdictStatement(words)
  }
}

const plain = (text: string, effects: readonly Effect[] = [], ends = false): Statement => ({
  ends,
  evaluate: () => ({ text, effects }),
})

const matching = (evaluate: (context: Context, before: readonly Rule[]) => Rule, ends = false): Statement => ({
  ends,
  evaluate,
})

/** A verdict, as a rule or as the data of an element. Throws SyntaxProblem. */
export function verdictOf(words: Words): { readonly text: string; readonly chain: string | undefined } {
  if (words.peek() === 'goto' || words.peek() === 'jump') {
    const kind = words.next()
    const chain = nameOf(words)
    return { text: `${kind} ${chain}`, chain }
  }
  return { text: words.match(/^(?:accept|drop|return)$/), chain: undefined }
}

function verdictStatement(words: Words): Statement {
  const { text, chain } = verdictOf(words)
  return plain(text, chain === undefined ? [] : [{ kind: 'goes', chain }], true)
}

/** What follows one or more parts of the packet. */
function matchOf(expressions: readonly Expression[], words: Words): Statement {
  if (words.take('vmap')) return lookUp(expressions, words, true)
  if (words.peek().startsWith('@')) return lookUp(expressions, words, false)
  const [only] = expressions
  if (expressions.length > 1 || only === undefined) return words.fail()
  if (only.type === 'inet_proto') {
    const protocol = words.match(/^(?:tcp|udp|sctp|icmp|\d+)$/)
    return matching(() => ({ text: `${only.text} ${listedValue('inet_proto', protocol)}`, effects: [] }))
  }
  if (only.type !== 'ipv4_addr' && only.type !== 'ipv6_addr') return words.fail()
  const negation = words.take('!=') ? '!= ' : ''
  const many = words.peek() === '{'
  const addresses = many ? listOf(words) : [words.match(address)]
  return matching(({ family }) => {
    checkFamily(expressions, family)
    const value = many ? intervalSet(addresses, family) : loneInterval(addresses.join(), family)
    return { text: `${only.text} ${negation}${value}`, effects: [] }
  })
}

const address = /^[0-9a-f.:]+(?:[/-][0-9a-f.:]+)?$/

function listOf(words: Words): string[] {
  words.expect('{')
  const all = [words.match(address)]
  while (words.take(',')) all.push(words.match(address))
  words.expect('}')
  return all
}

const reference = (words: Words): string => words.match(/^@[a-zA-Z][\w/.-]*$/).slice(1)

function lookUp(expressions: readonly Expression[], words: Words, verdicts: boolean): Statement {
  const name = reference(words)
  return matching(context => {
    checkFamily(expressions, context.family)
    const set = context.set(name)
    const types = expressions.map(({ type }) => type)
    if (verdicts && set.data === undefined) throw new EvaluationProblem('Expression is not a map')
    if (!sameTypes(types, set.key)) {
      throw new EvaluationProblem(`datatype mismatch, expected ${typesText(types)}, it is ${typesText(set.key)}`)
    }
    // nft takes a map for the set of its keys. Nothing here means that.
    if (verdicts ? set.data !== 'verdict' : set.data !== undefined) {
      throw new EvaluationProblem(`datatype mismatch: @${name} is of another kind`)
    }
    const key = expressions.map(({ text }) => text).join(' . ')
    return {
      text: `${key} ${verdicts ? 'vmap ' : ''}@${name}`,
      effects: [{ kind: 'looks up', set: name, verdicts }],
    }
  })
}

function chance(words: Words): Statement {
  const random = takeExpression(words) ?? words.fail()
  const below = words.take('<') ? '< ' : ''
  const bound = words.match(/^\d+$/)
  const count = Number(random.text.split(' ').at(-1))
  return matching(() => {
    numberOf(bound, count - 1, `Value ${bound} exceeds valid range 0-${count - 1}`)
    return { text: `${random.text} ${below}${bound}`, effects: [] }
  })
}

/** The kernel keeps 16 bytes, the last of them 0; a star at the end stands for anything. */
function inputInterface(words: Words): Statement {
  words.expect('iifname')
  const negation = words.take('!=') ? '!= ' : ''
  const name = words.match(/^"[^"]*"$/)
  return matching(() => {
    if (name === '""') throw new EvaluationProblem('Empty string is not allowed')
    if (name === '"*"') throw new EvaluationProblem('All-wildcard strings are not supported')
    if (name.length - 2 >= 16) throw new EvaluationProblem('String exceeds maximum length of 16')
    return { text: `iifname ${negation}${name}`, effects: [] }
  })
}

function addressKind(words: Words): Statement {
  words.expect('fib')
  const side = words.match(/^[sd]addr$/)
  words.expect('type')
  const negation = words.take('!=') ? '!= ' : ''
  words.expect('local')
  return plain(`fib ${side} type ${negation}2`)
}

const markText = (mark: number): string => `0x${mark.toString(16).padStart(8, '0')}`

function markStatement(words: Words): Statement {
  words.expect('meta', 'mark')
  const operator = words.take('set', 'meta', 'mark') ? words.match(/^[|^]$/) : words.match(/^&$/)
  const word = words.match(/^0x[0-9a-f]+$/)
  if (operator === '&') words.expect('!=', '0x0')
  return matching(() => {
    const mark = numberOf(word, 0xffffffff, `Value ${Number(word)} exceeds valid range 0-4294967295`)
    // nft lists what changes nothing as something else; nobody means it.
    if (mark === 0) throw new EvaluationProblem('an empty mark')
    if (operator !== '&') return { text: `meta mark set meta mark ${operator} ${markText(mark)}`, effects: [] }
    const bits = mark.toString(2).padStart(32, '0')
    const prefix = /^(1+)0*$/.exec(bits)?.[1]?.length
    const text = prefix === undefined ? `& ${markText(mark)} != ${markText(0)}` : `!= ${markText(0)}/${prefix}`
    return { text: `meta mark ${text}`, effects: [] }
  })
}

/** nft also takes a set without a timeout, and changes it on the way. */
function remember(words: Words): Statement {
  words.expect('update')
  const name = reference(words)
  words.expect('{')
  const key = takeExpressions(words)
  words.expect('}')
  return matching(context => {
    checkFamily(key, context.family)
    const set = context.set(name)
    const types = key.map(({ type }) => type)
    if (!sameTypes(types, set.key)) {
      throw new EvaluationProblem(`datatype mismatch: expected ${typesText(set.key)}, it is ${typesText(types)}`)
    }
    if (!set.dynamic) throw new EvaluationProblem(`@${name} is not dynamic`)
    const text = `update @${name} { ${key.map(expression => expression.text).join(' . ')} }`
    return { text, effects: [{ kind: 'looks up', set: name, verdicts: false }] }
  })
}

const natted: Effect = { kind: 'needs', hooks: ['prerouting', 'output'], nat: true }

function destination(words: Words): Statement {
  words.expect('dnat')
  if (words.take('to')) return fixedDestination(words)
  const word = words.match(/^ip6?$/)
  words.expect('to')
  const key = takeExpressions(words)
  words.expect('map')
  const name = reference(words)
  return matching(context => {
    checkFamily([{ text: word, type: addressType(context.family) }, ...key], context.family)
    const set = context.set(name)
    const types = key.map(({ type }) => type)
    if (set.data === undefined) throw new EvaluationProblem('Expression is not a map')
    if (!sameTypes(types, set.key)) {
      throw new EvaluationProblem(`datatype mismatch, map expects ${typesText(set.key)}, it is ${typesText(types)}`)
    }
    if (set.data === 'verdict' || !sameTypes(set.data, [addressType(context.family), 'inet_service'])) {
      throw new EvaluationProblem('datatype mismatch, the map does not lead to addresses and ports')
    }
    // nft 1.0.6 loses its way in the type of a map that it has read from the kernel.
    if (!set.isNew) throw new EvaluationProblem(`conflicting protocols specified: ${word} vs. th`, 'internal:0:0-0')
    const text = `dnat ${word} to ${key.map(expression => expression.text).join(' . ')} map @${name}`
    return { text, effects: [{ kind: 'looks up', set: name, verdicts: false }, natted] }
  }, true)
}

function fixedDestination(words: Words): Statement {
  const word = words.match(/^(?:\[[0-9a-f:.]+\]|[0-9.]+):\d+$/)
  const end = word.lastIndexOf(':')
  const [host, port] = [word.slice(0, end).replace(/^\[|\]$/g, ''), word.slice(end + 1)]
  return matching(({ family }, before) => {
    const type = addressType(family)
    const ip = listedValue(type, host)
    const number = listedValue('inet_service', port)
    if (!before.some(({ text }) => /^meta l4proto \d+$/.test(text))) {
      throw new EvaluationProblem('transport protocol mapping is only valid after transport protocol match')
    }
    return { text: `dnat to ${type === 'ipv6_addr' ? `[${ip}]` : ip}:${number}`, effects: [natted] }
  }, true)
}
