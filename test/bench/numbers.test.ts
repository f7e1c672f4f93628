// Arithmetic on samples.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { median, percentile, spread } from './numbers.ts'

const upTo = (n: number): number[] => Array.from({ length: n }, (_, i) => i + 1)

describe('percentile', () => {
  it('is a sample, by nearest rank', () => {
    expect(percentile(upTo(100), 0.99)).toBe(99)
    expect(percentile(upTo(100), 1)).toBe(100)
    expect(percentile(upTo(20), 0.99)).toBe(20)
    expect(percentile([30, 10, 20], 0.5)).toBe(20)
    expect(percentile([1, 2, 3, 4], 0.5)).toBe(2)
    expect(percentile([7], 0)).toBe(7)
    expect(percentile([], 0.5)).toBeNaN()
  })

  it('leaves at most the rest above it, and the samples as they were', () => {
    fc.assert(
      fc.property(
        fc.array(fc.double({ noNaN: true }), { minLength: 1 }),
        fc.double({ min: 0, max: 1, noNaN: true }),
        (samples, share) => {
          const before = [...samples]
          const found = percentile(samples, share)
          expect(samples).toEqual(before)
          expect(samples).toContain(found)
          expect(samples.filter(sample => sample <= found).length).toBeGreaterThanOrEqual(share * samples.length)
        },
      ),
    )
  })

  it('has the median in its middle', () => {
    expect(median([5, 1, 9])).toBe(5)
  })
})

describe('spread', () => {
  it('takes different numbers from everywhere', () => {
    expect(spread(4, 100)).toEqual([12, 37, 62, 87])
    expect(spread(3, 3)).toEqual([0, 1, 2])
    expect(spread(500, 3)).toEqual([0, 1, 2])
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 1_000 }), fc.integer({ min: 1, max: 60_000 }), (count, size) => {
        const found = spread(count, size)
        expect(new Set(found).size).toBe(Math.min(count, size))
        expect(found.every(n => Number.isInteger(n) && n >= 0 && n < size)).toBe(true)
      }),
    )
  })
})
