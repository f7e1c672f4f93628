// The demo's cluster of network namespaces: an API server, two nodes with their own `penstock run`, pods, a client outside.
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { type Means, Sandbox, type Worker } from '../support/netns/sandbox.ts'
import type { ApiMethods } from './api.ts'
import type { ClientMethods, SendParams, SentAnswers } from './client.ts'
import type { Answers, Cluster, Load, Request } from './cluster.ts'
import { baseConfigurations, baseLinks, baseNamespaces, podNetwork, sysctls } from './network.ts'
import {
  type ApiObject,
  askingPod,
  controlAddress,
  type NodeName,
  nodeObject,
  nodes,
  type ObjectReference,
  type Pod,
  podPort,
  type Sender,
  senders,
  serviceCIDR,
} from './objects.ts'
import type { PodMethods } from './pod.ts'

export interface RealOptions {
  readonly means: Means
  readonly mode: string
  /** Told what is being done, a line each. */
  readonly say: (line: string) => void
}

/** Inside the sandbox, on its own tmpfs: it is gone with it, whatever ends the demo. */
const directory = '/run/demo'
/** Where the kubeconfig is, seen from inside. */
export const kubeconfig = join(directory, 'kubeconfig')
/** Where a node's daemon writes its log, seen from inside. */
export const logOf = (name: NodeName): string => join(directory, `${name}.log`)

const root = join(import.meta.dirname, '../..')
const requestTimeoutMs = 3000
const patienceMs = 5000

const senderNamespace: Record<Sender, string> = {
  pod: askingPod.name,
  'node-b': 'node-b',
  client: 'client',
  stranger: 'client',
}

export class RealCluster implements Cluster {
  readonly kind = 'real'
  readonly sandbox: Sandbox
  readonly #options: RealOptions
  readonly #clients = new Map<string, Worker<ClientMethods>>()
  readonly #pods = new Map<string, Worker<PodMethods>>()
  readonly #daemons = new Map<NodeName, number>()
  #api: Worker<ApiMethods> | undefined

  private constructor(sandbox: Sandbox, options: RealOptions) {
    this.sandbox = sandbox
    this.#options = options
  }

  /** Builds it. Throws, with what a program said, if a part of it does not start. */
  static async open(options: RealOptions): Promise<RealCluster> {
    const sandbox = await Sandbox.open(options.means)
    const cluster = new RealCluster(sandbox, options)
    try {
      await cluster.#build()
      return cluster
    } catch (error) {
      await cluster.close()
      throw error
    }
  }

  async #build(): Promise<void> {
    const { sandbox } = this
    this.#options.say('two nodes, a router and a client, as network namespaces')
    await sandbox.check({ argv: ['mkdir', directory] })
    await sandbox.addNamespaces(baseNamespaces)
    await Promise.all(baseNamespaces.map(name => sandbox.configure(name, { sysctls })))
    await sandbox.addLinks(baseLinks)
    await Promise.all(baseNamespaces.map(name => sandbox.configure(name, baseConfigurations[name])))
    this.#options.say('an API server over TLS, with a token')
    await Promise.all([this.#startApi(), this.#startClients()])
    const names = Object.keys(nodes) as NodeName[]
    await this.apply(...names.map(nodeObject))
    this.#options.say(`penstock run on both nodes, mode ${this.#options.mode}`)
    await Promise.all(names.map(name => this.#startDaemon(name)))
  }

  async #startApi(): Promise<void> {
    const output = join(directory, 'api.log')
    const main = join(root, 'test/support/apiserver/main.ts')
    const pid = await this.sandbox.start({
      namespace: 'control',
      argv: [
        ...[process.execPath, main, '--listen', `${controlAddress}:6443`, '--host', controlAddress],
        ...['--kubeconfig-out', kubeconfig, '--service-cidr', serviceCIDR],
      ],
      output,
    })
    await this.#until('the API server', pid, output, async () => (await this.#read(output)).includes('"ready":true'))
    this.#api = await this.sandbox.worker<ApiMethods>({
      namespace: 'control',
      module: join(import.meta.dirname, 'api.ts'),
      args: [kubeconfig],
    })
  }

