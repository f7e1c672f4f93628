// The churn of the soak: the same for the same seed, and what it believes to be there is what the API server has.
import { expect, it } from 'vitest'
import { Random } from '../differential/random.ts'
import { type Change, Population } from './population.ts'

const life = (seed: string, steps: number): Change[] => {
  const population = new Population(new Random(seed), 30)
  return [...population.begin(), ...Array.from({ length: steps }, () => population.step()).flat(), ...population.heal()]
}

/** What is left of these changes, as the API server takes them. */
function remaining(changes: readonly Change[]): string[] {
  const there = new Set<string>()
  for (const change of changes) {
    if ('put' in change) there.add(`${change.put.kind} ${change.put.metadata.namespace}/${change.put.metadata.name}`)
    else there.delete(`${change.remove.kind} ${change.remove.namespace}/${change.remove.name}`)
  }
  return [...there]
}

it('is the same for the same seed, and another for another', () => {
  expect(life('a', 100)).toEqual(life('a', 100))
  expect(life('a', 5)).not.toEqual(life('b', 5))
})

it('knows the Services there are, and keeps about as many', () => {
  const population = new Population(new Random('count'), 30)
  const changes = [...population.begin()]
  for (let step = 0; step < 500; step++) {
    changes.push(...population.step())
    expect(population.size).toBeGreaterThanOrEqual(20)
    expect(population.size).toBeLessThanOrEqual(40)
  }
  changes.push(...population.heal())
  const services = remaining(changes).filter(name => /^Service .*\/s\d+$/.test(name))
  expect(services).toHaveLength(population.size)
})

it('meets all types of Services, every kind of change, and malformed objects', () => {
  const changes = life('everything', 500)
  const text = JSON.stringify(changes)
  const words = ['NodePort', 'LoadBalancer', 'ClientIP', 'healthCheckNodePort', 'terminating', 'externalIPs', 'SCTP']
  for (const word of [...words, 'nonsense', 'IPv5', 'stray-', 'ToBeDeleted', 'zone-b', 'ServiceCIDR']) {
    expect(text).toContain(word)
  }
  expect(changes.some(change => 'remove' in change && change.remove.kind === 'Service')).toBe(true)
  expect(changes.some(change => 'remove' in change && change.remove.kind === 'EndpointSlice')).toBe(true)
})
