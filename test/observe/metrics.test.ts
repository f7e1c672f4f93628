// Metrics as Prometheus reads them: names, types, labels and buckets of kube-proxy's, and what each call does to the numbers.
import { spawnSync } from 'node:child_process'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, it, onTestFinished } from 'vitest'
import { type Metrics, type MetricsOptions, makeMetrics } from '../../src/observe/metrics.ts'
import type { Readings } from '../../src/observe/metrics-readings.ts'
import { version } from '../../src/version.ts'
import { type MetricFamily, parseMetrics } from './metrics-parse.ts'

const modes = ['iptables', 'nftables', 'ipvs'] as const

const quiet: Readings = { services: 0, endpoints: 0, undecodable: 0, families: {}, watches: {} }

function started(options: Partial<MetricsOptions> = {}): Metrics {
  const metrics = makeMetrics({ mode: 'nftables', families: ['IPv4', 'IPv6'], read: () => quiet, ...options })
  onTestFinished(() => metrics.stop())
  return metrics
}

async function scraped(metrics: Metrics): Promise<ReadonlyMap<string, MetricFamily>> {
  return parseMetrics((await metrics.scrape()).body)
}

/** Value of the one sample with these labels; undefined if there is none. */
function sampleOf(
  families: ReadonlyMap<string, MetricFamily>,
  name: string,
  labels: Record<string, string> = {},
): number | undefined {
  const family = families.get(name.replace(/_(bucket|sum|count)$/, '')) ?? families.get(name)
  const wanted = JSON.stringify(Object.entries(labels).sort())
  return family?.samples.find(
    sample => sample.name === name && JSON.stringify(Object.entries(sample.labels).sort()) === wanted,
  )?.value
}

const sum = (first: number, step: number, last: number): number[] => {
  const all: number[] = []
  for (let bound = first; bound <= last; bound += step) all.push(bound)
  return all
}

const syncBounds = [
  0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192, 16.384,
]
const programmingBounds = [0.25, 0.5, ...sum(1, 1, 59), ...sum(60, 5, 115), ...sum(120, 30, 300)]

/** `kube-proxy.md` §10.2: name, type, labels, the modes that have it, bounds of its buckets. */
const kubeProxys: readonly [string, MetricFamily['type'], readonly string[], string, (readonly number[])?][] = [
  ['sync_proxy_rules_duration_seconds', 'histogram', ['ip_family'], 'IVN', syncBounds],
  ['sync_full_proxy_rules_duration_seconds', 'histogram', ['ip_family'], 'IN', syncBounds],
  ['sync_partial_proxy_rules_duration_seconds', 'histogram', ['ip_family'], 'IN', syncBounds],
  ['sync_proxy_rules_last_timestamp_seconds', 'gauge', ['ip_family'], 'IVN'],
  ['sync_proxy_rules_last_queued_timestamp_seconds', 'gauge', ['ip_family'], 'IVN'],
  ['network_programming_duration_seconds', 'histogram', ['ip_family'], 'IVN', programmingBounds],
  ['sync_proxy_rules_endpoint_changes_pending', 'gauge', [], 'IVN'],
  ['sync_proxy_rules_endpoint_changes_total', 'counter', [], 'IVN'],
  ['sync_proxy_rules_service_changes_pending', 'gauge', [], 'IVN'],
  ['sync_proxy_rules_service_changes_total', 'counter', [], 'IVN'],
  ['sync_proxy_rules_no_local_endpoints_total', 'gauge', ['ip_family', 'traffic_policy'], 'IVN'],
  ['proxy_healthz_total', 'counter', ['code'], 'IVN'],
  ['proxy_livez_total', 'counter', ['code'], 'IVN'],
  ['sync_proxy_rules_iptables_restore_failures_total', 'counter', ['ip_family'], 'IV'],
  ['sync_proxy_rules_iptables_partial_restore_failures_total', 'counter', ['ip_family'], 'I'],
  ['sync_proxy_rules_iptables_total', 'gauge', ['ip_family', 'table'], 'I'],
  ['sync_proxy_rules_iptables_last', 'gauge', ['ip_family', 'table'], 'I'],
  ['iptables_ct_state_invalid_dropped_packets_total', 'counter', [], 'I'],
  ['iptables_localhost_nodeports_accepted_packets_total', 'counter', [], 'I'],
  ['sync_proxy_rules_nftables_sync_failures_total', 'counter', ['ip_family'], 'N'],
  ['sync_proxy_rules_nftables_cleanup_failures_total', 'counter', ['ip_family'], 'N'],
  ['conntrack_reconciler_sync_duration_seconds', 'histogram', ['ip_family'], 'IVN', syncBounds],
  ['conntrack_reconciler_deleted_entries_total', 'counter', ['ip_family'], 'IVN'],
]
/** Debian's package `prometheus` has it; where it is not installed, the strict reader alone judges. */
const hasPromtool = spawnSync('promtool', ['--version']).error === undefined
const letterOf = { iptables: 'I', ipvs: 'V', nftables: 'N' }

