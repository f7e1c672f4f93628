// Long work in slices: all of it is done, and others have their turn meanwhile.
import { expect, it } from 'vitest'
import { atOnce, inSlices, type Steps } from '../../src/sync/slices.ts'

/** So many steps of so many milliseconds each, on a clock of its own. */
function work(count: number, stepMs: number) {
  let time = 0
  function* steps(): Steps<string> {
    for (let step = 0; step < count; step++) {
      time += stepMs
      yield
    }
    return 'done'
  }
  return { steps: steps(), now: () => time }
}

/** Counts the turns that others have until it is asked. */
function turns(): () => number {
  let count = 0
  let isOver = false
  const turn = (): void => {
    count++
    if (!isOver) setImmediate(turn)
  }
  setImmediate(turn)
  return () => {
    isOver = true
    return count
  }
}

it('at once, nobody else has a turn', () => {
  const had = turns()
  expect(atOnce(work(100, 5).steps)).toBe('done')
  expect(had()).toBe(0)
})

it('in slices, others have a turn every 10 ms', async () => {
  const had = turns()
  const { steps, now } = work(100, 5)
  expect(await inSlices(steps, now)).toBe('done')
  expect(had()).toBe(50)
})

it('short work is done without a turn', async () => {
  const had = turns()
  const { steps, now } = work(3, 3)
  expect(await inSlices(steps, now)).toBe('done')
  expect(had()).toBe(0)
})

it('what the work throws comes out', async () => {
  const failing = function* (): Steps<void> {
    yield
    throw new Error('no')
  }
  await expect(inSlices(failing())).rejects.toThrow('no')
  expect(() => atOnce(failing())).toThrow('no')
})
