// The cluster that is measured: no address means two things.
import { describe, expect, it } from 'vitest'
import { cidrContains } from '../../src/net/ip.ts'
import { cidr, ip } from '../model/build.ts'
import {
  client,
  clusterIP,
  freeIP,
  mostEndpoints,
  mostServices,
  partsOf,
  podCIDR,
  rollingAddress,
  rollingEndpoint,
  rollingIP,
  rollingSlice,
  serviceCIDR,
  sinkEndpoint,
  sinkIP,
  slices,
} from './objects.ts'

const addressesOf = (objects: readonly object[]): string[] =>
  objects.flatMap(object =>
    [...JSON.stringify(object).matchAll(/"addresses":\["([^"]+)"\]/g)].map(([, address = '']) => address),
  )

describe('addresses', () => {
  it.each([1, 2, 1_000, mostServices])('of %i Services are all different, and one is free', services => {
    const all = Array.from({ length: services }, (_, index) => clusterIP(index, services))
    const others = [freeIP(services), rollingIP, sinkIP]
    expect(new Set([...all, ...others]).size).toBe(services + 3)
    const range = cidr(serviceCIDR)
    expect([all[0] ?? '', all.at(-1) ?? '', ...others].every(address => cidrContains(range, ip(address)))).toBe(true)
  })

  it('of endpoints are all different, and none is the client', () => {
    const ends = [0, 29_999].flatMap(index => addressesOf(slices(index, 5, 8080)))
    const large = addressesOf(slices(0, mostEndpoints, 8080))
    const rolling = [0, 2].flatMap(generation => [
      rollingAddress(mostEndpoints, 0, generation),
      rollingAddress(mostEndpoints, mostEndpoints - 1, generation),
    ])
    expect(ends).toHaveLength(10)
    expect(new Set(ends).size).toBe(10)
    expect(new Set(large).size).toBe(mostEndpoints)
    const range = cidr(podCIDR)
    const all = [...ends, ...rolling, sinkEndpoint, client]
    expect(new Set(all).size).toBe(all.length)
    expect(all.every(address => cidrContains(range, ip(address)))).toBe(true)
    expect(ends.every(address => rollingEndpoint(address, 1_000) === undefined)).toBe(true)
  })
})

describe('the Service whose endpoints are replaced', () => {
  it('has endpoints that say where and of which generation they are', () => {
    for (const [place, generation] of [
      [0, 0],
      [999, 0],
      [0, 1],
      [517, 2],
    ] as const) {
      expect(rollingEndpoint(rollingAddress(1_000, place, generation), 1_000)).toEqual({ place, generation })
    }
  })

  it('has them in slices of 100 at most', () => {
    const generations = [...new Array<number>(100).fill(0), ...new Array<number>(50).fill(2)]
    expect(addressesOf([rollingSlice(generations, 0)])).toHaveLength(100)
    const second = addressesOf([rollingSlice(generations, 1)])
    expect(second.map(address => rollingEndpoint(address, 150))).toEqual(
      Array.from({ length: 50 }, (_, place) => ({ place: 100 + place, generation: 2 })),
    )
  })

  it('writes the slices that a step touches', () => {
    expect(partsOf(0, 250)).toEqual([0, 1, 2])
    expect(partsOf(250, 500)).toEqual([2, 3, 4])
    expect(partsOf(900, 1_000)).toEqual([9])
  })
})
