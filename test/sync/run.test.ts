// The loop: when it syncs, how long it waits after a failure, and how it stops. On an injected clock.
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { CommitError } from '../../src/backend/backend.ts'
import type { Pace } from '../../src/sync/pace.ts'
import { FakeKernel, fakeBackend } from './fake-backend.ts'
import { harness } from './harness.ts'
import { arrives, endpointsBecome, portOf, upTo } from './objects.ts'

beforeEach(() => {
  vi.useFakeTimers({ now: 1_000_000 })
})
afterEach(() => {
  vi.useRealTimers()
})

const pass = (ms: number) => vi.advanceTimersByTimeAsync(ms)

/** A running syncer whose first sync is done. */
async function running(options: { pace?: Partial<Pace>; resyncMs?: number } = {}) {
  const kernel = new FakeKernel()
  const made = harness({ backend: fakeBackend(kernel), now: () => Date.now(), ...options })
  const stop = new AbortController()
  const ended = made.syncer.run(stop.signal)
  await pass(10_000)
  expect(kernel.commits).toHaveLength(1)
  /** Milliseconds since now at which commits are attempted. */
  const times: number[] = []
  const start = Date.now()
  const note = (durationMs = 0) => {
    kernel.during = async () => {
      times.push(Date.now() - start)
      if (durationMs > 0) await new Promise(done => setTimeout(done, durationMs))
    }
  }
  note()
  return { kernel, stop, ended, times, note, ...made }
}

describe('without minSyncPeriod', () => {
  it('an isolated change is committed within milliseconds', async () => {
    const { apply, times, kernel } = await running()
    await pass(60_000)
    apply(...arrives(0))
    await pass(20)
    expect(times.map(time => time - 60_000)).toEqual([0])
    expect(kernel.endpointsOf(portOf(0))).toBe('10.244.0.0:8080')
  })

  it('where syncs take long, a change waits a few milliseconds for those that belong to it', async () => {
    const { apply, times, note } = await running()
    note(100)
    apply(...arrives(0))
    await pass(1_000)
    apply(...arrives(1))
    await pass(4)
    apply(...arrives(2))
    await pass(1_000)
    expect(times).toEqual([0, 1_005])
  })

  it('a storm is batched so that syncs take half of the time at most, and nothing of it is lost', async () => {
    const { apply, times, note, kernel } = await running()
    note(100)
    for (const n of upTo(2_000)) {
      apply(...arrives(n % 50), endpointsBecome(n % 50, `10.244.${n >> 8}.${n & 255}`))
      await pass(1)
    }
    await pass(1_000)
    expect(times.length).toBeLessThanOrEqual(13)
    expect(times.length).toBeGreaterThanOrEqual(8)
    for (const n of upTo(50)) {
      const last = 1_950 + n
      expect(kernel.endpointsOf(portOf(n))).toBe(`10.244.${last >> 8}.${last & 255}:8080`)
    }
  })
})

it('honours minSyncPeriod in a storm, and lets a lone change go at once', async () => {
  const { apply, times } = await running({ pace: { minSyncPeriodMs: 1_000 } })
  for (const n of upTo(500)) {
    apply(...arrives(n))
    await pass(10)
  }
  await pass(1_000)
  expect(times[0]).toBe(0)
  const gaps = times.slice(1).map((time, i) => time - (times[i] ?? 0))
  expect(Math.min(...gaps)).toBeGreaterThanOrEqual(1_000)
  expect(times).toHaveLength(6)
})

