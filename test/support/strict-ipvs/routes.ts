// The kernel's local routes of one protocol: addresses that it delivers packets for, though no device has them.
import { type Family, familyOf, type IP, ipToHex } from '../../../src/net/ip.ts'

/** The protocol of the routes, and their metric; the machine knows no others. */
export const localProtocol = 112

/** The kernel does not do it; the message is that of Linux 6.1, which iproute2 passes on. */
export class RouteRefused extends Error {}

/** All local routes of the protocol, by way of lo, which is up. Methods that change something throw RouteRefused. */
export class LocalRoutes {
  readonly #held: Readonly<Record<Family, Set<IP>>> = { IPv4: new Set(), IPv6: new Set() }
  readonly #changed: (families: readonly Family[]) => void

  /** `changed` is told of every change. */
  constructor(changed: (families: readonly Family[]) => void) {
    this.#changed = changed
  }

  /** The same routes in another kernel. */
  copyTo(other: LocalRoutes): void {
    for (const family of ['IPv4', 'IPv6'] as const) {
      for (const address of this.#held[family]) other.#held[family].add(address)
    }
  }

  has(address: IP): boolean {
    return this.#held[familyOf(address)].has(address)
  }

  /** Addresses of one family in the order in which they are listed: by their bytes. */
  all(family: Family): readonly IP[] {
    return [...this.#held[family]]
      .map((address): readonly [string, IP] => [ipToHex(address), address])
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([, address]) => address)
  }

  /** Any address will do, be it of many receivers or none. */
  append(address: IP): void {
    if (this.has(address)) throw new RouteRefused('RTNETLINK answers: File exists')
    this.#held[familyOf(address)].add(address)
    this.#changed([familyOf(address)])
  }

  remove(address: IP): void {
    if (!this.#held[familyOf(address)].delete(address)) throw new RouteRefused('RTNETLINK answers: No such process')
    this.#changed([familyOf(address)])
  }
}
