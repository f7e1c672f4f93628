// Reading from and writing to the kernel through nft.
import { createHash } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Exec, ExecResult } from '../../kernel/exec.ts'
import type { Family } from '../../net/ip.ts'
import { CommitError, type Look, type Program, type Step, type Transaction } from '../backend.ts'
import { parseListing, withoutDynamic } from './listing.ts'
import { tableOf } from './names.ts'
import { isSweep, objectOfLine } from './plan.ts'

/** A table of ten thousand Services takes seconds, never minutes; longer means that it hangs. */
const timeoutMs = 120_000

/** Waits between the tries of a sweep, milliseconds. Kernels before 6.2 free a chain within one RCU grace period or two. */
const sweepWaits = [20, 200, 1_000]

/** Older versions do not know what our maps are made of, or list it wrongly. Throws CommitError `unsupported`. */
export async function checkVersion(exec: Exec): Promise<void> {
  const result = await exec.run('nft', ['--version'])
  if (result.notFound) throw failure(result)
  const found = /v(\d+)\.(\d+)\.(\d+)/.exec(result.stdout)
  if (found === null) return
  const [major = 0, minor = 0, patch = 0] = found.slice(1).map(Number)
  if (major > 1 || (major === 1 && (minor > 0 || patch >= 6))) return
  throw new CommitError('unsupported', `nft ${found[0].slice(1)} is too old: install nftables 1.0.6 or newer`)
}

/** What the table holds; nothing if there is none. Throws CommitError. */
export async function read(exec: Exec, family: Family, signal: AbortSignal): Promise<Program> {
  const result = await exec.run('nft', ['-n', 'list', 'table', ...tableOf(family).split(' ')], { signal, timeoutMs })
  const program = new Map<string, string>()
  if (result.exitCode === 0) {
    for (const { key, value } of parseListing(result.stdout, family)) program.set(key, value)
  } else if (!isMissing(result.stderr)) {
    throw failure(result)
  }
  return program
}

/**
 * Milliseconds for each byte that nft lists. Measured with 10,000 Services of 5 endpoints each: 3.7 MB are 2.9 s of processor
 * time (nft 1.0.6, Linux 6.18).
 */
const costOfByte = 8e-4

/** A digest of the table as nft lists it. Throws CommitError. */
export async function fingerprint(exec: Exec, family: Family, signal: AbortSignal): Promise<Look> {
  const result = await exec.run('nft', ['-n', 'list', 'table', ...tableOf(family).split(' ')], { signal, timeoutMs })
  if (result.exitCode !== 0 && !isMissing(result.stderr)) throw failure(result)
  const hash = createHash('sha256')
  for (const part of withoutDynamic(result.stdout)) hash.update(part, 'latin1')
  return { digest: hash.digest('base64'), costMs: result.stdout.length * costOfByte }
}

/** Writes the steps in order, each whole or not at all. Throws CommitError; with `refused`, its keys name the objects at fault. */
export async function commit(exec: Exec, transaction: Transaction, signal: AbortSignal): Promise<void> {
  for (const step of transaction.steps) {
    const result = await (isSweep(step) ? sweep(exec, step, signal) : run(exec, step, signal))
    if (result === undefined || result.exitCode === 0) continue
    throw failure(result, step)
  }
}

const run = (exec: Exec, { text }: Step, signal: AbortSignal): Promise<ExecResult> =>
  exec.run('nft', ['-f', '-'], { input: text, signal, timeoutMs })

/**
 * Deletes what nothing leads to any more. A chain that stays busy is left: it is empty, is made anew by whoever needs it,
 * and the next full comparison finds it.
 */
async function sweep(exec: Exec, step: Step, signal: AbortSignal): Promise<ExecResult | undefined> {
  for (const wait of sweepWaits) {
    const result = await run(exec, step, signal)
    if (!isBusy(result.stderr)) return result
    await sleep(wait, undefined, { signal }).catch(() => undefined)
    if (signal.aborted) return undefined
  }
  const last = await run(exec, step, signal)
  return isBusy(last.stderr) ? undefined : last
}

/** Removes the table. None is no error, nor is a machine without nft. Throws CommitError. */
export async function cleanup(exec: Exec, family: Family, signal: AbortSignal): Promise<void> {
  const result = await exec.run('nft', ['delete', 'table', ...tableOf(family).split(' ')], { signal, timeoutMs })
  if (result.exitCode === 0 || result.notFound || isMissing(result.stderr)) return
  throw failure(result)
}

const isMissing = (stderr: string): boolean => /No such file or directory/.test(stderr)
const isBusy = (stderr: string): boolean => /Device or resource busy/.test(stderr)

/** What a failed nft means for the syncer (`design.md` §3). */
function failure(result: ExecResult, step?: Step): CommitError {
  const said = result.stderr.trim()
  const first = said.split('\n', 1)[0] ?? ''
  const message = `nft: ${first === '' ? `exit status ${result.exitCode}` : first}`
  if (result.notFound) return new CommitError('unsupported', 'nft is not installed: install nftables 1.0.6 or newer')
  if (/Operation not permitted|Permission denied|must be root/i.test(said)) return new CommitError('denied', message)
  if (result.exitCode === -1) return new CommitError('transient', message)
  if (
    /Resource temporarily unavailable|resource busy|Cannot allocate memory|No buffer space|Interrupted|Message too long/i.test(
      said,
    )
  ) {
    return new CommitError('transient', message)
  }
  if (/cache initialization failed|Protocol not supported|Unable to initialize Netlink/i.test(said)) {
    return new CommitError('unsupported', `${message}: this kernel has no nf_tables (5.13 or newer is needed)`)
  }
  return step === undefined ? new CommitError('transient', message) : culprits(message, said, step)
}

/** Names what nft or the kernel objected to. */
function culprits(message: string, stderr: string, step: Step): CommitError {
  const lines = step.text.split('\n')
  const found = new Set<string>()
  for (const [, number] of stderr.matchAll(/^[^\s:]+:(\d+):\d+-\d+: Error: /gm)) {
    const line = lines[Number(number) - 1] ?? ''
    // What is to be deleted or emptied is not there: the kernel holds something else than believed.
    if (isMissing(stderr) && /^(?:delete|flush) /.test(line)) return new CommitError('stale', `${message} (${line})`)
    const key = objectOfLine(line)
    if (key !== undefined) found.add(key)
  }
  const [named = ''] = found
  return new CommitError('refused', named === '' ? message : `${message} (${named})`, { keys: [...found] })
}
