// Spreading: the same text always has the same place, and near texts have places far apart.
import { describe, expect, test } from 'vitest'
import { spread32 } from '../../src/net/spread.ts'

describe('spread32', () => {
  test('depends on the text and the seed alone', () => {
    expect(spread32('10.0.0.1:80')).toBe(spread32('10.0.0.1:80'))
    expect(spread32('10.0.0.1:80')).not.toBe(spread32('10.0.0.1:80', 1))
    expect(spread32('')).toBeGreaterThanOrEqual(0)
  })

  // Of 10,000 in 32 groups each holds 312 ± 18; six deviations are not met by chance.
  test.each([0, 5, 10, 15, 20, 25])('spreads neighbours evenly by the five bits from %i on', shift => {
    const groups = new Array<number>(32).fill(0)
    for (let index = 0; index < 10_000; index++) {
      const group = (spread32(`10.1.${index >> 8}.${index & 255}:8080`) >>> shift) & 31
      groups[group] = (groups[group] ?? 0) + 1
    }
    expect(Math.min(...groups)).toBeGreaterThan(200)
    expect(Math.max(...groups)).toBeLessThan(425)
  })
})
