// An iptables in memory, as strict as the tools and the kernel are: what it takes, they take, and it saves what they save.
import type { Family } from '../../../src/net/ip.ts'
import { Crashed, PolicyProblem, type Refuses } from './batch.ts'
import { KernelRefused, LineFailed, ParameterProblem } from './errors.ts'
import { CommitExpected, type Counts, RestoreFailed, restoreInput } from './restore.ts'
import { emptyTable, hooks, type SetLookup, type Table, type TableName, tableNames, type Variant } from './tables.ts'

export interface ToolResult {
  /** -1 when the tool was ended by a signal. */
  readonly exitCode: number
  readonly stdout: string
  readonly stderr: string
}

/** A failure that a test asks for. */
export type InjectedFailure =
  /** Another program holds the lock: nothing is written. */
  | { readonly kind: 'lock' }
  /** The caller lacks the right: nothing is written. */
  | { readonly kind: 'permission' }
  /** The tool is killed after it committed so many tables. */
  | { readonly kind: 'killed'; readonly afterTables: number }
  | { readonly kind: 'other'; readonly exitCode: number; readonly stderr: string }

export interface StrictIptablesOptions {
  readonly family: Family
  readonly variant: Variant
  /** IP sets that exist: their names, if nothing else of them is to be checked, or where to look for them. */
  readonly sets?: Iterable<string> | SetLookup
}

/** What was written since the start or the last `resetCounts`. */
export interface WriteCounts extends Counts {
  /** Calls of restore, failed ones included. */
  restores: number
}

const noCounts = (): WriteCounts => ({ restores: 0, commits: 0, chains: 0, rules: 0, deletions: 0 })

/** Tables of one family and variant. */
export class StrictIptables {
  readonly family: Family
  readonly variant: Variant
  readonly #setOf: SetLookup
  /** In the order in which they were first used. */
  readonly #tables = new Map<TableName, Table>()
  readonly #failures: InjectedFailure[] = []
  #refuses: Refuses = () => false
  #counts = noCounts()
  #committed: ((table: TableName) => void) | undefined

  constructor({ family, variant, sets = [] }: StrictIptablesOptions) {
    this.family = family
    this.variant = variant
    this.#setOf = typeof sets === 'function' ? sets : lookup(new Set(sets))
  }

  get counts(): Readonly<WriteCounts> {
    return this.#counts
  }

  resetCounts(): void {
    this.#counts = noCounts()
  }

  /** The next restores fail like this, one each. */
  failNext(...failures: readonly InjectedFailure[]): void {
    this.#failures.push(...failures)
  }

  /** The kernel refuses these rules until further notice. */
  refuse(refuses: Refuses): void {
    this.#refuses = refuses
  }

  /** Called after every COMMIT that took effect: packets meet exactly these states. */
  onCommit(listener: ((table: TableName) => void) | undefined): void {
    this.#committed = listener
  }

  /** True if any table was used, be it to look at it. */
  isUsed(): boolean {
    return this.#tables.size > 0
  }

  /** True if a rule looks into the IP set of this name. */
  usesSet(name: string): boolean {
    return [...this.#tables.values()].some(({ chains }) =>
      [...chains.values()].some(({ entries }) => entries.some(({ rule }) => rule.sets.includes(name))),
    )
  }

