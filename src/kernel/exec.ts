// Starting programs: the one place that spawns. Arguments and input are built from parsed values; nothing passes a shell.
import { execa } from 'execa'

export interface ExecOptions {
  /** Written to the program's standard input; in parts, each made when there is room for it. */
  readonly input?: string | AsyncIterable<string>
  readonly signal?: AbortSignal
  /** After this long the program is ended; milliseconds. */
  readonly timeoutMs?: number
  /** Told the process id as soon as the program runs. */
  readonly onStart?: (pid: number) => void
}

export interface ExecResult {
  /** -1 when the program could not be started or was ended by a signal. */
  readonly exitCode: number
  readonly stdout: string
  readonly stderr: string
  /** The program is not installed. */
  readonly notFound: boolean
}

export interface Exec {
  /** Runs a program to its end. Never throws: a program that cannot be started is a result too. */
  run(command: string, args: readonly string[], options?: ExecOptions): Promise<ExecResult>
}

/** The machine's own programs. The environment is reduced to a search path, so that nothing outside steers the tools. */
export const machineExec: Exec = {
  async run(command, args, options = {}) {
    const running = execa(command, [...args], {
      reject: false,
      extendEnv: false,
      env: { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C' },
      stripFinalNewline: false,
      maxBuffer: 1 << 30,
      ...(options.input === undefined
        ? { stdin: 'ignore' as const }
        : typeof options.input === 'string'
          ? { input: options.input }
          : { stdin: options.input }),
      ...(options.signal === undefined ? {} : { cancelSignal: options.signal }),
      ...(options.timeoutMs === undefined ? {} : { timeout: options.timeoutMs }),
    })
    if (running.pid !== undefined) options.onStart?.(running.pid)
    const result = await running
    const notFound = result.code === 'ENOENT'
    return {
      // One that was not given all of its input may have ended well all the same.
      exitCode: result.failed && result.exitCode === 0 ? -1 : (result.exitCode ?? -1),
      stdout: typeof result.stdout === 'string' ? result.stdout : '',
      stderr:
        (typeof result.stderr === 'string' ? result.stderr : '') || (result.failed ? (result.shortMessage ?? '') : ''),
      notFound,
    }
  },
}
