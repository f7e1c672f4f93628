// Metrics that kube-proxy does not have: what an operator needs to know whether the rules in the kernel are the ones that
// the API asks for, and if not, why.
import type { Family } from '../net/ip.ts'
import { entries } from './metrics-kubeproxy.ts'
import { doubling, type MetricMaker } from './metrics-make.ts'
import type { Readings, SyncFacts } from './metrics-readings.ts'

/** 1 to 262,144 objects; what is below the first bound wrote nothing. */
const commitBuckets = [0, ...doubling(1, 19)]

/** Our metrics of one program. */
export interface OwnMetrics {
  synced(facts: SyncFacts): void
  failed(family: Family, kind: string): void
  drifted(family: Family): void
  collect(readings: Readings): void
}

/** Makes our own metrics. `now`: milliseconds since the epoch. */
export function ownMetrics(make: MetricMaker, families: readonly Family[], now: () => number): OwnMetrics {
  const objects = make.histogram(
    'penstock_commit_objects',
    'Kernel objects that a sync added, changed or removed.',
    commitBuckets,
    ['ip_family'],
  )
  const failures = make.counter('penstock_sync_failures_total', 'Syncs that failed, by what is to be done about it.', [
    'ip_family',
    'kind',
  ])
  const drift = make.counter('penstock_drift_total', 'Times somebody else had changed or removed rules of ours.', [
    'ip_family',
  ])
  for (const ip_family of families) {
    objects.zero({ ip_family })
    drift.inc({ ip_family }, 0)
    for (const kind of failureKinds) failures.inc({ ip_family, kind }, 0)
  }
  const collects = [familyMetrics(make), watchMetrics(make, now), modelMetrics(make), eventMetrics(make)]
  return {
    synced({ family, added, changed, removed }) {
      objects.observe({ ip_family: family }, added + changed + removed)
    },
    failed: (family, kind) => failures.inc({ ip_family: family, kind }),
    drifted: family => drift.inc({ ip_family: family }),
    collect(readings) {
      for (const collect of collects) collect(readings)
    },
  }
}

/** Kinds of `CommitError`: all are there from the start, at 0, so that an alert sees the first one happen. */
const failureKinds = ['stale', 'transient', 'denied', 'unsupported', 'refused']

function familyMetrics(make: MetricMaker) {
  const gauge = (name: string, help: string) => make.gauge(name, help, ['ip_family'])
  const dirty = gauge('penstock_dirty_services', 'Services that changed and whose rules are not in the kernel yet.')
  const held = gauge('penstock_kernel_objects', 'Kernel objects that the Services of this cluster need on this node.')
  const aside = gauge(
    'penstock_set_aside_service_ports',
    'Service ports whose rules the kernel refuses; they keep their former ones.',
  )
  return ({ families }: Readings) => {
    for (const [ip_family, { dirtyServices, kernelObjects, setAside }] of entries(families)) {
      dirty.set({ ip_family }, dirtyServices)
      held.set({ ip_family }, kernelObjects)
      aside.set({ ip_family }, setAside)
    }
  }
}

function watchMetrics(make: MetricMaker, now: () => number) {
  const age = make.gauge(
    'penstock_watch_last_event_age_seconds',
    'Time since the API server last sent anything of a kind, bookmarks included; +Inf when it never did.',
    ['kind'],
  )
  const restarts = make.counter(
    'penstock_watch_restarts_total',
    'Watches opened after the first one of a kind; each lives some minutes.',
    ['kind'],
  )
  const errors = make.counter('penstock_watch_errors_total', 'Lists and watches that failed, by why.', [
    'kind',
    'reason',
  ])
  const gaps = make.counter('penstock_watch_gap_seconds_total', 'Time without an open watch of a kind.', ['kind'])
  return ({ watches }: Readings) => {
    const time = now()
    for (const counter of [restarts, errors, gaps]) counter.reset()
    for (const [kind, watch] of entries(watches)) {
      age.set(
        { kind },
        watch.lastEventAt === 0 ? Number.POSITIVE_INFINITY : Math.max(0, time - watch.lastEventAt) / 1000,
      )
      restarts.inc({ kind }, Math.max(0, watch.watches - 1))
      gaps.inc({ kind }, watch.gapMs / 1000)
      for (const [reason, count] of entries(watch.errors)) errors.inc({ kind, reason }, count)
    }
  }
}

function modelMetrics(make: MetricMaker) {
  const services = make.gauge('penstock_services', 'Services in the API that this node may have to program.')
  const endpoints = make.gauge('penstock_endpoints', 'Endpoints in EndpointSlices in the API.')
  const undecodable = make.gauge(
    'penstock_undecodable_objects',
    'API objects whose newest version cannot be read; what was known of them before is in force.',
  )
  const conntrack = make.gauge('penstock_conntrack_entries', "Connections in the kernel's connection tracking table.")
  const limit = make.gauge('penstock_conntrack_limit', "Most connections that the kernel's table may hold.")
  conntrack.remove()
  limit.remove()
  return (readings: Readings) => {
    services.set(readings.services)
    endpoints.set(readings.endpoints)
    undecodable.set(readings.undecodable)
    if (readings.conntrack === undefined) return
    conntrack.set(readings.conntrack.entries)
    limit.set(readings.conntrack.limit)
  }
}

function eventMetrics(make: MetricMaker) {
  const events = make.counter('penstock_events_total', 'Kubernetes events, by what became of them.', ['outcome'])
  return (readings: Readings) => {
    if (readings.events === undefined) return
    events.reset()
    const { written, merged, refused, dropped } = readings.events
    for (const [outcome, count] of Object.entries({ written, merged, refused, dropped })) events.inc({ outcome }, count)
  }
}
