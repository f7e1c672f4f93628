// What others do to the rules: when it is looked for, what is told of it, and that it is put back. On an injected clock.
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { type Backend, CommitError, type Look } from '../../src/backend/backend.ts'
import { Store } from '../../src/model/store.ts'
import { Claims } from '../../src/policy/claims.ts'
import type { DriftReport, SyncReport } from '../../src/sync/contract.ts'
import { describe as describeDeviant } from '../../src/sync/drift.ts'
import { Syncer } from '../../src/sync/syncer.ts'
import { FakeKernel, fakeBackend } from './fake-backend.ts'
import { networkOf, nodeViewOf } from './harness.ts'
import { arrives, endpointsBecome, portOf, upTo } from './objects.ts'

beforeEach(() => {
  vi.useFakeTimers({ now: 1_000_000 })
})
afterEach(() => {
  vi.useRealTimers()
})

const pass = (ms: number) => vi.advanceTimersByTimeAsync(ms)

class Kernel extends FakeKernel {
  looks = 0
  intactLooks = 0
  costMs = 0
  lookFailures = 0
  /** How long a look and a reading take. */
  slowMs = 0

  async patience(signal: AbortSignal): Promise<void> {
    if (this.slowMs === 0) return
    // Not that of node:timers, which goes by the real clock.
    await new Promise(done => {
      setTimeout(done, this.slowMs)
      signal.addEventListener('abort', done, { once: true })
    })
    if (signal.aborted) throw new CommitError('transient', 'given up')
  }
}

/** A backend with cheap looks: a digest of all that is held, and whether the skeleton is there. */
function watchedBackend(kernel: Kernel, hasDigest: boolean): Backend {
  const fingerprint = async (signal: AbortSignal, watched: boolean): Promise<Look | undefined> => {
    if (watched) return undefined
    kernel.looks++
    await kernel.patience(signal)
    if (kernel.lookFailures-- > 0) throw new CommitError('transient', 'the lock is held')
    return { digest: JSON.stringify([...kernel.held].sort()), costMs: kernel.costMs }
  }
  const backend = fakeBackend(kernel)
  return {
    ...backend,
    read: async signal => {
      await kernel.patience(signal)
      return backend.read(signal)
    },
    isIntact: async (_, skeleton = []) => {
      kernel.intactLooks++
      return skeleton.every(({ key }) => kernel.held.has(key))
    },
    ...(hasDigest ? { fingerprint } : {}),
  }
}

/** A running syncer, its first sync of five Services done. */
async function running({ watched = false, hasDigest = true, checkMs = 30_000 } = {}) {
  const kernel = new Kernel()
  const store = new Store({ nodeName: 'node-a' })
  const drifts: DriftReport[] = []
  const reports: SyncReport[] = []
  const network = networkOf('IPv4')
  const node = nodeViewOf('IPv4')
  const syncer = new Syncer({
    family: 'IPv4',
    backend: watchedBackend(kernel, hasDigest),
    reader: store,
    claims: new Claims(),
    node: () => node,
    network: () => network,
    pace: { minBackoffMs: 250, maxBackoffMs: 30_000 },
    resyncMs: 900_000,
    checkMs,
    observer: {
      synced: report => reports.push(report),
      failed: () => undefined,
      setAside: () => undefined,
      conflict: () => undefined,
      drift: (_, found) => drifts.push(found),
    },
    now: () => Date.now(),
    random: () => 0.5,
  })
  syncer.isWatched = watched
  const apply = (...events: Parameters<Store['apply']>[0][]): void => {
    for (const event of events) store.apply(event)
    syncer.markDirty(store.takeDirty('IPv4'))
  }
  const stop = new AbortController()
  apply(...upTo(5).flatMap(arrives))
  const ended = syncer.run(stop.signal)
  await pass(20)
  expect(kernel.commits).toHaveLength(1)
  const comparisons = () => reports.filter(({ compared }) => compared).length
  const wanted = JSON.stringify([...kernel.held].sort())
  const isWhole = () => JSON.stringify([...kernel.held].sort()) === wanted
  const finish = async () => {
    stop.abort()
    await pass(10)
    await ended
  }
  return { kernel, syncer, apply, drifts, reports, comparisons, isWhole, finish }
}

