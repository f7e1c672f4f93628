// How the machine's time is read.
import { expect, it } from 'vitest'
import { parseProcessorTime, processorTime, stolenPercent } from './quiet.ts'

it('reads what the host of a virtual machine took', () => {
  const before = parseProcessorTime('cpu  100 10 50 800 20 0 5 15 40 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n')
  expect(before).toEqual({ all: 1_000, stolen: 15 })
  const after = parseProcessorTime('cpu  150 10 60 900 20 0 5 55 40 0\n')
  expect(stolenPercent(before, after)).toBe(20)
  expect(stolenPercent(before, before)).toBe(0)
  expect(processorTime().all).toBeGreaterThan(0)
})
