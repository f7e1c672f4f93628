// From events to granted Service ports, a change at a time: the outcome depends on the objects alone.
import fc from 'fast-check'
import { expect, it } from 'vitest'
import type { ModelEvent, ServiceKey } from '../../src/model/records.ts'
import { Store } from '../../src/model/store.ts'
import type { Family } from '../../src/net/ip.ts'
import { Claims } from '../../src/policy/claims.ts'
import { chooseNodeIPs, nodeView } from '../../src/policy/node-ips.ts'
import { resolve } from '../../src/policy/resolve.ts'
import type { ServicePort } from '../../src/policy/service-port.ts'
import { histories, interleave, turns } from '../model/arbitrary.ts'

/** Takes events in and, when told to, resolves what is dirty and nothing else: what a syncer does. */
class Follower {
  readonly granted = new Map<ServiceKey, readonly ServicePort[]>()
  readonly #store = new Store()
  readonly #claims = new Claims()
  readonly #family: Family

  constructor(family: Family) {
    this.#family = family
  }

  apply(event: ModelEvent): void {
    this.#store.apply(event)
  }

  follow(): void {
    const node = this.#store.node()
    const view = nodeView('node-a', node, chooseNodeIPs(node?.addresses ?? []), this.#family)
    const dirty = new Set(this.#store.takeDirty(this.#family))
    for (const key of dirty) {
      dirty.delete(key)
      const service = this.#store.service(key)
      if (service === undefined) {
        this.granted.delete(key)
        for (const other of this.#claims.release(key)) dirty.add(other)
        continue
      }
      const ports = resolve(service, this.#store.slices(key), view, this.#family)
      const result = this.#claims.claim(key, service.createdAt, ports)
      this.granted.set(key, result.granted)
      for (const other of result.alsoDirty) dirty.add(other)
    }
  }
}

function outcome(events: readonly ModelEvent[], family: Family, pauses: readonly number[]): Follower['granted'] {
  const follower = new Follower(family)
  for (const [index, event] of events.entries()) {
    follower.apply(event)
    if (pauses.includes(index)) follower.follow()
  }
  follower.follow()
  return follower.granted
}

const pauses = fc.array(fc.nat(30), { maxLength: 15 })

it.each(['IPv4', 'IPv6'] as const)('any order of events, taken in any portions, leads to the same (%s)', family => {
  fc.assert(
    fc.property(histories, turns, turns, pauses, (lists, first, second, stops) => {
      const fresh = outcome(
        lists.flatMap(list => list.slice(-1)),
        family,
        [],
      )
      expect(outcome(interleave(lists, first), family, stops)).toEqual(fresh)
      expect(outcome(interleave(lists, second), family, [])).toEqual(fresh)
    }),
    { numRuns: 300 },
  )
})

it('a choice of endpoints is never empty, is sorted, and is of the family', () => {
  fc.assert(
    fc.property(histories, fc.constantFrom<Family>('IPv4', 'IPv6'), (lists, family) => {
      for (const port of [...outcome(lists.flat(), family, []).values()].flat()) {
        for (const choice of [port.internal, port.external, port.externalFromNode]) {
          if (choice.kind !== 'endpoints') continue
          const texts = choice.endpoints.map(one =>
            family === 'IPv6' ? `[${one.address}]:${one.port}` : `${one.address}:${one.port}`,
          )
          expect(texts.length).toBeGreaterThan(0)
          expect(texts).toEqual([...new Set(texts)].sort())
          expect(choice.endpoints.every(one => one.address.includes(':') === (family === 'IPv6'))).toBe(true)
        }
      }
    }),
  )
})
