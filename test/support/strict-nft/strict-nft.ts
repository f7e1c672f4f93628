// An nft in memory, as strict as nft 1.0.6 and the kernel are: what it takes, they take, and it lists what they list.
import type { ExecOptions, ExecResult } from '../../../src/kernel/exec.ts'
import type { Family } from '../../../src/net/ip.ts'
import type { StrictMachine } from '../../conformance/conformance.ts'
import { inputOf } from '../input.ts'
import { listTable, type Ruleset } from './ruleset.ts'
import { type Complaint, type Outcome, type Refuses, runScript } from './transaction.ts'

/** A call, for tests that look at what was run. */
export interface Call {
  readonly args: readonly string[]
  readonly input: string | undefined
}

/** What a call answers instead of being carried out. */
export interface InjectedFailure {
  readonly exitCode: number
  readonly stderr: string
}

/** A machine with nothing but nft on it, and one kernel for both families. Every other command is not found. */
export class StrictNft implements StrictMachine {
  readonly calls: Call[] = []
  #ruleset: Ruleset = new Map()
  #writes = 0
  #refuses: Refuses = () => false
  readonly #failures: InjectedFailure[] = []
  #committed: ((family: Family, frozen: StrictNft) => void) | undefined

  /** Calls that write, so far, failed ones included. */
  writes(): number {
    return this.#writes
  }

  onCommit(listener: ((family: Family, frozen: StrictNft) => void) | undefined): void {
    this.#committed = listener
  }

  /** The next calls that write fail like this, one each, and write nothing. */
  failNext(...failures: readonly InjectedFailure[]): void {
    this.#failures.push(...failures)
  }

  /** The kernel refuses these lines until further notice. */
  refuse(refuses: Refuses): void {
    this.#refuses = refuses
  }

  /** The same machine as it is now: later writes to either do not show in the other. */
  frozen(): StrictNft {
    const copy = new StrictNft()
    copy.#ruleset = this.#ruleset
    return copy
  }

  /** What `nft -f -` makes of a script; it takes effect whole or not at all. */
  apply(script: string): Outcome {
    const outcome = runScript(script, this.#ruleset, this.#refuses)
    if (!outcome.ok) return outcome
    this.#ruleset = outcome.ruleset
    const families = new Set(outcome.tables.map((table): Family => (table.startsWith('ip6 ') ? 'IPv6' : 'IPv4')))
    for (const family of families) this.#committed?.(family, this.frozen())
    return outcome
  }

  /** As `nft -n list table` prints it; undefined if there is none. */
  list(table: string): string | undefined {
    const found = this.#ruleset.get(table)
    return found === undefined ? undefined : listTable(table, found)
  }

  /** As `nft -n list ruleset` prints it: tables of IPv4 first. */
  listAll(): string {
    const names = [...this.#ruleset.keys()]
    const ordered = [...names.filter(name => name.startsWith('ip ')), ...names.filter(name => name.startsWith('ip6 '))]
    return ordered.map(name => this.list(name)).join('')
  }

  /** Answers a turn later, as a program would. */
  async run(command: string, args: readonly string[], options: ExecOptions = {}): Promise<ExecResult> {
    await new Promise(next => setImmediate(next))
    if (options.signal?.aborted === true) return { exitCode: -1, stdout: '', stderr: '', notFound: false }
    if (command !== 'nft') return { exitCode: -1, stdout: '', stderr: '', notFound: true }
    const input = await inputOf(options)
    this.calls.push({ args, input })
    return { ...this.#answer(args.join(' '), input ?? ''), notFound: false }
  }

  #answer(args: string, input: string): Omit<ExecResult, 'notFound'> {
    if (args === '--version') return answered('nftables v1.0.6 (Lester Gooch #5)\n')
    const listed = /^-n list table (ip6? \S+)$/.exec(args)?.[1]
    if (listed !== undefined) {
      const text = this.list(listed)
      return text === undefined ? failed(`Error: No such file or directory\nlist table ${listed}\n`) : answered(text)
    }
    const deletes = /^delete table ip6? \S+$/.test(args)
    if (args !== '-f -' && !deletes) return failed(`Error: syntax error: ${args} is not known here\n`)
    this.#writes++
    const failure = this.#failures.shift()
    if (failure !== undefined) return { ...failure, stdout: '' }
    const outcome = this.apply(deletes ? args : input)
    if (outcome.ok) return answered('')
    const lines = (deletes ? args : input).split('\n')
    return failed(outcome.complaints.map(complaint => complaintText(complaint, lines, deletes)).join(''))
  }
}

const answered = (stdout: string): Omit<ExecResult, 'notFound'> => ({ exitCode: 0, stdout, stderr: '' })
const failed = (stderr: string): Omit<ExecResult, 'notFound'> => ({ exitCode: 1, stdout: '', stderr })

/** Points at the whole line, where nft points at a part of it. */
function complaintText({ line, text, byKernel, instead }: Complaint, lines: readonly string[], bare: boolean): string {
  const said = `Error: ${byKernel ? 'Could not process rule: ' : ''}${text}`
  if (line === undefined) return `${instead === undefined ? '' : `${instead}: `}${said}\n\n`
  const source = lines[line - 1] ?? ''
  const place = bare ? '' : `/dev/stdin:${line}:1-${Math.max(1, source.length)}: `
  return `${place}${said}\n${source}\n${'^'.repeat(Math.max(1, source.length))}\n`
}
