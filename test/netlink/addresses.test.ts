// Whose addresses are whose while devices come and go, by a scripted kernel.
import { expect, test } from 'vitest'
import { readOver } from '../../src/kernel/addresses.ts'
import type { RouteConnection } from '../../src/kernel/netlink/route.ts'
import type { IP } from '../../src/net/ip.ts'

/** A kernel whose device of Services has these numbers, one each time that it is asked. */
function route(...indexes: readonly (number | undefined)[]): RouteConnection {
  const left = [...indexes]
  return {
    async link(name) {
      const index = left.shift()
      return index === undefined ? undefined : { index, name }
    },
    async addresses(_index, family, visit) {
      if (family === 'IPv6') return
      visit({ index: 2, address: '192.0.2.1' as IP })
      visit({ index: 7, address: '10.96.0.1' as IP })
    },
    locals: async () => [],
    isLocal: async () => false,
    apply: async () => [],
    close: async () => undefined,
  }
}

test('addresses of Services are left out', async () => {
  expect(await readOver(route(7, 7))).toEqual({ addresses: ['192.0.2.1'], services: 7 })
})

test.each([
  ['comes', [undefined, 7]],
  ['goes', [7, undefined]],
  ['is made anew', [5, 7]],
] as const)('where their device %s meanwhile, nothing is said', async (_what, indexes) => {
  await expect(readOver(route(...indexes))).rejects.toThrow('kube-ipvs0 came or went meanwhile')
})