describe('after a failure', () => {
  it.each([
    ['transient', [0, 250, 750, 1_750, 3_750]],
    ['denied', [0, 30_000, 60_000, 90_000, 120_000]],
    ['unsupported', [0, 30_000, 60_000, 90_000, 120_000]],
  ] as const)('of kind %s it tries again with the right patience', async (kind, expected) => {
    const { apply, times, kernel } = await running()
    kernel.failures.push(...upTo(12).map(() => new CommitError(kind, 'no')))
    apply(...arrives(0))
    await pass(130_000)
    expect(times.slice(0, 5)).toEqual(expected)
    await pass(300_000)
    expect(kernel.endpointsOf(portOf(0))).toBe('10.244.0.0:8080')
  })

  it('of the skeleton it tries again as after one that passes', async () => {
    const { syncer, times, kernel, heard } = await running()
    kernel.skeleton = [{ key: 'skeleton', value: 'too new for this kernel' }]
    kernel.refuses = key => key === 'skeleton'
    syncer.markAll()
    await pass(4_000)
    // A refusal that names no Service takes a second look within the same sync.
    expect([...new Set(times)]).toEqual([0, 250, 750, 1_750, 3_750])
    expect(heard.setAsides).toEqual([])
  })

  it('changes that come meanwhile wait for the next try and are in it', async () => {
    const { apply, times, kernel } = await running()
    kernel.failures.push(new CommitError('transient', 'lock'), new CommitError('transient', 'lock'))
    apply(...arrives(0))
    await pass(100)
    apply(...arrives(1))
    await pass(10_000)
    expect(times).toEqual([0, 250, 750])
    expect(upTo(2).map(n => kernel.endpointsOf(portOf(n)))).toEqual(['10.244.0.0:8080', '10.244.0.1:8080'])
  })

  it('that was stale it looks and commits in the same millisecond', async () => {
    const { apply, times, kernel } = await running()
    kernel.failures.push(new CommitError('stale', 'changed by another'))
    apply(...arrives(0))
    await pass(20)
    expect(times).toEqual([0, 0])
    expect(kernel.endpointsOf(portOf(0))).toBe('10.244.0.0:8080')
  })

  it('success brings the short waits back', async () => {
    const { apply, times, kernel } = await running()
    kernel.failures.push(...upTo(4).map(() => new CommitError('transient', 'lock')))
    apply(...arrives(0))
    await pass(10_000)
    times.length = 0
    apply(...arrives(1))
    await pass(20)
    expect(times).toEqual([10_000])
  })
})

describe('the comparison with the kernel', () => {
  it('comes again after the resync time, and mends what another changed', async () => {
    const { apply, kernel, heard } = await running({ resyncMs: 900_000 })
    apply(...arrives(0))
    await pass(1_000)
    kernel.held.delete(`chain/${portOf(0)}`)
    const reads = kernel.reads
    await pass(800_000)
    expect(kernel.reads).toBe(reads)
    await pass(100_000)
    expect(kernel.reads).toBe(reads + 1)
    expect(kernel.endpointsOf(portOf(0))).toBe('10.244.0.0:8080')
    expect(heard.reports.at(-1)).toMatchObject({ compared: true, services: 0, added: 1 })
  })

  it('is not made for a change', async () => {
    const { apply, kernel } = await running()
    const reads = kernel.reads
    apply(...arrives(0))
    await pass(1_000)
    expect(kernel.reads).toBe(reads)
  })
})

describe('the end', () => {
  it('comes at once while there is nothing to do', async () => {
    const { stop, ended } = await running()
    stop.abort()
    await expect(ended).resolves.toBeUndefined()
  })

  it('comes at once while it waits after a failure', async () => {
    const { stop, ended, apply, kernel } = await running()
    kernel.failures.push(new CommitError('denied', 'no'))
    apply(...arrives(0))
    await pass(1_000)
    stop.abort()
    await expect(ended).resolves.toBeUndefined()
  })

  it('interrupts a commit, and is not taken for a failure', async () => {
    const { stop, ended, apply, kernel, heard } = await running()
    kernel.during = () => stop.abort()
    apply(...arrives(0))
    await pass(1_000)
    await expect(ended).resolves.toBeUndefined()
    expect(kernel.commits).toHaveLength(1)
    expect(heard.failures).toEqual([])
  })

  it('comes by stop too', async () => {
    const { ended, syncer } = await running()
    syncer.stop()
    await expect(ended).resolves.toBeUndefined()
  })
})

it('says when the first sync is done, or that it will not be', async () => {
  const kernel = new FakeKernel()
  kernel.failures.push(new CommitError('transient', 'lock'))
  const { syncer } = harness({ backend: fakeBackend(kernel), now: () => Date.now() })
  const stop = new AbortController()
  const hasty = new AbortController()
  const waiting = syncer.untilSynced(stop.signal)
  const abandoned = syncer.untilSynced(hasty.signal)
  let known = false
  void waiting.then(() => {
    known = true
  })
  void syncer.run(stop.signal)
  await pass(100)
  hasty.abort()
  expect(await abandoned).toBe(false)
  expect(known).toBe(false)
  await pass(1_000)
  expect(await waiting).toBe(true)
  stop.abort()
  expect(await syncer.untilSynced(stop.signal)).toBe(false)
})
