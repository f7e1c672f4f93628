// Contested addresses: the older Service has them, whatever the order of events.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { ServiceKey } from '../../src/model/records.ts'
import type { Protocol } from '../../src/net/protocol.ts'
import { Claims } from '../../src/policy/claims.ts'
import type { Frontend, ServicePort } from '../../src/policy/service-port.ts'
import { ip } from '../model/build.ts'
import { shownFrontend } from './view.ts'

const at = (address: string, port = 80): Frontend => ({
  kind: 'ExternalIP',
  address: ip(address),
  port,
  traffic: 'external',
})
const nodePort = (port: number): Frontend => ({ kind: 'NodePort', address: 'node-ports', port, traffic: 'external' })

const portOf = (frontends: readonly Frontend[], over: Partial<ServicePort> = {}): ServicePort => ({
  service: 'ns/x',
  name: 'ns/x:http',
  protocol: 'TCP',
  frontends,
  internal: { kind: 'reject' },
  external: { kind: 'reject' },
  externalFromNode: { kind: 'reject' },
  externalMasquerade: true,
  healthCheckNodePort: 0,
  ...over,
})

const vip = at('203.0.113.1')
const own = at('10.96.0.1')

describe('two Services and one frontend', () => {
  it('the first to come has it; a younger one is told who holds it', () => {
    const claims = new Claims()
    claims.claim('ns/old', 1, [portOf([vip])])
    const result = claims.claim('ns/young', 2, [portOf([own, vip])])
    expect(result.granted).toEqual([portOf([own])])
    expect(result.lost).toEqual([{ frontend: vip, protocol: 'TCP', holder: 'ns/old' }])
    expect(result.alsoDirty).toEqual([])
  })

  it('an older one takes it, and the younger one must claim again', () => {
    const claims = new Claims()
    claims.claim('ns/young', 2, [portOf([own, vip])])
    const taken = claims.claim('ns/old', 1, [portOf([vip])])
    expect(taken.granted).toEqual([portOf([vip])])
    expect(taken.alsoDirty).toEqual(['ns/young'])
    expect([...claims.contests()]).toEqual([
      { frontend: '203.0.113.1:80/TCP', holder: 'ns/old', waiting: ['ns/young'] },
    ])
    const again = claims.claim('ns/young', 2, [portOf([own, vip])])
    expect(again.granted).toEqual([portOf([own])])
    expect(again.alsoDirty).toEqual([])
  })

  it('of the same age, the one whose name comes first', () => {
    const claims = new Claims()
    claims.claim('ns/b', 5, [portOf([vip])])
    expect(claims.claim('ns/a', 5, [portOf([vip])]).lost).toEqual([])
    expect(claims.claim('ns/b', 5, [portOf([vip])]).lost).toHaveLength(1)
  })

  it('when the holder goes, the next in age gets it, and only it must claim again', () => {
    const claims = new Claims()
    for (const [index, name] of ['ns/c', 'ns/a', 'ns/b'].entries()) claims.claim(name, index, [portOf([vip])])
    expect(claims.release('ns/c')).toEqual(['ns/a'])
    expect(claims.release('ns/b')).toEqual([])
    expect(claims.release('ns/a')).toEqual([])
    expect(claims.release('ns/a')).toEqual([])
  })

  it('when the holder no longer wants it, the next gets it', () => {
    const claims = new Claims()
    claims.claim('ns/old', 1, [portOf([own, vip])])
    claims.claim('ns/young', 2, [portOf([vip])])
    expect(claims.claim('ns/old', 1, [portOf([own])]).alsoDirty).toEqual(['ns/young'])
    expect(claims.claim('ns/young', 2, [portOf([vip])]).lost).toEqual([])
  })

  it('a Service made anew is young again', () => {
    const claims = new Claims()
    claims.claim('ns/a', 1, [portOf([vip])])
    claims.claim('ns/b', 2, [portOf([vip])])
    const again = claims.claim('ns/a', 3, [portOf([vip])])
    expect(again.lost).toMatchObject([{ holder: 'ns/b' }])
    expect(again.alsoDirty).toEqual(['ns/b'])
  })

  it('claiming the same again moves nobody', () => {
    const claims = new Claims()
    claims.claim('ns/a', 1, [portOf([vip])])
    claims.claim('ns/b', 2, [portOf([vip])])
    expect(claims.claim('ns/a', 1, [portOf([vip])]).alsoDirty).toEqual([])
    expect(claims.claim('ns/b', 2, [portOf([vip])]).alsoDirty).toEqual([])
    expect([...claims.contests()]).toEqual([{ frontend: '203.0.113.1:80/TCP', holder: 'ns/a', waiting: ['ns/b'] }])
  })
})

