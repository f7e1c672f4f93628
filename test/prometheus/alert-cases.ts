// For each alert: series that it fires on, what it then says, and series that are almost the same and keep it quiet. In
// promtool's notation: `0+1x5` is 0 and five steps of 1 more; here a step is 30 s.

type Labels = Readonly<Record<string, string>>

export interface AlertCase {
  readonly alert: string
  /** Series and their values. */
  readonly fires: Readonly<Record<string, string>>
  readonly at: string
  /** Of the alert, without those of the rule. Left out: it fires for none, as `absent` does. */
  readonly labels: Labels
  readonly summary: string
  /** Where it holds a number. */
  readonly description?: string
  readonly quiet: Readonly<Record<string, string>>
}

const node = 'instance="node-a"'
const family = 'instance="node-a",ip_family="IPv4"'
const ofFamily: Labels = { instance: 'node-a', ip_family: 'IPv4' }
const queued = `kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds{${family}}`
const synced = `kubeproxy_sync_proxy_rules_last_timestamp_seconds{${family}}`
const age = (kind: string): string => `penstock_watch_last_event_age_seconds{${node},kind="${kind}"}`
const failures = (kind: string): string => `penstock_sync_failures_total{${family},kind="${kind}"}`
const bucket = (le: string): string => `kubeproxy_network_programming_duration_seconds_bucket{${family},le="${le}"}`
const loop = (quantile: string): string => `penstock_event_loop_delay_seconds{${node},quantile="${quantile}"}`
const restarts = `penstock_watch_restarts_total{${node},kind="Service"}`
const up = `up{job="kube-penstock",${node}}`

export const alertCases: readonly AlertCase[] = [
  {
    alert: 'PenstockDown',
    fires: { [up]: '1 0x20' },
    at: '6m',
    labels: { job: 'kube-penstock', instance: 'node-a' },
    summary: 'kube-penstock gives no metrics on node-a.',
    quiet: { [up]: '1 0x4 1x20' },
  },
  {
    alert: 'PenstockDown',
    fires: {},
    at: '6m',
    labels: { job: 'kube-penstock' },
    summary: 'kube-penstock gives no metrics.',
    quiet: { [up]: '1x20' },
  },
  {
    // A change at 1:00 that is still waiting; the clock of the tests begins at 0.
    alert: 'PenstockNotProgrammed',
    fires: { [queued]: '10x1 60x20', [synced]: '11x20' },
    at: '4m',
    labels: ofFamily,
    summary: 'IPv4 changes have waited for over a minute on node-a.',
    // At each look there is a newer request, but syncs keep up.
    quiet: { [queued]: '10+30x20', [synced]: '9+30x20' },
  },
  {
    alert: 'PenstockNotProgrammed',
    fires: { [queued]: '0x20', [synced]: '0x20' },
    at: '4m',
    labels: ofFamily,
    summary: 'IPv4 changes have waited for over a minute on node-a.',
    // Nothing has happened since.
    quiet: { [queued]: '10x20', [synced]: '11x20' },
  },
  {
    alert: 'PenstockSyncFailing',
    fires: { [failures('denied')]: '0+1x40' },
    at: '15m',
    labels: { ...ofFamily, kind: 'denied' },
    summary: 'IPv4 rules cannot be written on node-a (denied).',
    description: '20 syncs failed within ten minutes.',
    quiet: { [failures('denied')]: '0 1x40', [failures('stale')]: '0+1x40' },
  },
  {
    alert: 'PenstockWatchStale',
    fires: { [age('Service')]: '0+30x20' },
    at: '9m',
    labels: { instance: 'node-a', kind: 'Service' },
    summary: 'node-a has heard nothing of Service objects for 9m 0s.',
    quiet: {
      [age('Service')]: '0 30 60 90 0 30 60 90 0 30 60 90 0 30 60 90 0 30 60 90',
      [age('ServiceCIDR')]: '9999x20',
    },
  },
  {
    alert: 'PenstockWatchRestarts',
    fires: { [restarts]: '0+2x60' },
    at: '25m',
    labels: { instance: 'node-a', kind: 'Service' },
    summary: 'The watch of Service objects breaks again and again on node-a.',
    description: '60 times within a quarter of an hour.',
    quiet: { [restarts]: '0x9 1x9 2x9 3x9 4x9 5x20' },
  },
  {
    alert: 'PenstockServicePortsSetAside',
    fires: { [`penstock_set_aside_service_ports{${family}}`]: '0 2x20' },
    at: '6m',
    labels: ofFamily,
    summary: 'The kernel of node-a refuses 2 IPv4 Service ports.',
    quiet: { [`penstock_set_aside_service_ports{${family}}`]: '0 2x5 0x20' },
  },
  {
    alert: 'PenstockDrift',
    fires: { [`penstock_drift_total{${family}}`]: '0x4 1x20' },
    at: '6m',
    labels: ofFamily,
    summary: 'Somebody removed IPv4 rules of ours on node-a.',
    quiet: { [`penstock_drift_total{${family}}`]: '7x20' },
  },
  {
    alert: 'PenstockConntrackNearlyFull',
    fires: { [`penstock_conntrack_entries{${node}}`]: '950x20', [`penstock_conntrack_limit{${node}}`]: '1000x20' },
    at: '6m',
    labels: { instance: 'node-a' },
    summary: 'The connection table of node-a is 95% full.',
    quiet: { [`penstock_conntrack_entries{${node}}`]: '850x20', [`penstock_conntrack_limit{${node}}`]: '1000x20' },
  },
  {
    alert: 'PenstockEventLoopDelay',
    fires: { [loop('0.99')]: '2x40' },
    at: '11m',
    labels: { instance: 'node-a', quantile: '0.99' },
    summary: 'kube-penstock is 2s late with everything on node-a.',
    quiet: { [loop('0.99')]: '0.2x40', [loop('1')]: '2x40' },
  },
  {
    alert: 'PenstockProgrammingSlow',
    fires: { [bucket('30')]: '0x60', [bucket('60')]: '0+1x60', [bucket('+Inf')]: '0+1x60' },
    at: '25m',
    labels: ofFamily,
    summary: 'Changes of endpoints take 59.7s until they count on node-a.',
    description: 'From the change of a pod to the rule in the kernel, IPv4, 99th percentile.',
    quiet: { [bucket('1')]: '0+1x60', [bucket('60')]: '0+1x60', [bucket('+Inf')]: '0+1x60' },
  },
  {
    alert: 'PenstockUndecodableObjects',
    fires: { [`penstock_undecodable_objects{${node}}`]: '3x60' },
    at: '16m',
    labels: { instance: 'node-a' },
    summary: 'node-a cannot read 3 objects of the API server.',
    quiet: { [`penstock_undecodable_objects{${node}}`]: '3x20 0x40' },
  },
]
