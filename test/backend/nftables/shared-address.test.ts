// An external IP that is the cluster address of another Service: each port is treated by its own Service's rules.
import { expect, it } from 'vitest'
import { compileServicePort } from '../../../src/backend/nftables/compile.ts'
import { skeleton } from '../../../src/backend/nftables/skeleton.ts'
import { trace } from '../../../src/backend/nftables/trace.ts'
import type { Network } from '../../../src/policy/network.ts'
import type { EndpointChoice, Frontend, ServicePort } from '../../../src/policy/service-port.ts'
import { cidr, ip } from '../../model/build.ts'

const network: Network = {
  family: 'IPv4',
  detector: { kind: 'source-cidr', cidr: cidr('10.244.0.0/16') },
  masqueradeAll: false,
  masqueradeMark: 0x4000,
  nodePortAddresses: { kind: 'all' },
  localhostNodePorts: false,
  dropInvalid: true,
  nodeAddresses: [ip('192.168.100.1')],
}
const pod: EndpointChoice = {
  kind: 'endpoints',
  endpoints: [{ address: ip('10.244.1.10'), port: 8080, isLocal: true, isTerminating: false }],
}
const address = ip('10.96.0.20')

const servicePort = (name: string, frontends: readonly Frontend[]): ServicePort => ({
  service: `shop/${name}`,
  name: `shop/${name}`,
  protocol: 'TCP',
  frontends,
  internal: pod,
  external: pod,
  externalFromNode: pod,
  externalMasquerade: false,
  healthCheckNodePort: 0,
})

it.each([false, true])('a Local policy keeps the source there too (masqueradeAll %o)', masqueradeAll => {
  const settings = { ...network, masqueradeAll }
  const ports = [
    servicePort('owner', [{ kind: 'ClusterIP', address, port: 80, traffic: 'internal' }]),
    servicePort('guest', [{ kind: 'ExternalIP', address, port: 81, traffic: 'external' }]),
  ]
  const objects = [...skeleton(settings), ...ports.flatMap(port => [...compileServicePort(port, settings)])]
  const program = new Map(objects.map(({ key, value }) => [key, value]))
  const masqueraded = (src: string, port: number): boolean =>
    trace(program, { src: ip(src), dst: address, port, protocol: 'TCP' }, settings).masquerade

  expect(masqueraded('198.51.100.10', 80)).toBe(true)
  expect(masqueraded('198.51.100.10', 81)).toBe(false)
  expect(masqueraded('10.244.1.20', 81)).toBe(false)
  // The node's own packets are masqueraded under either policy.
  expect(masqueraded('192.168.100.1', 81)).toBe(true)
})
