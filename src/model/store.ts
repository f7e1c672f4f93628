// The model in memory: what the API holds, indexed by Service, and which Services must be looked at again. No I/O.
import { type CIDR, type Family, formatCIDR } from '../net/ip.ts'
import { compactService, compactSlice } from './compact.ts'
import { equalNodes, equalServiceCIDRs, equalServices, equalSlices } from './equal.ts'
import {
  type EndpointSliceRecord,
  keyOf,
  type ModelEvent,
  type ModelKind,
  type NodeRecord,
  type ServiceCIDRRecord,
  type ServiceKey,
  type ServiceRecord,
} from './records.ts'
import { TriggerTimes } from './trigger-times.ts'

export interface StoreOptions {
  /** This node's name. When given, Nodes of any other name are ignored: files may hold several. */
  readonly nodeName?: string
  /** Families that are programmed; slices of others are not kept. Default both. */
  readonly families?: readonly Family[]
  /** Milliseconds since the epoch. Trigger times before it say nothing about this process (`kube-proxy.md` §12.3). */
  readonly startedAt?: number
}

const noSlices: readonly EndpointSliceRecord[] = []

/** How much the store holds. */
export interface StoreSizes {
  readonly services: number
  readonly endpointSlices: number
  /** Over all slices, before merging. */
  readonly endpoints: number
  readonly serviceCIDRs: number
}

/**
 * Holds the records and the set of Services that changed since it was last taken. An event costs what the Service it
 * touches costs, whatever else there is.
 */
export class Store {
  readonly #nodeName: string | undefined
  readonly #families: readonly Family[]
  readonly #services = new Map<ServiceKey, ServiceRecord>()
  readonly #slices = new Map<string, EndpointSliceRecord>()
  /** Never empty. Replaced, not changed: a Service has few slices, and a list costs a quarter of a map. */
  readonly #slicesOf = new Map<ServiceKey, readonly EndpointSliceRecord[]>()
  readonly #serviceCIDRs = new Map<string, ServiceCIDRRecord>()
  readonly #synced = new Set<ModelKind>()
  readonly #triggers: TriggerTimes
  #node: NodeRecord | undefined
  /** By family: a slice concerns its own only. */
  readonly #dirty = new Map<Family, Set<ServiceKey>>()
  /** Families in which what decides for every Service changed. */
  readonly #allDirty = new Set<Family>()
  #endpoints = 0
  #networkRevision = 0

  constructor({ nodeName, families = ['IPv4', 'IPv6'], startedAt = 0 }: StoreOptions = {}) {
    this.#nodeName = nodeName
    this.#families = families
    for (const family of families) this.#dirty.set(family, new Set())
    this.#triggers = new TriggerTimes(startedAt)
  }

  /** Takes one change in. A record equal to the one that is held changes nothing and dirties nothing. */
  apply(event: ModelEvent): void {
    switch (event.kind) {
      case 'Service':
        this.#applyService(event.key, event.record)
        break
      case 'EndpointSlice':
        this.#applySlice(event.key, event.record)
        break
      case 'Node':
        this.#applyNode(event.key, event.record)
        break
      case 'ServiceCIDR':
        this.#applyServiceCIDR(event.key, event.record)
        break
      case 'synced':
        this.#synced.add(event.of)
    }
  }

  /** A Service that has at least one cluster address; undefined when there is no such Service. */
  service(key: ServiceKey): ServiceRecord | undefined {
    return this.#services.get(key)
  }

  /** The slices that belong to a Service, of both families, in no particular order. */
  slices(key: ServiceKey): readonly EndpointSliceRecord[] {
    return this.#slicesOf.get(key) ?? noSlices
  }

  /** Every Service there is. Stays valid while events are applied between two steps. */
  keys(): IterableIterator<ServiceKey> {
    return this.#services.keys()
  }

  /** This node's own object, when there is one. */
  node(): NodeRecord | undefined {
    return this.#node
  }

