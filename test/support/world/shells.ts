// Programs started by shells that stay, with files for input and output. In an emulated machine a Node that forks takes 30 ms
// of the processor where a shell takes 5, and nft writes a listing in thousands of pieces, each of which wakes who reads.
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { quote } from '../../../hack/vm.d/task.ts'
import type { Exec, ExecOptions, ExecResult } from '../../../src/kernel/exec.ts'
import { inputOf } from '../input.ts'

/** The same environment as the machine's own `Exec` gives, which is proven where the scenarios run outside. */
const environment = { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C' }

/** Limits on time are left to whoever limits the whole run. */
export function shellExec(): Exec {
  const directory = mkdtempSync(join(tmpdir(), 'exec-'))
  const idle: Shell[] = []
  let shells = 0
  const run = async (words: readonly string[], options: ExecOptions): Promise<ExecResult> => {
    const shell = idle.pop() ?? new Shell(join(directory, String(shells++)))
    const result = await shell.run(words, options)
    idle.push(shell)
    return result
  }
  const versions = new Map<string, Promise<ExecResult>>()
  return {
    async run(command, args, options = {}) {
      if (args.join(' ') !== '--version') return run([command, ...args], options)
      // Asked for by every backend at its start, of which there are hundreds; no program is replaced meanwhile.
      const version = versions.get(command) ?? run([command, ...args], options)
      versions.set(command, version)
      return version
    },
  }
}

/** Runs one program at a time. */
class Shell {
  readonly #files: { readonly input: string; readonly output: string; readonly errors: string }
  readonly #process: ChildProcess
  #ended: ((status: number) => void) | undefined

  /** `name` is the beginning of the names of its files. */
  constructor(name: string) {
    this.#files = { input: `${name}.in`, output: `${name}.out`, errors: `${name}.err` }
    this.#process = spawn('sh', [], { env: environment, stdio: ['pipe', 'pipe', 'inherit'] })
    if (this.#process.stdout === null) throw new Error('the shell has no output')
    createInterface({ input: this.#process.stdout }).on('line', line => this.#ended?.(Number(line)))
  }

  async run(words: readonly string[], options: ExecOptions): Promise<ExecResult> {
    const input = await inputOf(options)
    const { input: from, output, errors } = this.#files
    if (input !== undefined) writeFileSync(from, input)
    const ended = new Promise<number>(resolve => {
      this.#ended = resolve
    })
    const files = [input === undefined ? '/dev/null' : from, output, errors].map(quote)
    this.#process.stdin?.write(`${words.map(quote).join(' ')} <${files[0]} >${files[1]} 2>${files[2]}; echo $?\n`)
    const status = await ended
    return {
      // What a shell says of a program that a signal ended.
      exitCode: status > 128 ? -1 : status,
      stdout: readFileSync(output, 'utf8'),
      stderr: readFileSync(errors, 'utf8'),
      notFound: status === 127,
    }
  }
}
