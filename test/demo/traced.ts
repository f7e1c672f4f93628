// The demo's cluster where no namespaces can be made: the same objects, compiled, and packets walked through the rules by
// `penstock trace`. What takes time or state to see (affinity, requests under way) is not in the rules of one moment.
import { execFile } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { Answers, Cluster, Load, Request } from './cluster.ts'
import {
  type ApiObject,
  askingPod,
  type NodeName,
  nodeObject,
  nodes,
  type ObjectReference,
  type Pod,
  type Sender,
  senders,
} from './objects.ts'

/** The part of `penstock trace -o json` that is looked at (`design.md` §2). */
interface Traced {
  readonly verdict: 'dnat' | 'reject' | 'drop' | 'none'
  readonly endpoints: readonly { readonly address: string; readonly probability: number }[]
  readonly masquerade: boolean
}

const run = promisify(execFile)
const program = join(import.meta.dirname, '../../hack/penstock')

/** The node whose rules a request meets first. */
function nodeFor(from: Sender, host: string): NodeName {
  for (const name of Object.keys(nodes) as NodeName[]) if (nodes[name].address === host) return name
  return from === 'node-b' ? 'node-b' : askingPod.node
}

export class TracedCluster implements Cluster {
  readonly kind = 'traced'
  readonly #directory: string
  readonly #mode: string
  readonly #objects = new Map<string, ApiObject>()
  readonly #pods = new Map<string, Pod>()
  #sent = 0
  #loads: { readonly request: Omit<Request, 'count'>; answers: Answers }[] = []

  private constructor(directory: string, mode: string) {
    this.#directory = directory
    this.#mode = mode
  }

  static async open(mode: string): Promise<TracedCluster> {
    const cluster = new TracedCluster(await mkdtemp(join(tmpdir(), 'penstock-demo-')), mode)
    await cluster.apply(...(Object.keys(nodes) as NodeName[]).map(nodeObject))
    return cluster
  }

  async apply(...objects: readonly ApiObject[]): Promise<void> {
    for (const object of objects) this.#objects.set(`${object.kind}/${object.metadata.name}`, object)
    await this.#watchLoads()
  }

  async remove(...references: readonly ObjectReference[]): Promise<void> {
    for (const { kind, name } of references) this.#objects.delete(`${kind}/${name}`)
    await this.#watchLoads()
  }

  async startPod(pod: Pod): Promise<void> {
    this.#pods.set(pod.address, pod)
  }

  async stopPod(pod: Pod): Promise<void> {
    this.#pods.delete(pod.address)
    await this.#watchLoads()
  }

  async send({ from, to, count }: Request): Promise<Answers> {
    const at = to.lastIndexOf(':')
    const [host, port] = [to.slice(0, at), Number(to.slice(at + 1))]
    const node = nodeFor(from, host)
    // A file for each request: others may be under way, and must not read one that is half written.
    const manifests = join(this.#directory, `objects-${++this.#sent}.json`)
    await writeFile(manifests, JSON.stringify({ apiVersion: 'v1', kind: 'List', items: [...this.#objects.values()] }))
    const { stdout } = await run(program, [
      ...['trace', '--manifests', manifests, '--hostname-override', node, '--node-address', nodes[node].address],
      ...['--proxy-mode', this.#mode, '--cluster-cidr', '10.244.0.0/16', '-o', 'json'],
      ...['--src', senders[from].address, '--dst', host, '--port', String(port), '--protocol', 'tcp'],
    ])
    const traced: Traced | readonly Traced[] = JSON.parse(stdout)
    const [outcome] = Array.isArray(traced) ? traced : [traced]
    return this.#answersOf(outcome, count, from, node)
  }

  #answersOf(outcome: Traced, count: number, from: Sender, node: NodeName): Answers {
    const by = new Map<string, number>()
    const errors: string[] = []
    for (const { address, probability } of outcome.endpoints) {
      const pod = this.#pods.get(address.slice(0, address.lastIndexOf(':')))
      if (pod === undefined) errors.push(`no pod at ${address}`)
      else by.set(pod.name, (by.get(pod.name) ?? 0) + probability * count)
    }
    const source = outcome.masquerade ? nodes[node].address : senders[from].address
    return {
      by,
      sources: by.size > 0 ? [source] : [],
      refused: outcome.verdict === 'reject' ? count : 0,
      silent: outcome.verdict === 'drop' || outcome.verdict === 'none' ? count : 0,
      errors,
    }
  }

  async settle(): Promise<number> {
    return 0
  }

  async load(request: Omit<Request, 'count'>): Promise<Load> {
    const entry = { request, answers: await this.send({ ...request, count: 1 }) }
    this.#loads.push(entry)
    return {
      stop: async () => {
        this.#loads = this.#loads.filter(other => other !== entry)
        return entry.answers
      },
    }
  }

  /** One packet of every load after every change: what a request sent just then would have met. */
  async #watchLoads(): Promise<void> {
    for (const entry of this.#loads) entry.answers = sum(entry.answers, await this.send({ ...entry.request, count: 1 }))
  }

  async pause(): Promise<void> {}

  async close(): Promise<void> {
    await rm(this.#directory, { recursive: true, force: true })
  }
}

function sum(a: Answers, b: Answers): Answers {
  const by = new Map(a.by)
  for (const [pod, n] of b.by) by.set(pod, (by.get(pod) ?? 0) + n)
  return {
    by,
    sources: [...new Set([...a.sources, ...b.sources])],
    refused: a.refused + b.refused,
    silent: a.silent + b.silent,
    errors: [...a.errors, ...b.errors],
  }
}
