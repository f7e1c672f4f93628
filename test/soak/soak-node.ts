// The node of a soak and what is done to it: the daemon is started, stopped and killed, its configuration changed, tools
// replaced, rules damaged. It keeps account of when something was broken.
import { copyFile, mkdir, readFile, truncate, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import type { ProxyMode } from '../../src/config/types.ts'
import { world } from '../conformance/world.ts'
import { KernelNode, type Variant } from '../daemon/kernel-node.ts'
import type { ExecOutcome } from '../support/netns/host.ts'
import type { Worker } from '../support/netns/sandbox.ts'
import type { SoakApiMethods } from './api-worker.ts'
import type { Damage } from './damage.ts'
import type { Window } from './judge.ts'
import type { ScraperMethods } from './scraper-worker.ts'
import { faultScript, type ToolFault } from './tool-faults.ts'

/** What a soak changes in the configuration file. */
export interface Settings {
  readonly mode: ProxyMode
  readonly masqueradeAll: boolean
  readonly detectLocalMode: 'ClusterCIDR' | 'NodeCIDR'
  readonly nodePortAddresses: readonly string[]
}

export const usualSettings = (mode: ProxyMode): Settings => ({
  mode,
  masqueradeAll: false,
  detectLocalMode: 'ClusterCIDR',
  nodePortAddresses: [],
})

/** A log that is longer is begun anew. */
const mostLogBytes = 50_000_000
const none = undefined as never

export interface SoakNodeOptions {
  readonly variant: Variant
  readonly program: string
  /** For the node's files. */
  readonly directory: string
  /** 1 for an ordinary machine; what takes a while takes that many times as long. */
  readonly slowness: number
}

export class SoakNode {
  readonly node: KernelNode
  readonly api: Worker<SoakApiMethods>
  readonly scraper: Worker<ScraperMethods>
  readonly variant: Variant
  readonly slowness: number
  /** Path of the kubeconfig and of the configuration file. */
  readonly #kubeconfig: string
  readonly #program: string
  /** Times in which rules could not be written. */
  readonly troubles: Window[] = []
  /** Times in which nobody could answer. */
  readonly absences: Window[] = []
  /** What the daemon said that is no line of its log. */
  readonly strange: string[] = []
  #daemon: { readonly pid: number; readonly log: string } | undefined
  #daemons = 0
  #mode: ProxyMode = 'iptables'
  #isStopped: Window | undefined
  readonly #mounted: { readonly tool: string; readonly window: Window }[] = []

  private constructor(
    node: KernelNode,
    api: Worker<SoakApiMethods>,
    scraper: Worker<ScraperMethods>,
    options: SoakNodeOptions & { readonly kubeconfig: string },
  ) {
    this.node = node
    this.api = api
    this.scraper = scraper
    this.variant = options.variant
    this.slowness = options.slowness
    this.#program = options.program
    this.#kubeconfig = options.kubeconfig
  }

  static async open(options: SoakNodeOptions): Promise<SoakNode> {
    const { variant, program, directory } = options
    const node = await KernelNode.open(variant, program, directory)
    try {
      const module = (name: string): string => join(import.meta.dirname, name)
      const { sandbox } = node
      const api = await sandbox.worker<SoakApiMethods>({ namespace: 'node', module: module('api-worker.ts') })
      const scraper = await sandbox.worker<ScraperMethods>({ namespace: 'node', module: module('scraper-worker.ts') })
      const kubeconfig = await node.write('kubeconfig', await api.call('kubeconfig', none))
      return new SoakNode(node, api, scraper, { ...options, kubeconfig })
    } catch (error) {
      await node.close()
      throw error
    }
  }

  /** Path of the configuration file. */
  get configuration(): string {
    return join(this.node.directory, 'proxy.conf')
  }

  /** The mode of the configuration file. */
  get mode(): ProxyMode {
    return this.#mode
  }

  /** What the daemon finds within five seconds. The period is short, so that what the kernel does not tell of is found soon. */
  async configure(settings: Settings): Promise<void> {
    const { mode, masqueradeAll, detectLocalMode, nodePortAddresses } = settings
    const section = { syncPeriod: `${2 * this.slowness}s`, ...(mode === 'ipvs' ? {} : { masqueradeAll }) }
    const document = {
      apiVersion: 'kubeproxy.config.k8s.io/v1alpha1',
      kind: 'KubeProxyConfiguration',
      hostnameOverride: world.nodeName,
      clientConnection: { kubeconfig: this.#kubeconfig },
      logging: { format: 'json', verbosity: 2 },
      mode,
      clusterCIDR: world.clusterCIDR,
      detectLocalMode,
      nodePortAddresses,
      // Not to be had in a namespace, and a run that cannot set what it is told to has not done all.
      conntrack: { maxPerCore: 0, min: 0 },
      [mode]: section,
    }
    this.#mode = mode
    await writeFile(this.configuration, JSON.stringify(document))
    // While it changes over, servers close and open again.
    if (this.#daemon === undefined) return
    const now = Date.now()
    const taken = { from: now, to: now + 6_000 }
    this.absences.push(taken)
    this.troubles.push(taken)
  }

  /** Process id inside the sandbox; undefined while it is killed. */
  get pid(): number | undefined {
    return this.#daemon?.pid
  }

  async start(): Promise<void> {
    const log = join(this.node.directory, `soak-${this.#daemons++}.log`)
    // As hack/penstock and the image start it.
    const argv = [process.execPath, '--max-semi-space-size=2', this.#program, 'run', '--config', this.configuration]
    // What is its own nobody could damage.
    argv.push('--nftables-table-owner=false')
    const pid = await this.node.sandbox.start({ namespace: 'node', argv, output: log })
    this.#daemon = { pid, log }
    const now = Date.now()
    this.absences.push({ from: now, to: now })
    this.troubles.push({ from: now, to: now })
  }

  /** Ends the daemon and starts another after a while. `SIGTERM` must end it with status 0. */
  async restart(signal: 'SIGTERM' | 'SIGKILL', downMs: number, sleep: (ms: number) => Promise<void>): Promise<void> {
    const absence: Window = { from: Date.now() }
    this.absences.push(absence)
    await this.end(signal)
    await sleep(downMs)
    await this.start()
    absence.to = Date.now()
  }

  /** Throws an Error if SIGTERM does not end it in order. */
  async end(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    const daemon = this.#daemon
    if (daemon === undefined) return
    this.#daemon = undefined
    const { exitCode, signal: by } = await this.node.sandbox.end(daemon.pid, signal)
    await this.#readStrange(daemon.log)
    if (signal === 'SIGTERM' && exitCode !== 0) {
      throw new Error(`SIGTERM ended the daemon with ${by ?? `status ${exitCode}`} instead of status 0`)
    }
  }

  /** Throws an Error with its last words if the daemon has ended by itself. */
  async mustRun(): Promise<void> {
    const daemon = this.#daemon
    if (daemon === undefined) return
    const ended = await this.node.sandbox.ended(daemon.pid)
    if (ended === null) return
    const words = (await readFile(daemon.log, 'utf8')).split('\n').slice(-12).join('\n')
    throw new Error(`the daemon ended by itself with ${ended.signal ?? `status ${ended.exitCode}`}:\n${words}`)
  }

  /** Holds the daemon up, or lets it go on. */
  async hold(isHeld: boolean): Promise<void> {
    if (this.#daemon === undefined || isHeld === (this.#isStopped !== undefined)) return
    const argv = ['kill', isHeld ? '-STOP' : '-CONT', String(this.#daemon.pid)]
    if (isHeld) {
      this.#isStopped = { from: Date.now() }
      this.absences.push(this.#isStopped)
      this.troubles.push(this.#isStopped)
    }
    await this.node.sandbox.exec({ argv })
    if (isHeld || this.#isStopped === undefined) return
    this.#isStopped.to = Date.now()
    this.#isStopped = undefined
  }

  /** Runs the program to its end under this node's configuration, here or on another node. */
  penstock(args: readonly string[], node: KernelNode = this.node): Promise<ExecOutcome> {
    const argv = [process.execPath, this.#program, ...args, '--config', this.configuration]
    return node.sandbox.exec({ namespace: 'node', argv, timeoutMs: 60_000 * this.slowness })
  }

  /** Does damage. Returns false where there was nothing to damage. */
  async damage({ command }: Damage): Promise<boolean> {
    const argv = ['bash', '-o', 'pipefail', '-c', command]
    const { exitCode } = await this.node.sandbox.exec({ namespace: 'node', argv, timeoutMs: 10_000 * this.slowness })
    await this.#hint()
    return exitCode === 0
  }

  /** Takes the lock of iptables' legacy variant for a while, without waiting for it here. */
  async lock(ms: number): Promise<void> {
    const now = Date.now()
    this.troubles.push({ from: now, to: now + ms })
    const argv = ['flock', '/run/xtables.lock', 'sleep', String(ms / 1000)]
    await this.node.sandbox.exec({ namespace: 'node', argv, timeoutMs: ms + 20_000 })
  }

  /** From now on calls of a tool fail. */
  async breakTool(fault: ToolFault): Promise<void> {
    const find = `readlink -f "$(command -v ${fault.tool})"`
    const tool = (await this.node.sandbox.check({ argv: ['sh', '-c', find] })).trim()
    if (this.#mounted.some(item => item.tool === tool)) return
    const copy = join(this.node.directory, `real-${basename(tool)}`)
    const script = join(this.node.directory, `fault-${basename(tool)}`)
    await copyFile(tool, copy)
    await writeFile(script, faultScript(fault, copy), { mode: 0o755 })
    await this.node.sandbox.check({ argv: ['mount', '--bind', script, tool] })
    const window: Window = { from: Date.now() }
    this.troubles.push(window)
    this.#mounted.push({ tool, window })
  }

  /** All tools work again. */
  async mendTools(): Promise<void> {
    for (const { tool, window } of this.#mounted.splice(0)) {
      // Lazily: a call may be under way.
      await this.node.sandbox.check({ argv: ['umount', '-l', tool] })
      window.to = Date.now()
    }
  }

  /** Ends what tests left in the tables of others, and reads what the daemon said. */
  async tidy(): Promise<void> {
    await this.mendTools()
    await this.hold(false)
    await this.#hint()
    const daemon = this.#daemon
    if (daemon === undefined) return
    if ((await this.#readStrange(daemon.log)) > mostLogBytes) await truncate(daemon.log)
  }

  /** Times that ended before this moment explain nothing any more. */
  forget(before: number): void {
    for (const windows of [this.troubles, this.absences]) {
      const kept = windows.filter(({ to }) => to === undefined || to >= before)
      windows.splice(0, windows.length, ...kept)
    }
  }

  async close(): Promise<void> {
    await this.node.close()
  }

  /** Kubelet makes its mark again when it is gone; by it the variant of iptables is told. */
  async #hint(): Promise<void> {
    for (const tool of [`iptables-${this.variant}`, `ip6tables-${this.variant}`]) {
      const argv = [tool, '-w', '-t', 'mangle', '-N', 'KUBE-IPTABLES-HINT']
      await this.node.sandbox.exec({ namespace: 'node', argv })
    }
  }

  /** Returns the size of the log in characters. */
  async #readStrange(log: string): Promise<number> {
    const text = await readFile(log, 'utf8')
    const lines = text.split('\n').slice(0, -1)
    for (const line of lines) {
      if (!line.startsWith('{') && !this.strange.includes(line) && this.strange.length < 50) this.strange.push(line)
    }
    return text.length
  }
}

/** Where a soak keeps its files. */
export async function makeDirectory(parent: string, name: string): Promise<string> {
  const directory = join(parent, name)
  await mkdir(directory, { recursive: true })
  return directory
}
