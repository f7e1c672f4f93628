// The lines of an iptables-restore input, each handed to the batch of its table.

import type { Family } from '../../../src/net/ip.ts'
import { Batch, type Refuses } from './batch.ts'
import { LineFailed, ParameterProblem } from './errors.ts'
import { parseRule } from './rule.ts'
import { type Rule, type RuleContext, type Table, type TableName, tableNames, type Variant } from './tables.ts'
import { splitWords } from './words.ts'

/** What one input wrote. */
export interface Counts {
  commits: number
  /** `:` lines and `-N`. */
  chains: number
  /** `-A`, `-I` and `-R`. */
  rules: number
  /** `-D`, `-X` and `-F`. */
  deletions: number
}

export interface RestoreHost {
  readonly family: Family
  readonly variant: Variant
  readonly sets: ReadonlySet<string>
  readonly refuses: Refuses
  table(name: TableName): Table
  /** Takes effect at once: tables are committed one by one. */
  commit(name: TableName, table: Table): void
}

const needsArgument = ['-A', '-I', '-D', '-R', '-C', '-N', '-P', '-E']
const longCommands: Readonly<Record<string, string>> = {
  '--append': '-A',
  '--insert': '-I',
  '--delete': '-D',
  '--replace': '-R',
  '--check': '-C',
  '--new-chain': '-N',
  '--new': '-N',
  '--delete-chain': '-X',
  '--flush': '-F',
  '--policy': '-P',
}

/** The line on which an input fails, with its error. */
export class RestoreFailed extends Error {
  readonly line: number
  constructor(line: number, cause: unknown) {
    super(`line ${line}`, { cause })
    this.line = line
  }
}

/** The input ends inside a table. */
export class CommitExpected extends Error {}

/** Runs a whole input. Throws RestoreFailed at the first line that fails; tables committed before stay. */
export function restoreInput(text: string, noflush: boolean, host: RestoreHost): Counts {
  const counts: Counts = { commits: 0, chains: 0, rules: 0, deletions: 0 }
  const lines = text.split('\n')
  if (lines.at(-1) === '') lines.pop()
  let batch: Batch | undefined
  let name: TableName | undefined
  for (const [index, line] of lines.entries()) {
    const number = index + 1
    try {
      if (line === '' || line.startsWith('#')) continue
      if (batch === undefined || name === undefined) {
        if (!line.startsWith('*')) throw new LineFailed('')
        name = tableOf(line, host, number)
        const { variant, refuses } = host
        batch = new Batch({ name, variant, base: host.table(name), flush: !noflush, refuses })
      } else if (line === 'COMMIT') {
        host.commit(name, batch.commit())
        counts.commits++
        batch = undefined
      } else command(line, number, batch, contextOf(host, name, batch), counts)
    } catch (error) {
      throw new RestoreFailed(number, error)
    }
  }
  if (batch !== undefined) throw new RestoreFailed(lines.length + 1, new CommitExpected())
  return counts
}

function tableOf(line: string, { variant }: RestoreHost, number: number): TableName {
  const word = line.slice(1).trim()
  const name = tableNames.find(known => known === word)
  if (name !== undefined) return name
  throw new ParameterProblem(
    variant === 'nft'
      ? `PROGRAM: line ${number} table name '${word}' invalid`
      : `PROGRAM: unable to initialize table '${word}'`,
  )
}

const contextOf = ({ family, variant, sets }: RestoreHost, table: TableName, batch: Batch): RuleContext => ({
  family,
  variant,
  table,
  sets,
  hasChain: chain => batch.hasChain(chain),
})

function command(line: string, number: number, batch: Batch, context: RuleContext, counts: Counts): void {
  if (line.startsWith(':')) {
    const [chain = '', policy] = line.slice(1).split(/[ \t]+/)
    if (policy === undefined || policy === '') throw new ParameterProblem(`PROGRAM: line ${number} policy invalid`)
    counts.chains++
    batch.declare(number, chain, policy)
    return
  }
  // Counters before a rule: `[packets:bytes] -A …`.
  const words = splitWords(line.replace(/^\[\d+:\d+\] */, ''))
  const [first = '', ...rest] = words
  const verb = longCommands[first] ?? first
  if (!/^-[A-Z]$/.test(verb)) throw unknownWord(first)
  if (needsArgument.includes(verb) && rest.length === 0)
    throw new ParameterProblem(`option "${first}" requires an argument`)
  if (words.includes('-t')) throw new ParameterProblem('The -t option cannot be used in PROGRAM.\n')
  if (!runRule(verb, rest, number, batch, context, counts)) runChain(verb, rest, number, batch, counts)
}

const unknownWord = (word: string): ParameterProblem =>
  word.startsWith('-')
    ? new ParameterProblem(`unknown option "${word}"`)
    : new ParameterProblem(`Bad argument \`${word}'`, true)

function runRule(
  verb: string,
  rest: readonly string[],
  line: number,
  batch: Batch,
  context: RuleContext,
  counts: Counts,
): boolean {
  const [chain = '', second = ''] = rest
  const parse = (from: number): Rule => parseRule(chain, rest.slice(from), context)
  const position = /^\d+$/.test(second) ? Number(second) : undefined
  if (position === 0) throw new ParameterProblem(`Invalid rule number \`${second}'`)
  switch (verb) {
    case '-A':
      counts.rules++
      batch.insert(line, chain, parse(1))
      return true
    case '-I':
      counts.rules++
      batch.insert(line, chain, parse(position === undefined ? 1 : 2), position ?? 1)
      return true
    case '-R':
      if (position === undefined) throw new ParameterProblem('-R requires a rule number')
      counts.rules++
      batch.replace(line, chain, parse(2), position)
      return true
    case '-D':
      counts.deletions++
      if (position !== undefined && rest.length > 2)
        throw new ParameterProblem('Illegal option with -D and a rule number')
      batch.remove(line, chain, position ?? parse(1))
      return true
    case '-C':
      batch.check(chain, parse(1))
      return true
    default:
      return false
  }
}

function runChain(verb: string, rest: readonly string[], line: number, batch: Batch, counts: Counts): void {
  const [chain, policy, ...more] = rest
  const spare = verb === '-P' ? more[0] : policy
  if (spare !== undefined) throw new ParameterProblem(`Bad argument \`${spare}'`, true)
  switch (verb) {
    case '-N':
      counts.chains++
      batch.newChain(line, chain ?? '')
      return
    case '-F':
      counts.deletions++
      batch.flush(line, chain)
      return
    case '-X':
      counts.deletions++
      batch.removeChain(line, chain)
      return
    case '-P':
      if (policy === undefined) throw new ParameterProblem('-P requires a chain and a policy')
      batch.setPolicy(line, chain ?? '', policy)
      return
    default:
      throw new ParameterProblem(`unknown option "${verb}"`)
  }
}
