// A table in the making: what the kernel does with the messages of one batch, and what it refuses.
import type { Operation } from './evaluate.ts'
import { busy, exists, invalid, KernelProblem, missing, outOfRange, tooManyLinks, unsupported } from './problems.ts'
import type { Rule } from './rule.ts'
import type { Chain, Container, Element, Table } from './ruleset.ts'
import type { Definition, Hook } from './script.ts'

/** Chains in a row, each reached from the one before: the kernel's stack has as many places. */
const deepest = 16

/** Chains of type nat run after conntrack has found the flow. */
const conntrackPriority = -200

export class Draft {
  readonly #containers: Map<string, Container>
  readonly #chains: Map<string, Chain>
  /** Containers whose elements are this draft's own, and may be changed. */
  readonly #own = new Map<string, Map<string, Element>>()
  /** How often a chain is gone to, and a container looked up in, by name. */
  readonly #chainUse = new Map<string, number>()
  readonly #containerUse = new Map<string, number>()

  constructor(base?: Table) {
    this.#containers = new Map(base?.containers)
    this.#chains = new Map(base?.chains)
    for (const { rules } of this.#chains.values()) for (const rule of rules) this.#countRule(rule, 1)
    for (const { elements } of this.#containers.values()) {
      for (const { chain } of elements.values()) this.#countChain(chain, 1)
    }
  }

  finished(): Table {
    for (const [name, elements] of this.#own) {
      const container = this.#containers.get(name)
      if (container !== undefined) this.#containers.set(name, { ...container, elements })
    }
    this.#own.clear()
    return { containers: this.#containers, chains: this.#chains }
  }

  /** Throws KernelProblem. */
  carryOut(operation: Operation): void {
    switch (operation.kind) {
      case 'add table':
      case 'delete table':
        return
      case 'add chain':
        this.#addChain(operation.name, operation.hook)
        return
      case 'flush chain':
        this.#dropRules(operation.name)
        return
      case 'delete chain':
        this.#deleteChain(operation.name)
        return
      case 'add container':
        this.#addContainer(operation.name, operation.definition)
        return
      case 'delete container':
        this.#deleteContainer(operation.name)
        return
      case 'add rule':
        this.#addRule(operation.name, operation.rule, operation.first)
        return
      case 'add elements':
        for (const [key, element] of operation.elements) this.#addElement(operation.name, key, element)
        return
      case 'delete elements':
        for (const [key] of operation.elements) this.#deleteElement(operation.name, key)
    }
  }

  #addChain(name: string, hook: Hook | undefined): void {
    checkName(name)
    const before = this.#chains.get(name)
    if (before === undefined) {
      if (hook?.type === 'nat' && hook.priority <= conntrackPriority) throw new KernelProblem(unsupported)
      this.#chains.set(name, { hook, rules: [] })
      return
    }
    if (hook === undefined) return
    const same = before.hook !== undefined && hookPlace(before.hook) === hookPlace(hook)
    if (!same) throw new KernelProblem(unsupported)
    this.#chains.set(name, { ...before, hook })
  }

  #dropRules(name: string): Chain {
    const chain = this.#chain(name)
    for (const rule of chain.rules) this.#countRule(rule, -1)
    const empty = { ...chain, rules: [] }
    this.#chains.set(name, empty)
    return empty
  }

