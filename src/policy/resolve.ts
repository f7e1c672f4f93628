// From a Service and its slices to what this node should do for it. Everything a backend needs is decided here.
import type { EndpointSliceRecord, ServicePortRecord, ServiceRecord } from '../model/records.ts'
import { keyOf } from '../model/records.ts'
import type { Family } from '../net/ip.ts'
import { type Candidate, countLocalReady, mergeEndpoints, type Selection, selectEndpoints } from './endpoints.ts'
import { addressesOf, frontendsOf } from './frontends.ts'
import type { NodeView } from './node-view.ts'
import type { Endpoint, EndpointChoice, Frontend, ServicePort, ServicePortName } from './service-port.ts'

const reject: EndpointChoice = { kind: 'reject' }
const drop: EndpointChoice = { kind: 'drop' }

/** `namespace/service:port`, or `namespace/service` when the port has no name. */
export const servicePortName = (service: ServiceRecord, port: ServicePortRecord): ServicePortName =>
  port.name === '' ? keyOf(service.namespace, service.name) : `${service.namespace}/${service.name}:${port.name}`

/**
 * What this node should do for a Service in one address family: one entry a port, in the Service's order; none if the
 * Service has no cluster address of the family. `slices` are all slices of the Service, in any order. The rules are
 * those of `kube-proxy.md` §1.2, §2 and §3.1.
 */
export function resolve(
  given: ServiceRecord,
  slices: Iterable<EndpointSliceRecord>,
  node: NodeView,
  family: Family,
): ServicePort[] {
  // kube-proxy still takes such a Service for one that is reached from outside; here it is not.
  const service = node.ignoresExternalIPs === true ? { ...given, externalIPs: [] } : given
  const addresses = addressesOf(service, family, node.nodeIP)
  if (addresses.length === 0) return []
  const ofFamily: EndpointSliceRecord[] = []
  for (const slice of slices) if (slice.family === family) ofFamily.push(slice)

  const key = keyOf(service.namespace, service.name)
  const externalLocal = isExternalLocal(service)
  const checkPort = service.type === 'LoadBalancer' && externalLocal ? service.healthCheckNodePort : 0
  return service.ports.map((port, index) => {
    const candidates = mergeEndpoints(ofFamily, port.name, port.protocol, family)
    const selection = selectEndpoints(candidates, node)
    const frontends = frontendsOf(addresses, port)
    return {
      service: key,
      name: servicePortName(service, port),
      protocol: port.protocol,
      frontends,
      internal: choose(selection, service.internalTrafficPolicy),
      ...externalChoices(frontends, selection, externalLocal),
      externalMasquerade: !externalLocal,
      ...(service.affinitySeconds === undefined ? {} : { affinitySeconds: service.affinitySeconds }),
      ...(service.scheduler === undefined ? {} : { scheduler: service.scheduler }),
      ...(port.protocol === 'UDP' ? { serving: servingOf(candidates) } : {}),
      healthCheckNodePort: index === 0 ? checkPort : 0,
      ...(index === 0 && checkPort !== 0
        ? { localReadyEndpoints: countLocalReady(service, ofFamily, node, family) }
        : {}),
    }
  })
}

const servingOf = (candidates: readonly Candidate[]): NonNullable<ServicePort['serving']> =>
  candidates
    .filter(({ record }) => record.ready || record.serving)
    .map(({ record, port }) => ({ address: record.address, port }))

/** externalTrafficPolicy Local counts only for a Service that asks to be reached from outside (§1.2). */
const isExternalLocal = ({ externalTrafficPolicy, type, externalIPs }: ServiceRecord): boolean =>
  externalTrafficPolicy === 'Local' && (type !== 'ClusterIP' || externalIPs.length > 0)

/** Reject when no endpoint anywhere can be used; drop when there is one, but under Local none here (§3.1). */
function choose({ cluster, local }: Selection, policy: 'Cluster' | 'Local'): EndpointChoice {
  if (cluster.length === 0) return reject
  if (policy === 'Cluster') return endpointsOf(cluster)
  return local.length > 0 ? endpointsOf(local) : drop
}

const endpointsOf = (endpoints: readonly Endpoint[]): EndpointChoice => ({ kind: 'endpoints', endpoints })

/**
 * A Service port that nobody reaches from outside uses no endpoints for it. kube-proxy decides that by the Service's
 * raw external IPs, also those of the other family (§1.2 tags it a bug); here by the frontends there are.
 *
 * From this node and its pods a Local policy behaves as if the packet had gone out and come back: the Cluster set is
 * used. In kube-proxy a packet that found that set empty would fall out of its chain and meet the rule for outside
 * traffic (§4.5). So the answer to an empty Cluster set is whatever `external` is; and since the Local set is part of
 * what the Cluster set could be, an empty one means that there is no endpoint at all, and both reject.
 */
function externalChoices(
  frontends: readonly Frontend[],
  selection: Selection,
  isLocal: boolean,
): Pick<ServicePort, 'external' | 'externalFromNode'> {
  if (frontends.every(frontend => frontend.traffic === 'internal'))
    return { external: reject, externalFromNode: reject }
  const external = choose(selection, isLocal ? 'Local' : 'Cluster')
  if (!isLocal) return { external, externalFromNode: external }
  return { external, externalFromNode: choose(selection, 'Cluster') }
}
