// What the kernel holds. Never changed in place: a copy of the whole costs nothing.
import type { Rule } from './rule.ts'
import type { Definition, Hook } from './script.ts'

export interface Chain {
  readonly hook: Hook | undefined
  readonly rules: readonly Rule[]
}

export interface Element {
  readonly comment: string | undefined
  /** As listed; absent in a set. */
  readonly data: string | undefined
  readonly isVerdict: boolean
  /** Where the verdict leads. */
  readonly chain: string | undefined
}

/** A set or map. */
export interface Container {
  readonly definition: Definition
  /** By key, as listed. */
  readonly elements: ReadonlyMap<string, Element>
}

export interface Table {
  readonly containers: ReadonlyMap<string, Container>
  readonly chains: ReadonlyMap<string, Chain>
}

/** By family and name: `ip penstock`. */
export type Ruleset = ReadonlyMap<string, Table>

const listed = new WeakMap<Chain | Container, string>()

/** As `nft -n list table` prints it. */
export function listTable(name: string, { containers, chains }: Table): string {
  const blocks = [
    ...[...containers].map(([title, container]) => remembered(container, () => containerText(title, container))),
    ...[...chains].map(([title, chain]) => remembered(chain, () => chainText(title, chain))),
  ]
  return `table ${name} {\n${blocks.join('\n')}}\n`
}

/** An object has one name as long as it lives. */
function remembered(object: Chain | Container, print: () => string): string {
  const known = listed.get(object)
  if (known !== undefined) return known
  const text = print()
  listed.set(object, text)
  return text
}

function chainText(name: string, { hook, rules }: Chain): string {
  const lines = rules.map(({ text }) => text)
  if (hook !== undefined) lines.unshift(hookText(hook))
  return `\tchain ${name} {\n${lines.map(line => `\t\t${line}\n`).join('')}\t}\n`
}

const hookText = ({ type, hook, priority, policy }: Hook): string =>
  `type ${type} hook ${hook} priority ${priority}; policy ${policy};`

function containerText(name: string, { definition, elements }: Container): string {
  const lines = definition.lines.map(line => `\t\t${line}\n`).join('')
  const inside = elements.size === 0 ? '' : `\t\telements = { ${elementLines(definition, elements)} }\n`
  return `\t${definition.kind} ${name} {\n${lines}${inside}\t}\n`
}

/**
 * In an order that is not that of their making: the kernel's is one of hashes. nft puts two addresses, or five of
 * anything shorter, on a line, and else one element.
 */
function elementLines({ key, data }: Definition, elements: ReadonlyMap<string, Element>): string {
  const texts = [...elements]
    .map(([text, element]) => ({ order: [...text].reverse().join(''), text: elementText(text, element) }))
    .sort((a, b) => (a.order < b.order ? -1 : 1))
    .map(({ text }) => text)
  const isAddress = key[0] === 'ipv4_addr' || key[0] === 'ipv6_addr'
  const inLine = key.length > 1 || data !== undefined ? 1 : isAddress ? 2 : 5
  return texts
    .map((text, index) => {
      if (index === texts.length - 1) return text
      return (index + 1) % inLine === 0 ? `${text},\n\t\t\t     ` : `${text}, `
    })
    .join('')
}

function elementText(key: string, { comment, data }: Element): string {
  return `${key}${comment === undefined ? '' : ` comment "${comment}"`}${data === undefined ? '' : ` : ${data}`}`
}
