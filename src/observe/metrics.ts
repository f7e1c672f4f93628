// Everything that is measured, in one registry of its own: kube-proxy's metrics, ours, the process, the API client.
import { Registry } from 'prom-client'
import type { Family } from '../net/ip.ts'
import { version } from '../version.ts'
import type { Exposition } from './http.ts'
import { kubeProxyMetrics } from './metrics-kubeproxy.ts'
import { type MetricMaker, makerFor } from './metrics-make.ts'
import { ownMetrics } from './metrics-own.ts'
import { LoopDelay, processMetrics } from './metrics-process.ts'
import type { FailureFacts, Mode, Readings, RequestFacts, SyncFacts } from './metrics-readings.ts'

export type { FamilyReadings, Readings } from './metrics-readings.ts'

export interface MetricsOptions {
  readonly mode: Mode
  readonly families: readonly Family[]
  /** Called once a scrape. What it throws fails that scrape. */
  readonly read: () => Readings | Promise<Readings>
  /** `git_version` of `kubernetes_build_info`, `v1.36.0`: the Kubernetes version to appear as. */
  readonly kubernetesVersion?: string
  /** Milliseconds since the epoch. */
  readonly now?: () => number
}

/** What is told of what happens. None of these throws, waits or costs more than a few microseconds. */
export interface Metrics {
  synced(facts: SyncFacts): void
  /** `kind`: that of the `CommitError`. */
  failed(family: Family, kind: string, facts?: FailureFacts): void
  /** What an earlier run left behind cannot be removed. */
  sweepFailed(family: Family): void
  /** Changes have reached the kernel: when each happened, and when the sync that wrote them ended (§12.3). */
  programmed(family: Family, triggerTimesMs: Iterable<number>, nowMs: number): void
  /** A sync is asked for. */
  queued(family: Family): void
  /** Objects of a kind changed. */
  changed(kind: 'Service' | 'EndpointSlice', count?: number): void
  /** Somebody else changed rules of ours. */
  drifted(family: Family): void
  /** Stale connections were looked for, and so many deleted. */
  flowsDeleted(family: Family, count: number, durationMs: number): void
  /** The health server answered. */
  probed(endpoint: 'healthz' | 'livez', code: number): void
  /** The API server answered, or did not. */
  requested(facts: RequestFacts): void
  /** A health check came out so. `ping`, kube-proxy's only one, needs no telling: who answers scrapes passes it. */
  checked(name: string, isHealthy: boolean): void
  /** What `/metrics` answers. Rejects with what `read` throws. */
  scrape(): Promise<Exposition>
  /** What `/metrics/slis` answers. */
  slis(): Promise<Exposition>
  /** Ends what measures by itself. */
  stop(): void
}

/** Which kube-proxy's behaviour is offered. */
const likeKubernetes = 'v1.36.0'

/** Metrics of one program in one mode. */
export function makeMetrics(options: MetricsOptions): Metrics {
  const { mode, families, read, now = Date.now } = options
  const registry = new Registry()
  const make = makerFor(registry)
  const kubeProxy = kubeProxyMetrics(make, mode, families, now)
  const own = ownMetrics(make, families, now)
  const loop = new LoopDelay(registry)
  const collectProcess = processMetrics(make)
  buildInfo(make, mode, options.kubernetesVersion ?? likeKubernetes)
  const checks = healthChecks()
  return {
    synced(facts) {
      kubeProxy.synced(facts)
      own.synced(facts)
    },
    failed(family, kind, facts = {}) {
      kubeProxy.failed(family, facts)
      own.failed(family, kind)
    },
    sweepFailed: kubeProxy.sweepFailed,
    programmed: kubeProxy.programmed,
    queued: kubeProxy.queued,
    changed: (kind, count = 1) => kubeProxy.changed(kind, count),
    drifted: own.drifted,
    flowsDeleted: kubeProxy.flowsDeleted,
    probed: kubeProxy.probed,
    requested: requestMetrics(make),
    checked: checks.checked,
    async scrape() {
      const readings = await read()
      kubeProxy.collect(readings)
      own.collect(readings)
      collectProcess()
      return expositionOf(registry)
    },
    slis() {
      checks.checked('ping', true)
      return expositionOf(checks.registry)
    },
    stop: () => loop.stop(),
  }
}

/** The numbers as text, without the empty lines that prom-client puts between metrics and Go's library does not. */
async function expositionOf(registry: Registry): Promise<Exposition> {
  return { contentType: registry.contentType, body: (await registry.metrics()).replaceAll('\n\n', '\n') }
}

const platforms: Readonly<Record<string, string>> = { x64: 'amd64', ia32: '386' }

function buildInfo(make: MetricMaker, mode: Mode, kubernetesVersion: string): void {
  make
    .gauge('penstock_build_info', "A metric with a constant '1' value labeled by version and mode.", [
      'version',
      'mode',
    ])
    .set({ version, mode }, 1)
  const [, major = '', minor = ''] = /^v?(\d+)\.(\d+)/.exec(kubernetesVersion) ?? []
  const labels = {
    build_date: '',
    compiler: 'node',
    git_commit: '',
    git_tree_state: '',
    git_version: kubernetesVersion,
    go_version: '',
    major,
    minor,
    platform: `${process.platform}/${platforms[process.arch] ?? process.arch}`,
  }
  make
    .gauge(
      'kubernetes_build_info',
      "[ALPHA] A metric with a constant '1' value labeled by major, minor, git version, git commit, git tree state, build date, Go version, and compiler from which Kubernetes was built, and platform on which it is running.",
      Object.keys(labels),
    )
    .set(labels, 1)
}

/** client-go's (§10.3), those that our client has: it limits no rates and resolves no names by itself. */
function requestMetrics(make: MetricMaker): (facts: RequestFacts) => void {
  const total = make.counter(
    'rest_client_requests_total',
    '[ALPHA] Number of HTTP requests, partitioned by status code, method, and host.',
    ['code', 'method', 'host'],
  )
  const duration = make.histogram(
    'rest_client_request_duration_seconds',
    '[ALPHA] Request latency in seconds. Broken down by verb, and host.',
    [0.005, 0.025, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60],
    ['verb', 'host'],
  )
  const retries = make.counter(
    'rest_client_request_retries_total',
    '[ALPHA] Number of request retries, partitioned by status code, verb, and host.',
    ['code', 'verb', 'host'],
  )
  return ({ method, host, status, durationMs, retryOf }) => {
    total.inc({ code: codeOf(status), method, host })
    duration.observe({ verb: method, host }, durationMs / 1000)
    if (retryOf !== undefined) retries.inc({ code: codeOf(retryOf), verb: method, host })
  }
}

/** client-go's word for no answer at all. */
const codeOf = (status: number): string => (status === 0 ? '<error>' : String(status))

/** KEP-3466: what `/healthz` of the metrics server answered, as numbers. */
function healthChecks() {
  const registry = new Registry()
  const make = makerFor(registry)
  const state = make.gauge(
    'kubernetes_healthcheck',
    '[STABLE] This metric records the result of a single healthcheck.',
    ['name', 'type'],
  )
  const total = make.counter(
    'kubernetes_healthchecks_total',
    '[STABLE] This metric records the results of all healthcheck.',
    ['name', 'status', 'type'],
  )
  return {
    registry,
    checked(name: string, isHealthy: boolean) {
      state.set({ name, type: 'healthz' }, isHealthy ? 1 : 0)
      total.inc({ name, status: isHealthy ? 'success' : 'error', type: 'healthz' })
    },
  }
}
