// How the machine's time is read.
import { expect, it } from 'vitest'
import { leastDisturbed, parseProcessorTime, processorTime, stolenPercent } from './quiet.ts'

it('reads what the host of a virtual machine took', () => {
  const before = parseProcessorTime('cpu  100 10 50 800 20 0 5 15 40 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n')
  expect(before).toEqual({ all: 1_000, stolen: 15 })
  const after = parseProcessorTime('cpu  150 10 60 900 20 0 5 55 40 0\n')
  expect(stolenPercent(before, after)).toBe(20)
  expect(stolenPercent(before, before)).toBe(0)
  expect(processorTime().all).toBeGreaterThan(0)
})

it('measures again while the host takes much of the machine, and keeps the try of which it took least', async () => {
  const run = async (tries: number, ...stolen: readonly number[]) => {
    const said: string[] = []
    const left = [...stolen]
    const found = await leastDisturbed(
      tries,
      async () => ({ stolenPercent: left.shift() ?? 0, problems: [] }),
      line => said.push(line),
    )
    return [found.stolenPercent, said.length]
  }
  expect(await run(3, 0.2, 0)).toEqual([0.2, 0])
  expect(await run(3, 7, 0.4, 0)).toEqual([0.4, 1])
  expect(await run(3, 7, 2, 5, 0)).toEqual([2, 2])
  expect(await run(1, 7, 0)).toEqual([7, 0])
})

it('measures again what failed', async () => {
  const attempts = [{ problems: ['no'] }, { stolenPercent: 0.1, problems: [] }]
  const found = await leastDisturbed(
    2,
    async () => attempts.shift() ?? { problems: [] },
    () => undefined,
  )
  expect(found).toEqual({ stolenPercent: 0.1, problems: [] })
})
