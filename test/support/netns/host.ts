// The first process of a sandbox: makes namespaces, runs programs in them, starts workers. It is process 1 of a PID
// namespace of its own, so that its end is the end of everything it started, whatever the reason.
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdir, open } from 'node:fs/promises'
import { answerCalls, type Call, callsTo, type Methods } from './calls.ts'

export interface ExecParams {
  /** Network namespace by name; absent: the sandbox's own, empty one. */
  readonly namespace?: string
  readonly argv: readonly string[]
  readonly input?: string
  readonly env?: Readonly<Record<string, string>>
  /** Milliseconds; 60,000 by default. */
  readonly timeoutMs?: number
}

export interface ExecOutcome {
  /** -1 when a signal ended it. */
  readonly exitCode: number
  readonly stdout: string
  readonly stderr: string
}

export interface StartParams extends ExecParams {
  /** File that its output is appended to. */
  readonly output: string
}

export interface WorkerParams {
  readonly namespace: string
  /** Path of a module that runs `answerCalls`. */
  readonly module: string
  readonly args?: readonly string[]
}

const children = new Map<number, ChildProcess>()
const workers = new Map<number, { child: ChildProcess; call: Call<Methods> }>()

const within = (namespace: string | undefined, argv: readonly string[]): [string, string[]] => {
  const whole = namespace === undefined ? [...argv] : ['nsenter', `--net=/run/netns/${namespace}`, '--', ...argv]
  const [program = '', ...args] = whole
  return [program, args]
}

function exec(params: ExecParams): Promise<ExecOutcome> {
  const [program, args] = within(params.namespace, params.argv)
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      env: { ...process.env, ...params.env },
      timeout: params.timeoutMs ?? 60_000,
      killSignal: 'SIGKILL',
      stdio: ['pipe', 'pipe', 'pipe'],
    })
    let stdout = ''
    let stderr = ''
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text
    })
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text
    })
    // A program that does not read its input to the end closes it; that is its affair.
    child.stdin.on('error', () => undefined)
    child.stdin.end(params.input ?? '')
    child.once('error', reject)
    child.once('close', code => resolve({ exitCode: code ?? -1, stdout, stderr }))
  })
}

async function start(params: StartParams): Promise<{ pid: number }> {
  const [program, args] = within(params.namespace, params.argv)
  const output = await open(params.output, 'a')
  try {
    const child = spawn(program, args, {
      env: { ...process.env, ...params.env },
      stdio: ['ignore', output.fd, output.fd],
    })
    await new Promise<void>((resolve, reject) => {
      child.once('spawn', resolve)
      child.once('error', reject)
    })
    const { pid } = child
    if (pid === undefined) throw new Error(`${params.argv[0]} has no process id`)
    children.set(pid, child)
    return { pid }
  } finally {
    await output.close()
  }
}

/** Sends the signal and waits for the end; after `graceMs` (10,000 by default) the process is killed. */
async function end(params: {
  pid: number
  signal: NodeJS.Signals
  graceMs?: number
}): Promise<{ exitCode: number | null; signal: string | null }> {
  const child = children.get(params.pid)
  if (child === undefined) throw new Error(`process ${params.pid} was not started here`)
  children.delete(params.pid)
  if (child.exitCode === null && child.signalCode === null) {
    const ended = new Promise<void>(resolve => child.once('exit', () => resolve()))
    child.kill(params.signal)
    const timer = setTimeout(() => child.kill('SIGKILL'), params.graceMs ?? 10_000)
    await ended
    clearTimeout(timer)
  }
  return { exitCode: child.exitCode, signal: child.signalCode }
}

/** Null while the process runs. */
function ended(params: { pid: number }): { exitCode: number | null; signal: string | null } | null {
  const child = children.get(params.pid)
  if (child === undefined || (child.exitCode === null && child.signalCode === null)) return null
  return { exitCode: child.exitCode, signal: child.signalCode }
}

function worker(params: WorkerParams): { worker: number } {
  const [program, args] = within(params.namespace, [process.execPath, params.module, ...(params.args ?? [])])
  const child = spawn(program, args, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
  const id = workers.size + 1
  workers.set(id, { child, call: callsTo(child, `the worker in ${params.namespace}`) })
  return { worker: id }
}

function work(params: { worker: number; method: string; params: unknown }): Promise<unknown> {
  const entry = workers.get(params.worker)
  if (entry === undefined) throw new Error(`no worker ${params.worker}`)
  return (entry.call as (method: string, params: unknown) => Promise<unknown>)(params.method, params.params)
}

/** Private /run: iptables' lock file and the names of the namespaces are this sandbox's own. */
async function prepare(): Promise<void> {
  const mounted = await exec({ argv: ['mount', '-t', 'tmpfs', 'tmpfs', '/run'] })
  if (mounted.exitCode !== 0) throw new Error(`mounting a private /run failed: ${mounted.stderr.trim()}`)
  await mkdir('/run/netns')
}

const hostMethods = { prepare, exec, start, end, ended, worker, work }
export type HostMethods = typeof hostMethods

if (process.send !== undefined) {
  // A Ctrl-C at the terminal is the parent's to answer; it ends this process when it is done.
  process.on('SIGINT', () => undefined)
  answerCalls(hostMethods)
}
