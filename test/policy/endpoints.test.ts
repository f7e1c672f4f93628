// Merging slices (reference 1.3), the Cluster and Local sets (2.2), and the count for health checks (2.3).
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { EndpointRecord, EndpointSliceRecord } from '../../src/model/records.ts'
import { countLocalReady, mergeEndpoints, selectEndpoints } from '../../src/policy/endpoints.ts'
import { dying, endpoint, ip, port, service, slice } from '../model/build.ts'
import { addressesIn, candidatesOf, here } from './view.ts'

const merged = (...slices: EndpointSliceRecord[]): string[] =>
  mergeEndpoints(slices, 'http', 'TCP', 'IPv4').map(candidate => candidate.text)

const named = (name: string, ...endpoints: EndpointRecord[]): EndpointSliceRecord => slice(endpoints, { name })

describe('mergeEndpoints', () => {
  it('matches ports by name and protocol; the number is the slice’s', () => {
    const ports = [
      { name: 'http', protocol: 'TCP', port: 8080 },
      { name: 'http', protocol: 'UDP', port: 8081 },
      { name: 'admin', protocol: 'TCP', port: 80 },
    ] as const
    expect(merged(slice([endpoint('10.0.1.1')], { ports }))).toEqual(['10.0.1.1:8080'])
  })

  it('uses different numbers of one name in different slices together', () => {
    const other = slice([endpoint('10.0.1.2')], {
      name: 'web-2',
      ports: [{ name: 'http', protocol: 'TCP', port: 9090 }],
    })
    expect(merged(named('web-1', endpoint('10.0.1.1')), other)).toEqual(['10.0.1.1:8080', '10.0.1.2:9090'])
  })

  it('sorts by the text of address and port', () => {
    const addresses = ['10.0.0.9', '10.0.0.10', '9.0.0.1'].map(address => endpoint(address))
    expect(merged(slice(addresses))).toEqual(['10.0.0.10:8080', '10.0.0.9:8080', '9.0.0.1:8080'])
  })

  it('writes IPv6 in brackets and takes only its own family', () => {
    const six = slice([endpoint('fd00::1')], { name: 'web-6' })
    const all = [six, slice([endpoint('10.0.1.1')])]
    expect(mergeEndpoints(all, 'http', 'TCP', 'IPv6').map(({ text }) => text)).toEqual(['[fd00::1]:8080'])
    expect(merged(...all)).toEqual(['10.0.1.1:8080'])
  })

  it('leaves out an address that is not of its slice’s family', () => {
    expect(mergeEndpoints([slice([endpoint('10.0.1.1')], { family: 'IPv6' })], 'http', 'TCP', 'IPv6')).toEqual([])
  })

  it('leaves out a port without a number', () => {
    const ports = [{ name: 'http', protocol: 'TCP', port: 0 }] as const
    expect(merged(slice([endpoint('10.0.1.1')], { ports }))).toEqual([])
  })

  it.each([
    ['a running one beats a terminating one', endpoint('10.0.1.1'), dying('10.0.1.1')],
    [
      'also when it is not ready yet and the other was',
      endpoint('10.0.1.1', { ready: false }),
      endpoint('10.0.1.1', { terminating: true }),
    ],
    ['of two that do not terminate, the ready one', endpoint('10.0.1.1'), endpoint('10.0.1.1', { ready: false })],
    ['of two that terminate, the one that serves', dying('10.0.1.1'), dying('10.0.1.1', { serving: false })],
    [
      'else one of them, always the same',
      endpoint('10.0.1.1', { nodeName: 'node-a' }),
      endpoint('10.0.1.1', { nodeName: 'node-b' }),
    ],
  ])('two entries for one address, in either order: %s', (_, winner, loser) => {
    for (const slices of [
      [named('web-1', winner), named('web-2', loser)],
      [named('web-1', loser), named('web-2', winner)],
    ]) {
      expect(mergeEndpoints(slices, 'http', 'TCP', 'IPv4').map(({ record }) => record)).toEqual([winner])
    }
  })

  it('does not depend on the order of slices or of endpoints in them', () => {
    const flag = fc.boolean()
    const anEndpoint = fc
      .record({
        address: fc.constantFrom('10.0.0.1', '10.0.0.2').map(ip),
        ready: flag,
        serving: flag,
        terminating: flag,
        nodeName: fc.constantFrom('node-a', 'node-b'),
        zoneHints: fc.subarray(['zone-a', 'zone-b']),
      })
      .map((record): EndpointRecord => record)
    const lists = fc.array(fc.array(anEndpoint, { maxLength: 3 }), { maxLength: 4 })
    fc.assert(
      fc.property(lists, all => {
        const slices = all.map((endpoints, index) => slice(endpoints, { name: `web-${index}` }))
        const reversed = slices.map(one => ({ ...one, endpoints: [...one.endpoints].reverse() })).reverse()
        expect(mergeEndpoints(reversed, 'http', 'TCP', 'IPv4')).toEqual(mergeEndpoints(slices, 'http', 'TCP', 'IPv4'))
      }),
    )
  })
})

