// The lines of an iptables-restore input, each handed to the batch of its table.

import type { Family } from '../../../src/net/ip.ts'
import { Batch, checkChainName, type Refuses } from './batch.ts'
import { LineFailed, ParameterProblem } from './errors.ts'
import { noFiltering, parseRule } from './rule.ts'
import {
  type Rule,
  type RuleContext,
  type SetLookup,
  type Table,
  type TableName,
  tableNames,
  type Variant,
} from './tables.ts'
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
  readonly setOf: SetLookup
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

/** A command that was understood, to be carried out. */
interface Command {
  readonly line: number
  readonly run: () => void
}

/**
 * Runs a whole input. Throws RestoreFailed at the first line that fails; tables committed before stay. Legacy carries out
 * each line as it comes; nft reads all lines up to COMMIT first.
 */
export function restoreInput(text: string, noflush: boolean, host: RestoreHost): Counts {
  const counts: Counts = { commits: 0, chains: 0, rules: 0, deletions: 0 }
  const lines = text.split('\n')
  if (lines.at(-1) === '') lines.pop()
  let open: { name: TableName; batch: Batch; queue: Command[] } | undefined
  for (const [index, line] of lines.entries()) {
    const number = index + 1
    try {
      if (line === '' || line.startsWith('#')) continue
      if (open === undefined) {
        if (!line.startsWith('*')) throw new LineFailed('')
        const name = tableOf(line, host, number)
        const { variant, refuses } = host
        open = {
          name,
          batch: new Batch({ name, variant, base: host.table(name), flush: !noflush, refuses }),
          queue: [],
        }
      } else if (line === 'COMMIT') {
        for (const queued of open.queue) carryOut(queued)
        host.commit(open.name, open.batch.commit())
        counts.commits++
        open = undefined
      } else {
        const run = command(line, number, open.batch, contextOf(host, open.name, open.batch), counts)
        if (host.variant === 'legacy') run()
        else open.queue.push({ line: number, run })
      }
    } catch (error) {
      throw error instanceof RestoreFailed ? error : new RestoreFailed(number, error)
    }
  }
  if (open !== undefined) throw new RestoreFailed(lines.length + 1, new CommitExpected())
  return counts
}

/** A command that cannot be carried out is blamed on its own line, a missing target on COMMIT's. */
function carryOut({ line, run }: Command): void {
  try {
    run()
  } catch (error) {
    throw error instanceof LineFailed ? new RestoreFailed(line, error) : error
  }
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

const contextOf = ({ family, variant, setOf }: RestoreHost, table: TableName, batch: Batch): RuleContext => ({
  family,
  variant,
  table,
  setOf,
  hasChain: chain => batch.hasChain(chain),
})

/** Reads one line. Throws ParameterProblem if it is not understood; what it returns carries it out. */
function command(line: string, number: number, batch: Batch, context: RuleContext, counts: Counts): () => void {
  if (line.startsWith(':')) {
    const [chain = '', policy] = line.slice(1).split(/[ \t]+/)
    checkChainName(chain, context.variant, false)
    if (policy === undefined || policy === '') throw new ParameterProblem(`PROGRAM: line ${number} policy invalid`)
    checkPolicy(policy, context)
    counts.chains++
    return () => batch.declare(number, chain, policy)
  }
  // Counters before a rule: `[packets:bytes] -A …`.
  const words = splitWords(line.replace(/^\[\d+:\d+\] */, ''))
  const [first = '', ...rest] = words
  const verb = longCommands[first] ?? first
  if (!/^-[A-Z]$/.test(verb)) throw unknownWord(first)
  if (needsArgument.includes(verb) && rest.length === 0)
    throw new ParameterProblem(`option "${first}" requires an argument`)
  if (words.includes('-t')) throw new ParameterProblem('The -t option cannot be used in PROGRAM.\n')
  return (
    ruleCommand(verb, rest, number, batch, context, counts) ?? chainCommand(verb, rest, number, batch, context, counts)
  )
}

function checkPolicy(policy: string, { table }: RuleContext): void {
  if (policy === 'DROP' && table === 'nat') throw new ParameterProblem(noFiltering)
}

const unknownWord = (word: string): ParameterProblem =>
  word.startsWith('-')
    ? new ParameterProblem(`unknown option "${word}"`)
    : new ParameterProblem(`Bad argument \`${word}'`, true)

function ruleCommand(
  verb: string,
  rest: readonly string[],
  line: number,
  batch: Batch,
  context: RuleContext,
  counts: Counts,
): (() => void) | undefined {
  const [chain = '', second = ''] = rest
  const parse = (from: number): Rule => parseRule(chain, rest.slice(from), context)
  const position = /^\d+$/.test(second) ? Number(second) : undefined
  if (position === 0) throw new ParameterProblem(`Invalid rule number \`${second}'`)
  switch (verb) {
    case '-A': {
      counts.rules++
      const rule = parse(1)
      return () => batch.insert(line, chain, rule)
    }
    case '-I': {
      counts.rules++
      const rule = parse(position === undefined ? 1 : 2)
      return () => batch.insert(line, chain, rule, position ?? 1)
    }
    case '-R': {
      if (position === undefined) throw new ParameterProblem('-R requires a rule number')
      counts.rules++
      const rule = parse(2)
      return () => batch.replace(line, chain, rule, position)
    }
    case '-D': {
      counts.deletions++
      if (position !== undefined && rest.length > 2)
        throw new ParameterProblem('Illegal option with -D and a rule number')
      const which = position ?? parse(1)
      return () => batch.remove(line, chain, which)
    }
    case '-C': {
      const rule = parse(1)
      return () => batch.check(chain, rule)
    }
    default:
      return undefined
  }
}

function chainCommand(
  verb: string,
  rest: readonly string[],
  line: number,
  batch: Batch,
  context: RuleContext,
  counts: Counts,
): () => void {
  const [chain, policy, ...more] = rest
  const spare = verb === '-P' ? more[0] : policy
  if (spare !== undefined) throw new ParameterProblem(`Bad argument \`${spare}'`, true)
  switch (verb) {
    case '-N':
      counts.chains++
      checkChainName(chain ?? '', context.variant, true)
      return () => batch.newChain(line, chain ?? '')
    case '-F':
      counts.deletions++
      return () => batch.flush(line, chain)
    case '-X':
      counts.deletions++
      return () => batch.removeChain(line, chain)
    case '-P':
      if (policy === undefined) throw new ParameterProblem('-P requires a chain and a policy')
      checkPolicy(policy, context)
      return () => batch.setPolicy(line, chain ?? '', policy)
    default:
      throw new ParameterProblem(`unknown option "${verb}"`)
  }
}