describe('what is the same frontend', () => {
  it.each([
    ['address and port and protocol', portOf([vip]), portOf([vip]), 1],
    ['another port', portOf([vip]), portOf([at('203.0.113.1', 81)]), 0],
    ['another protocol', portOf([vip]), portOf([vip], { protocol: 'UDP' }), 0],
    ['another kind of the same address', portOf([vip]), portOf([{ ...vip, kind: 'LoadBalancer' }]), 1],
    ['a node port', portOf([nodePort(30080)]), portOf([nodePort(30080)]), 1],
    ['a node port and an address with its number', portOf([nodePort(80)]), portOf([vip]), 0],
  ])('%s', (_, first, second, lost) => {
    const claims = new Claims()
    claims.claim('ns/a', 1, [first])
    expect(claims.claim('ns/b', 2, [second]).lost).toHaveLength(lost)
  })
})

describe('within one Service', () => {
  it('of two ports that are alike the first has the frontend, and the second is reported', () => {
    const admin = portOf([vip, nodePort(30081)], { name: 'ns/x:admin' })
    const result = new Claims().claim('ns/x', 1, [portOf([vip]), admin])
    expect(result.granted).toEqual([portOf([vip]), { ...admin, frontends: [nodePort(30081)] }])
    expect(result.lost).toEqual([{ frontend: vip, protocol: 'TCP', holder: 'ns/x' }])
  })

  it('a port that lost everything is left out, unless it carries the health check', () => {
    const claims = new Claims()
    claims.claim('ns/old', 1, [portOf([vip])])
    expect(claims.claim('ns/x', 2, [portOf([vip])]).granted).toEqual([])
    const withCheck = portOf([vip], { healthCheckNodePort: 32000 })
    expect(claims.claim('ns/x', 2, [withCheck]).granted).toEqual([{ ...withCheck, frontends: [] }])
  })

  it('a port that lost nothing is handed on as it is', () => {
    const port = portOf([vip])
    expect(new Claims().claim('ns/x', 1, [port]).granted[0]).toBe(port)
  })
})

describe('any order of claims and releases', () => {
  interface Wish {
    readonly createdAt: number
    readonly ports: readonly ServicePort[]
  }
  interface Move {
    readonly service: ServiceKey
    readonly wish: Wish | undefined
  }
  const frontend = fc.oneof(
    fc.constantFrom(at('1.1.1.1'), at('1.1.1.2'), at('1.1.1.1', 81)),
    fc.constantFrom(nodePort(1), nodePort(2)),
  )
  const wish: fc.Arbitrary<Wish> = fc.record({
    createdAt: fc.nat(2),
    ports: fc.array(
      fc
        .tuple(fc.array(frontend, { maxLength: 3 }), fc.constantFrom<Protocol>('TCP', 'UDP'))
        .map(([frontends, protocol]) => portOf(frontends, { protocol })),
      { maxLength: 2 },
    ),
  })
  const move: fc.Arbitrary<Move> = fc.record({
    service: fc.constantFrom('ns/a', 'ns/b', 'ns/c', 'ns/d'),
    wish: fc.option(wish, { nil: undefined }),
  })

  /** Makes the moves, and lets every Service that is named as dirty claim again. */
  function settle(moves: readonly Move[]): { claims: Claims; granted: Map<ServiceKey, string[]> } {
    const claims = new Claims()
    const wishes = new Map<ServiceKey, Wish>()
    const granted = new Map<ServiceKey, string[]>()
    for (const { service, wish: wanted } of moves) {
      if (wanted === undefined) wishes.delete(service)
      else wishes.set(service, wanted)
      const dirty = new Set([service])
      for (const key of dirty) {
        dirty.delete(key)
        const current = wishes.get(key)
        if (current === undefined) {
          granted.delete(key)
          for (const other of claims.release(key)) dirty.add(other)
        } else {
          const result = claims.claim(key, current.createdAt, current.ports)
          granted.set(
            key,
            result.granted.flatMap(port => port.frontends.map(one => `${shownFrontend(one)} ${port.protocol}`)),
          )
          for (const other of result.alsoDirty) dirty.add(other)
        }
      }
    }
    return { claims, granted }
  }

  it('gives what claiming from oldest to youngest gives', () => {
    fc.assert(
      fc.property(fc.array(move, { maxLength: 14 }), moves => {
        const last = new Map(moves.map(one => [one.service, one]))
        const byAge = [...last.values()]
          .flatMap(({ service, wish: wanted }) => (wanted === undefined ? [] : [{ service, wish: wanted }]))
          .sort((a, b) => a.wish.createdAt - b.wish.createdAt || (a.service < b.service ? -1 : 1))
        const [any, ideal] = [settle(moves), settle(byAge)]
        expect(any.granted).toEqual(ideal.granted)
        const contests = (claims: Claims) => [...claims.contests()].sort((a, b) => (a.frontend < b.frontend ? -1 : 1))
        expect(contests(any.claims)).toEqual(contests(ideal.claims))
      }),
      { numRuns: 500 },
    )
  })

  it('never grants one frontend twice', () => {
    fc.assert(
      fc.property(fc.array(move, { maxLength: 14 }), moves => {
        const all = [...settle(moves).granted.values()].flat()
        expect(new Set(all).size).toBe(all.length)
      }),
    )
  })
})
