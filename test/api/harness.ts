// What the tests of the way in share: a server, a source with short timers over it, and the state a fresh list would give.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, onTestFinished } from 'vitest'
import { openConnection } from '../../src/api/connection.ts'
import { decodeEvent, modelKinds } from '../../src/api/decode.ts'
import { DecodeError, metaOf, type Problem } from '../../src/api/fields.ts'
import type { ReflectorOptions } from '../../src/api/reflector-options.ts'
import { createApiSource, type Source } from '../../src/api/source.ts'
import type { Connection } from '../../src/api/transport.ts'
import type { ModelEvent, ModelKind } from '../../src/model/records.ts'
import { type ApiServer, type ApiServerOptions, startApiServer } from '../support/apiserver/server.ts'

/** Timers short enough for a test, in the proportions of the real ones. */
export const shortTimers: ReflectorOptions = {
  backoff: { baseMs: 10, capMs: 100, random: Math.random },
  idleMs: 1_200,
  initialIdleMs: 800,
  goneJitterMs: 10,
  absentMs: 200,
}

/** Applies events as the model does, and remembers what was ever seen to vanish. */
export class Mirror {
  readonly records = new Map<string, unknown>()
  readonly synced: ModelKind[] = []
  readonly removed: string[] = []

  readonly apply = (event: ModelEvent): void => {
    if (event.kind === 'synced') {
      this.synced.push(event.of)
      return
    }
    const id = `${event.kind} ${event.key}`
    if (event.record !== undefined) this.records.set(id, event.record)
    else if (this.records.delete(id)) this.removed.push(id)
  }

  get state(): Record<string, unknown> {
    return Object.fromEntries([...this.records].sort(([a], [b]) => (a < b ? -1 : 1)))
  }
}

/** What the mirror of a source that starts now would hold. Objects that cannot be decoded are left out. */
export function freshState(server: ApiServer): Record<string, unknown> {
  const mirror = new Mirror()
  for (const kind of modelKinds) {
    for (const object of server.list(kind)) {
      const key = metaOf(object)?.key ?? ''
      if (kind === 'Node' && key !== nodeName) continue
      try {
        mirror.apply(decodeEvent(kind, key, object, () => undefined))
      } catch (error) {
        if (!(error instanceof DecodeError)) throw error
      }
    }
  }
  return mirror.state
}

export const nodeName = 'node-a'

export interface World {
  readonly server: ApiServer
  readonly connection: Connection
  readonly source: Source
  readonly mirror: Mirror
  readonly problems: Problem[]
  readonly states: string[]
  readonly directory: string
  readonly running: Promise<void>
  readonly stop: () => Promise<void>
  /** Resolves when the mirror equals a fresh list. */
  readonly inStep: (withinMs?: number) => Promise<void>
}

export interface WorldOptions {
  readonly server?: ApiServerOptions
  readonly timers?: ReflectorOptions
  readonly prepare?: (server: ApiServer) => void
  /** Text of the kubeconfig; may write files beside it. */
  readonly kubeconfig?: (server: ApiServer, directory: string) => string
  readonly sink?: (event: ModelEvent) => void
}

export function temporaryDirectory(): string {
  const directory = mkdtempSync(path.join(tmpdir(), 'penstock-api-'))
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }))
  return directory
}

/** Starts a bare server that ends with the test. */
export async function startServer(options: ApiServerOptions): Promise<ApiServer> {
  const server = await startApiServer({ bookmarkIntervalMs: 200, ...options })
  onTestFinished(() => server.stop())
  return server
}

/** Starts a server and a source over it; both end with the test. */
export async function startWorld(options: WorldOptions = {}): Promise<World> {
  const server = await startApiServer({ bookmarkIntervalMs: 200, ...options.server })
  seed(server)
  options.prepare?.(server)
  const directory = temporaryDirectory()
  const kubeconfig = path.join(directory, 'kubeconfig')
  writeFileSync(kubeconfig, options.kubeconfig?.(server, directory) ?? server.kubeconfig())
  const connection = openConnection({ kubeconfig })
  const mirror = new Mirror()
  const problems: Problem[] = []
  const states: string[] = []
  const source = createApiSource(connection, {
    nodeName,
    report: problem => problems.push(problem),
    onState: (kind, state) => states.push(`${kind} ${state}`),
    reflector: { ...shortTimers, ...options.timers },
  })
  const controller = new AbortController()
  const running = source.start(options.sink ?? mirror.apply, controller.signal)
  running.catch(() => undefined)
  const stop = async (): Promise<void> => {
    controller.abort()
    await running
  }
  onTestFinished(async () => {
    controller.abort()
    await running.catch(() => undefined)
    connection.close()
    await server.stop()
  })
  const inStep = (withinMs?: number): Promise<void> =>
    eventually(() => {
      expect(mirror.synced.toSorted()).toEqual([...modelKinds].sort())
      expect(mirror.state).toEqual(freshState(server))
    }, withinMs)
  return { server, connection, source, mirror, problems, states, directory, running, stop, inStep }
}

/** Repeats a check until it passes; fails with its last failure. */
export async function eventually(check: () => void, withinMs = 20_000): Promise<void> {
  const deadline = performance.now() + withinMs
  for (;;) {
    try {
      check()
      return
    } catch (error) {
      if (performance.now() > deadline) throw error
    }
    await sleep(5)
  }
}

/** A small cluster: two Services with a slice each, this node, another node. */
export function seed(server: ApiServer): void {
  server.put([
    node(nodeName),
    node('node-b'),
    service('web', 1),
    service('api', 2),
    slice('web', 1, 2),
    slice('api', 1, 1),
  ])
}

export const node = (name: string): object => ({
  apiVersion: 'v1',
  kind: 'Node',
  metadata: { name, labels: { 'topology.kubernetes.io/zone': 'zone-a' } },
  spec: { podCIDRs: ['10.244.1.0/24'] },
  status: { addresses: [{ type: 'InternalIP', address: '192.168.100.1' }] },
})

/** A Service in namespace `shop` under 10.96.1.N. */
export const service = (name: string, number: number, port = 80): object => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name, namespace: 'shop' },
  spec: {
    type: 'ClusterIP',
    clusterIP: `10.96.1.${number}`,
    clusterIPs: [`10.96.1.${number}`],
    ipFamilies: ['IPv4'],
    ports: [{ name: 'http', protocol: 'TCP', port }],
  },
})

/** Slice `NAME-NUMBER` of a Service with so many endpoints. */
export const slice = (name: string, number: number, endpoints: number): object => ({
  apiVersion: 'discovery.k8s.io/v1',
  kind: 'EndpointSlice',
  metadata: { name: `${name}-${number}`, namespace: 'shop', labels: { 'kubernetes.io/service-name': name } },
  addressType: 'IPv4',
  ports: [{ name: 'http', protocol: 'TCP', port: 8080 }],
  endpoints: Array.from({ length: endpoints }, (_, index) => ({
    addresses: [`10.244.${number}.${index + 1}`],
    conditions: { ready: true, serving: true, terminating: false },
    nodeName,
  })),
})
