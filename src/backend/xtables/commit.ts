// Reading from and writing to the kernel through the iptables programs.
import type { Exec } from '../../kernel/exec.ts'
import type { Family } from '../../net/ip.ts'
import { CommitError, type Program, type Step, type Transaction } from '../backend.ts'
import { chainKey, jumpKey, type Table, tableOf } from './names.ts'
import { type PlanOptions, plan } from './plan.ts'
import { parseSave, type Scope } from './save.ts'
import { failure, legacyTables, lockWait, type Tools, toolsOf, type Variant } from './tools.ts'

/** A restore of ten thousand Services takes seconds, never minutes; longer means that it hangs. */
const restoreTimeoutMs = 120_000

/** What is ours in the tables of the scope. Throws CommitError. */
export async function read(exec: Exec, tools: Tools, scope: Scope, signal: AbortSignal): Promise<Program> {
  const program = new Map<string, string>()
  for (const table of scope.tables) {
    const result = await exec.run(tools.save, ['-t', table], { signal, timeoutMs: restoreTimeoutMs })
    if (result.exitCode !== 0) throw failure(tools.save, result)
    for (const { key, value } of parseSave(result.stdout, scope)) program.set(key, value)
  }
  return program
}

/** A jump from a chain of others: it goes with any flush of its table, and looking at it costs a fraction of a listing. */
export interface Witness {
  readonly table: Table
  readonly chain: string
  readonly target: string
}

/**
 * False if one of the jumps is missing because its table was flushed: firewalld and others do that when they are
 * reloaded. Throws CommitError.
 */
export async function isIntact(
  exec: Exec,
  tools: Tools,
  witnesses: readonly Witness[],
  signal: AbortSignal,
): Promise<boolean> {
  for (const { table, chain, target } of witnesses) {
    const args = [...lockWait, '-t', table, '-S', chain]
    const result = await exec.run(tools.iptables, args, { signal, timeoutMs: restoreTimeoutMs })
    if (result.exitCode !== 0) throw failure(tools.iptables, result)
    if (!result.stdout.includes(` -j ${target}`)) return false
  }
  return true
}

/** Writes the steps in order. Throws CommitError; with `refused`, its keys name the objects at fault. */
export async function commit(exec: Exec, tools: Tools, transaction: Transaction, signal: AbortSignal): Promise<void> {
  for (const step of transaction.steps) {
    const args = ['--noflush', ...lockWait]
    const result = await exec.run(tools.restore, args, { input: step.text, signal, timeoutMs: restoreTimeoutMs })
    if (result.exitCode === 0) continue
    const error = failure(tools.restore, result)
    throw error.kind === 'refused' ? culprits(error, result.stderr, step) : error
  }
}

/** Names what the program objected to, where it says so. */
function culprits(error: CommitError, stderr: string, step: Step): CommitError {
  const lines = step.text.split('\n')
  const found = new Set<string>()
  for (const [, number] of stderr.matchAll(/\bline:? (\d+)/gi)) {
    const index = Number(number) - 1
    const line = lines[index] ?? ''
    const header = lines.slice(0, index).findLast(text => text.startsWith('*'))
    const table = tableOf(header?.slice(1) ?? '')
    if (table === undefined) continue
    const [verb = '', chain = ''] = line.split(' ')
    // What is to be deleted, emptied or made new is not as we believed.
    if (['-D', '-X', '-F', '-N'].includes(verb)) {
      return new CommitError('stale', `${error.message} (${table}: ${line})`, { cause: error })
    }
    if (verb === '-A') found.add(`${chainKey(table, chain)}\n${line.slice(`-A ${chain} `.length)}`)
    else if (verb === '-I') found.add(jumpKey(table, chain, /-[jg] (\S+)$/.exec(line)?.[1] ?? ''))
    else if (verb.startsWith(':')) found.add(chainKey(table, verb.slice(1)))
  }
  const [first = ''] = found
  const message = first === '' ? error.message : `${error.message} (${first.replace('\n', ': ')})`
  return new CommitError('refused', message, { cause: error, keys: [...found] })
}

/**
 * Removes what is in the scope from the given variants and returns those that held something. Other rules of the same
 * tables stay. Throws CommitError.
 */
export async function cleanup(
  exec: Exec,
  family: Family,
  variants: readonly Variant[],
  scope: Scope,
  options: (tools: Tools) => PlanOptions,
  signal: AbortSignal,
): Promise<Variant[]> {
  const cleaned: Variant[] = []
  for (const variant of variants) {
    const tools = await toolsOf(exec, family, variant)
    if (tools === undefined) continue
    const there = variant === 'legacy' ? await legacyTables(exec, family) : undefined
    const tables = scope.tables.filter(table => there?.includes(table) ?? true)
    const held = await read(exec, tools, { ...scope, tables }, signal)
    if (held.size === 0) continue
    const removed = [...held].map(([key, value]) => ({ key, value }))
    await commit(exec, tools, plan({ added: [], changed: [], removed }, options(tools)), signal)
    cleaned.push(variant)
  }
  return cleaned
}
