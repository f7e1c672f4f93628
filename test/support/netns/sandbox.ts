// A sandbox: network, mount and PID namespaces of its own, in a user namespace when not root. Nothing done inside touches
// the machine's own network, and nothing of it outlives this process.
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { type Call, callsTo, type Methods } from './calls.ts'
import type { ExecOutcome, ExecParams, HostMethods, StartParams, WorkerParams } from './host.ts'

/** Whether this machine lets us make namespaces, and how. */
export type Means =
  | { readonly kind: 'root' | 'user'; readonly argv: readonly string[] }
  | { readonly kind: 'none'; readonly reason: string }

/** A pair of devices, each in a namespace. The hardware addresses are chosen, so that neighbours need not be asked for. */
export interface Link {
  readonly left: LinkEnd
  readonly right: LinkEnd
}

export interface LinkEnd {
  readonly namespace: string
  readonly device: string
  readonly mac: string
}

export interface Configuration {
  /** Paths below /proc/sys and what to write; a path this kernel lacks is skipped. */
  readonly sysctls?: Readonly<Record<string, string>>
  /** Lines for `ip -batch`, without the leading `ip`. */
  readonly ip?: readonly string[]
  /** The same for `ip -6 -batch`, where the family cannot be told from the arguments. */
  readonly ip6?: readonly string[]
}

const run = promisify(execFile)

// What the sandbox needs, tried in one go: a tmpfs, a named namespace, a pair of devices, a sysctl.
const trial = `set -e
mount -t tmpfs tmpfs /run; mkdir /run/netns
ip netns add trial; ip link add trial0 type veth peer name trial1 netns trial
echo 1 >/proc/sys/net/ipv4/ip_forward`

const rootFlags = ['--net', '--mount', '--pid', '--fork', '--kill-child', '--mount-proc']
const userFlags = ['--user', '--map-root-user', ...rootFlags]

// Root's tools live where an ordinary user's search path does not look.
const path = `${process.env.PATH ?? ''}:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin`

/** Finds out, by trying, how a sandbox can be made here. `reason` is one sentence of the machine's own words. */
export async function findMeans(): Promise<Means> {
  const ways: readonly Means[] =
    process.getuid?.() === 0
      ? [
          { kind: 'root', argv: rootFlags },
          { kind: 'user', argv: userFlags },
        ]
      : [{ kind: 'user', argv: userFlags }]
  let reason = ''
  for (const way of ways) {
    if (way.kind === 'none') continue
    try {
      await run('unshare', [...way.argv, '--', 'sh', '-c', trial], {
        env: { ...process.env, PATH: path },
        timeout: 20_000,
      })
      return way
    } catch (error) {
      const stderr = error instanceof Error && 'stderr' in error ? String(error.stderr) : ''
      const said = stderr.trim().split('\n')[0] ?? ''
      if (reason === '') reason = said === '' ? (error instanceof Error ? error.message : String(error)) : said
    }
  }
  return { kind: 'none', reason }
}

/** Calls to a worker process inside a namespace. */
export interface Worker<M extends Methods> {
  readonly call: Call<M>
}

export class Sandbox {
  readonly #holder: ChildProcess
  readonly #host: Call<HostMethods>

  private constructor(holder: ChildProcess) {
    this.#holder = holder
    this.#host = callsTo<HostMethods>(holder, 'the sandbox')
  }

  /** Opens one. Throws where the machine allows none; `findMeans` says so beforehand. */
  static async open(means?: Means): Promise<Sandbox> {
    const way = means ?? (await findMeans())
    if (way.kind === 'none') throw new Error(`this machine allows no namespaces: ${way.reason}`)
    const argv = [...way.argv, '--', process.execPath, join(import.meta.dirname, 'host.ts')]
    // Its own session: Ctrl-C reaches this process only, which then ends the sandbox in order.
    const holder = spawn('unshare', argv, {
      detached: true,
      env: { ...process.env, PATH: path, NODE_OPTIONS: '' },
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    })
    const sandbox = new Sandbox(holder)
    await sandbox.#host('prepare', undefined)
    return sandbox
  }

  /** Process id, outside, of the sandbox's first process: what `nsenter --target` takes. */
  async pid(): Promise<number> {
    const { pid } = this.#holder
    const children = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8')
    return Number(children.trim().split(' ')[0])
  }

  async addNamespaces(names: readonly string[]): Promise<void> {
    await this.check({ argv: ['ip', '-batch', '-'], input: names.map(name => `netns add ${name}\n`).join('') })
  }

  async addLinks(links: readonly Link[]): Promise<void> {
    const lines = links.map(
      ({ left, right }) =>
        `link add ${left.device} netns ${left.namespace} address ${left.mac} type veth ` +
        `peer name ${right.device} netns ${right.namespace} address ${right.mac}\n`,
    )
    await this.check({ argv: ['ip', '-batch', '-'], input: lines.join('') })
  }

  /** Sysctls first, then devices, addresses and routes: one process a namespace, as each costs milliseconds. */
  async configure(namespace: string, configuration: Configuration): Promise<void> {
    const script = ['set -e']
    for (const [name, value] of Object.entries(configuration.sysctls ?? {})) {
      script.push(`if [ -e /proc/sys/${name} ]; then echo ${value} >/proc/sys/${name}; fi`)
    }
    for (const [option, lines] of [
      ['', configuration.ip ?? []],
      ['-6', configuration.ip6 ?? []],
    ] as const) {
      if (lines.length > 0) script.push(`ip ${option} -batch - <<'END'`, ...lines, 'END')
    }
    await this.check({ namespace, argv: ['sh', '-c', script.join('\n')] })
  }

  /** Runs a program to its end. */
  exec(params: ExecParams): Promise<ExecOutcome> {
    return this.#host('exec', params)
  }

  /** The same, throwing with the program's own words if it fails. Returns its output. */
  async check(params: ExecParams): Promise<string> {
    const outcome = await this.exec(params)
    if (outcome.exitCode === 0) return outcome.stdout
    const where = params.namespace === undefined ? '' : ` in ${params.namespace}`
    throw new Error(`${params.argv.join(' ')}${where} failed (${outcome.exitCode}): ${outcome.stderr}${outcome.stdout}`)
  }

  /** Starts a program that stays. The process id is the one inside the sandbox. */
  async start(params: StartParams): Promise<number> {
    return (await this.#host('start', params)).pid
  }

  /** Ends a program that `start` started, and waits for its end. */
  end(pid: number, signal: NodeJS.Signals = 'SIGTERM'): Promise<{ exitCode: number | null; signal: string | null }> {
    return this.#host('end', { pid, signal })
  }

  /** How a started program ended by itself; null while it runs. */
  ended(pid: number): Promise<{ exitCode: number | null; signal: string | null } | null> {
    return this.#host('ended', { pid })
  }

  /** Starts a module that answers calls. */
  async worker<M extends Methods>(params: WorkerParams): Promise<Worker<M>> {
    const { worker } = await this.#host('worker', params)
    const call = (method: string, of: unknown): Promise<unknown> => this.#host('work', { worker, method, params: of })
    return { call: call as Call<M> }
  }

  /** Ends everything inside. The kernel then removes namespaces, devices and rules. */
  async close(): Promise<void> {
    if (this.#holder.exitCode !== null || this.#holder.signalCode !== null) return
    const gone = once(this.#holder, 'exit')
    this.#holder.disconnect()
    await gone
  }
}
