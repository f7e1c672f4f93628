// Reading and writing through the program nft, where the kernel cannot be spoken to directly.
import { createHash } from 'node:crypto'
import type { Exec, ExecResult } from '../../kernel/exec.ts'
import type { Family } from '../../net/ip.ts'
import { CommitError, type Look, type Program, type Step } from '../backend.ts'
import { type Command, needsWhatIsThere, objectOf } from './commands.ts'
import { parseListing, withoutDynamic } from './listing.ts'
import { entrances, tableOf } from './names.ts'
import { isNftStep } from './plan.ts'
import { isOwned, type Written } from './written.ts'

/** A table of ten thousand Services takes seconds, never minutes; longer means that it hangs. */
const timeoutMs = 120_000

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

const list = (exec: Exec, family: Family, signal: AbortSignal): Promise<ExecResult> =>
  exec.run('nft', ['-n', 'list', 'table', ...tableOf(family).split(' ')], { signal, timeoutMs })

/** What the table holds; nothing if there is none. Throws CommitError. */
export async function readListing(exec: Exec, family: Family, signal: AbortSignal): Promise<Program> {
  const result = await list(exec, family, signal)
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
export async function listingFingerprint(exec: Exec, family: Family, signal: AbortSignal): Promise<Look> {
  const result = await list(exec, family, signal)
  if (result.exitCode !== 0 && !isMissing(result.stderr)) throw failure(result)
  const hash = createHash('sha256')
  for (const part of withoutDynamic(result.stdout)) hash.update(part, 'latin1')
  return { digest: hash.digest('base64'), costMs: result.stdout.length * costOfByte }
}

/** Writes one step, whole or not at all. */
export async function runScript(exec: Exec, family: Family, step: Step, signal: AbortSignal): Promise<Written> {
  const result = await exec.run('nft', ['-f', '-'], { input: step.text, signal, timeoutMs })
  if (result.exitCode === 0) return 'written'
  if (/Device or resource busy/.test(result.stderr)) return busy(result)
  if (/Message too long/.test(result.stderr)) return { kind: 'too-long', error: failure(result) }
  return { kind: 'failed', error: await failureOfTable(exec, family, result, signal, step) }
}

const busy = (result: ExecResult): Written => ({ kind: 'busy', error: failure(result) })

/** Removes the table: `entrances` first, then the rest. None is no error, nor is a machine without nft. Throws CommitError. */
export async function cleanupByNft(exec: Exec, family: Family, signal: AbortSignal): Promise<void> {
  const input = entrances.map(name => `delete chain ${tableOf(family)} ${name}\n`).join('')
  // Where they are not there, or not ours to delete, the next says so.
  await exec.run('nft', ['-f', '-'], { input, signal, timeoutMs })
  const result = await exec.run('nft', ['delete', 'table', ...tableOf(family).split(' ')], { signal, timeoutMs })
  if (result.exitCode === 0 || result.notFound || isMissing(result.stderr)) return
  throw await failureOfTable(exec, family, result, signal)
}

const isMissing = (stderr: string): boolean => /No such file or directory/.test(stderr)

/** As `failure`; who may do everything else is told that the table is another's. */
async function failureOfTable(
  exec: Exec,
  family: Family,
  result: ExecResult,
  signal: AbortSignal,
  step?: Step,
): Promise<CommitError> {
  const error = failure(result, step)
  if (error.kind !== 'denied') return error
  const listed = await list(exec, family, signal)
  return listed.exitCode === 0 && /^\tflags .*\bowner\b/m.test(listed.stdout.slice(0, 1_000)) ? isOwned(family) : error
}

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
  return step === undefined || !isNftStep(step)
    ? new CommitError(step === undefined ? 'transient' : 'refused', message)
    : culprits(message, said, [...step.commands()])
}

/** Names what nft or the kernel objected to. */
function culprits(message: string, stderr: string, commands: readonly Command[]): CommitError {
  const found = new Set<string>()
  for (const [, number] of stderr.matchAll(/^[^\s:]+:(\d+):\d+-\d+: Error: /gm)) {
    const command = commands[Number(number) - 1]
    if (command === undefined) continue
    if (isMissing(stderr) && needsWhatIsThere(command)) return new CommitError('stale', message)
    const key = objectOf(command)
    if (key !== undefined) found.add(key)
  }
  const [named = ''] = found
  return new CommitError('refused', named === '' ? message : `${message} (${named})`, { keys: [...found] })
}
