// What a transaction consists of, command by command: as a line of an nft script, and as what the kernel is told.
import type { NftOperation } from '../../kernel/netlink/nft-objects.ts'
import type { Family } from '../../net/ip.ts'
import { containerOf, kernelSet, staticContainer } from './containers.ts'
import { type ElementCodec, type ElementText, elementCodec } from './elements.ts'
import { hookOfText } from './hooks.ts'
import { linearize } from './linearize.ts'
import { chainKey, elementKey, indexedKey, tableOf } from './names.ts'
import { parseRule } from './parse.ts'

/** One line of a script. Values are those of kernel objects. */
export type Command =
  | { readonly kind: 'add-table' | 'delete-table' }
  | { readonly kind: 'add-container'; readonly of: 'set' | 'map'; readonly name: string; readonly value: string }
  | { readonly kind: 'add-chain'; readonly name: string; readonly hook: string | undefined }
  | { readonly kind: 'flush-chain'; readonly name: string }
  | { readonly kind: 'add-rule'; readonly chain: string; readonly rule: string }
  | {
      readonly kind: 'add-elements' | 'delete-elements'
      readonly container: string
      readonly elements: readonly ElementText[]
    }
  | { readonly kind: 'delete'; readonly of: 'chain' | 'set' | 'map'; readonly name: string }

/** The line that nft takes. */
export function lineOf(command: Command, family: Family): string {
  const table = tableOf(family)
  switch (command.kind) {
    case 'add-table':
      return `add table ${table}`
    case 'delete-table':
      return `delete table ${table}`
    case 'add-container':
      return `add ${command.of} ${table} ${command.name} { ${command.value} }`
    case 'add-chain':
      return `add chain ${table} ${command.name}${command.hook === undefined ? '' : ` { ${command.hook} }`}`
    case 'flush-chain':
      return `flush chain ${table} ${command.name}`
    case 'add-rule':
      return `add rule ${table} ${command.chain} ${command.rule}`
    case 'add-elements':
    case 'delete-elements': {
      const verb = command.kind === 'add-elements' ? 'add' : 'delete'
      const elements = command.elements.map(element => textOf(element, verb === 'add'))
      return `${verb} element ${table} ${command.container} { ${elements.join(', ')} }`
    }
    case 'delete':
      return `delete ${command.of} ${table} ${command.name}`
  }
}

function textOf({ key, index, value }: ElementText, isWhole: boolean): string {
  const whole = index === undefined ? key : `${key} . ${index}`
  return isWhole && value !== '' ? `${whole} ${value}` : whole
}

/** True for commands that need what they name: if that is missing, the kernel holds something else than believed. */
export const needsWhatIsThere = ({ kind }: Command): boolean =>
  kind === 'delete' || kind === 'delete-table' || kind === 'delete-elements' || kind === 'flush-chain'

/** The key of the kernel object that a command writes; undefined if it writes none, or several. */
export function objectOf(command: Command): string | undefined {
  switch (command.kind) {
    case 'add-container':
      return `${command.of} ${command.name}`
    case 'add-chain':
      return chainKey(command.name)
    case 'add-rule':
      return chainKey(command.chain)
    case 'add-elements': {
      const [element] = command.elements
      if (element === undefined || command.elements.length > 1) return undefined
      return element.index === undefined
        ? elementKey(command.container, element.key)
        : indexedKey(command.container, element.key)
    }
    default:
      return undefined
  }
}

/** Turns commands into what the kernel is told, for one batch: sets are numbered within it. */
export class Encoder {
  readonly #family: Family
  readonly #tableFlags: number
  readonly #codecs = new Map<string, ElementCodec>()
  #lastId = 0

  /** `tableFlags` are those of a table that is made. */
  constructor(family: Family, tableFlags: number) {
    this.#family = family
    this.#tableFlags = tableFlags
  }

  /** A rule with a set in it is several operations. Throws an Error at what this backend does not write. */
  operationsOf(command: Command): NftOperation[] {
    switch (command.kind) {
      case 'add-table':
        return [{ kind: 'add-table', flags: this.#tableFlags }]
      case 'delete-table':
        return [{ kind: 'delete-table' }]
      case 'add-container':
        return [this.#addSet(command.of, command.name, command.value)]
      case 'add-chain': {
        const hook = command.hook === undefined ? undefined : hookOfText(command.hook)
        return [{ kind: 'add-chain', chain: { name: command.name, ...(hook === undefined ? {} : { hook }) } }]
      }
      case 'flush-chain':
        return [{ kind: 'flush-chain', name: command.name }]
      case 'add-rule':
        return this.#addRule(command.chain, command.rule)
      case 'add-elements': {
        const codec = this.#codec(command.container)
        const elements = command.elements.map(element => codec.encode(element))
        return [{ kind: 'add-elements', set: command.container, elements }]
      }
      case 'delete-elements': {
        const codec = this.#codec(command.container)
        const elements = command.elements.map(element => codec.encodeKey(element))
        return [{ kind: 'delete-elements', set: command.container, elements }]
      }
      case 'delete':
        return [{ kind: command.of === 'chain' ? 'delete-chain' : 'delete-set', name: command.name }]
    }
  }

  #addSet(kind: 'set' | 'map', name: string, value: string): NftOperation {
    const container = containerOf(kind, name, value, this.#family)
    if (container === undefined) throw new Error(`not a ${kind} of ours: ${name} ${value}`)
    return { kind: 'add-set', set: { ...kernelSet(container, this.#family), id: ++this.#lastId } }
  }

  #addRule(chain: string, text: string): NftOperation[] {
    const { expressions, sets } = linearize(parseRule(text, this.#family), this.#family, () => ++this.#lastId)
    const made = sets.flatMap(({ set, elements }): NftOperation[] => [
      { kind: 'add-set', set },
      { kind: 'add-elements', set: set.name, ...(set.id === undefined ? {} : { setId: set.id }), elements },
    ])
    return [...made, { kind: 'add-rule', rule: { chain, expressions } }]
  }

  #codec(name: string): ElementCodec {
    const known = this.#codecs.get(name)
    if (known !== undefined) return known
    const container = staticContainer(name)
    if (container === undefined) throw new Error(`elements of ${name} are not ours to write`)
    const codec = elementCodec(container, this.#family)
    this.#codecs.set(name, codec)
    return codec
  }
}
