// What is read when somebody scrapes, and what is told when something happens: plain values, so that measuring costs a
// change nothing.
import type { ModelKind } from '../model/records.ts'
import type { Family } from '../net/ip.ts'

/** kube-proxy's modes; some metrics exist in some of them only. */
export type Mode = 'iptables' | 'nftables' | 'ipvs'

/** One address family now. */
export interface FamilyReadings {
  /** Services that changed and are not in the kernel yet. */
  readonly dirtyServices: number
  /** Objects that the kernel should hold. */
  readonly kernelObjects: number
  /** Service ports that the kernel refuses. */
  readonly setAside: number
  /** Service ports with a Local policy and endpoints on other nodes only. */
  readonly noLocalEndpoints?: { readonly internal: number; readonly external: number } | undefined
  /** Rules of ours in each table, iptables mode. */
  readonly rules?: { readonly filter: number; readonly nat: number } | undefined
  /** Rules that the last sync wrote into each table, iptables mode. */
  readonly rulesWritten?: { readonly filter: number; readonly nat: number } | undefined
}

/** One watch. What a reflector tells of itself has this shape. */
export interface WatchReadings {
  /** When the server last sent anything; milliseconds since the epoch, 0 when it never did. */
  readonly lastEventAt: number
  /** Watches opened. */
  readonly watches: number
  /** Milliseconds since the first list in which no watch was open. */
  readonly gapMs: number
  /** Failures by kind. */
  readonly errors: Readonly<Record<string, number | undefined>>
}

/** What became of events that were to be written to the API. */
export interface EventCounts {
  readonly written: number
  /** Counted into an event that is there already. */
  readonly merged: number
  /** Refused by the API server. */
  readonly refused: number
  /** Given up: too many for one object or in all, or the API server was away for too long. */
  readonly dropped: number
}

/** Everything that is looked up when somebody scrapes. */
export interface Readings {
  readonly services: number
  readonly endpoints: number
  /** Objects whose newest version cannot be decoded. */
  readonly undecodable: number
  readonly families: Readonly<Partial<Record<Family, FamilyReadings>>>
  readonly watches: Readonly<Partial<Record<ModelKind, WatchReadings>>>
  /** The kernel's connection tracking table; absent where it cannot be read. */
  readonly conntrack?: { readonly entries: number; readonly limit: number } | undefined
  /** Packets counted by rules of iptables mode; absent where the kernel does not count them (nfacct). */
  readonly packets?: { readonly invalidDropped: number; readonly localhostNodePorts: number } | undefined
  readonly events?: EventCounts | undefined
}

/** A successful sync. A `SyncReport` has this shape. */
export interface SyncFacts {
  readonly family: Family
  readonly durationMs: number
  readonly added: number
  readonly changed: number
  readonly removed: number
  /** The kernel was read and compared: kube-proxy's full sync. */
  readonly compared: boolean
}

/** What is known of a sync that failed. */
export interface FailureFacts {
  readonly durationMs?: number | undefined
  readonly compared?: boolean | undefined
}

/** One answer of the API server, or the lack of one. */
export interface RequestFacts {
  readonly method: string
  /** `10.96.0.1:443`. */
  readonly host: string
  /** HTTP status; 0 when there was no answer. */
  readonly status: number
  /** From sending to the head of the answer. */
  readonly durationMs: number
  /** The same request was sent before, and got this status; absent for the first attempt. */
  readonly retryOf?: number | undefined
}