  /**
   * The CIDRs of all ServiceCIDR objects, each once, sorted. Made from the objects anew, so that a CIDR two objects
   * share stays when one of them goes (kube-proxy forgets it, §1.1).
   */
  serviceCIDRs(): readonly CIDR[] {
    const byText = new Map<string, CIDR>()
    for (const { cidrs } of this.#serviceCIDRs.values()) for (const cidr of cidrs) byText.set(formatCIDR(cidr), cidr)
    return [...byText].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, cidr]) => cidr)
  }

  /** True once the initial list of a kind is complete. */
  synced(kind: ModelKind): boolean {
    return this.#synced.has(kind)
  }

  /** True once nothing that is missing can be merely late. Nodes and ServiceCIDRs are not waited for (§1.4). */
  isReady(): boolean {
    return this.#synced.has('Service') && this.#synced.has('EndpointSlice')
  }

  /** Services to look at again in a family, also those that are gone; starts a new set. */
  takeDirty(family: Family): ReadonlySet<ServiceKey> {
    const dirty = this.#dirty.get(family)
    if (dirty === undefined) return new Set()
    if (this.#allDirty.delete(family)) for (const key of this.#services.keys()) dirty.add(key)
    this.#dirty.set(family, new Set())
    return dirty
  }

  /**
   * Grows when something changed that concerns rules of no particular Service: this node's zone, addresses or pod
   * CIDRs, or the ServiceCIDRs. kube-proxy waits for the next full sync there (§6.7); whoever sees this number change
   * need not.
   */
  get networkRevision(): number {
    return this.#networkRevision
  }

  /**
   * When the changes of the slices of one family happened that came in since the last call, milliseconds since the
   * epoch, by Service. Take it together with `takeDirty`, and observe it once those Services are committed.
   */
  takeTriggerTimes(family: Family): ReadonlyMap<ServiceKey, readonly number[]> {
    return this.#triggers.take(family)
  }

  /** How much is held; costs nothing. */
  sizes(): StoreSizes {
    return {
      services: this.#services.size,
      endpointSlices: this.#slices.size,
      endpoints: this.#endpoints,
      serviceCIDRs: this.#serviceCIDRs.size,
    }
  }

  #applyService(key: ServiceKey, record: ServiceRecord | undefined): void {
    const before = this.#services.get(key)
    if (unchanged(before, record, equalServices)) return
    if (record === undefined) this.#services.delete(key)
    else this.#services.set(key, compactService(record))
    // A Service that came and went unseen stays dirty: whoever takes it finds nothing, and removes nothing.
    for (const dirty of this.#dirty.values()) dirty.add(key)
  }

  #applySlice(key: string, given: EndpointSliceRecord | undefined): void {
    const record = given !== undefined && this.#families.includes(given.family) ? given : undefined
    const before = this.#slices.get(key)
    if (unchanged(before, record, equalSlices)) return
    const owner = before && keyOf(before.namespace, before.service)
    const newOwner = record && keyOf(record.namespace, record.service)
    this.#endpoints += (record?.endpoints.length ?? 0) - (before?.endpoints.length ?? 0)
    if (before !== undefined && owner !== undefined) this.#unlink(owner, before)

    // A slice relabelled to another Service takes its endpoints along (kube-proxy leaves them behind, §1.3).
    if (before !== undefined && owner !== undefined && owner !== newOwner) {
      this.#triggers.drop(owner, before.family)
      this.#dirty.get(before.family)?.add(owner)
    }
    if (record === undefined || newOwner === undefined) {
      this.#slices.delete(key)
      return
    }
    const kept = compactSlice(record)
    this.#slices.set(key, kept)
    const siblings = this.#slicesOf.get(newOwner)
    this.#slicesOf.set(newOwner, siblings === undefined ? [kept] : [...siblings, kept])
    if (record.triggeredAt !== undefined) this.#triggers.add(newOwner, record.family, record.triggeredAt)
    // A slice that was made anew may be of the other family.
    if (before !== undefined) this.#dirty.get(before.family)?.add(newOwner)
    this.#dirty.get(record.family)?.add(newOwner)
  }

  #unlink(owner: ServiceKey, slice: EndpointSliceRecord): void {
    const left = this.#slicesOf.get(owner)?.filter(sibling => sibling !== slice) ?? noSlices
    if (left.length === 0) this.#slicesOf.delete(owner)
    else this.#slicesOf.set(owner, left)
  }

  #applyNode(key: string, record: NodeRecord | undefined): void {
    if (this.#nodeName !== undefined && key !== this.#nodeName) return
    const before = this.#node
    if (unchanged(before, record, equalNodes)) return
    this.#node = record
    // Eligibility is for health checks alone: no rule depends on it.
    if (before !== undefined && record !== undefined && equalNodes({ ...before, eligible: record.eligible }, record)) {
      return
    }
    this.#networkRevision++
    for (const family of this.#families) this.#allDirty.add(family)
  }

  #applyServiceCIDR(key: string, record: ServiceCIDRRecord | undefined): void {
    if (unchanged(this.#serviceCIDRs.get(key), record, equalServiceCIDRs)) return
    if (record === undefined) this.#serviceCIDRs.delete(key)
    else this.#serviceCIDRs.set(key, record)
    this.#networkRevision++
  }
}

function unchanged<T>(before: T | undefined, after: T | undefined, equal: (a: T, b: T) => boolean): boolean {
  return before === undefined || after === undefined ? before === after : equal(before, after)
}
