// The program that is measured, as a child of the probe: its start, its log, its end.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'

/** One sync, as the log of this project's daemon tells it. */
export interface SyncLine {
  /** Since the start of the process. */
  readonly atMs: number
  readonly family: string
  readonly added: number
  readonly changed: number
  readonly removed: number
  readonly durationMs: number
}

interface Program {
  readonly child: ChildProcess
  readonly startedAt: bigint
  readonly lines: string[]
  readonly syncs: SyncLine[]
}

let program: Program | undefined

/** Milliseconds since a moment on the monotonic clock. */
export const sinceMs = (from: bigint): number => Number(process.hrtime.bigint() - from) / 1e6

/** The program. Throws an Error with the end of its log if it was not started or has ended by itself. */
export function running(): Program & { readonly pid: number } {
  if (program === undefined) throw new Error('the program was not started')
  const { child, lines } = program
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) {
    const how = child.signalCode ?? `status ${child.exitCode}`
    throw new Error([`the program ended by itself, with ${how}`, ...lines.slice(-10)].join('\n'))
  }
  return { ...program, pid: child.pid }
}

function note(target: Program, line: string): void {
  target.lines.push(line)
  if (target.lines.length > 200) target.lines.shift()
  // Another proxy writes whatever it likes.
  if (!line.startsWith('{') || !line.includes('"durationMs"')) return
  const sync: Omit<SyncLine, 'atMs'> = JSON.parse(line)
  target.syncs.push({ ...sync, atMs: sinceMs(target.startedAt) })
}

/**
 * Starts it and returns once the process is there: when that was begun, on the monotonic clock in nanoseconds. Throws an
 * Error if the file cannot be run.
 */
export async function start(argv: readonly string[], env: Readonly<Record<string, string>>): Promise<bigint> {
  const [command = '', ...args] = argv
  const startedAt = process.hrtime.bigint()
  const child = spawn(command, args, { stdio: ['ignore', 'ignore', 'pipe'], env: { ...process.env, ...env } })
  const started: Program = { child, startedAt, lines: [], syncs: [] }
  createInterface({ input: child.stderr }).on('line', line => note(started, line))
  await once(child, 'spawn')
  // Its later errors are those of signals; `running` tells that it ended.
  child.on('error', () => undefined)
  program = started
  return startedAt
}

/** Ends it in order, and kills it if it does not within 10 s. */
export async function stop(): Promise<void> {
  const { child } = running()
  const ended = once(child, 'exit')
  child.kill('SIGTERM')
  const timer = setTimeout(() => child.kill('SIGKILL'), 10_000)
  await ended
  clearTimeout(timer)
  program = undefined
}
