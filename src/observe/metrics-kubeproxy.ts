// kube-proxy's own metrics, under its names, types, labels, buckets and help texts, so that dashboards and alerts made for
// it go on working (`kube-proxy.md` §10.2; texts as published in Kubernetes' metrics reference for 1.36).
import type { Family } from '../net/ip.ts'
import { doubling, type MetricMaker, stepping } from './metrics-make.ts'
import type { FailureFacts, Mode, Readings, SyncFacts } from './metrics-readings.ts'

/** 1 ms to 16.384 s. */
const syncBuckets = doubling(0.001, 15)
const latencyBuckets = [0.25, 0.5, ...stepping(1, 1, 59), ...stepping(60, 5, 12), ...stepping(120, 30, 7)]

/** kube-proxy's metrics of one program. */
export interface KubeProxyMetrics {
  synced(facts: SyncFacts): void
  failed(family: Family, facts: FailureFacts): void
  sweepFailed(family: Family): void
  programmed(family: Family, triggerTimesMs: Iterable<number>, nowMs: number): void
  queued(family: Family): void
  changed(kind: 'Service' | 'EndpointSlice', count: number): void
  flowsDeleted(family: Family, count: number, durationMs: number): void
  probed(endpoint: 'healthz' | 'livez', code: number): void
  collect(readings: Readings): void
}

/** Makes the metrics that kube-proxy has in a mode. */
export function kubeProxyMetrics(
  make: MetricMaker,
  mode: Mode,
  families: readonly Family[],
  now: () => number,
): KubeProxyMetrics {
  const own = named(make)
  const sync = syncMetrics(own, mode, families, now)
  const changes = changeMetrics(own, families)
  const failures = failureMetrics(own, mode, families)
  const latency = own.histogram(
    'network_programming_duration_seconds',
    'In Cluster Network Programming Latency in seconds',
    latencyBuckets,
    ['ip_family'],
  )
  const flows = own.histogram(
    'conntrack_reconciler_sync_duration_seconds',
    'ReconcileConntrackFlowsLatency latency in seconds',
    syncBuckets,
    ['ip_family'],
  )
  const deleted = own.counter(
    'conntrack_reconciler_deleted_entries_total',
    'Cumulative conntrack flows deleted by conntrack reconciler',
    ['ip_family'],
  )
  for (const ip_family of families) {
    latency.zero({ ip_family })
    flows.zero({ ip_family })
    deleted.inc({ ip_family }, 0)
  }
  return {
    synced(facts) {
      sync.took(facts.family, facts.durationMs, facts.compared)
      sync.succeeded(facts.family)
      changes.taken(facts.family)
    },
    failed(family, { durationMs, compared }) {
      // kube-proxy observes the duration of failed syncs too, and the time of successful ones only (§10.2).
      if (durationMs !== undefined) sync.took(family, durationMs, compared ?? true)
      failures.failed(family, compared ?? true)
    },
    sweepFailed: failures.sweepFailed,
    programmed(family, triggerTimesMs, nowMs) {
      const labels = { ip_family: family }
      // A clock of the API's side that is ahead of ours would give a negative time.
      for (const time of triggerTimesMs) latency.observe(labels, Math.max(0, nowMs - time) / 1000)
    },
    queued: sync.queued,
    changed: changes.changed,
    flowsDeleted(family, count, durationMs) {
      deleted.inc({ ip_family: family }, count)
      flows.observe({ ip_family: family }, durationMs / 1000)
    },
    probed: probeMetrics(own),
    collect: joined([
      sync.collect,
      changes.collect,
      localMetrics(own),
      ...(mode === 'iptables' ? [ruleMetrics(own)] : []),
    ]),
  }
}

type Collect = (readings: Readings) => void

const joined = (collects: readonly Collect[]): Collect => {
  return readings => {
    for (const collect of collects) collect(readings)
  }
}