  /** The same tables in another kernel. Costs next to nothing: tables are never changed in place. */
  copy(sets: SetLookup = this.#setOf): StrictIptables {
    const copy = new StrictIptables({ family: this.family, variant: this.variant, sets })
    for (const [name, table] of this.#tables) copy.#tables.set(name, table)
    return copy
  }

  /** As `iptables-restore` does it; `program` is the name it was called by. */
  restore(
    text: string,
    { noflush = false, program = this.#program('restore') }: { noflush?: boolean; program?: string } = {},
  ): ToolResult {
    this.#counts.restores++
    const failure = this.#failures.shift()
    const injected = failure === undefined ? undefined : this.#inject(failure, program)
    if (injected !== undefined) return injected
    let tablesLeft = failure?.kind === 'killed' ? failure.afterTables : Number.POSITIVE_INFINITY
    try {
      const counts = restoreInput(text, noflush, {
        family: this.family,
        variant: this.variant,
        setOf: this.#setOf,
        refuses: (rule, chain, table) => this.#refuses(rule, chain, table),
        table: name => this.#table(name),
        commit: (name, table) => {
          if (tablesLeft-- <= 0) throw new Crashed()
          this.#tables.set(name, table)
          this.#committed?.(name)
        },
      })
      for (const key of ['commits', 'chains', 'rules', 'deletions'] as const) this.#counts[key] += counts[key]
      return { exitCode: 0, stdout: '', stderr: '' }
    } catch (error) {
      if (error instanceof RestoreFailed) return this.#describe(error, program)
      throw error
    }
  }

  /** As `iptables-save` prints it, but for the time. Throws for a table that does not exist. */
  save(table?: string, program = this.#program('save')): string {
    const names = table === undefined ? this.#savedTables() : [tableNames.find(name => name === table)]
    return names
      .map(name => {
        if (name === undefined) throw new Error(`there is no table ${table}`)
        const shown = this.variant === 'legacy' ? 'iptables-save v1.8.9' : `${program} v1.8.9 (nf_tables)`
        const when = 'Thu Jan  1 00:00:00 1970'
        const tool = this.family === 'IPv6' && this.variant === 'legacy' ? shown.replace('ip', 'ip6') : shown
        return `# Generated by ${tool} on ${when}\n${printTable(name, this.#table(name))}# Completed on ${when}\n`
      })
      .join('')
  }

  #program(tool: 'restore' | 'save'): string {
    const base = this.family === 'IPv4' ? 'iptables' : 'ip6tables'
    return this.variant === 'legacy' ? `${base}-${tool}` : `${base}-nft-${tool}`
  }

  #table(name: TableName): Table {
    const known = this.#tables.get(name)
    if (known !== undefined) return known
    const table = emptyTable(name, this.variant)
    if (this.variant === 'legacy') this.#tables.set(name, table)
    return table
  }

  #savedTables(): TableName[] {
    if (this.variant === 'legacy') return [...this.#tables.keys()].reverse()
    const order: readonly TableName[] = ['mangle', 'security', 'raw', 'filter', 'nat']
    return order.filter(name => this.#tables.has(name))
  }

  #inject(failure: InjectedFailure, program: string): ToolResult | undefined {
    switch (failure.kind) {
      case 'killed':
        return undefined
      case 'lock':
        return failed(4, 'Another app is currently holding the xtables lock. Perhaps you want to use the -w option?\n')
      case 'permission':
        return failed(
          4,
          this.variant === 'nft'
            ? `${program} v1.8.9 (nf_tables): Could not fetch rule set generation id: Permission denied (you must be root)\n`
            : "Fatal: can't open lock file /run/xtables.lock: Permission denied\n",
        )
      case 'other':
        return failed(failure.exitCode, failure.stderr)
    }
  }

  #describe({ line, cause }: RestoreFailed, program: string): ToolResult {
    const nft = this.variant === 'nft'
    const named = `${program} v1.8.9 (${nft ? 'nf_tables' : 'legacy'})`
    if (cause instanceof ParameterProblem) {
      const message = cause.message.replace('PROGRAM', program)
      const where = `Error occurred at line: ${line}\nTry \`${program} -h' or '${program} --help' for more information.\n`
      return failed(2, `${cause.bare ? message : `${named}: ${message}`}\n${where}`)
    }
    if (cause instanceof KernelRefused) {
      return nft ? failed(4, `${named}: \n${cause.message}\n`) : failed(1, `${program}: line ${line} failed\n`)
    }
    if (cause instanceof LineFailed) {
      const reason = nft && cause.message !== '' ? `: ${cause.message}` : ''
      return failed(1, `${program}: line ${line} failed${reason}\n`)
    }
    if (cause instanceof PolicyProblem) return failed(1, `${named}: ${cause.message}\n`)
    if (cause instanceof CommitExpected) return failed(1, `${program}: COMMIT expected at line ${line}\n`)
    if (cause instanceof Crashed) return failed(-1, '')
    throw cause
  }
}

const lookup =
  (names: ReadonlySet<string>): SetLookup =>
  name =>
    names.has(name) ? {} : undefined

const failed = (exitCode: number, stderr: string): ToolResult => ({ exitCode, stdout: '', stderr })

/** Built-in chains in their order, then those of users by name; rules in the same order. */
function printTable(name: TableName, { chains }: Table): string {
  const builtIn: readonly string[] = hooks[name]
  const users = [...chains.keys()].filter(chain => !builtIn.includes(chain)).sort()
  const lines = [`*${name}`]
  for (const chain of [...builtIn, ...users])
    lines.push(`:${chain} ${chains.get(chain)?.policy ?? (builtIn.includes(chain) ? 'ACCEPT' : '-')} [0:0]`)
  for (const chain of [...builtIn, ...users]) {
    for (const { rule } of chains.get(chain)?.entries ?? [])
      lines.push(`-A ${chain}${rule.text === '' ? '' : ` ${rule.text}`}`)
  }
  return `${lines.join('\n')}\nCOMMIT\n`
}
