// A UDP flow as connection tracking knows it, and the table of them: where packets went, and who answers.
import type { Family, IP } from './ip.ts'

/** One flow. Addresses and ports are those of its two directions, before any translation is undone. */
export interface Flow {
  readonly source: IP
  readonly sourcePort: number
  /** Where its first packet was sent. */
  readonly destination: IP
  readonly destinationPort: number
  /** Who answers: the endpoint that was chosen, or the destination itself where nothing was translated. */
  readonly replySource: IP
  readonly replySourcePort: number
}

/**
 * Which flows to look at: all UDP ones of the family that have every value named here. A table may look at more of them,
 * where it cannot tell them apart that well.
 */
export interface FlowFilter {
  readonly family: Family
  readonly destination?: IP
  readonly destinationPort?: number
  readonly replySource?: IP
  readonly replySourcePort?: number
}

/** What a removal did. */
export interface Removal {
  /** Flows that were looked at. */
  readonly seen: number
  readonly removed: number
  /** In one sentence, why flows that should have gone are still there; absent when none are. */
  readonly problem?: string
}

/** The flows of this machine. */
export interface FlowTable {
  /**
   * Removes the UDP flows that pass the filter and are stale. `isStale` is pure and quick: it may be asked 100,000 times.
   * @throws Error with one sentence when the table cannot be looked at.
   */
  remove(filter: FlowFilter, isStale: (flow: Flow) => boolean, signal: AbortSignal): Promise<Removal>
}
