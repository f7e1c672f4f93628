// What a syncer is given, and what it tells of its work.
import type { Backend, CommitError } from '../backend/backend.ts'
import type { EndpointSliceRecord, ServiceKey, ServiceRecord } from '../model/records.ts'
import type { Family } from '../net/ip.ts'
import type { Claims } from '../policy/claims.ts'
import type { Network } from '../policy/network.ts'
import type { NodeView } from '../policy/node-view.ts'
import type { Pace } from './pace.ts'

/** What the syncer reads of the store. */
export interface ServiceReader {
  service(key: ServiceKey): ServiceRecord | undefined
  slices(key: ServiceKey): Iterable<EndpointSliceRecord>
  keys(): Iterable<ServiceKey>
}

export interface SyncReport {
  readonly family: Family
  readonly durationMs: number
  /** Services resolved. */
  readonly services: number
  readonly added: number
  readonly changed: number
  readonly removed: number
  /** The kernel was read and compared. */
  readonly compared: boolean
}

/** A Service port that the kernel refuses: the rest goes on without it, and what it had before stays. */
export interface SetAside {
  readonly family: Family
  readonly service: ServiceKey
  readonly servicePort: string
  readonly reason: string
}

/** Two Services want one address and port: the older has it. */
export interface Conflict {
  readonly family: Family
  readonly service: ServiceKey
  readonly frontend: string
  readonly holder: ServiceKey
}

/** Told of what happens; must not throw. */
export interface SyncObserver {
  synced(report: SyncReport): void
  failed(family: Family, error: CommitError, retries: number): void
  setAside(item: SetAside): void
  conflict(item: Conflict): void
  /** Somebody took rules of ours away; they are put back at once. */
  drift?(family: Family): void
  /** The kernel cannot do something the backend can do without; what is lost, as a sentence. */
  degraded?(family: Family, lost: string): void
}

export interface SyncerOptions {
  readonly family: Family
  readonly backend: Backend
  readonly reader: ServiceReader
  readonly claims: Claims
  readonly node: () => NodeView
  readonly network: () => Network
  readonly pace: Pace
  /** Time between full comparisons with the kernel, milliseconds. */
  readonly resyncMs: number
  /** Time between cheap looks whether the rules are still there, milliseconds; left out: none. */
  readonly checkMs?: number
  readonly observer: SyncObserver
  /** Milliseconds of a clock that never goes back. */
  readonly now: () => number
  readonly random: () => number
}