/** A node with everything to say. */
const busy: Readings = {
  services: 3,
  endpoints: 9,
  undecodable: 1,
  families: Object.fromEntries(
    (['IPv4', 'IPv6'] as const).map(family => [
      family,
      {
        dirtyServices: 2,
        kernelObjects: 70,
        setAside: 1,
        noLocalEndpoints: { internal: 1, external: 2 },
        rules: { filter: 20, nat: 50 },
        rulesWritten: { filter: 2, nat: 5 },
      },
    ]),
  ),
  watches: {
    Service: { lastEventAt: 70_000, watches: 4, gapMs: 1_500, errors: { reset: 2, idle: undefined } },
    Node: { lastEventAt: 0, watches: 0, gapMs: 0, errors: {} },
  },
  conntrack: { entries: 40, limit: 262_144 },
  packets: { invalidDropped: 7, localhostNodePorts: 8 },
  events: { written: 4, merged: 3, refused: 2, dropped: 1 },
}

/** Calls everything that can be told, once a family. */
function tellAll(metrics: Metrics): void {
  for (const family of ['IPv4', 'IPv6'] as const) {
    metrics.synced({ family, durationMs: 30, added: 3, changed: 2, removed: 1, compared: true })
    metrics.synced({ family, durationMs: 3, added: 1, changed: 0, removed: 0, compared: false })
    metrics.failed(family, 'transient', { durationMs: 5, compared: false })
    metrics.failed(family, 'stale')
    metrics.sweepFailed(family)
    metrics.programmed(family, [1_000, 2_000], 2_300)
    metrics.queued(family)
    metrics.drifted(family)
    metrics.flowsDeleted(family, 4, 2)
  }
  metrics.changed('Service')
  metrics.changed('EndpointSlice', 3)
  metrics.probed('healthz', 200)
  metrics.probed('livez', 503)
  metrics.requested({ method: 'GET', host: '10.0.0.1:6443', status: 200, durationMs: 4 })
  metrics.requested({ method: 'POST', host: '10.0.0.1:6443', status: 0, durationMs: 4, retryOf: 401 })
}

describe('the strict reader of the tests', () => {
  it.each([
    ['no end', 'a 1'],
    ['no type', '# HELP a b\na 1\n'],
    ['an empty line', '# HELP a b\n# TYPE a gauge\n\n'],
    ['no number', '# HELP a b\n# TYPE a gauge\na Nan\n'],
    ['a sample of another', '# HELP a b\n# TYPE a gauge\nb 1\n'],
    ['a sample twice', '# HELP a b\n# TYPE a gauge\na{x="1"} 1\na{x="1"} 2\n'],
    ['bad labels', '# HELP a b\n# TYPE a gauge\na{x="1",} 1\n'],
    ['an open quote', '# HELP a b\n# TYPE a gauge\na{x="1} 1\n'],
    [
      'a sinking histogram',
      '# HELP a b\n# TYPE a histogram\na_bucket{le="1"} 2\na_bucket{le="+Inf"} 1\na_sum 1\na_count 1\n',
    ],
    ['no +Inf', '# HELP a b\n# TYPE a histogram\na_bucket{le="1"} 1\na_sum 1\na_count 1\n'],
  ])('refuses %s', (_, text) => {
    expect(() => parseMetrics(text)).toThrow()
  })
})

