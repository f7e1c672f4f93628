// What comes while a sync is under way: which sync it belongs to, with its times and doubts.
import { describe, expect, it } from 'vitest'
import { CommitError } from '../../src/backend/backend.ts'
import { FakeKernel, fakeBackend } from './fake-backend.ts'
import { harness } from './harness.ts'
import { arrives, endpointsBecome, upTo } from './objects.ts'

describe('the syncer', () => {
  it('tells when changes happened that came while others were compiled', async () => {
    let time = 0
    const { syncer, apply, heard } = harness({ backend: fakeBackend(new FakeKernel()), now: () => (time += 20) })
    apply(...upTo(5).flatMap(arrives))
    const syncing = syncer.sync(new AbortController().signal)
    await new Promise(next => setImmediate(next))
    syncer.markDirty(['ns/late'], [[4_711]])
    await syncing
    expect(heard.reports).toMatchObject([{ services: 6, triggeredAt: [4_711] }])
  })

  it('leaves what comes during a comparison to the next sync, with its times and doubts', async () => {
    const kernel = new FakeKernel()
    const backend = fakeBackend(kernel)
    const { syncer, apply, heard } = harness({
      backend: {
        ...backend,
        read: async signal => {
          if (heard.reports.length === 0) syncer.markDirty(['ns/late'], [[4_711]])
          if (heard.reports.length === 0) syncer.markDoubtful()
          return backend.read(signal)
        },
      },
    })
    apply(...arrives(0))
    await syncer.sync(new AbortController().signal)
    await syncer.sync(new AbortController().signal)
    expect(heard.reports).toMatchObject([
      { services: 1, triggeredAt: [], compared: true },
      { services: 1, triggeredAt: [4_711], compared: true },
    ])
  })

  it('does not put off for a change what a doubt asks for that came just before', async () => {
    let time = 0
    const kernel = new FakeKernel()
    const backend = fakeBackend(kernel)
    let atCompiling: (() => void) | undefined
    const { syncer, sync, apply, heard } = harness({
      backend: {
        ...backend,
        compile: (port, network) => {
          atCompiling?.()
          return backend.compile(port, network)
        },
        read: async signal => {
          if (atCompiling !== undefined) {
            atCompiling = undefined
            apply(endpointsBecome(2, '10.244.9.9'))
            if (signal.aborted) throw new CommitError('transient', 'given up')
          }
          return backend.read(signal)
        },
      },
      now: () => time,
      resyncMs: 10_000,
    })
    await sync(...upTo(3).flatMap(arrives))
    apply(endpointsBecome(1, '10.244.8.8'))
    // It is time to compare anyway.
    time = 20_000
    atCompiling = () => syncer.markDoubtful()
    await syncer.sync(new AbortController().signal)
    expect(heard.reports.at(-1)).toMatchObject({ services: 1, compared: true })
  })

  it('writes what there is to write before it compares because it is time to, unless that has waited for long', async () => {
    let time = 0
    const kernel = new FakeKernel()
    const { sync, heard } = harness({ backend: fakeBackend(kernel), now: () => time, resyncMs: 10_000 })
    await sync(...upTo(3).flatMap(arrives))
    const compared = () => heard.reports.at(-1)?.compared
    time = 20_000
    await sync(endpointsBecome(1, '10.244.8.8'))
    expect(compared()).toBe(false)
    time = 22_000
    await sync()
    expect(compared()).toBe(true)
    time = 331_999
    await sync(endpointsBecome(1, '10.244.8.9'))
    expect(compared()).toBe(false)
    time = 332_000
    await sync(endpointsBecome(1, '10.244.9.9'))
    expect(compared()).toBe(true)
  })
})
