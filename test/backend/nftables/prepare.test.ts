// What nftables mode says of kernels that are too old for it.
import { expect, test } from 'vitest'
import { nftablesBackend } from '../../../src/backend/nftables/index.ts'

const exec = { run: () => Promise.reject(new Error('nothing is to be run')) }

test.each([
  ['4.19.0-27-amd64', 1],
  ['5.12.19', 1],
  ['5.13.0', 0],
  ['6.1.0-13-amd64', 0],
  ['6.18', 0],
])('of kernel %s it says %i things', async (release, count) => {
  const set = () => Promise.reject(new Error('nothing is to be set'))
  const complaints = await nftablesBackend({ family: 'IPv4', exec }).prepare?.({ release, set })
  expect(complaints).toHaveLength(count)
  for (const complaint of complaints ?? []) expect(complaint).toContain(release)
})