describe.each(modes)("kube-proxy's metrics in mode %s", mode => {
  it('have its names, types, labels and buckets', async () => {
    const metrics = started({ mode, read: () => busy })
    tellAll(metrics)
    const families = await scraped(metrics)
    const expected = kubeProxys.filter(([, , , where]) => where.includes(letterOf[mode]))
    expect([...families.keys()].filter(name => name.startsWith('kubeproxy_')).sort()).toEqual(
      expected.map(([name]) => `kubeproxy_${name}`).sort(),
    )
    for (const [name, type, labelNames, , bounds] of expected) {
      const family = families.get(`kubeproxy_${name}`)
      expect(family).toMatchObject({ type, help: expect.stringMatching(/^\[ALPHA\] \S/) })
      const samples = family?.samples ?? []
      expect(samples.length).toBeGreaterThan(0)
      for (const { labels } of samples) {
        const { le: _, ...rest } = labels
        expect(Object.keys(rest).sort()).toEqual(labelNames)
      }
      if (bounds === undefined) continue
      for (const ip_family of ['IPv4', 'IPv6']) {
        const own = samples.filter(({ labels }) => labels.ip_family === ip_family && labels.le !== undefined)
        expect(own.map(({ labels }) => labels.le)).toEqual([...bounds.map(String), '+Inf'])
      }
    }
  })

  if (hasPromtool) {
    it('pass the check of the Prometheus project', async () => {
      const metrics = started({ mode, read: () => busy })
      tellAll(metrics)
      const { body } = await metrics.scrape()
      const check = spawnSync('promtool', ['check', 'metrics'], { input: body, encoding: 'utf8' })
      const complaints = `${check.stdout}${check.stderr}`.split('\n').filter(line => line !== '')
      // Names that are kube-proxy's and Kubernetes' are not ours to mend.
      expect(complaints.filter(line => !/^(?:kubeproxy_|rest_client_|kubernetes_)/.test(line))).toEqual([])
    })
  }

  it('name every family before anything happened', async () => {
    const families = await scraped(started({ mode }))
    expect(sampleOf(families, 'kubeproxy_sync_proxy_rules_duration_seconds_count', { ip_family: 'IPv6' })).toBe(0)
    const failures = mode === 'nftables' ? 'nftables_sync_failures' : 'iptables_restore_failures'
    expect(sampleOf(families, `kubeproxy_sync_proxy_rules_${failures}_total`, { ip_family: 'IPv4' })).toBe(0)
    expect(sampleOf(families, 'penstock_sync_failures_total', { ip_family: 'IPv4', kind: 'denied' })).toBe(0)
  })
})

