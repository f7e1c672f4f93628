// What nft does with a script before the kernel sees it: sets are looked up and values read, in the order of the commands.
import { EvaluationProblem, missing } from './problems.ts'
import { type Context, evaluateRule, type KnownSet, type Rule } from './rule.ts'
import type { Element, Ruleset } from './ruleset.ts'
import type { Command, Definition, Hook, WrittenElement } from './script.ts'
import { listedValue, sameTypes, type Type, typesText } from './types.ts'

/** One message to the kernel. */
export type Operation = { readonly table: string } & (
  | { readonly kind: 'add table' | 'delete table' }
  | { readonly kind: 'add chain'; readonly name: string; readonly hook: Hook | undefined }
  | { readonly kind: 'flush chain' | 'delete chain' | 'delete container'; readonly name: string }
  | { readonly kind: 'add container'; readonly name: string; readonly definition: Definition }
  | { readonly kind: 'add rule'; readonly name: string; readonly first: boolean; readonly rule: Rule }
  | {
      readonly kind: 'add elements' | 'delete elements'
      readonly name: string
      readonly elements: readonly (readonly [key: string, element: Element])[]
    }
)

/** nft's own picture of tables and their sets, brought up to date command by command. */
export class Evaluator {
  readonly #sets = new Map<string, Map<string, KnownSet>>()

  constructor(ruleset: Ruleset) {
    for (const [table, { containers }] of ruleset) {
      const sets = new Map<string, KnownSet>()
      for (const [name, { definition }] of containers) sets.set(name, known(definition, false))
      this.#sets.set(table, sets)
    }
  }

  /** Throws EvaluationProblem. */
  evaluate(command: Command): Operation {
    const { table } = command
    switch (command.kind) {
      case 'add table':
        if (!this.#sets.has(table)) this.#sets.set(table, new Map())
        return command
      case 'delete table':
        this.#sets.delete(table)
        return command
      case 'add chain':
        this.#table(table)
        return command
      case 'add container': {
        const sets = this.#table(table)
        if (!sets.has(command.name)) sets.set(command.name, known(command.definition, true))
        return command
      }
      case 'delete container':
        this.#sets.get(table)?.delete(command.name)
        return command
      case 'add rule': {
        const context: Context = { family: command.family, set: name => this.#set(table, name) }
        return { ...command, rule: evaluateRule(command.rule, context) }
      }
      case 'add elements':
      case 'delete elements': {
        const set = this.#set(table, command.name)
        return { ...command, elements: command.elements.map(element => elementOf(element, set)) }
      }
      default:
        return command
    }
  }

  #table(name: string): Map<string, KnownSet> {
    const sets = this.#sets.get(name)
    if (sets === undefined) throw new EvaluationProblem(missing)
    return sets
  }

  #set(table: string, name: string): KnownSet {
    const set = this.#table(table).get(name)
    if (set === undefined) throw new EvaluationProblem(missing)
    return set
  }
}

const known = ({ key, data, dynamic }: Definition, isNew: boolean): KnownSet => ({ key, data, dynamic, isNew })

/** Longest comment that nft keeps. */
const longestComment = 128

function elementOf({ key, comment, data }: WrittenElement, set: KnownSet): readonly [string, Element] {
  // nft lists such elements with the time they have left.
  if (set.dynamic) throw new EvaluationProblem('elements of a dynamic set are the business of the kernel')
  const text = valuesOf(set.key, key)
  if (comment !== undefined && comment.length > longestComment) {
    throw new EvaluationProblem(`comment too long, ${longestComment} characters maximum allowed`)
  }
  if (data === undefined) return [text, { comment, data: undefined, isVerdict: false, chain: undefined }]
  if (set.data === undefined) throw new EvaluationProblem('set is not a map', 'netlink')
  if ('text' in data) return [text, { comment, data: data.text, isVerdict: true, chain: data.chain }]
  if (set.data === 'verdict') throw new EvaluationProblem("Can't parse symbolic invalid expressions")
  return [text, { comment, data: valuesOf(set.data, data), isVerdict: false, chain: undefined }]
}

function valuesOf(types: readonly Type[], words: readonly string[]): string {
  const values = words.map((word, index) => {
    const type = types[index]
    if (type === undefined) throw new EvaluationProblem("Can't parse symbolic invalid expressions")
    return listedValue(type, word)
  })
  const found = types.slice(0, words.length)
  if (!sameTypes(found, types)) {
    throw new EvaluationProblem(`datatype mismatch, expected ${typesText(types)}, it is ${typesText(found)}`)
  }
  return values.join(' . ')
}
