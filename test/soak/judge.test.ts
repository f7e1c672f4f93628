// What the soak makes of its readings: a leak is told from a heap that grows and shrinks.
import { describe, expect, it } from 'vitest'
import { growthOf, mostGrowthBytes, unexplained } from './judge.ts'
import type { Reading } from './scraper-worker.ts'

const megabyte = 1_000_000
/** A reading a second; the size in megabytes at each. */
const life = (seconds: number, size: (second: number) => number, began = 0): Reading[] =>
  Array.from({ length: seconds }, (_, second) => ({
    at: (began + second) * 1000,
    life: began,
    residentBytes: size(second) * megabyte,
  }))
const grown = (readings: Reading[]): (number | undefined)[] => growthOf(readings).map(({ grownBytes }) => grownBytes)
const sawtooth = (second: number): number => 80 + (second % 12)

describe('growth', () => {
  it.each([40, 3_600])('in %i s is next to nothing for a heap that is collected now and then', seconds => {
    const [bytes = Number.NaN] = grown(life(seconds, sawtooth))
    expect(Math.abs(bytes)).toBeLessThan(mostGrowthBytes(300_000) / 2)
  })

  it('leaves out how a process warms up', () => {
    const warmingUp = (second: number): number => (second < 10 ? 50 + second * 4 : sawtooth(second))
    expect(grown(life(60, warmingUp))[0]).toBeLessThan(mostGrowthBytes(300_000) / 2)
  })

  it.each([
    ['1 MB a second for a minute', 60, 1],
    ['10 MB an hour for three hours', 10_800, 10 / 3_600],
  ])('is too much at %s', (_, seconds, rate) => {
    expect(grown(life(seconds, second => sawtooth(second) + second * rate))[0]).toBeGreaterThan(
      mostGrowthBytes(seconds * 1_000),
    )
  })

  it('is that of each process by itself, and none where it lived too shortly', () => {
    const readings = [...life(40, () => 60), ...life(40, () => 90, 100), ...life(15, () => 20, 200)]
    expect(grown(readings)).toEqual([0, 0, undefined])
  })
})

describe('what nothing explains', () => {
  const at = (...moments: number[]) => moments.map(moment => ({ at: moment, what: '' }))

  it('lies outside of all windows and the time after them', () => {
    const windows = [{ from: 10, to: 20 }, { from: 100 }]
    expect(unexplained(at(9, 10, 20, 25, 26, 99, 100, 5_000), windows, 5).map(moment => moment.at)).toEqual([9, 26, 99])
  })

  it('is everything where there was no fault', () => {
    expect(unexplained(at(1, 2), [], 1_000)).toHaveLength(2)
  })
})
