// Source: everything the model is told, from an API server. Four reflectors, one sink.
import type { ModelEvent, ModelKind } from '../model/records.ts'
import { decodeEvent, modelKinds, removalEvent } from './decode.ts'
import { proxyNameLabel } from './decode-service.ts'
import { headlessLabel } from './decode-slice.ts'
import type { Report } from './fields.ts'
import { createProblemLog, type ProblemLog } from './problem-log.ts'
import { Reflector } from './reflector.ts'
import type { Consumer, ReflectorOptions, ReflectorState, ReflectorStats, ServerTraits } from './reflector-options.ts'
import type { Resource } from './requests.ts'
import type { Connection } from './transport.ts'

/** Takes the model's events, in order. What it throws ends the source. */
export type Sink = (event: ModelEvent) => void

/** For metrics and `status`. */
export interface SourceStats {
  readonly kinds: Readonly<Partial<Record<ModelKind, ReflectorStats>>>
  /** Objects whose newest version cannot be decoded now; what was known of them before is in force. */
  readonly undecodable: number
}

/** Where Services and endpoints come from. */
export interface Source {
  /**
   * Feeds the sink until the signal says stop, and resolves when nothing runs any more.
   * @throws only what the sink throws.
   */
  start(sink: Sink, signal: AbortSignal): Promise<void>
  stats(): SourceStats
}

export interface ApiSourceOptions {
  readonly nodeName: string
  /** Told once of each problem of an object, and again only after the object was well. */
  readonly report: Report
  /** Told when a kind stops or begins to be in step with the API server, and why. */
  readonly onState?: (kind: ModelKind, state: ReflectorState, why: string) => void
  /** Timers; only tests shorten them. */
  readonly reflector?: Omit<ReflectorOptions, 'optional' | 'onState'>
}

/** What is asked of the server: the selectors are kube-proxy's, so that nobody is sent what nobody needs. */
export function resourceOf(kind: ModelKind, nodeName: string): Resource {
  switch (kind) {
    case 'Service':
      return { path: '/api/v1/services', labelSelector: `!${proxyNameLabel}`, fieldSelector: 'spec.clusterIP!=None' }
    case 'EndpointSlice':
      return { path: '/apis/discovery.k8s.io/v1/endpointslices', labelSelector: `!${headlessLabel}` }
    case 'Node':
      return { path: '/api/v1/nodes', fieldSelector: `metadata.name=${nodeName}` }
    case 'ServiceCIDR':
      return { path: '/apis/networking.k8s.io/v1/servicecidrs' }
  }
}

/** A source over a connection, which stays the caller's to close. */
export function createApiSource(connection: Connection, options: ApiSourceOptions): Source {
  return new ApiSource(connection, options)
}

class ApiSource implements Source {
  readonly #connection: Connection
  readonly #options: ApiSourceOptions
  readonly #problems: ProblemLog
  readonly #reflectors = new Map<ModelKind, Reflector>()

  constructor(connection: Connection, options: ApiSourceOptions) {
    this.#connection = connection
    this.#options = options
    this.#problems = createProblemLog(options.report)
  }

  async start(sink: Sink, signal: AbortSignal): Promise<void> {
    const traits: ServerTraits = { avoidWatchListUntil: 0 }
    // One reflector's failure, which only the sink can cause, stops the others too.
    const stop = new AbortController()
    const abort = (): void => stop.abort(signal.reason)
    if (signal.aborted) return
    signal.addEventListener('abort', abort, { once: true })
    try {
      const runs = modelKinds.map(kind => this.#reflector(kind, sink, traits).run(stop.signal))
      for (const run of runs) run.catch(error => stop.abort(error))
      const failed = (await Promise.allSettled(runs)).find(result => result.status === 'rejected')
      if (failed !== undefined) throw failed.reason
    } finally {
      signal.removeEventListener('abort', abort)
    }
  }

  stats(): SourceStats {
    const kinds: Partial<Record<ModelKind, ReflectorStats>> = {}
    for (const [kind, reflector] of this.#reflectors) kinds[kind] = reflector.stats()
    return { kinds, undecodable: this.#problems.undecodable }
  }

  #reflector(kind: ModelKind, sink: Sink, traits: ServerTraits): Reflector {
    const { nodeName, reflector: settings, onState } = this.#options
    const reflector = new Reflector(this.#connection, resourceOf(kind, nodeName), this.#consumer(kind, sink), traits, {
      ...settings,
      // Kubernetes has it since 1.29, and roles made before then do not grant it.
      optional: kind === 'ServiceCIDR',
      ...(onState === undefined ? {} : { onState: (state, why) => onState(kind, state, why) }),
    })
    this.#reflectors.set(kind, reflector)
    return reflector
  }

  #consumer(kind: ModelKind, sink: Sink): Consumer {
    return {
      upsert: (key, object) => {
        const event = this.#problems.collect(kind, key, report => decodeEvent(kind, key, object, report))
        // Not decodable: nothing already programmed is lost because something new is bad.
        if (event !== undefined) sink(event)
      },
      remove: key => {
        this.#problems.forget(kind, key)
        sink(removalEvent(kind, key))
      },
      synced: () => sink({ kind: 'synced', of: kind }),
    }
  }
}
