// Many like Services for the syncer's tests.
import type { EndpointSliceRecord, ModelEvent, ServiceRecord } from '../../src/model/records.ts'
import { endpoint, ip, service, serviceEvent, slice, sliceEvent } from '../model/build.ts'

/** Service number n, `ns/svc-n` at 10.96.x.y port 80, as old as its number. */
export const numbered = (n: number, over: Partial<ServiceRecord> = {}): ServiceRecord =>
  service({
    namespace: 'ns',
    name: `svc-${n}`,
    createdAt: n + 1,
    clusterIPs: [ip(`10.96.${n >> 8}.${n & 255}`)],
    ...over,
  })

/** Its only slice, with endpoints at these addresses. */
export const sliceOf = (n: number, ...addresses: readonly string[]): EndpointSliceRecord =>
  slice(
    addresses.map(address => endpoint(address)),
    { namespace: 'ns', name: `svc-${n}-1`, service: `svc-${n}` },
  )

/** Its Service port. */
export const portOf = (n: number): string => `ns/svc-${n}:http`

/** The Service comes with one endpoint of its own. */
export const arrives = (n: number): ModelEvent[] => [
  serviceEvent(numbered(n)),
  sliceEvent(sliceOf(n, `10.244.${n >> 8}.${n & 255}`)),
]

/** The Service's endpoints are these now. */
export const endpointsBecome = (n: number, ...addresses: readonly string[]): ModelEvent =>
  sliceEvent(sliceOf(n, ...addresses))

/** A range of numbers from 0. */
export const upTo = (count: number): number[] => Array.from({ length: count }, (_, n) => n)