  async #startClients(): Promise<void> {
    await this.#connectPod(askingPod)
    const module = join(import.meta.dirname, 'client.ts')
    for (const namespace of new Set(Object.values(senderNamespace))) {
      this.#clients.set(namespace, await this.sandbox.worker<ClientMethods>({ namespace, module }))
    }
  }

  async #startDaemon(name: NodeName): Promise<void> {
    // What kubelet leaves for others to see which variant of iptables the node uses.
    await this.sandbox.check({ namespace: name, argv: ['iptables-nft', '-t', 'mangle', '-N', 'KUBE-IPTABLES-HINT'] })
    const output = logOf(name)
    const pid = await this.sandbox.start({
      namespace: name,
      argv: [
        ...[join(root, 'hack/penstock'), 'run', '--kubeconfig', kubeconfig, '--hostname-override', name],
        ...['--proxy-mode', this.#options.mode, '--cluster-cidr', '10.244.0.0/16'],
        // The table of flows belongs to the machine, not to the demo.
        ...['--conntrack-max-per-core', '0', '--conntrack-min', '0'],
      ],
      output,
    })
    this.#daemons.set(name, pid)
  }

  async #read(file: string): Promise<string> {
    return this.sandbox.check({ argv: ['cat', file] })
  }

  /** A sentence with its last words for every daemon that ended by itself. */
  async deadDaemons(): Promise<string[]> {
    const dead: string[] = []
    for (const [name, pid] of this.#daemons) {
      const end = await this.sandbox.ended(pid)
      if (end === null) continue
      const log = await this.#read(logOf(name))
      dead.push(`penstock on ${name} ended with ${end.signal ?? `status ${end.exitCode}`}:\n${tail(log)}`)
    }
    return dead
  }

  async apply(...objects: readonly ApiObject[]): Promise<void> {
    for (const object of objects) await this.#api?.call('apply', { object })
  }

  async remove(...references: readonly ObjectReference[]): Promise<void> {
    for (const reference of references) await this.#api?.call('remove', reference)
  }

  async #connectPod(pod: Pod): Promise<void> {
    const { link, inPod, onNode } = podNetwork(pod)
    await this.sandbox.addNamespaces([pod.name])
    await this.sandbox.configure(pod.name, { sysctls })
    await this.sandbox.addLinks([link])
    await Promise.all([this.sandbox.configure(pod.name, inPod), this.sandbox.configure(pod.node, onNode)])
  }

  async startPod(pod: Pod): Promise<void> {
    await this.#connectPod(pod)
    const worker = await this.sandbox.worker<PodMethods>({
      namespace: pod.name,
      module: join(import.meta.dirname, 'pod.ts'),
      args: [pod.name, String(podPort)],
    })
    await worker.call('serve', undefined as never)
    this.#pods.set(pod.name, worker)
  }

  async stopPod(pod: Pod): Promise<void> {
    await this.#pods.get(pod.name)?.call('drain', undefined as never)
    this.#pods.delete(pod.name)
    await this.sandbox.check({ argv: ['ip', 'netns', 'del', pod.name] })
  }

  #client(from: Sender): Worker<ClientMethods> {
    const client = this.#clients.get(senderNamespace[from])
    if (client === undefined) throw new Error(`nobody sends for ${from}`)
    return client
  }

  async send(request: Request): Promise<Answers> {
    const params = { ...target(request), count: request.count, parallel: Math.min(8, request.count) }
    return unpacked(await this.#client(request.from).call('send', params))
  }

  async settle(request: Omit<Request, 'count'>, met: (answers: Answers) => boolean): Promise<number> {
    const began = performance.now()
    const params = { ...target(request), count: 1, parallel: 1, timeoutMs: 250 }
    while (performance.now() - began < patienceMs) {
      if (met(unpacked(await this.#client(request.from).call('send', params)))) break
      await sleep(5)
    }
    return performance.now() - began
  }

  async load(request: Omit<Request, 'count'>): Promise<Load> {
    const client = this.#client(request.from)
    await client.call('startLoad', { ...target(request), parallel: 6 })
    return { stop: async () => unpacked(await client.call('stopLoad', undefined as never)) }
  }

  async pause(ms: number): Promise<void> {
    await sleep(ms)
  }

  async #until(what: string, pid: number, log: string, met: () => Promise<boolean>): Promise<void> {
    const began = performance.now()
    while (!(await met())) {
      const dead = (await this.sandbox.ended(pid)) !== null
      if (dead || performance.now() - began > 20_000) {
        throw new Error(`${what} did not start:\n${tail(await this.#read(log))}`)
      }
      await sleep(20)
    }
  }

  /** Ends the daemons in order, then everything. */
  async close(): Promise<void> {
    await Promise.all([...this.#daemons.values()].map(pid => this.sandbox.end(pid).catch(() => undefined)))
    await this.sandbox.close()
  }
}

function target({ from, to }: Omit<Request, 'count'>): Omit<SendParams, 'count' | 'parallel'> {
  const at = to.lastIndexOf(':')
  return {
    source: senders[from].address,
    host: to.slice(0, at),
    port: Number(to.slice(at + 1)),
    timeoutMs: requestTimeoutMs,
  }
}

const unpacked = (sent: SentAnswers): Answers => ({ ...sent, by: new Map(sent.by) })

const tail = (text: string): string => text.trimEnd().split('\n').slice(-15).join('\n')