describe('a suspicion', () => {
  it('that something of ours was written is followed by a comparison and a repair within a second', async () => {
    const { kernel, syncer, drifts, isWhole, finish } = await running({ watched: true })
    kernel.held.delete(`chain/${portOf(3)}`)
    kernel.held.set(`chain/${portOf(2)}`, '10.244.0.2:8080 10.9.9.9:1')
    kernel.held.set('chain/not-wanted', 'drop')
    syncer.suspect({ kind: 'ours', by: 'iptables' })
    syncer.suspect({ kind: 'hooks', by: 'nft' })
    await pass(1_000)
    expect(isWhole()).toBe(true)
    expect(drifts).toEqual([
      {
        missing: 1,
        changed: 1,
        foreign: 1,
        examples: [
          'chain/ns/svc-2:http (ns/svc-2:http/TCP) lacks: 10.244.0.2:8080',
          'chain/ns/svc-3:http (ns/svc-3:http/TCP) is gone',
          'chain/not-wanted is not ours',
        ],
        by: ['iptables', 'nft'],
        repeats: 1,
      },
    ])
    await finish()
  })

  it('that our jumps may be gone is followed by a look at them, and by no more if they are there', async () => {
    const { kernel, syncer, drifts, comparisons, isWhole, finish } = await running({ watched: true })
    for (let time = 0; time < 1_000; time++) {
      syncer.suspect({ kind: 'hooks' })
      await pass(10)
    }
    expect(kernel.intactLooks).toBeGreaterThan(2)
    expect(kernel.intactLooks).toBeLessThanOrEqual(10)
    expect(comparisons()).toBe(1)
    kernel.held.delete('skeleton')
    syncer.suspect({ kind: 'hooks', by: 'firewalld' })
    await pass(10_000)
    expect(isWhole()).toBe(true)
    expect(drifts).toMatchObject([{ missing: 1, examples: ['skeleton is gone'], by: ['firewalld'] }])
    await finish()
  })

  it('is acted on once a second at most, less often when it goes on, and at once again after a calm', async () => {
    const { kernel, syncer, drifts, isWhole, finish } = await running({ watched: true })
    const times: number[] = []
    const start = Date.now()
    for (let time = 0; time < 1_200; time++) {
      kernel.held.delete('skeleton')
      syncer.suspect({ kind: 'ours', by: 'other-proxy' })
      const before = drifts.length
      await pass(50)
      if (drifts.length > before) times.push(Date.now() - start)
    }
    const gaps = times.slice(1).map((time, i) => time - (times[i] ?? 0))
    expect(gaps[0]).toBeGreaterThanOrEqual(1_000)
    expect(Math.min(...gaps)).toBeGreaterThanOrEqual(1_000)
    expect(gaps.at(-1)).toBeGreaterThanOrEqual(8_000)
    expect(times.length).toBeGreaterThan(7)
    expect(drifts.map(({ repeats }) => repeats)).toEqual(drifts.map((_, i) => i + 1))
    expect(drifts.at(-1)?.by).toEqual(['other-proxy'])

    await pass(120_000)
    kernel.held.delete('skeleton')
    syncer.suspect({ kind: 'ours' })
    await pass(200)
    expect(isWhole()).toBe(true)
    expect(drifts.at(-1)).toMatchObject({ repeats: 1, by: [] })
    await finish()
  })

  it('is acted on while changes of the cluster never end', async () => {
    const { kernel, syncer, apply, isWhole, drifts, finish } = await running({ watched: true })
    kernel.held.delete('front/10.96.0.4:80/TCP')
    syncer.suspect({ kind: 'ours' })
    for (let time = 0; time < 200; time++) {
      apply(endpointsBecome(0, `10.244.7.${time}`))
      await pass(10)
    }
    apply(...arrives(0))
    await pass(100)
    expect(isWhole()).toBe(true)
    expect(drifts).toMatchObject([{ missing: 1, changed: 0, foreign: 0 }])
    await finish()
  })
})

describe('what is told', () => {
  it('leaves out what the model itself changed, and what a failed commit left', async () => {
    const { kernel, syncer, apply, drifts, finish } = await running({ watched: true })
    kernel.failures.push(new CommitError('transient', 'no buffer space'))
    apply(endpointsBecome(1, '10.244.8.8'), ...arrives(7))
    syncer.suspect({ kind: 'ours' })
    await pass(20_000)
    expect(kernel.endpointsOf(portOf(1))).toBe('10.244.8.8:8080')
    expect(kernel.endpointsOf(portOf(7))).toBe('10.244.0.7:8080')
    expect(drifts).toEqual([])
    await finish()
  })

  it('holds what the next change of the same object stumbled over', async () => {
    const { kernel, apply, drifts, finish } = await running({ watched: true })
    kernel.held.delete(`chain/${portOf(1)}`)
    apply(endpointsBecome(1, '10.244.8.8'))
    await pass(5_000)
    expect(kernel.endpointsOf(portOf(1))).toBe('10.244.8.8:8080')
    expect(drifts).toMatchObject([{ missing: 1, examples: ['chain/ns/svc-1:http (ns/svc-1:http/TCP) is gone'] }])
    await finish()
  })

  it.each([
    ['a\nb\nc', 'a\nc', 'K lacks: b'],
    ['a\nb', 'a\nx\nb', 'K has: x'],
    ['a\nb', 'b\na', 'K is in another order'],
    ['a', undefined, 'K is gone'],
    [undefined, 'a', 'K is not ours'],
    ['x'.repeat(500), '', `K lacks: ${'x'.repeat(159)}…`],
  ])('%j, held as %j: %s', (wanted, held, text) => {
    expect(describeDeviant({ key: 'K', wanted, held }, ['(skeleton)'])).toBe(text)
  })
})

