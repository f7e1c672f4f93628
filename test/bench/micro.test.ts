// The micro-benchmarks do what they say they do: each once, and the runner on the shortest of times.
import { describe, expect, it } from 'vitest'
import { benchFiles, loadSteps } from './micro.ts'

it('there are some for every step from the API to the kernel', () => {
  expect(benchFiles()).toEqual([
    'api/decode.bench.ts',
    'backend/compile.bench.ts',
    'netlink/nft-encode.bench.ts',
    'policy/resolve.bench.ts',
    'sync/program.bench.ts',
  ])
})

describe.each(benchFiles())('%s', path => {
  it('does its steps again and again', async () => {
    for (const { name, run } of await loadSteps(path)) {
      const [first, second] = [run(), run()]
      expect(first, name).toBeDefined()
      expect(typeof second, name).toBe(typeof first)
    }
  })
})

it('a change of one Service is something to write, every time', async () => {
  const steps = await loadSteps('sync/program.bench.ts')
  const changes = steps.filter(({ name }) => name.includes('replace, diff, plan'))
  expect(changes).toHaveLength(3)
  for (const { run } of changes) {
    for (let turn = 0; turn < 3; turn++) expect(run()).toMatchObject({ steps: [{ text: expect.stringMatching(/\S/) }] })
  }
})

it('what was compared with the kernel was the same', async () => {
  const steps = await loadSteps('sync/program.bench.ts')
  const [comparison] = steps.filter(({ name }) => name.startsWith('iptables') && name.includes('compared'))
  expect(comparison?.run()).toMatchObject({ missing: 0, foreign: 0 })
})
