// A real Prometheus scrapes the program's metrics, in every mode: the dashboard's queries, the alerts and the dashboards made
// for kube-proxy must find what they ask for.
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Mode, type Scraped, serveActivity } from './activity.ts'
import { alertRules, dashboard, filledIn, ruleFile, selectorsIn } from './files.ts'
import { findPrometheus, type RunningPrometheus, type Series, startPrometheus } from './programs.ts'

const programs = findPrometheus()
if (typeof programs === 'string') console.warn(`${programs} Its tests are left out.`)

const modes: readonly Mode[] = ['iptables', 'nftables', 'ipvs']
const scrapes = 3

let directory: string
let nodes: Scraped[] = []
let prometheus: RunningPrometheus

/** As the PodMonitor leaves the labels: `instance` is the node's name. */
const configuration = (targets: readonly { mode: Mode; address: string }[]): string =>
  JSON.stringify({
    global: { scrape_interval: '1s', evaluation_interval: '1s' },
    rule_files: [join(directory, 'rules.yaml')],
    scrape_configs: [
      {
        job_name: 'kube-penstock',
        static_configs: targets.map(({ mode, address }) => ({
          targets: [address],
          labels: { instance: `node-${mode}` },
        })),
      },
    ],
  })

async function untilScraped(): Promise<void> {
  for (;;) {
    const counts = await prometheus.query('count_over_time(penstock_build_info[1m])')
    if (counts.length === modes.length && counts.every(({ value }) => Number(value[1]) >= scrapes)) return
    await new Promise(resolve => setTimeout(resolve, 100))
  }
}

const isNumber = ({ value }: Series): boolean => !Number.isNaN(Number(value[1]))

describe.runIf(typeof programs !== 'string')('a real Prometheus', () => {
  beforeAll(async () => {
    if (typeof programs === 'string') throw new Error(programs)
    directory = await mkdtemp(join(tmpdir(), 'penstock-prometheus-'))
    nodes = await Promise.all(modes.map(serveActivity))
    const file = join(directory, 'prometheus.yaml')
    const targets = modes.map((mode, at) => ({ mode, address: nodes[at]?.address ?? '' }))
    await writeFile(join(directory, 'rules.yaml'), ruleFile)
    await writeFile(file, configuration(targets))
    prometheus = await startPrometheus(programs.prometheus, file, join(directory, 'data'))
    await untilScraped()
  }, 60_000)

  afterAll(async () => {
    await prometheus?.stop()
    await Promise.all(nodes.map(node => node.close()))
    if (directory !== undefined) await rm(directory, { recursive: true, force: true })
  })

  test('scrapes every mode without a complaint', async () => {
    const up = await prometheus.query('up')
    expect(up.map(({ metric, value }) => [metric.instance, value[1]]).sort()).toEqual(
      modes.map(mode => [`node-${mode}`, '1']).sort(),
    )
  })

  describe('the dashboard', () => {
    const queries = dashboard.panels.flatMap(({ title, targets = [] }) =>
      targets.map(({ refId, expr }) => ({ title: `${title}, ${refId}`, expr: filledIn(expr) })),
    )

    test.each(queries)('$title: there is a number to show', async ({ expr }) => {
      const series = await prometheus.query(expr)
      expect(series.filter(isNumber), expr).not.toEqual([])
    })

    test('its list of nodes is that of the nodes', async () => {
      const { definition = '' } = dashboard.templating.list.find(({ name }) => name === 'instance') ?? {}
      const [, selector = '', label = ''] = /^label_values\((.*), (\w+)\)$/.exec(definition) ?? []
      const found = (await prometheus.query(selector)).map(({ metric }) => metric[label])
      expect(found.sort()).toEqual(modes.map(mode => `node-${mode}`).sort())
    })
  })

  describe('the alerts', () => {
    test('can all be evaluated', async () => {
      const rules = await prometheus.rules()
      expect(rules.map(({ name }) => name)).toEqual(alertRules.map(({ alert }) => alert))
      for (const { name, lastError } of rules) expect(lastError, name).toBeUndefined()
    })

    test.each(alertRules.flatMap(({ alert, expr }) => selectorsIn(expr).map(selector => ({ alert, selector }))))(
      '$alert: every mode has $selector',
      async ({ selector }) => {
        const series = await prometheus.query(`count by (instance) (${selector})`)
        expect(series.map(({ metric }) => metric.instance).sort()).toEqual(modes.map(mode => `node-${mode}`).sort())
      },
    )
  })

  // The queries of the kubernetes-mixin's dashboard "Kubernetes / Proxy" and of clusterloader's SLO measurement.
  test.each([
    'sum(rate(kubeproxy_sync_proxy_rules_duration_seconds_count{INSTANCE}[1m]))',
    'histogram_quantile(0.99,rate(kubeproxy_sync_proxy_rules_duration_seconds_bucket{INSTANCE}[1m]))',
    'sum(rate(kubeproxy_network_programming_duration_seconds_count{INSTANCE}[1m])) by (instance)',
    'histogram_quantile(0.99, sum(rate(kubeproxy_network_programming_duration_seconds_bucket{INSTANCE}[1m])) by (instance, le))',
    'sum(rate(rest_client_requests_total{INSTANCE, code=~"2.."}[1m]))',
    'histogram_quantile(0.99, sum(rate(rest_client_request_duration_seconds_bucket{INSTANCE, verb="POST"}[1m])) by (verb, le))',
    'histogram_quantile(0.99, sum(rate(rest_client_request_duration_seconds_bucket{INSTANCE, verb="GET"}[1m])) by (verb, le))',
    'process_resident_memory_bytes{INSTANCE}',
    'rate(process_cpu_seconds_total{INSTANCE}[1m])',
  ])('a dashboard made for kube-proxy finds %s', async query => {
    for (const mode of modes) {
      const series = await prometheus.query(query.replace('INSTANCE', `instance="node-${mode}"`))
      expect(series.filter(isNumber), mode).not.toEqual([])
    }
  })
})
