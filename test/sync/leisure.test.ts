// Quiet moments, and work that is put off.
import { beforeEach, describe, expect, it } from 'vitest'
import { Leisure } from '../../src/sync/leisure.ts'

let time = 0
let leisure: Leisure
beforeEach(() => {
  time = 0
  leisure = new Leisure(() => time)
})
const { signal } = new AbortController()

describe('work that is due', () => {
  it('may begin at once while nothing changes, two seconds after a change, and five minutes late in any case', () => {
    expect(leisure.from(100)).toBe(100)
    time = 1_000
    leisure.changed()
    expect([0, 2_999, 3_001].map(due => leisure.from(due))).toEqual([3_000, 3_000, 3_001])
    time = 400_000
    leisure.changed()
    expect([99_000, 101_000, 102_500].map(due => leisure.from(due))).toEqual([399_000, 401_000, 402_000])
    expect(leisure.from(Number.POSITIVE_INFINITY)).toBe(Number.POSITIVE_INFINITY)
  })
})

describe('work under way', () => {
  const untilAborted = (given: AbortSignal): Promise<string> =>
    new Promise((resolve, reject) => {
      if (given.aborted) reject(new Error('given up'))
      given.addEventListener('abort', () => reject(new Error('given up')))
      setImmediate(() => resolve('done'))
    })

  it('is put off by a change', async () => {
    const run = leisure.run(0, signal, untilAborted)
    leisure.changed()
    expect(await run).toBeUndefined()
    expect(await leisure.run(0, signal, untilAborted)).toEqual({ value: 'done' })
  })

  it('is not once it was put off for five minutes', async () => {
    time = 300_000
    const run = leisure.run(0, signal, untilAborted)
    leisure.changed()
    expect(await run).toEqual({ value: 'done' })
  })

  it('that takes long is put off for a thousand times as long, an hour at most', async () => {
    const takes = (ms: number) => async (): Promise<void> => {
      time += ms
    }
    await leisure.run(0, signal, takes(100))
    leisure.changed()
    expect([leisure.from(0), leisure.isOverdue(0)]).toEqual([2_100, false])
    time = 299_999
    leisure.changed()
    expect([leisure.from(0), leisure.isOverdue(0)]).toEqual([300_000, false])
    time = 300_000
    expect(leisure.isOverdue(0)).toBe(true)
    await leisure.run(0, signal, takes(1_500))
    expect(leisure.isOverdue(0)).toBe(false)
    time = 1_500_000
    expect(leisure.isOverdue(0)).toBe(true)
    // Also where it was put off while it was at it.
    const put = leisure.run(1_400_000, signal, async given => {
      time += 10_000
      leisure.changed()
      given.throwIfAborted()
    })
    expect(await put).toBeUndefined()
    time = 3_599_999
    leisure.changed()
    expect([leisure.from(0), leisure.isOverdue(0)]).toEqual([3_600_000, false])
  })

  it('fails as it fails, also where its caller does not wait any longer', async () => {
    const fails = leisure.run(0, signal, () => Promise.reject(new Error('the lock is held')))
    await expect(fails).rejects.toThrow('the lock is held')
    const stop = new AbortController()
    const run = leisure.run(0, stop.signal, untilAborted)
    stop.abort()
    leisure.changed()
    await expect(run).rejects.toThrow('given up')
  })
})
