// When the next sync starts.
import { describe, expect, it } from 'vitest'
import { type Situation, waitBeforeSync } from '../../src/sync/pace.ts'

const pace = { minBackoffMs: 250, maxBackoffMs: 30_000 }
const rest: Situation = {
  now: 10_000,
  firstChange: 10_000,
  lastEnd: 0,
  lastDuration: 50,
  failures: 0,
  jitter: 0.5,
}

describe('without minSyncPeriod', () => {
  it('lets an isolated change go within a few milliseconds', () => {
    expect(waitBeforeSync(pace, rest)).toBe(5)
    expect(waitBeforeSync(pace, { ...rest, now: 10_005 })).toBe(0)
  })

  it('does not wait longer for more to come than the last sync took', () => {
    expect(waitBeforeSync(pace, { ...rest, lastDuration: 0.75 })).toBe(0.75)
    expect(waitBeforeSync(pace, { ...rest, lastDuration: 0.75, now: 10_001 })).toBe(0)
  })

  it('goes at once when there never was a sync', () => {
    expect(waitBeforeSync(pace, { ...rest, lastEnd: Number.NEGATIVE_INFINITY, now: 10_006 })).toBe(0)
  })

  it('rests after a sync as long as the sync took', () => {
    expect(waitBeforeSync(pace, { ...rest, lastEnd: 9_990, lastDuration: 400 })).toBe(390)
  })

  it('rests a second at most', () => {
    expect(waitBeforeSync(pace, { ...rest, lastEnd: 10_000, lastDuration: 60_000 })).toBe(1_000)
  })
})

describe('with minSyncPeriod', () => {
  const set = { ...pace, minSyncPeriodMs: 3_000 }

  it('honours it between two syncs', () => {
    expect(waitBeforeSync(set, { ...rest, lastEnd: 9_000 })).toBe(2_000)
  })

  it('does not hold the first change after a quiet time', () => {
    expect(waitBeforeSync(set, { ...rest, now: 10_005 })).toBe(0)
  })
})

describe('after failures', () => {
  const failed = { ...rest, now: 0, lastEnd: 0 }

  it('doubles the wait with each failure, up to the longest', () => {
    const waits = [1, 2, 3, 4, 8, 60].map(failures => waitBeforeSync(pace, { ...failed, failures }))
    expect(waits).toEqual([250, 500, 1_000, 2_000, 30_000, 30_000])
  })

  it('spreads the retries by a quarter to both sides', () => {
    expect(waitBeforeSync(pace, { ...failed, failures: 1, jitter: 0 })).toBe(187.5)
    expect(waitBeforeSync(pace, { ...failed, failures: 1, jitter: 0.999 })).toBeCloseTo(312.4, 0)
  })

  it('is not shortened by new changes', () => {
    expect(waitBeforeSync(pace, { ...failed, failures: 3, firstChange: -5_000 })).toBe(1_000)
  })

  it('counts from the end of the failed sync', () => {
    expect(waitBeforeSync(pace, { ...failed, failures: 1, now: 200 })).toBe(50)
    expect(waitBeforeSync(pace, { ...failed, failures: 1, now: 251 })).toBe(0)
  })
})
