// What a syncer is given, and what it tells of its work.
import type { Backend, CommitError } from '../backend/backend.ts'
import type { EndpointSliceRecord, ServiceKey, ServiceRecord } from '../model/records.ts'
import type { Family } from '../net/ip.ts'
import type { Claims } from '../policy/claims.ts'
import type { Network } from '../policy/network.ts'
import type { NodeView } from '../policy/node-view.ts'
import type { ServicePort } from '../policy/service-port.ts'
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
  /** When the changes happened that are in the kernel now, where their objects tell: milliseconds since the epoch. */
  readonly triggeredAt: readonly number[]
  /** Changes that came in meanwhile are still to be written. */
  readonly morePending: boolean
}

/** A Service port that the kernel refuses: the rest goes on without it, and what it had before stays. */
export interface SetAside {
  readonly family: Family
  readonly service: ServiceKey
  readonly servicePort: string
  readonly reason: string
}

/** What somebody else did to our rules: found by a comparison, and put back by the commit that follows. */
export interface DriftReport {
  /** Objects that are gone. */
  readonly missing: number
  /** Objects that are not ours, in places that are. */
  readonly foreign: number
  /** Objects that are not as we wrote them. */
  readonly changed: number
  /** A handful of them, in words: `nat/PENSTOCK-SVC-… (shop/web:http/TCP) lacks: -j …`. */
  readonly examples: readonly string[]
  /** Names of the programs that wrote, where the kernel says so. */
  readonly by: readonly string[]
  /** How often that happened within the last minute, this time included: from three on two writers fight. */
  readonly repeats: number
}

/** A reason to look at the kernel before the next look is due. */
export interface Suspicion {
  /**
   * `ours`: something of ours was written. `hooks`: something was deleted beside our jumps. `unknown`: something was written
   * in a table where ours is, or the kernel could not tell.
   */
  readonly kind: 'ours' | 'hooks' | 'unknown'
  /** The program that wrote, if the kernel says so. */
  readonly by?: string
}

/** Two Services want one address and port: the older has it. */
export interface Conflict {
  readonly family: Family
  readonly service: ServiceKey
  readonly frontend: string
  readonly holder: ServiceKey
}

/** Of a sync that failed. */
export interface FailureFacts {
  readonly durationMs: number
  /** The kernel was to be read and compared. */
  readonly compared: boolean
}

/** Told of what happens; must not throw. */
export interface SyncObserver {
  /** Something is to be written. Told again and again until `synced`; cheap. */
  queued?(family: Family): void
  /** What a Service is on this node now, before it is written: its ports, none if it is gone or has nothing here. */
  resolved?(family: Family, service: ServiceKey, ports: readonly ServicePort[]): void
  synced(report: SyncReport): void
  failed(family: Family, error: CommitError, retries: number, facts: FailureFacts): void
  setAside(item: SetAside): void
  conflict(item: Conflict): void
  /** Somebody changed rules of ours or took them away; they are put back at once. */
  drift?(family: Family, found: DriftReport): void
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
  /** Time between cheap looks whether the rules are still there, milliseconds; longer where a look costs more. Left out: none. */
  readonly checkMs?: number
  readonly observer: SyncObserver
  /** Milliseconds of a clock that never goes back. */
  readonly now: () => number
  readonly random: () => number
}