  #deleteChain(name: string): void {
    const used = this.#chainUse.get(name) ?? 0
    this.#dropRules(name)
    // A rule of its own that goes there counts too.
    if (used > 0) throw new KernelProblem(busy)
    this.#chains.delete(name)
  }

  /** On purpose stricter than the kernel, which compares neither sizes nor timeouts. */
  #addContainer(name: string, definition: Definition): void {
    checkName(name)
    const before = this.#containers.get(name)?.definition
    if (before === undefined) this.#containers.set(name, { definition, elements: new Map() })
    else if (definitionText(before) !== definitionText(definition)) throw new KernelProblem(exists)
  }

  #deleteContainer(name: string): void {
    const container = this.#container(name)
    if ((this.#containerUse.get(name) ?? 0) > 0) throw new KernelProblem(busy)
    const elements = this.#own.get(name) ?? container.elements
    for (const { chain } of elements.values()) this.#countChain(chain, -1)
    this.#own.delete(name)
    this.#containers.delete(name)
  }

  #addRule(name: string, rule: Rule, first: boolean): void {
    const chain = this.#chain(name)
    for (const effect of rule.effects) {
      if (effect.kind === 'looks up') this.#container(effect.set)
      if (effect.kind === 'goes') this.#checkTarget(effect.chain)
    }
    this.#countRule(rule, 1)
    this.#chains.set(name, { ...chain, rules: first ? [rule, ...chain.rules] : [...chain.rules, rule] })
  }

  /** An element that is there already, with the same data, stays as it is: its comment too. */
  #addElement(name: string, key: string, element: Element): void {
    const { definition } = this.#container(name)
    if ((definition.data === undefined) !== (element.data === undefined)) throw new KernelProblem(invalid)
    if (element.isVerdict !== (definition.data === 'verdict')) throw new KernelProblem(invalid)
    this.#checkTarget(element.chain)
    const elements = this.#elements(name)
    const before = elements.get(key)
    if (before !== undefined) {
      if (before.data !== element.data) throw new KernelProblem(exists)
      return
    }
    elements.set(key, element)
    this.#countChain(element.chain, 1)
  }

  #deleteElement(name: string, key: string): void {
    this.#container(name)
    const elements = this.#elements(name)
    const before = elements.get(key)
    if (before === undefined) throw new KernelProblem(missing)
    elements.delete(key)
    this.#countChain(before.chain, -1)
  }

  #elements(name: string): Map<string, Element> {
    const own = this.#own.get(name) ?? new Map(this.#container(name).elements)
    this.#own.set(name, own)
    return own
  }

  #chain(name: string): Chain {
    const chain = this.#chains.get(name)
    if (chain === undefined) throw new KernelProblem(missing)
    return chain
  }

  #container(name: string): Container {
    const container = this.#containers.get(name)
    if (container === undefined) throw new KernelProblem(missing)
    return container
  }

  #checkTarget(name: string | undefined): void {
    if (name !== undefined && this.#chain(name).hook !== undefined) throw new KernelProblem(unsupported)
  }

  #countRule({ effects }: Rule, by: number): void {
    for (const effect of effects) {
      if (effect.kind === 'goes') this.#countChain(effect.chain, by)
      if (effect.kind === 'looks up') {
        this.#containerUse.set(effect.set, (this.#containerUse.get(effect.set) ?? 0) + by)
      }
    }
  }

  #countChain(name: string | undefined, by: number): void {
    if (name !== undefined) this.#chainUse.set(name, (this.#chainUse.get(name) ?? 0) + by)
  }

  /** What the kernel finds wrong with the whole, from the hooks on; undefined if nothing. */
  problem(): string | undefined {
    for (const [name, { hook }] of this.#chains) {
      const found = hook === undefined ? undefined : this.#walk(name, hook, 0, new Map())
      if (found !== undefined) return found
    }
    return undefined
  }

  /** True if some chain leads back to itself, whether a packet can come there or not. */
  hasLoop(): boolean {
    const done = new Set<string>()
    const onTheWay = new Set<string>()
    const leadsBack = (name: string): boolean => {
      if (onTheWay.has(name)) return true
      if (done.has(name)) return false
      onTheWay.add(name)
      const found = this.#targets(name).some(leadsBack)
      onTheWay.delete(name)
      done.add(name)
      return found
    }
    return [...this.#chains.keys()].some(leadsBack)
  }

  #targets(name: string): string[] {
    return (this.#chains.get(name)?.rules ?? []).flatMap(({ effects }) =>
      effects.flatMap(effect => {
        if (effect.kind === 'goes') return [effect.chain]
        return effect.kind === 'looks up' && effect.verdicts ? this.#verdictTargets(effect.set) : []
      }),
    )
  }

  #verdictTargets(name: string): string[] {
    const elements = this.#own.get(name) ?? this.#containers.get(name)?.elements ?? new Map<string, Element>()
    const chains = new Set<string>()
    for (const { chain } of elements.values()) if (chain !== undefined) chains.add(chain)
    return [...chains]
  }

  /** `seen`: the greatest depth at which a chain was found in order. */
  #walk(name: string, hook: Hook, depth: number, seen: Map<string, number>): string | undefined {
    if (depth === deepest) return tooManyLinks
    if (depth <= (seen.get(name) ?? -1)) return undefined
    for (const { effects } of this.#chains.get(name)?.rules ?? []) {
      for (const effect of effects) {
        if (effect.kind === 'needs') {
          if (!effect.hooks.includes(hook.hook) || (effect.nat && hook.type !== 'nat')) return unsupported
          continue
        }
        const targets =
          effect.kind === 'goes' ? [effect.chain] : effect.verdicts ? this.#verdictTargets(effect.set) : []
        for (const target of targets) {
          const found = this.#walk(target, hook, depth + 1, seen)
          if (found !== undefined) return found
        }
      }
    }
    seen.set(name, depth)
    return undefined
  }
}

/** Names have 256 bytes, the last of them 0. Throws KernelProblem. */
export function checkName(name: string): void {
  if (name.length > 255) throw new KernelProblem(outOfRange)
}

const hookPlace = ({ type, hook, priority }: Hook): string => `${type} ${hook} ${priority}`

const definitionText = ({ kind, lines }: Definition): string => [kind, ...lines].join('\n')
