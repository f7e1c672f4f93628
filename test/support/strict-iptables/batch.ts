// The commands between a table's line and its COMMIT, carried out on a copy: all of them take effect, or none.
import { KernelRefused, LineFailed, ParameterProblem } from './errors.ts'
import { longestChainName } from './rule.ts'
import {
  type Chain,
  type Entry,
  emptyTable,
  hooks,
  type Rule,
  type Table,
  type TableName,
  type Variant,
} from './tables.ts'
import { problemOf } from './validate.ts'

/** True if the kernel shall refuse a rule; for tests of how refusals are handled. */
export type Refuses = (rule: string, chain: string, table: TableName) => boolean

interface WorkingChain {
  policy: 'ACCEPT' | 'DROP' | undefined
  entries: Entry[]
}

export interface BatchOptions {
  readonly name: TableName
  readonly variant: Variant
  readonly base: Table
  /** Everything that is there goes first. */
  readonly flush: boolean
  readonly refuses: Refuses
}

const missing = 'No chain/target/match by that name.'

export class Batch {
  readonly #options: BatchOptions
  readonly #base: Table
  readonly #touched = new Map<string, WorkingChain>()
  readonly #removed = new Set<string>()
  #references: Map<string, number> | undefined
  /** How many rules were added by each line, to find the one that a table's problem came with. */
  readonly #steps: {
    readonly line: number
    readonly text: string | undefined
    readonly redo: (batch: Batch) => void
  }[] = []
  /** Chains that the tool believes deleted and the kernel keeps. */
  readonly #undeletable = new Set<string>()
  #failures: { readonly line: number; readonly text: string; readonly chain?: string }[] = []

  constructor(options: BatchOptions) {
    this.#options = options
    this.#base = options.flush ? emptyTable(options.name, options.variant) : options.base
  }

  hasChain(name: string): boolean {
    return this.#touched.has(name) || (this.#base.chains.has(name) && !this.#removed.has(name))
  }

  /** `:NAME POLICY`: makes the chain, or flushes one that users made. */
  declare(line: number, name: string, policy: string): void {
    if (this.#isBuiltIn(name)) {
      if (policy === '-') this.#init(line, name)
      else this.setPolicy(line, name, policy, true)
      return
    }
    if (this.#options.variant === 'legacy') {
      if (this.#options.flush && this.hasChain(name))
        throw new ParameterProblem(`error creating chain '${name}':File exists`)
      if (policy !== '-') throw new PolicyProblem(name, policy, line)
    }
    this.#make(line, name)
  }

  newChain(line: number, name: string): void {
    if (this.hasChain(name)) throw new LineFailed('Chain already exists.')
    this.#make(line, name)
  }

  setPolicy(line: number, name: string, policy: string, declared = false): void {
    const { variant } = this.#options
    if (!this.#isBuiltIn(name)) throw new LineFailed('Bad built-in chain name.')
    if (policy !== 'ACCEPT' && policy !== 'DROP') {
      if (variant === 'legacy' && declared) throw new PolicyProblem(name, policy, line)
      throw new LineFailed('Bad policy name.')
    }
    this.#init(line, name)
    this.#step(line, undefined, batch => {
      batch.#chain(name).policy = policy
    })
  }

  /** `position` counts from 1; undefined appends. */
  insert(line: number, chain: string, rule: Rule, position?: number): void {
    this.#needTarget(rule)
    this.#init(line, chain)
    this.#need(chain)
    const length = this.#read(chain).length
    if (position !== undefined && position > length + 1) throw new LineFailed('Index of insertion too big.')
    const operation = position === undefined || (position === length + 1 && length > 0) ? 'RULE_APPEND' : 'RULE_INSERT'
    const entry = { rule, refused: this.#refuse(line, chain, rule, operation) }
    this.#step(
      line,
      `${operation} failed`,
      batch => {
        const at = position === undefined ? batch.#read(chain).length : position - 1
        batch.#splice(chain, at, 0, entry)
      },
      chain,
    )
  }

  replace(line: number, chain: string, rule: Rule, position: number): void {
    this.#needTarget(rule)
    this.#need(chain)
    const before = this.#read(chain)[position - 1]
    if (before === undefined) throw new LineFailed('Index of replacement too big.')
    // iptables 1.8.9 over nf_tables ends with a segmentation fault if the rule is of the same batch.
    if (this.#options.variant === 'nft' && this.#base.chains.get(chain)?.entries.includes(before) !== true)
      throw new Crashed()
    const entry = { rule, refused: this.#refuse(line, chain, rule, 'RULE_REPLACE') }
    this.#step(line, 'RULE_REPLACE failed', batch => batch.#splice(chain, position - 1, 1, entry), chain)
  }

  /** By rule or by position, which counts from 1. */
  remove(line: number, chain: string, which: Rule | number): void {
    const bad = 'Bad rule (does a matching rule exist in that chain?).'
    if (typeof which !== 'number') this.#needTarget(which)
    if (!this.hasChain(chain)) throw new LineFailed(typeof which === 'number' ? missing : bad)
    const index =
      typeof which === 'number' ? which - 1 : this.#read(chain).findIndex(({ rule }) => rule.text === which.text)
    const found = this.#read(chain)[index]
    if (found === undefined) throw new LineFailed(typeof which === 'number' ? 'Index of deletion too big.' : bad)
    if (found.refused)
      this.#failures.push({
        line,
        text: `RULE_DELETE failed (No such file or directory): rule in chain ${chain}`,
        chain,
      })
    this.#step(line, undefined, batch => batch.#splice(chain, index, 1))
  }

  /** Throws LineFailed if the rule is not there. */
  check(chain: string, rule: Rule): void {
    const found = this.hasChain(chain) && this.#read(chain).some(entry => entry.rule.text === rule.text)
    if (!found) throw new LineFailed('Bad rule (does a matching rule exist in that chain?).')
  }

  /** All chains without a name. */
  flush(line: number, chain?: string): void {
    if (chain !== undefined) {
      this.#init(line, chain)
      this.#need(chain)
    }
    const names = chain === undefined ? [...this.#names()] : [chain]
    this.#step(line, undefined, batch => {
      for (const name of names) batch.#empty(name)
    })
  }

  /** All chains that users made without a name. */
  removeChain(line: number, chain?: string): void {
    const names = chain === undefined ? [...this.#names()].filter(name => !this.#isBuiltIn(name)) : [chain]
    for (const name of names) {
      if (!this.hasChain(name)) throw new LineFailed(missing)
      const references = this.#counts().get(name) ?? 0
      const used = references > 0 || this.#read(name).some(({ refused }) => !refused) || this.#isBuiltIn(name)
      if (used && this.#options.variant === 'legacy') throw new LineFailed('')
      if (used) {
        this.#failures.push({ line, text: `CHAIN_DEL failed (Device or resource busy): chain ${name}` })
        this.#undeletable.add(name)
        if (this.#isBuiltIn(name)) continue
      }
      this.#step(line, undefined, batch => batch.#drop(name))
    }
  }

  /** The table with every command carried out. Throws KernelRefused or ParameterProblem if the kernel takes none of them. */
  commit(): Table {
    if (this.#failures.length > 0) throw new KernelRefused(this.#failures)
    // Legacy hands over the table as it has become; lines do not matter any more.
    const isLegacy = this.#options.variant === 'legacy'
    for (const [chain, { entries }] of isLegacy ? this.#touched : []) {
      if (entries.some(({ rule }) => this.#isRefused(rule, chain))) throw new KernelRefused([])
    }
    const table = this.#table()
    const problem = problemOf(table, this.#options.name, this.#options.variant)
    if (problem !== undefined) throw new KernelRefused(this.#blame(problem))
    return table
  }

  /** The lines that nf_tables names: the first whose rule makes the table wrong, and every rule after it. */
  #blame(problem: string): { line: number; text: string }[] {
    const { name, variant } = this.#options
    let good = 0
    let bad = this.#steps.length
    while (good + 1 < bad) {
      const middle = (good + bad) >> 1
      const prefix = new Batch({ ...this.#options, base: this.#base, flush: false })
      for (const { redo } of this.#steps.slice(0, middle)) redo(prefix)
      if (problemOf(prefix.#table(), name, variant) === undefined) good = middle
      else bad = middle
    }
    return this.#steps.slice(bad - 1).flatMap(({ line, text }) => {
      if (text === undefined) return []
      const [operation = '', chain = ''] = text.split('\n')
      return [{ line, text: `${operation} (${problem}): rule in chain ${chain}` }]
    })
  }

  #table(): Table {
    const chains = new Map(this.#base.chains)
    for (const name of this.#removed) chains.delete(name)
    for (const [name, { policy, entries }] of this.#touched) {
      const chain: Chain = policy === undefined ? { entries: [...entries] } : { policy, entries: [...entries] }
      chains.set(name, chain)
    }
    return { chains }
  }

  /** nf_tables looks at each rule by itself as it comes. True if it refuses this one; what comes after is still tried. */
  #refuse(line: number, chain: string, rule: Rule, operation: string): boolean {
    const { jump } = rule
    const builtIn = jump !== undefined && this.#isBuiltIn(jump)
    if (this.#options.variant === 'legacy') {
      if (builtIn) throw new LineFailed('')
      return false
    }
    if (!builtIn && !this.#isRefused(rule, chain)) return false
    const missingHook = builtIn && !this.hasChain(jump)
    const reason = missingHook ? 'No such file or directory' : builtIn ? 'Operation not supported' : 'Invalid argument'
    this.#failures.push({ line, text: `${operation} failed (${reason}): rule in chain ${chain}`, chain })
    return true
  }

  #isRefused(rule: Rule, chain: string): boolean {
    const { name, variant, refuses } = this.#options
    return (
      rule.needs.some(need => need.refused === true || (need.table !== undefined && need.table !== name)) ||
      (variant === 'legacy' ? rule.legacyRefused : this.#isBuiltIn(chain) && !allowsChain(rule, chain)) ||
      refuses(rule.text, chain, name)
    )
  }

  /** nft looks for the chain a rule jumps to when it carries out the command, before it looks for the rule's own chain. */
  #needTarget({ jump }: Rule): void {
    if (jump !== undefined && !this.hasChain(jump) && !this.#isBuiltIn(jump))
      throw new ParameterProblem(`Chain '${jump}' does not exist`)
  }

  /** nft makes a built-in chain when a rule or policy first needs it. */
  #init(line: number, name: string): void {
    if (!this.#isBuiltIn(name) || this.hasChain(name)) return
    this.#step(line, undefined, batch => batch.#touched.set(name, { policy: 'ACCEPT', entries: [] }))
  }

  #step(line: number, operation: string | undefined, redo: (batch: Batch) => void, chain = ''): void {
    this.#steps.push({ line, text: operation === undefined ? undefined : `${operation}\n${chain}`, redo })
    redo(this)
  }

  #make(line: number, name: string): void {
    if (this.#undeletable.has(name))
      this.#failures.push({ line, text: `CHAIN_USER_ADD failed (File exists): chain ${name}` })
    this.#step(line, undefined, batch => batch.#create(name))
  }

  #create(name: string): void {
    if (this.hasChain(name)) {
      this.#splice(name, 0, this.#read(name).length)
      return
    }
    this.#removed.delete(name)
    this.#touched.set(name, { policy: undefined, entries: [] })
  }

  /** After `-F` (not after `:A`) rules of the same batch are not even handed to the kernel: it does not refuse them. */
  #empty(name: string): void {
    this.#splice(name, 0, this.#read(name).length)
    this.#failures = this.#failures.filter(({ chain }) => chain !== name)
  }

  #drop(name: string): void {
    this.#touched.delete(name)
    this.#removed.add(name)
  }

  #splice(name: string, at: number, count: number, entry?: Entry): void {
    const { entries } = this.#chain(name)
    const gone = entries.splice(at, count, ...(entry === undefined ? [] : [entry]))
    if (this.#references === undefined) return
    for (const old of gone) this.#count(old, -1)
    if (entry !== undefined) this.#count(entry, 1)
  }

  #count({ rule: { jump }, refused }: Entry, change: number): void {
    if (jump !== undefined && !refused) this.#references?.set(jump, (this.#references.get(jump) ?? 0) + change)
  }

  /** How many rules jump to each chain. */
  #counts(): ReadonlyMap<string, number> {
    if (this.#references === undefined) {
      this.#references = new Map()
      for (const name of this.#names()) for (const entry of this.#read(name)) this.#count(entry, 1)
    }
    return this.#references
  }

  *#names(): Iterable<string> {
    yield* this.#touched.keys()
    for (const name of this.#base.chains.keys()) {
      if (!this.#touched.has(name) && !this.#removed.has(name)) yield name
    }
  }

  #need(name: string): void {
    if (!this.hasChain(name)) throw new LineFailed(missing)
  }

  #read(name: string): readonly Entry[] {
    return this.#touched.get(name)?.entries ?? this.#base.chains.get(name)?.entries ?? []
  }

  #chain(name: string): WorkingChain {
    const known = this.#touched.get(name)
    if (known !== undefined) return known
    const before = this.#base.chains.get(name)
    const chain = { policy: before?.policy, entries: [...(before?.entries ?? [])] }
    this.#touched.set(name, chain)
    return chain
  }

  #isBuiltIn(name: string): boolean {
    const builtIn: readonly string[] = hooks[this.#options.name]
    return builtIn.includes(name)
  }
}

/** Checks the name of a chain to be made, in a `:` line or by `-N`. Throws ParameterProblem. */
export function checkChainName(name: string, variant: Variant, isCommand: boolean): void {
  const nft = variant === 'nft'
  if (name.length > longestChainName) {
    throw new ParameterProblem(
      nft || isCommand
        ? `chain name \`${name}' too long (must be under ${longestChainName + 1} chars)`
        : `Invalid chain name \`${name}' (${longestChainName} chars max)`,
    )
  }
  if (nft && /^[-!]/.test(name)) throw new ParameterProblem(`chain name not allowed to start with \`${name[0]}'`)
  if (/^(?:ACCEPT|DROP|RETURN|QUEUE)$/.test(name)) {
    throw new ParameterProblem(
      nft ? 'chain name may not clash with target name' : `error creating chain '${name}':File exists`,
    )
  }
}

/** Legacy refuses a policy in a `:` line in its own form, with exit code 1. */
export class PolicyProblem extends Error {
  constructor(chain: string, policy: string, line: number) {
    const reason = policy === 'ACCEPT' || policy === 'DROP' ? 'Bad built-in chain name' : 'Bad policy name'
    super(`Can't set policy \`${policy}' on \`${chain}' line ${line}: ${reason}`)
  }
}

/** The tool ends by a signal. */
export class Crashed extends Error {}

const allowsChain = ({ needs }: Rule, chain: string): boolean =>
  needs.every(({ hooks: allowed }) => allowed === undefined || allowed.some(hook => hook === chain))
