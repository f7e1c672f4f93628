// The form in which records are kept: equal to what came in, and shared where records are alike.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { compactService, compactSlice } from '../../src/model/compact.ts'
import { equalServices, equalSlices } from '../../src/model/equal.ts'
import { histories } from './arbitrary.ts'
import { dying, endpoint, ip, port, service, slice } from './build.ts'

it('nothing is lost, of whatever record', () => {
  fc.assert(
    fc.property(histories, lists => {
      for (const event of lists.flat()) {
        if (event.kind === 'Service' && event.record !== undefined) {
          expect(equalServices(compactService(event.record), event.record)).toBe(true)
          expect(compactService(event.record)).toEqual(event.record)
        }
        if (event.kind === 'EndpointSlice' && event.record !== undefined) {
          const kept = compactSlice(event.record)
          expect([equalSlices(kept, event.record), equalSlices(event.record, kept)]).toEqual([true, true])
          expect([...kept.endpoints]).toEqual([...event.record.endpoints])
          expect(kept.endpoints).toHaveLength(event.record.endpoints.length)
          expect(JSON.parse(JSON.stringify(kept))).toEqual(JSON.parse(JSON.stringify(event.record)))
        }
      }
    }),
  )
})

describe('endpoints', () => {
  it('can be gone through more than once', () => {
    const { endpoints } = compactSlice(slice([endpoint('10.244.1.1'), dying('10.244.1.2')]))
    expect([...endpoints]).toEqual([...endpoints])
    expect([...endpoints].map(({ address, ready }) => `${address} ${ready}`)).toEqual([
      '10.244.1.1 true',
      '10.244.1.2 false',
    ])
  })

  const hinted = endpoint('10.244.1.1', { nodeName: 'node-a', zoneHints: ['zone-a'] })
  it.each([
    ['the address', { ...hinted, address: ip('fd00::1') }],
    ['a node', { ...hinted, nodeName: 'node-b' }],
    ['readiness', { ...hinted, ready: false }],
    ['serving', { ...hinted, serving: false }],
    ['terminating', { ...hinted, terminating: true }],
    ['a zone hint', { ...hinted, zoneHints: ['zone-b'] }],
    ['a node hint', { ...hinted, nodeHints: ['zone-a'] }],
    ['hints', endpoint('10.244.1.1', { nodeName: 'node-a' })],
  ])('that differ in %s alone stay apart', (_name, other) => {
    const [one, two] = [slice([hinted]), slice([other], { family: 'IPv4' })].map(compactSlice)
    expect([...(one?.endpoints ?? [])]).toEqual([hinted])
    expect([...(two?.endpoints ?? [])]).toEqual([other])
    expect(one !== undefined && two !== undefined && equalSlices(one, two)).toBe(false)
  })
})

describe('what records have in common is held once', () => {
  it('ports of slices and of Services without node ports', () => {
    const ports = () => [{ name: 'http', protocol: 'TCP', port: 8080 } as const]
    const [one, other] = [slice([], { ports: ports() }), slice([], { ports: ports(), name: 'web-2' })]
    expect(compactSlice(one).ports).toBe(compactSlice(other).ports)
    const services = [service({ ports: [port()] }), service({ ports: [port()], name: 'other' })].map(compactService)
    expect(services[0]?.ports).toBe(services[1]?.ports)
  })

  it('but not node ports, which no two Services share', () => {
    const withNodePort = service({ ports: [port({ nodePort: 30_080 })] })
    expect(compactService(withNodePort).ports).toEqual(withNodePort.ports)
    expect(compactService(service({ ports: [port({ nodePort: 30_081 })] })).ports[0]?.nodePort).toBe(30_081)
  })
})
