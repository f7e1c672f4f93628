// The program: arguments → configuration → the subcommand → exit status. The only file that reads process.argv.
import { readFileSync, writeFileSync, writeSync } from 'node:fs'
import { cleanup } from './commands/cleanup.ts'
import { compile } from './commands/compile.ts'
import type { CommandContext } from './commands/context.ts'
import { doctor } from './commands/doctor.ts'
import { machineNetlink } from './commands/netlink.ts'
import { plan } from './commands/plan.ts'
import { run } from './commands/run.ts'
import { status } from './commands/status.ts'
import { trace } from './commands/trace.ts'
import { type CommandLine, parseCommandLine } from './config/flags.ts'
import { helpText } from './config/help.ts'
import { load } from './config/load.ts'
import { ConfigError, UsageError } from './config/types.ts'
import { writeConfiguration } from './config/write.ts'
import { machineExec } from './kernel/exec.ts'
import { makeLogger } from './observe/log.ts'
import { version } from './version.ts'

/** Runs the program and returns its exit status (`design.md` §2). */
async function main(argv: readonly string[], signal: AbortSignal): Promise<number> {
  const commandLine = parseCommandLine(argv)
  if (commandLine.command === 'help') return say(helpText(commandLine.topic))
  if (commandLine.command === 'version') return say(`${version}\n`)

  const { configuration, notices } = load(commandLine, path => readFileSync(path, 'utf8'))
  const writeTo = commandLine.options.writeConfigTo
  if (writeTo !== undefined) {
    writeFileSync(writeTo, writeConfiguration(configuration))
    return 0
  }
  const log = makeLogger({ format: configuration.logging.format, verbosity: configuration.logging.verbosity })
  const machine = { exec: machineExec, netlink: machineNetlink }
  const context: CommandContext = { commandLine, configuration, notices, log, ...machine, signal, print: say }
  return subcommand(commandLine, context)
}

function subcommand({ command }: CommandLine, context: CommandContext): Promise<number> {
  switch (command) {
    case 'run':
      return run(context)
    case 'compile':
      return compile(context)
    case 'plan':
      return plan(context)
    case 'trace':
      return trace(context)
    case 'status':
      return status(context)
    case 'doctor':
      return doctor(context)
    case 'cleanup':
      return cleanup(context)
    case 'help':
    case 'version':
      throw new Error('answered before')
  }
}

function say(text: string): number {
  // Synchronously: a pipe that is read slowly must not lose its end when the process exits.
  const bytes = Buffer.from(text)
  for (let at = 0; at < bytes.length; ) {
    try {
      at += writeSync(1, bytes, at)
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      // The reader has seen enough, as `head` does.
      if (code === 'EPIPE') return 0
      // Whoever started us may have made the pipe non-blocking, and it is full.
      if (code !== 'EAGAIN') throw error
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2)
    }
  }
  return 0
}

const stop = new AbortController()
for (const name of ['SIGTERM', 'SIGINT'] as const) {
  process.on(name, () => {
    // A second one does not wait for what is under way.
    if (stop.signal.aborted) process.exit(name === 'SIGINT' ? 130 : 143)
    stop.abort()
  })
}

main(process.argv.slice(2), stop.signal).then(
  status => process.exit(status),
  (error: unknown) => {
    const expected = error instanceof UsageError || error instanceof ConfigError || isPlain(error)
    const text = error instanceof Error ? (expected ? error.message : (error.stack ?? error.message)) : String(error)
    process.stderr.write(`penstock: ${text}\n`)
    process.exit(error instanceof UsageError ? 2 : 1)
  },
)

/** Errors whose message is written for the user: a stack would only hide it. */
const isPlain = (error: unknown): boolean => error instanceof Error && error.constructor !== TypeError
