// What a node is put in charge of while it changes hands: servers on the endpoints' addresses, and from everywhere in the
// world flows that live and connections that come.
import { join } from 'node:path'
import { ip, originOf, world as places } from '../../conformance/world.ts'
import type { Worker } from '../netns/sandbox.ts'
import { type Namespace, namespaces } from '../world/plan.ts'
import { namespaceOf, type World } from '../world/world.ts'
import type { ClientMethods, Failure, Patience } from './client.ts'
import { listeners, type Target, targets } from './cluster.ts'
import type { Kind } from './kinds.ts'
import type { ServerMethods } from './server.ts'

/** For a machine whose processors are its own. */
export const usualPatience: Patience = {
  connectMs: 900,
  answerMs: 10_000,
  slowRefusalMs: 10_000,
  silenceMs: 300,
  pauseMs: 15,
}

/** What the traffic came to. */
export interface TrafficReport {
  /** New connections and datagrams, those that are meant to fail included. */
  readonly probes: number
  /** Echoes of all flows. */
  readonly echoes: number
  /** Longest wait for an echo; milliseconds. */
  readonly slowestEcho: number
  /** In the order of their times. */
  readonly noted: readonly Failure[]
}

/** What a KubeProxyConfiguration says of the world; conntrack limits, which concern the whole machine, are left alone. */
export const configurationOf = ({ mode, configuration }: Kind): object => ({
  apiVersion: 'kubeproxy.config.k8s.io/v1alpha1',
  kind: 'KubeProxyConfiguration',
  mode,
  clusterCIDR: places.clusterCIDR,
  conntrack: { maxPerCore: 0, min: 0 },
  ...configuration,
})

/** Answers on the addresses of all endpoints, until the world is closed. Throws for an address that cannot be bound. */
export async function startServers(world: World): Promise<void> {
  for (const namespace of ['pods-a', 'node-b'] as const) {
    const module = join(import.meta.dirname, 'server.ts')
    const server = await world.sandbox.worker<ServerMethods>({ namespace, module })
    await server.call('serve', {
      listeners: listeners.filter(({ address }) => namespaceOf(originOf(ip(address))) === namespace),
    })
  }
}

const sentFrom = (namespace: Namespace): readonly Target[] =>
  targets.filter(({ src }) => namespaceOf(originOf(ip(src))) === namespace)

/** All clients of the world. */
export class Traffic {
  readonly #clients: readonly Worker<ClientMethods>[]

  private constructor(clients: readonly Worker<ClientMethods>[]) {
    this.#clients = clients
  }

  /** First the flows, then the new connections. */
  static async start(world: World, patience: Patience): Promise<Traffic> {
    const started = namespaces
      .filter(namespace => sentFrom(namespace).length > 0)
      .map(async namespace => {
        const module = join(import.meta.dirname, 'client.ts')
        const client = await world.sandbox.worker<ClientMethods>({ namespace, module })
        await client.call('openFlows', { targets: sentFrom(namespace), patience })
        return { client, namespace }
      })
    const all = await Promise.all(started)
    for (const { client, namespace } of all) {
      await client.call('startProbes', { targets: sentFrom(namespace), patience })
    }
    return new Traffic(all.map(({ client }) => client))
  }

  /** Resolves when everything has been tried so many times more. */
  async advance(times: number): Promise<void> {
    await Promise.all(this.#clients.map(client => client.call('advance', { times })))
  }

  /** Ends everything. */
  async stop(): Promise<TrafficReport> {
    const reports = await Promise.all(this.#clients.map(client => client.call('stop', undefined as never)))
    const sum = (of: (report: (typeof reports)[number]) => number): number =>
      reports.reduce((total, report) => total + of(report), 0)
    const noted = reports.flatMap(({ failures }) => failures).sort((a, b) => a.at - b.at)
    const untold = sum(({ failureCount, failures }) => failureCount - failures.length)
    const more: Failure[] = untold === 0 ? [] : [{ at: Date.now(), what: `${untold} further failures` }]
    return {
      probes: sum(({ probes }) => probes),
      echoes: sum(({ echoes }) => echoes),
      slowestEcho: Math.max(...reports.map(({ slowestEcho }) => slowestEcho)),
      noted: [...noted, ...more],
    }
  }
}
