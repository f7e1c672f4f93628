// Runs a command in the virtual machine; called by hack/vm, which says where the kernel is.
import { mkdirSync, realpathSync } from 'node:fs'
import { constants } from 'node:os'
import { parseArgs } from 'node:util'
import { type Ending, Machine } from './machine.ts'
import { insideEnvironment, parseCommandLine, type Task, UsageError } from './task.ts'

const say = (line: string): void => console.error(`hack/vm: ${line}`)

function readTask(): Task {
  const string = { type: 'string', default: '' } as const
  const { values, positionals } = parseArgs({
    options: { kernel: string, initrd: string, modules: string, checkout: string },
    allowPositionals: true,
  })
  const { out, ...rest } = parseCommandLine(positionals)
  if (out !== undefined) mkdirSync(out, { recursive: true })
  return {
    ...values,
    ...rest,
    out: out === undefined ? undefined : realpathSync(out),
    cwd: process.cwd(),
    env: insideEnvironment(process.env),
  }
}

function showLog(log: string): void {
  const lines = log.trimEnd().split('\n').slice(-40)
  if (lines.join('') === '') return
  say('the end of the log of its kernel:')
  for (const line of lines) console.error(`  ${line}`)
}

function explain(task: Task, ending: Ending): number {
  switch (ending.kind) {
    case 'done':
      return ending.status
    case 'late':
      say(`the command had not ended after ${task.timeout} s (--timeout), boot included, and was stopped.`)
      if (!task.verbose) showLog(ending.log)
      return 124
    case 'broken':
      say(`the virtual machine broke: ${ending.reason}.`)
      if (!task.verbose) showLog(ending.log)
      return 125
    case 'unread':
      return 128 + constants.signals.SIGPIPE
  }
}

async function main(): Promise<number> {
  const task = readTask()
  const machine = new Machine(task)
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => {
      machine.stop().finally(() => process.exit(128 + constants.signals[signal]))
    })
  }
  return explain(task, await machine.run())
}

// Without `exit` a reader that stands still would keep this process.
main().then(
  status => process.exit(status),
  (error: unknown) => {
    say(error instanceof Error ? `${error.message}.` : String(error))
    process.exit(error instanceof UsageError ? 2 : 125)
  },
)