describe('what happens', () => {
  it('is counted where kube-proxy counts it', async () => {
    const metrics = started({ mode: 'iptables', now: () => 100_000 })
    tellAll(metrics)
    const families = await scraped(metrics)
    const of = (name: string, labels = {}) => sampleOf(families, `kubeproxy_${name}`, { ip_family: 'IPv4', ...labels })
    expect(of('sync_proxy_rules_duration_seconds_count')).toBe(3)
    expect(of('sync_proxy_rules_duration_seconds_sum')).toBeCloseTo(0.038)
    expect(of('sync_full_proxy_rules_duration_seconds_count')).toBe(1)
    expect(of('sync_partial_proxy_rules_duration_seconds_count')).toBe(2)
    expect(of('sync_proxy_rules_last_timestamp_seconds')).toBe(100)
    expect(of('sync_proxy_rules_last_queued_timestamp_seconds')).toBe(100)
    expect(of('network_programming_duration_seconds_bucket', { le: '0.5' })).toBe(1)
    expect(of('network_programming_duration_seconds_bucket', { le: '2' })).toBe(2)
    expect(of('sync_proxy_rules_iptables_restore_failures_total')).toBe(2)
    expect(of('sync_proxy_rules_iptables_partial_restore_failures_total')).toBe(1)
    expect(of('conntrack_reconciler_deleted_entries_total')).toBe(4)
    expect(sampleOf(families, 'kubeproxy_proxy_livez_total', { code: '503' })).toBe(1)
  })

  it('is counted as ours', async () => {
    const metrics = started()
    tellAll(metrics)
    const families = await scraped(metrics)
    const of = (name: string, labels = {}) => sampleOf(families, `penstock_${name}`, { ip_family: 'IPv6', ...labels })
    expect(of('commit_objects_sum')).toBe(7)
    expect(of('commit_objects_count')).toBe(2)
    expect(of('sync_failures_total', { kind: 'stale' })).toBe(1)
    expect(of('drift_total')).toBe(1)
    expect(
      sampleOf(families, 'kubeproxy_sync_proxy_rules_nftables_cleanup_failures_total', { ip_family: 'IPv6' }),
    ).toBe(1)
    expect(sampleOf(families, 'penstock_build_info', { version, mode: 'nftables' })).toBe(1)
  })

  it('a clock of the API that is ahead gives no negative latency', async () => {
    const metrics = started()
    metrics.programmed('IPv4', [5_000], 4_000)
    const families = await scraped(metrics)
    expect(sampleOf(families, 'kubeproxy_network_programming_duration_seconds_sum', { ip_family: 'IPv4' })).toBe(0)
  })

  it('changes are pending until every family has them', async () => {
    const metrics = started()
    const report = { durationMs: 1, added: 1, changed: 0, removed: 0, compared: false }
    const changes = async () => {
      const families = await scraped(metrics)
      return ['service', 'endpoint'].flatMap(kind =>
        ['pending', 'total'].map(word => sampleOf(families, `kubeproxy_sync_proxy_rules_${kind}_changes_${word}`)),
      )
    }
    metrics.changed('Service')
    metrics.changed('EndpointSlice', 2)
    expect(await changes()).toEqual([1, 1, 2, 2])
    metrics.synced({ ...report, family: 'IPv4' })
    expect(await changes()).toEqual([1, 1, 2, 2])
    metrics.synced({ ...report, family: 'IPv6' })
    expect(await changes()).toEqual([0, 1, 0, 2])
    metrics.changed('EndpointSlice')
    expect(await changes()).toEqual([0, 1, 1, 3])
  })

  it('requests are counted as client-go counts them', async () => {
    const metrics = started()
    tellAll(metrics)
    const families = await scraped(metrics)
    const host = '10.0.0.1:6443'
    expect(sampleOf(families, 'rest_client_requests_total', { code: '200', method: 'GET', host })).toBe(1)
    expect(sampleOf(families, 'rest_client_requests_total', { code: '<error>', method: 'POST', host })).toBe(1)
    expect(sampleOf(families, 'rest_client_request_retries_total', { code: '401', verb: 'POST', host })).toBe(1)
    expect(sampleOf(families, 'rest_client_request_duration_seconds_bucket', { verb: 'GET', host, le: '0.005' })).toBe(
      1,
    )
  })
})

describe('what is read at a scrape', () => {
  it('shows under its names', async () => {
    const families = await scraped(started({ mode: 'iptables', read: async () => busy, now: () => 100_000 }))
    const of = (name: string, labels = {}) => sampleOf(families, name, labels)
    expect(of('penstock_services')).toBe(3)
    expect(of('penstock_endpoints')).toBe(9)
    expect(of('penstock_undecodable_objects')).toBe(1)
    expect(of('penstock_dirty_services', { ip_family: 'IPv4' })).toBe(2)
    expect(of('penstock_kernel_objects', { ip_family: 'IPv4' })).toBe(70)
    expect(of('penstock_set_aside_service_ports', { ip_family: 'IPv6' })).toBe(1)
    expect(of('penstock_watch_last_event_age_seconds', { kind: 'Service' })).toBe(30)
    expect(of('penstock_watch_last_event_age_seconds', { kind: 'Node' })).toBe(Number.POSITIVE_INFINITY)
    expect(of('penstock_watch_restarts_total', { kind: 'Service' })).toBe(3)
    expect(of('penstock_watch_restarts_total', { kind: 'Node' })).toBe(0)
    expect(of('penstock_watch_errors_total', { kind: 'Service', reason: 'reset' })).toBe(2)
    expect(of('penstock_watch_gap_seconds_total', { kind: 'Service' })).toBe(1.5)
    expect(of('penstock_conntrack_entries')).toBe(40)
    expect(of('penstock_conntrack_limit')).toBe(262_144)
    expect(of('penstock_events_total', { outcome: 'written' })).toBe(4)
    expect(of('kubeproxy_sync_proxy_rules_iptables_total', { ip_family: 'IPv4', table: 'nat' })).toBe(50)
    expect(of('kubeproxy_sync_proxy_rules_iptables_last', { ip_family: 'IPv4', table: 'filter' })).toBe(2)
    expect(of('kubeproxy_iptables_ct_state_invalid_dropped_packets_total')).toBe(7)
    const policy = { ip_family: 'IPv4', traffic_policy: 'external' }
    expect(of('kubeproxy_sync_proxy_rules_no_local_endpoints_total', policy)).toBe(2)
  })

  it('is read anew each time and not added up', async () => {
    let services = 1
    const metrics = started({ read: () => ({ ...busy, services }) })
    await scraped(metrics)
    services = 2
    const families = await scraped(metrics)
    expect(sampleOf(families, 'penstock_services')).toBe(2)
    expect(sampleOf(families, 'penstock_watch_restarts_total', { kind: 'Service' })).toBe(3)
    expect(sampleOf(families, 'penstock_events_total', { outcome: 'merged' })).toBe(3)
  })

  it('is left out where it is not known', async () => {
    const families = await scraped(started({ mode: 'iptables' }))
    for (const name of [
      'penstock_conntrack_entries',
      'penstock_events_total',
      'penstock_watch_last_event_age_seconds',
      'kubeproxy_iptables_ct_state_invalid_dropped_packets_total',
      'kubeproxy_sync_proxy_rules_iptables_total',
    ]) {
      expect(families.get(name)?.samples).toEqual([])
    }
  })

  it('fails the scrape when it cannot be read', async () => {
    const metrics = started({
      read: () => {
        throw new Error('no reading')
      },
    })
    await expect(metrics.scrape()).rejects.toThrow('no reading')
  })

  it('does not grow with what happens', async () => {
    const metrics = started({ read: () => busy })
    tellAll(metrics)
    const lines = async () => (await metrics.scrape()).body.split('\n').length
    const before = await lines()
    for (let round = 0; round < 1_000; round++) tellAll(metrics)
    expect(await lines()).toBe(before)
  })
})

