// A store, a syncer and an observer that remembers, around any backend.
import type { Backend, CommitError } from '../../src/backend/backend.ts'
import type { ModelEvent } from '../../src/model/records.ts'
import { Store } from '../../src/model/store.ts'
import type { Family } from '../../src/net/ip.ts'
import { Claims } from '../../src/policy/claims.ts'
import type { Network } from '../../src/policy/network.ts'
import type { NodeView } from '../../src/policy/node-view.ts'
import type { Conflict, SetAside, SyncReport } from '../../src/sync/contract.ts'
import type { Pace } from '../../src/sync/pace.ts'
import { Syncer } from '../../src/sync/syncer.ts'
import { cidr, ip } from '../model/build.ts'

/** The network of the test's node: pods by source, everything else as kube-proxy's defaults. */
export const networkOf = (family: Family): Network => ({
  family,
  detector: { kind: 'source-cidr', cidr: cidr(family === 'IPv4' ? '10.244.0.0/16' : 'fd00:10:244::/56') },
  masqueradeAll: false,
  masqueradeMark: 0x4000,
  nodePortAddresses: { kind: 'all' },
  localhostNodePorts: family === 'IPv4',
  dropInvalid: true,
  nodeAddresses: [ip(family === 'IPv4' ? '192.168.100.1' : 'fd00:100::1')],
})

/** The node `node-a` of zone-a. */
export const nodeViewOf = (family: Family): NodeView => ({
  name: 'node-a',
  zone: 'zone-a',
  nodeIP: ip(family === 'IPv4' ? '192.168.100.1' : 'fd00:100::1'),
})

/** What the syncer said. */
export interface Heard {
  readonly reports: SyncReport[]
  readonly failures: CommitError[]
  readonly setAsides: SetAside[]
  readonly conflicts: Conflict[]
  readonly degraded: string[]
}

export interface HarnessOptions {
  readonly backend: Backend
  readonly family?: Family
  /** Shared by both families' syncers. */
  readonly store?: Store
  readonly pace?: Partial<Pace>
  readonly resyncMs?: number
  /** Milliseconds; stands still by default. */
  readonly now?: () => number
  readonly network?: () => Network
}

export interface Harness {
  readonly store: Store
  readonly syncer: Syncer
  readonly heard: Heard
  /** Takes events in, without a sync. */
  apply(...events: readonly ModelEvent[]): void
  /** Takes events in and syncs once. Throws CommitError as the syncer does. */
  sync(...events: readonly ModelEvent[]): Promise<void>
}

/** A syncer that is ready to go. */
export function harness(options: HarnessOptions): Harness {
  const { backend, family = 'IPv4', store = new Store({ nodeName: 'node-a' }) } = options
  const heard: Heard = { reports: [], failures: [], setAsides: [], conflicts: [], degraded: [] }
  const network = networkOf(family)
  const node = nodeViewOf(family)
  const syncer = new Syncer({
    family,
    backend,
    reader: store,
    claims: new Claims(),
    node: () => node,
    network: options.network ?? (() => network),
    pace: { minBackoffMs: 250, maxBackoffMs: 30_000, ...options.pace },
    resyncMs: options.resyncMs ?? 900_000,
    observer: {
      synced: report => heard.reports.push(report),
      failed: (_, error) => heard.failures.push(error),
      setAside: item => heard.setAsides.push(item),
      conflict: item => heard.conflicts.push(item),
      degraded: (_, lost) => heard.degraded.push(lost),
    },
    now: options.now ?? (() => 0),
    random: () => 0.5,
  })
  const apply = (...events: readonly ModelEvent[]): void => {
    for (const event of events) store.apply(event)
    syncer.markDirty(store.takeDirty(family))
  }
  return {
    store,
    syncer,
    heard,
    apply,
    async sync(...events) {
      apply(...events)
      await syncer.sync(new AbortController().signal)
    },
  }
}