describe('the regular look', () => {
  it('finds one object that is gone within the period, and costs no comparison while nothing is', async () => {
    const { kernel, drifts, comparisons, isWhole, finish } = await running()
    // The first look knows nothing to compare its digest with.
    await pass(31_000)
    expect(comparisons()).toBe(2)
    await pass(10 * 30_000)
    expect(comparisons()).toBe(2)
    expect(kernel.looks).toBe(11)
    kernel.held.delete(`chain/${portOf(4)}`)
    await pass(31_000)
    expect(isWhole()).toBe(true)
    expect(drifts).toMatchObject([{ missing: 1 }])
    // It knows the repaired kernel only after another comparison.
    kernel.held.delete(`chain/${portOf(0)}`)
    await pass(31_000)
    expect(isWhole()).toBe(true)
    expect(drifts).toHaveLength(2)
    await finish()
  })

  it('does not take our own changes for drift', async () => {
    const { apply, drifts, comparisons, finish } = await running()
    await pass(31_000)
    apply(endpointsBecome(1, '10.244.8.8'))
    await pass(31_000)
    expect(comparisons()).toBe(3)
    await pass(120_000)
    expect(comparisons()).toBe(3)
    expect(drifts).toEqual([])
    await finish()
  })

  it('is rarer where it costs more', async () => {
    const { kernel, finish } = await running()
    kernel.costMs = 300
    // The first is followed by a comparison, and counts double.
    await pass(30_000 + 1_200_000 - 100)
    expect(kernel.looks).toBe(1)
    await pass(600_000)
    expect(kernel.looks).toBe(2)
    await finish()
  })

  it('is put off by a change, which does not wait for it', async () => {
    const { kernel, apply, reports, comparisons, finish } = await running()
    kernel.slowMs = 1_000
    await pass(30_500)
    apply(endpointsBecome(1, '10.244.8.1'))
    await pass(20)
    expect(reports.at(-1)).toMatchObject({ services: 1, added: 0, compared: false })
    // The look comes two quiet seconds after the change; the comparison that follows it is put off, and made after the next.
    await pass(3_200)
    expect(kernel.looks).toBe(2)
    apply(endpointsBecome(1, '10.244.8.2'))
    await pass(20)
    expect(reports.at(-1)).toMatchObject({ services: 1, compared: false })
    expect(kernel.held.get(`chain/${portOf(1)}`)).toContain('10.244.8.2')
    expect(comparisons()).toBe(1)
    await pass(3_500)
    expect(comparisons()).toBe(2)
    expect(kernel.looks).toBe(2)
    await finish()
  })

  it('that finds what is not our doing is followed by a repair at once', async () => {
    const { kernel, apply, drifts, isWhole, finish } = await running()
    await pass(31_000)
    kernel.held.delete('skeleton')
    kernel.slowMs = 1_000
    // The look ends; while the comparison that it leads to is under way, a change comes.
    await pass(30_500)
    apply(endpointsBecome(1, '10.244.8.1'))
    await pass(2_000)
    expect(drifts).toHaveLength(1)
    apply(endpointsBecome(1, '10.244.0.1'))
    await pass(2_000)
    expect(isWhole()).toBe(true)
    await finish()
  })

  it('waits for a quiet moment, but not for ever', async () => {
    const { kernel, apply, comparisons, finish } = await running()
    kernel.slowMs = 1_000
    const changeFor = async (seconds: number) => {
      for (let change = 0; change < 2 * seconds; change++) {
        apply(endpointsBecome(1, `10.244.${change >> 8}.${change & 255}`))
        await pass(500)
      }
    }
    await changeFor(300)
    expect(kernel.looks).toBe(0)
    await changeFor(60)
    expect(kernel.looks).toBe(1)
    // The look took a second, and changes waited for it: the comparison that it asks for is put off for a thousand.
    expect(comparisons()).toBe(1)
    await changeFor(950)
    expect(comparisons()).toBe(1)
    await changeFor(100)
    expect(comparisons()).toBe(2)
    await finish()
  })

  it('that fails changes nothing', async () => {
    const { kernel, drifts, comparisons, isWhole, finish } = await running()
    await pass(31_000)
    kernel.lookFailures = 1
    await pass(30_000)
    expect(comparisons()).toBe(2)
    kernel.held.delete('skeleton')
    await pass(31_000)
    expect(isWhole()).toBe(true)
    expect(drifts).toHaveLength(1)
    await finish()
  })

  it('is left out where the kernel tells, and takes the jumps where there is no digest', async () => {
    const told = await running({ watched: true })
    await told.finish()
    expect(told.kernel.looks).toBe(0)
    const simple = await running({ hasDigest: false })
    await pass(31_000)
    expect(simple.kernel.intactLooks).toBe(1)
    simple.kernel.held.delete('skeleton')
    await pass(31_000)
    expect(simple.isWhole()).toBe(true)
    await simple.finish()
  })
})
