// The node's own addresses come and go, and with them what is wanted at each: what is wanted then is what would be wanted had it
// never been otherwise.
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { ipvsBackend } from '../../../src/backend/ipvs/index.ts'
import type { IP } from '../../../src/net/ip.ts'
import type { EndpointChoice, Frontend, ServicePort } from '../../../src/policy/service-port.ts'
import { DesiredProgram } from '../../../src/sync/program.ts'
import { ip } from '../../model/build.ts'
import { StrictIpvs } from '../../support/strict-ipvs/machine.ts'
import { networkAt } from './network.ts'

const floating = ip('192.168.100.9')
const own = ip('192.168.100.1')
const endpoints = (...names: readonly string[]): EndpointChoice => ({
  kind: 'endpoints',
  endpoints: names.map(name => ({ address: ip(name), port: 8080, isLocal: false, isTerminating: false })),
})
const all = endpoints('10.0.0.1', '10.0.0.2')
const local = endpoints('10.0.0.1')
const none: EndpointChoice = { kind: 'drop' }

interface Shape {
  readonly name: string
  readonly frontends: readonly Frontend[]
  readonly isLocal: boolean
  readonly hasLocal: boolean
}

function portOf({ name, frontends, isLocal, hasLocal }: Shape): ServicePort {
  return {
    service: `a/${name}`,
    name: `a/${name}:p`,
    protocol: 'TCP',
    frontends,
    internal: all,
    external: isLocal ? (hasLocal ? local : none) : all,
    externalFromNode: all,
    externalMasquerade: !isLocal,
    healthCheckNodePort: 0,
  }
}

const frontendsOf = (address: IP, nodePort: number): Frontend[] => [
  { kind: 'ExternalIP', address, port: 80, traffic: 'external' },
  { kind: 'NodePort', address: 'node-ports', port: nodePort, traffic: 'external' },
]
const shape = (name: string, frontends: readonly Frontend[]): fc.Arbitrary<Shape> =>
  fc.record({
    name: fc.constant(name),
    frontends: fc.subarray([...frontends]),
    isLocal: fc.boolean(),
    hasLocal: fc.boolean(),
  })
/** The second may meet the first one's address, at a node port. */
const shapes = fc.tuple(shape('web', frontendsOf(floating, 30080)), shape('dns', frontendsOf(own, 80)))
/** Between two owners somebody may look at the objects. */
const step = fc.tuple(fc.subarray([floating, own]), shapes, fc.boolean(), fc.boolean())

test('objects are a function of Services and addresses, whatever was before', () => {
  fc.assert(
    fc.property(fc.array(step, { minLength: 1, maxLength: 6 }), steps => {
      const backend = ipvsBackend({ family: 'IPv4', exec: new StrictIpvs() })
      const program = new DesiredProgram(backend.layout?.())
      for (const [addresses, services, isBackwards, isLookedAt] of steps) {
        const network = networkAt(...addresses)
        const fresh = new DesiredProgram(backend.layout?.())
        const ports = services.map(portOf)
        for (const port of isBackwards ? ports.toReversed() : ports) {
          program.replace(port.name, backend.compile(port, network))
          if (isLookedAt) program.pending()
        }
        for (const port of ports) fresh.replace(port.name, backend.compile(port, network))
        expect([...program.objects].sort()).toEqual([...fresh.objects].sort())
        program.pending()
        program.settle()
      }
    }),
    { numRuns: 500 },
  )
})
