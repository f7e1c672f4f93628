// A node in a network namespace of its own, on which the program is started as an operator would start it.
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { ExecOutcome } from '../support/netns/host.ts'
import { Sandbox, type Worker } from '../support/netns/sandbox.ts'
import type { ApiWorkerMethods } from './api-worker.ts'

export type Variant = 'nft' | 'legacy'

/** A line of the program's log. */
export interface LogLine {
  readonly level: string
  readonly msg: string
  readonly family?: string
  readonly added?: number
  readonly changed?: number
  readonly removed?: number
}

/** The program while it runs. */
export interface Daemon {
  readonly pid: number
  log(): Promise<LogLine[]>
  end(signal: NodeJS.Signals): Promise<{ exitCode: number | null; signal: string | null }>
}

export class KernelNode {
  readonly sandbox: Sandbox
  readonly directory: string
  readonly #variant: Variant
  readonly #program: string
  #daemons = 0

  private constructor(sandbox: Sandbox, variant: Variant, program: string, directory: string) {
    this.sandbox = sandbox
    this.#variant = variant
    this.#program = program
    this.directory = directory
  }

  /** Loopback is up and everything is routed to it; kubelet's mark says which variant of iptables the node uses. */
  static async open(variant: Variant, program: string, directory: string): Promise<KernelNode> {
    const sandbox = await Sandbox.open()
    try {
      const node = new KernelNode(sandbox, variant, program, directory)
      await mkdir(directory, { recursive: true })
      await sandbox.addNamespaces(['node'])
      await sandbox.configure('node', { ip: ['link set lo up', 'route add default dev lo'] })
      for (const tool of [`iptables-${variant}`, `ip6tables-${variant}`]) {
        await node.check(tool, '-t', 'mangle', '-N', 'KUBE-IPTABLES-HINT')
      }
      return node
    } catch (error) {
      await sandbox.close()
      throw error
    }
  }

  /** Runs a program on the node and returns its output. Throws if it fails. */
  check(...argv: readonly string[]): Promise<string> {
    return this.sandbox.check({ namespace: 'node', argv })
  }

  /** Rules as the variant saves them, without counters; of both variants' tools, ours or not. */
  async save(family: 'IPv4' | 'IPv6' = 'IPv4', variant: Variant = this.#variant, ...more: string[]): Promise<string[]> {
    const text = await this.check(`${family === 'IPv4' ? 'iptables' : 'ip6tables'}-${variant}-save`, ...more)
    return text
      .split('\n')
      .filter(line => !line.startsWith('#'))
      .map(line => (more.length > 0 ? line : line.replace(/ \[\d+:\d+\]$/, '')))
  }

  restore(text: string, variant: Variant = this.#variant): Promise<string> {
    const argv = [`iptables-${variant}-restore`, '--noflush']
    return this.sandbox.check({ namespace: 'node', argv, input: text })
  }

  /** Writes a file that the program reads; returns its path. */
  async write(name: string, text: string): Promise<string> {
    const path = join(this.directory, name)
    await writeFile(path, text)
    return path
  }

  /** Runs the program to its end. `before` are words in front of the command line. */
  penstock(args: readonly string[], before: readonly string[] = []): Promise<ExecOutcome> {
    return this.sandbox.exec({ namespace: 'node', argv: [...before, ...this.#argv(args)] })
  }

  /** Starts the daemon; its log is JSON. */
  async start(...args: readonly string[]): Promise<Daemon> {
    const output = join(this.directory, `daemon-${this.#daemons++}.log`)
    const argv = this.#argv(['run', ...args, '--logging-format', 'json', '-v', '4'])
    const pid = await this.sandbox.start({ namespace: 'node', argv, output })
    return {
      pid,
      log: async () => {
        const lines = (await readFile(output, 'utf8')).split('\n').filter(line => line.startsWith('{'))
        return lines.map((line): LogLine => JSON.parse(line))
      },
      end: signal => this.sandbox.end(pid, signal),
    }
  }

  async api(): Promise<Worker<ApiWorkerMethods>> {
    const module = join(import.meta.dirname, 'api-worker.ts')
    return this.sandbox.worker<ApiWorkerMethods>({ namespace: 'node', module })
  }

  async close(): Promise<void> {
    await this.sandbox.close()
  }

  #argv(args: readonly string[]): string[] {
    return [process.execPath, this.#program, ...args, '--hostname-override', 'node-a']
  }
}

/** Asks until the answer is yes. Throws, saying what was waited for, if that takes more than a minute. */
export async function until(what: string, isSo: () => Promise<boolean>): Promise<void> {
  for (let left = 600; left > 0; left--) {
    if (await isSo()) return
    await sleep(100)
  }
  throw new Error(`waited in vain for ${what}`)
}

/** Syncs of both families that the log tells of, whatever they wrote. */
export const syncsOf = (lines: readonly LogLine[]): LogLine[] =>
  lines.filter(({ msg }) => msg === 'synced' || msg === 'nothing to write')
