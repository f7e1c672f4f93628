// Everything that is told of what the daemon does: the log, metrics, health, events; and the servers that show it.
import { setTimeout as sleep } from 'node:timers/promises'
import type { Source } from '../api/source.ts'
import type { Program } from '../backend/backend.ts'
import { tableOf } from '../backend/xtables/names.ts'
import type { ListenAddress } from '../config/types.ts'
import { configurationDocument } from '../config/write.ts'
import { healthHandler } from '../health/health-server.ts'
import { HttpListener } from '../health/listener.ts'
import type { ProxyHealth } from '../health/proxy-health.ts'
import { conntrackFill } from '../kernel/conntrack.ts'
import type { ModelEvent, ServiceKey } from '../model/records.ts'
import type { Store } from '../model/store.ts'
import type { HttpHandler } from '../net/http.ts'
import { type Family, type IP, parseIP } from '../net/ip.ts'
import { createEventRecorder, type EventRecorder, type EventWriter } from '../observe/events.ts'
import type { EventInput } from '../observe/events-known.ts'
import * as say from '../observe/events-known.ts'
import { metricsHandler } from '../observe/http.ts'
import { type FamilyReadings, type Metrics, makeMetrics, type Readings } from '../observe/metrics.ts'
import { nodePortIPs } from '../policy/node-ports.ts'
import type { SyncObserver } from '../sync/contract.ts'
import { inSlices, type Steps } from '../sync/slices.ts'
import { version } from '../version.ts'
import { describeFailure, type FamilyAssembly, isNeedless } from './assembly.ts'
import type { CommandContext } from './context.ts'
import { Ledger } from './ledger.ts'
import { logging } from './logging.ts'
import type { ServiceChecks } from './service-checks.ts'
import { debugService, statusOf } from './status-of.ts'

export interface TelemetryOptions {
  readonly context: CommandContext
  readonly nodeName: string
  readonly families: readonly Family[]
  /** Outlives one configuration: a node does not become unready because a file changed. */
  readonly health: ProxyHealth
  /** Likewise. */
  readonly checks: ServiceChecks
  /** Milliseconds since the epoch. */
  readonly startedAt: number
}

/** What is looked at when somebody asks. */
export interface Parts {
  readonly store: Store
  readonly families: readonly FamilyAssembly[]
  readonly source: Source
  /** Left out where there is no API to write to. */
  readonly write?: EventWriter | undefined
  /** Whether Nodes are told of: if not, that there is none means nothing. */
  readonly hasNodes: boolean
}

/** Failed syncs in a row before an event says so: one that passes by itself is no news. */
const failuresWorthAnEvent = 3

/** How long an event that precedes the end of the program may take. */
const lastWordMs = 3_000

/** Rules of ours, by table. */
interface RuleCounts {
  readonly filter: number
  readonly nat: number
}

/** Of 30,000 Services there are 100,000: one scrape must not hold the rest. */
function* countRules(program: Program): Steps<RuleCounts> {
  const counts = { filter: 0, nat: 0 }
  let seen = 0
  for (const [key, value] of program) {
    if (++seen % 256 === 0) yield
    const table = tableOf(key.split('/', 1)[0] ?? '')
    if (table !== undefined && table !== 'mangle' && value !== '') counts[table] += value.split('\n').length
  }
  return counts
}

/** Lives as long as one configuration is in force. */
export class Telemetry {
  readonly observer: SyncObserver
  readonly metrics: Metrics
  readonly #ledgers = new Map<Family, Ledger>()
  readonly #options: TelemetryOptions
  readonly #listeners: HttpListener[] = []
  readonly #rules = new Map<Family, { readonly at: number | undefined; readonly counts: RuleCounts }>()
  #parts: Parts | undefined
  #events: EventRecorder | undefined