/** All of them are alpha in kube-proxy, and say so in their help. */
function named(make: MetricMaker): MetricMaker {
  const full = (name: string) => `kubeproxy_${name}`
  return {
    counter: (name, help, labelNames) => make.counter(full(name), `[ALPHA] ${help}`, labelNames),
    gauge: (name, help, labelNames) => make.gauge(full(name), `[ALPHA] ${help}`, labelNames),
    histogram: (name, help, buckets, labelNames) => make.histogram(full(name), `[ALPHA] ${help}`, buckets, labelNames),
  }
}

function syncMetrics(make: MetricMaker, mode: Mode, families: readonly Family[], now: () => number) {
  const help = 'SyncProxyRules latency in seconds'
  const all = make.histogram('sync_proxy_rules_duration_seconds', help, syncBuckets, ['ip_family'])
  const parts =
    mode === 'ipvs'
      ? undefined
      : {
          full: make.histogram('sync_full_proxy_rules_duration_seconds', `${help} for full resyncs`, syncBuckets, [
            'ip_family',
          ]),
          partial: make.histogram(
            'sync_partial_proxy_rules_duration_seconds',
            `${help} for partial resyncs`,
            syncBuckets,
            ['ip_family'],
          ),
        }
  const last = make.gauge(
    'sync_proxy_rules_last_timestamp_seconds',
    'The last time proxy rules were successfully synced',
    ['ip_family'],
  )
  const queued = make.gauge(
    'sync_proxy_rules_last_queued_timestamp_seconds',
    'The last time a sync of proxy rules was queued',
    ['ip_family'],
  )
  const queuedAt: Partial<Record<Family, number>> = {}
  const syncedAt: Partial<Record<Family, number>> = {}
  for (const ip_family of families) {
    for (const histogram of [all, parts?.full, parts?.partial]) histogram?.zero({ ip_family })
    queuedAt[ip_family] = 0
    syncedAt[ip_family] = 0
  }
  return {
    took(family: Family, durationMs: number, isFull: boolean) {
      const labels = { ip_family: family }
      all.observe(labels, durationMs / 1000)
      parts?.[isFull ? 'full' : 'partial'].observe(labels, durationMs / 1000)
    },
    succeeded(family: Family) {
      syncedAt[family] = now()
    },
    // Told for every change: a number is stored, nothing else.
    queued(family: Family) {
      queuedAt[family] = now()
    },
    collect() {
      for (const ip_family of families) {
        last.set({ ip_family }, (syncedAt[ip_family] ?? 0) / 1000)
        queued.set({ ip_family }, (queuedAt[ip_family] ?? 0) / 1000)
      }
    },
  }
}

/**
 * Changes of Services and slices since the last sync, and ever. kube-proxy counts a Service's change once a family; here it
 * counts once. A change that comes while a sync runs counts as taken by it.
 */
function changeMetrics(make: MetricMaker, families: readonly Family[]) {
  const metricsOf = (word: string, text: string) => ({
    total: 0,
    reported: 0,
    counter: make.counter(`sync_proxy_rules_${word}_changes_total`, `Cumulative proxy rules ${text} changes`),
    pending: make.gauge(`sync_proxy_rules_${word}_changes_pending`, `Pending proxy rules ${text} changes`),
    taken: new Map<Family, number>(families.map(family => [family, 0])),
  })
  const kinds = { EndpointSlice: metricsOf('endpoint', 'Endpoint'), Service: metricsOf('service', 'Service') }
  return {
    changed(kind: 'Service' | 'EndpointSlice', count: number) {
      kinds[kind].total += count
    },
    taken(family: Family) {
      for (const kind of Object.values(kinds)) kind.taken.set(family, kind.total)
    },
    collect() {
      for (const kind of Object.values(kinds)) {
        kind.counter.inc(kind.total - kind.reported)
        kind.reported = kind.total
        // What one family lacks is pending, whatever the other has.
        kind.pending.set(kind.total - Math.min(kind.total, ...kind.taken.values()))
      }
    },
  }
}

