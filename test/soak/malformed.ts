// Objects that no validation would let pass, and that come all the same: from older API servers, broken webhooks, restores.
import type { Random } from '../differential/random.ts'
import type { SoakObject } from './traits.ts'

const spoiltService: readonly ((service: SoakObject, spec: object) => SoakObject)[] = [
  (service, spec) => ({ ...service, spec: { ...spec, clusterIP: 'nonsense', clusterIPs: ['nonsense'] } }),
  (service, spec) => ({ ...service, spec: { ...spec, clusterIP: '10.96.0.999', clusterIPs: ['10.96.0.999', 7] } }),
  (service, spec) => ({ ...service, spec: { ...spec, type: 'Gateway' } }),
  (service, spec) => ({ ...service, spec: { ...spec, ports: [{ port: 0 }, { port: 70_000 }, { port: '80' }, null] } }),
  (service, spec) => ({ ...service, spec: { ...spec, ports: [{ name: 'x', port: 80, protocol: 'ICMP' }] } }),
  (service, spec) => ({ ...service, spec: { ...spec, externalIPs: ['::ffff:1.2.3.4', '', '0.0.0.0', 5] } }),
  (service, spec) => ({ ...service, spec: { ...spec, loadBalancerSourceRanges: ['10.0.0.0/99', 'x', null] } }),
  (service, spec) => ({ ...service, spec: { ...spec, sessionAffinity: 'Cookie', internalTrafficPolicy: 'Nowhere' } }),
  service => ({ ...service, status: { loadBalancer: { ingress: [{ ip: 'x' }, {}, null, { ip: '203.0.113.777' }] } } }),
]

const spoiltSlice: readonly ((slice: SoakObject) => SoakObject)[] = [
  slice => ({ ...slice, addressType: 'IPv5' }),
  slice => ({ ...slice, endpoints: null, ports: null }),
  slice => ({ ...slice, endpoints: [{ addresses: [] }, { addresses: ['pod'] }, null, { conditions: 'ready' }] }),
  slice => ({
    ...slice,
    ports: [
      { name: 'p0', port: -1 },
      { name: 7, port: 80 },
      { name: 'p0', protocol: 'QUIC' },
    ],
  }),
  slice => ({ ...slice, metadata: { ...slice.metadata, labels: {} } }),
  slice => ({ ...slice, metadata: { ...slice.metadata, labels: { 'kubernetes.io/service-name': '-- no name --' } } }),
]

/** The object with something in it that cannot be. */
export function malformed(random: Random, object: SoakObject): SoakObject {
  if (object.kind !== 'Service') return random.pick(spoiltSlice)(object)
  const { spec } = object
  return random.pick(spoiltService)(object, typeof spec === 'object' && spec !== null ? spec : {})
}