  constructor(options: TelemetryOptions) {
    this.#options = options
    const { families, context } = options
    this.metrics = makeMetrics({ mode: context.configuration.mode, families, read: () => this.#read() })
    this.observer = this.#observe(logging(context.log))
    options.checks.use({
      addresses: family => this.#checkAddresses(family),
      failed: (service, port, reason) => {
        context.log.error({ service, port, reason }, 'the health check of a Service cannot be served')
        this.#events?.record(say.serviceHealthFailed(this.#identity(service), options.nodeName, port, reason))
      },
    })
  }

  /** From now on there is something to look at, and somebody to write events to. */
  attach(parts: Parts): void {
    this.#parts = parts
    const { nodeName, context } = this.#options
    if (parts.write === undefined) return
    this.#events = createEventRecorder({
      write: parts.write,
      nodeName,
      onLost: ({ reason, regarding }, why) =>
        context.log.debug({ reason, object: `${regarding.kind} ${regarding.name}`, why }, 'an event is given up'),
    })
    this.#events.record(say.started(nodeName, version, context.configuration.mode))
  }

  /**
   * Begins to serve health and metrics. A port that is taken is said, and tried again.
   * @throws ListenError when `bindAddressHardFail` is set and one cannot be had.
   */
  async listen(): Promise<void> {
    const { context, health, nodeName } = this.#options
    const { configuration, log } = context
    const healthz = healthHandler({
      health,
      onAnswer: (endpoint, code) => this.metrics.probed(endpoint, code),
      onChange: (endpoint, ok, problems) => {
        if (ok) log.info({ endpoint }, 'healthy')
        else log.warn({ endpoint, problems }, 'unhealthy')
      },
    })
    await this.#serve('healthz', configuration.healthzBindAddress, healthz, error =>
      say.healthServerFailed(nodeName, error),
    )
    await this.#serve('metrics', configuration.metricsBindAddress, this.#metricsHandler(), error =>
      say.metricsServerFailed(nodeName, error),
    )
  }

  /** An event of the model, before it is taken in. */
  heard(event: ModelEvent): void {
    if (event.kind === 'Service' || event.kind === 'EndpointSlice') this.metrics.changed(event.kind)
  }

  /** The Node object may be another. */
  nodeChanged(): void {
    const { store, hasNodes = true } = this.#parts ?? {}
    const node = store?.node()
    // While Nodes are still listed, what was known before a change of the configuration holds.
    if (node === undefined && hasNodes && store?.synced('Node') !== true) return
    this.#options.health.nodeEligible(node === undefined && !hasNodes ? true : node?.eligible)
  }

  async close(): Promise<void> {
    this.metrics.stop()
    this.#events?.stop()
    await Promise.all(this.#listeners.map(server => server.close()))
  }

  async #serve(
    name: string,
    listen: ListenAddress,
    handle: HttpHandler,
    failed: (error: string) => EventInput,
  ): Promise<void> {
    if (listen === 'disabled') return
    const { log, configuration } = this.#options.context
    const listener = new HttpListener({
      binding: { ...listen, dualStack: true },
      handle,
      onListenFailure: reason => {
        log.error({ server: name, reason }, 'a server cannot listen')
        this.#events?.record(failed(reason))
      },
      onListening: at => log.debug({ server: name, ...at }, 'listening'),
      onError: error => log.error({ server: name, error: String(error) }, 'an answer failed'),
      hardFail: configuration.bindAddressHardFail,
    })
    this.#listeners.push(listener)
    try {
      await listener.start()
    } catch (error) {
      // Only where the configuration wants the program to end then: the event is its last word.
      this.#events?.record(failed(error instanceof Error ? error.message : String(error)))
      await Promise.race([this.#events?.idle(), sleep(lastWordMs, undefined, { ref: false })])
      throw error
    }
  }

  #metricsHandler(): HttpHandler {
    const { context, startedAt } = this.#options
    const flags = Object.fromEntries([...context.commandLine.given].map(([flag, text]) => [flag.name, text]))
    return metricsHandler({
      metrics: () => this.metrics.scrape(),
      slis: () => this.metrics.slis(),
      mode: () => context.configuration.mode,
      configz: () => configurationDocument(context.configuration),
      flags: () => flags,
      status: () => statusOf(this.#options, this.#parts, family => this.#ledger(family)),
      service: (namespace, name) => debugService(this.#parts, namespace, name),
      date: Date.now,
      startedAt,
    })
  }

  #observe(log: SyncObserver): SyncObserver {
    const { health, nodeName } = this.#options
    return {
      queued: family => {
        health.queued(family)
        this.metrics.queued(family)
      },
      resolved: (family, service, ports) => this.#ledger(family).take(service, ports),
      synced: report => {
        log.synced(report)
        const { family, triggeredAt, morePending } = report
        const ledger = this.#ledger(family)
        const isFirst = ledger.lastSync === undefined
        ledger.lastSync = Date.now()
        health.synced(family, morePending)
        this.metrics.synced(report)
        this.metrics.programmed(family, triggeredAt, Date.now())
        const changed = ledger.takeChangedChecks()
        // An earlier configuration may have left checks of Services that are gone.
        if (isFirst) this.#options.checks.update(family, ledger.checks)
        else this.#options.checks.change(family, changed)
      },
      failed: (family, error, failures, facts) => {
        log.failed(family, error, failures, facts)
        const syncer = this.#parts?.families.find(item => item.family === family)?.syncer
        if (syncer !== undefined && isNeedless(error, syncer)) {
          health.expect(family, false)
          return
        }
        health.expect(family, true)
        health.failed(family, describeFailure(error), error.kind === 'denied' || error.kind === 'unsupported')
        this.metrics.failed(family, error.kind, facts)
        if (failures >= failuresWorthAnEvent) {
          this.#events?.record(say.syncFailing(nodeName, family, describeFailure(error)))
        }
      },
      setAside: item => {
        log.setAside(item)
        const { service, servicePort, reason } = item
        this.#events?.record(say.notProgrammed(this.#identity(service), nodeName, servicePort, reason))
      },
      conflict: item => {
        log.conflict(item)
        // No event: every node would write the same one.
        this.#ledger(item.family).conflict(item)
      },
      drift: (family, found) => {
        log.drift?.(family, found)
        this.metrics.drifted(family)
        this.#ledger(family).drift++
        this.#events?.record(say.drift(nodeName, family, found.examples.join('; ')))
      },
      degraded: (family, lost) => {
        log.degraded?.(family, lost)
        this.#events?.record(say.degraded(nodeName, family, lost))
      },
    }
  }

  #ledger(family: Family): Ledger {
    const ledger = this.#ledgers.get(family) ?? new Ledger()
    this.#ledgers.set(family, ledger)
    return ledger
  }

  #identity(key: ServiceKey): say.ServiceIdentity {
    const [namespace = '', name = ''] = key.split('/')
    return this.#parts?.store.service(key) ?? { namespace, name }
  }

  /** All addresses of the family, or those of the node that nodePortAddresses names (§8.2). */
  #checkAddresses(family: Family): readonly IP[] {
    const network = this.#parts?.families.find(item => item.family === family)?.network()
    if (network !== undefined && network.nodePortAddresses.kind !== 'all') return nodePortIPs(network)
    return [parseIP(family === 'IPv4' ? '0.0.0.0' : '::')].filter(ip => ip !== undefined)
  }

  /** Counted anew only after a sync. */
  async #rulesOf(family: Family, program: Program): Promise<RuleCounts> {
    const { lastSync } = this.#ledger(family)
    const known = this.#rules.get(family)
    if (known !== undefined && known.at === lastSync) return known.counts
    const counts = await inSlices(countRules(program))
    this.#rules.set(family, { at: lastSync, counts })
    return counts
  }

  async #read(): Promise<Readings> {
    const parts = this.#parts
    const sizes = parts?.store.sizes()
    const stats = parts?.source.stats()
    const families: Partial<Record<Family, FamilyReadings>> = {}
    for (const { family, syncer } of parts?.families ?? []) {
      families[family] = {
        dirtyServices: syncer.pending,
        kernelObjects: syncer.program.objects.size,
        setAside: syncer.setAsides.length,
        noLocalEndpoints: this.#ledger(family).noLocalEndpoints,
        ...(this.#options.context.configuration.mode === 'iptables'
          ? { rules: await this.#rulesOf(family, syncer.program.objects) }
          : {}),
      }
    }
    return {
      services: sizes?.services ?? 0,
      endpoints: sizes?.endpoints ?? 0,
      undecodable: stats?.undecodable ?? 0,
      families,
      watches: stats?.kinds ?? {},
      conntrack: await conntrackFill(),
      events: this.#events?.counts(),
    }
  }
}