describe('selectEndpoints', () => {
  const local = { nodeName: 'node-a' }
  const remote = { nodeName: 'node-b' }

  it.each([
    ['ready ones', [endpoint('1.0.0.1', local), endpoint('1.0.0.2', remote)], ['1.0.0.1', '1.0.0.2'], ['1.0.0.1']],
    ['ready before terminating', [endpoint('1.0.0.1', local), dying('1.0.0.2', local)], ['1.0.0.1'], ['1.0.0.1']],
    [
      'terminating when none is ready',
      [dying('1.0.0.1', local), dying('1.0.0.2', remote)],
      ['1.0.0.1', '1.0.0.2'],
      ['1.0.0.1'],
    ],
    [
      'each set falls back for itself',
      [dying('1.0.0.1', local), endpoint('1.0.0.2', remote)],
      ['1.0.0.2'],
      ['1.0.0.1'],
    ],
    ['terminating that do not serve', [dying('1.0.0.1', { ...local, serving: false })], [], []],
    ['running but not ready', [endpoint('1.0.0.1', { ...local, ready: false })], [], []],
    [
      'ready although terminating (publishNotReadyAddresses)',
      [endpoint('1.0.0.1', { ...local, terminating: true })],
      ['1.0.0.1'],
      ['1.0.0.1'],
    ],
    ['no node name', [endpoint('1.0.0.1')], ['1.0.0.1'], []],
    ['only remote ones', [endpoint('1.0.0.2', remote)], ['1.0.0.2'], []],
    ['none', [], [], []],
  ] as const)('%s', (_, endpoints, cluster, localSet) => {
    const selection = selectEndpoints(candidatesOf(...endpoints), here)
    expect(addressesIn(selection.cluster)).toEqual(cluster)
    expect(addressesIn(selection.local)).toEqual(localSet)
  })

  it('says of each endpoint whether it is here and whether it terminates', () => {
    const { cluster } = selectEndpoints(candidatesOf(dying('1.0.0.1', local), dying('1.0.0.2', remote)), here)
    expect(cluster).toEqual([
      { address: '1.0.0.1', port: 8080, isLocal: true, isTerminating: true },
      { address: '1.0.0.2', port: 8080, isLocal: false, isTerminating: true },
    ])
  })

  it('calls nothing local on a node with an unknown name', () => {
    const nowhere = { name: '' }
    expect(selectEndpoints(candidatesOf(endpoint('1.0.0.1', { nodeName: '' })), nowhere).local).toEqual([])
  })
})

describe('countLocalReady', () => {
  const count = (...slices: EndpointSliceRecord[]): number =>
    countLocalReady(service({ ports: [port(), port({ name: 'admin' })] }), slices, here, 'IPv4')
  const local = { nodeName: 'node-a' }
  const ports = [
    { name: 'http', protocol: 'TCP', port: 8080 },
    { name: 'admin', protocol: 'TCP', port: 9090 },
  ] as const

  it('counts addresses, not address and port', () => {
    expect(count(slice([endpoint('10.0.1.1', local), endpoint('10.0.1.2', local)], { ports }))).toBe(2)
  })

  it('counts an address that is ready for one port only', () => {
    const [http, admin] = ports
    const yes = slice([endpoint('10.0.1.1', local)], { name: 'web-1', ports: [http] })
    const no = slice([endpoint('10.0.1.1', { ...local, ready: false })], { name: 'web-2', ports: [admin] })
    expect(count(yes, no)).toBe(1)
  })

  it('counts neither remote nor terminating endpoints, also while these still serve', () => {
    expect(count(slice([endpoint('10.0.1.1', { nodeName: 'node-b' }), dying('10.0.1.2', local)], { ports }))).toBe(0)
  })
})