describe('the process', () => {
  it('says what it costs', async () => {
    const families = await scraped(started())
    expect(sampleOf(families, 'process_cpu_seconds_total')).toBeGreaterThan(0)
    expect(sampleOf(families, 'process_resident_memory_bytes')).toBeGreaterThan(1e7)
    expect(sampleOf(families, 'process_open_fds')).toBeGreaterThan(2)
    expect(sampleOf(families, 'process_max_fds')).toBeGreaterThan(2)
    expect(sampleOf(families, 'process_start_time_seconds')).toBeCloseTo(performance.timeOrigin / 1000, 1)
  })

  it('shows that its event loop was blocked', async () => {
    const metrics = started()
    const longest = async () =>
      sampleOf(await scraped(metrics), 'penstock_event_loop_delay_seconds', { quantile: '1' }) ?? 0
    // The first look only starts the clock.
    await sleep(250)
    const end = performance.now() + 700
    while (performance.now() < end);
    while ((await longest()) < 0.2) await sleep(50)
    const families = await scraped(metrics)
    const quantiles = families.get('penstock_event_loop_delay_seconds')?.samples ?? []
    expect(quantiles.map(({ labels }) => labels.quantile)).toEqual(['0.5', '0.9', '0.99', '1'])
  })

  it('says which Kubernetes it stands for', async () => {
    const builds = async (metrics: Metrics) => (await scraped(metrics)).get('kubernetes_build_info')?.samples ?? []
    expect(await builds(started())).toMatchObject([{ labels: { git_version: 'v1.36.0' }, value: 1 }])
    expect(await builds(started({ kubernetesVersion: 'v1.33.4' }))).toMatchObject([
      { labels: { git_version: 'v1.33.4', major: '1', minor: '33' }, value: 1 },
    ])
  })
})

it('tells of the health checks at /metrics/slis', async () => {
  const metrics = started()
  metrics.checked('proxier', false)
  await metrics.slis()
  const { body, contentType } = await metrics.slis()
  expect(contentType).toBe('text/plain; version=0.0.4; charset=utf-8')
  const families = parseMetrics(body)
  expect([...families.keys()]).toEqual(['kubernetes_healthcheck', 'kubernetes_healthchecks_total'])
  expect(sampleOf(families, 'kubernetes_healthcheck', { name: 'ping', type: 'healthz' })).toBe(1)
  expect(sampleOf(families, 'kubernetes_healthcheck', { name: 'proxier', type: 'healthz' })).toBe(0)
  const pings = { name: 'ping', status: 'success', type: 'healthz' }
  expect(sampleOf(families, 'kubernetes_healthchecks_total', pings)).toBe(2)
})
