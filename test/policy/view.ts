// What tests of policy read out of its results.
import type { EndpointRecord, EndpointSliceRecord, ServiceRecord } from '../../src/model/records.ts'
import type { Family } from '../../src/net/ip.ts'
import { type Candidate, mergeEndpoints } from '../../src/policy/endpoints.ts'
import type { NodeView } from '../../src/policy/node-view.ts'
import { resolve } from '../../src/policy/resolve.ts'
import type { Endpoint, EndpointChoice, Frontend, ServicePort } from '../../src/policy/service-port.ts'
import { ip, slice } from '../model/build.ts'

/** node-a in zone-a. */
export const here: NodeView = { name: 'node-a', zone: 'zone-a', nodeIP: ip('192.168.100.1') }

/** The merged endpoints of one slice of shop/web. */
export const candidatesOf = (...endpoints: EndpointRecord[]): readonly Candidate[] =>
  mergeEndpoints([slice(endpoints)], 'http', 'TCP', 'IPv4')

export const addressesIn = (endpoints: readonly Endpoint[]): string[] => endpoints.map(({ address }) => address)

/** `REJ`, `DROP` or the addresses. */
export const shown = (choice: EndpointChoice): string =>
  choice.kind === 'endpoints' ? addressesIn(choice.endpoints).join(' ') : choice.kind === 'drop' ? 'DROP' : 'REJ'

/** The frontend as `ClusterIP 10.96.0.20:80 internal`, and its source ranges. */
export const shownFrontend = ({ kind, address, port, traffic, sourceRanges }: Frontend): string =>
  `${kind} ${address}:${port} ${traffic}${
    sourceRanges === undefined ? '' : ` from ${sourceRanges.map(range => `${range.address}/${range.prefix}`).join(' ')}`
  }`

/** The only port of a Service. Throws if there are more or none. */
export function resolveOne(
  service: ServiceRecord,
  slices: Iterable<EndpointSliceRecord>,
  node: NodeView = here,
  family: Family = 'IPv4',
): ServicePort {
  const [port, ...more] = resolve(service, slices, node, family)
  if (port === undefined || more.length > 0) throw new Error('not exactly one port')
  return port
}
