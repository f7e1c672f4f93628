// When the changes happened that are on their way to the kernel: the start of network programming latency (§12.3).
import type { Family } from '../net/ip.ts'
import type { ServiceKey } from './records.ts'

/** Pending trigger times by family and Service, in milliseconds since the epoch. */
export class TriggerTimes {
  readonly #startedAt: number
  readonly #pending: Record<Family, Map<ServiceKey, number[]>> = { IPv4: new Map(), IPv6: new Map() }

  /** Times before `startedAt` are of changes that happened before this process and are ignored. */
  constructor(startedAt: number) {
    this.#startedAt = startedAt
  }

  add(service: ServiceKey, family: Family, time: number): void {
    if (time < this.#startedAt) return
    const times = this.#pending[family].get(service)
    if (times === undefined) this.#pending[family].set(service, [time])
    else times.push(time)
  }

  /** Forgets a Service's times: a slice of it went, and the times of what it held cannot be told apart. */
  drop(service: ServiceKey, family: Family): void {
    this.#pending[family].delete(service)
  }

  /** Hands over what is pending of a family, and starts anew. */
  take(family: Family): ReadonlyMap<ServiceKey, readonly number[]> {
    const taken = this.#pending[family]
    this.#pending[family] = new Map()
    return taken
  }
}
