// A packet as `trace` takes it: the first of its flow.
import type { IP } from './ip.ts'
import type { Protocol } from './protocol.ts'

export interface Packet {
  readonly src: IP
  readonly dst: IP
  readonly port: number
  readonly protocol: Protocol
  /** Name of the interface it came in by; absent when that is not known (no interface match then holds). */
  readonly interface?: string
}