function failureMetrics(make: MetricMaker, mode: Mode, families: readonly Family[]) {
  const counters = (names: readonly (readonly [string, string])[]) =>
    names.map(([name, help]) => make.counter(`sync_proxy_rules_${name}_total`, help, ['ip_family']))
  const [all, partial] = counters(
    mode === 'nftables'
      ? [['nftables_sync_failures', 'Cumulative proxy nftables sync failures']]
      : mode === 'ipvs'
        ? [['iptables_restore_failures', 'Cumulative proxy iptables restore failures']]
        : [
            ['iptables_restore_failures', 'Cumulative proxy iptables restore failures'],
            ['iptables_partial_restore_failures', 'Cumulative proxy iptables partial restore failures'],
          ],
  )
  const [sweeps] = counters(
    mode === 'nftables' ? [['nftables_cleanup_failures', 'Cumulative proxy nftables cleanup failures']] : [],
  )
  for (const ip_family of families) for (const counter of [all, partial, sweeps]) counter?.inc({ ip_family }, 0)
  return {
    failed(family: Family, isFull: boolean) {
      all?.inc({ ip_family: family })
      if (!isFull) partial?.inc({ ip_family: family })
    },
    sweepFailed(family: Family) {
      sweeps?.inc({ ip_family: family })
    },
  }
}

function probeMetrics(make: MetricMaker) {
  const counters = {
    healthz: make.counter('proxy_healthz_total', 'Cumulative proxy healthz HTTP status', ['code']),
    livez: make.counter('proxy_livez_total', 'Cumulative proxy livez HTTP status', ['code']),
  }
  return (endpoint: 'healthz' | 'livez', code: number) => counters[endpoint].inc({ code: String(code) })
}

/** A gauge despite its name, in kube-proxy too. */
function localMetrics(make: MetricMaker): Collect {
  const gauge = make.gauge(
    'sync_proxy_rules_no_local_endpoints_total',
    'Number of services with a Local traffic policy and no endpoints',
    ['ip_family', 'traffic_policy'],
  )
  return ({ families }) => {
    for (const [ip_family, { noLocalEndpoints }] of entries(families)) {
      if (noLocalEndpoints === undefined) continue
      gauge.set({ ip_family, traffic_policy: 'internal' }, noLocalEndpoints.internal)
      gauge.set({ ip_family, traffic_policy: 'external' }, noLocalEndpoints.external)
    }
  }
}

function ruleMetrics(make: MetricMaker): Collect {
  const labelNames = ['table', 'ip_family'] as const
  const owned = make.gauge(
    'sync_proxy_rules_iptables_total',
    'Total number of iptables rules owned by kube-proxy',
    labelNames,
  )
  const written = make.gauge(
    'sync_proxy_rules_iptables_last',
    'Number of iptables rules written by kube-proxy in last sync',
    labelNames,
  )
  const invalid = make.counter(
    'iptables_ct_state_invalid_dropped_packets_total',
    'packets dropped by iptables to work around conntrack problems',
  )
  const localhost = make.counter(
    'iptables_localhost_nodeports_accepted_packets_total',
    'Number of packets accepted on nodeports of loopback interface',
  )
  // Without the kernel's packet counters these two say nothing, not 0 (§10.2).
  invalid.remove()
  localhost.remove()
  return ({ families, packets }) => {
    for (const [ip_family, { rules, rulesWritten }] of entries(families)) {
      for (const table of ['filter', 'nat'] as const) {
        if (rules !== undefined) owned.set({ table, ip_family }, rules[table])
        if (rulesWritten !== undefined) written.set({ table, ip_family }, rulesWritten[table])
      }
    }
    if (packets === undefined) return
    invalid.reset()
    invalid.inc(packets.invalidDropped)
    localhost.reset()
    localhost.inc(packets.localhostNodePorts)
  }
}

/** The entries of a record some of whose keys may be absent. */
export function entries<K extends string, V>(record: Readonly<Partial<Record<K, V>>>): [string, V][] {
  return Object.entries<V | undefined>(record).flatMap(([key, value]) => (value === undefined ? [] : [[key, value]]))
}
