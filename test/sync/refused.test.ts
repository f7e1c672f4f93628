// What the kernel refuses and what cannot be compiled is set aside; everything else goes in.
import { describe, expect, it } from 'vitest'
import { CommitError } from '../../src/backend/backend.ts'
import { gone } from '../model/build.ts'
import { FakeKernel, fakeBackend, lockHeld, setUp } from './fake-backend.ts'
import { harness } from './harness.ts'
import { arrives, endpointsBecome, portOf, upTo } from './objects.ts'

describe.each([
  ['names what it refuses', true],
  ['does not say what it refuses', false],
])('where the kernel %s', (_, names) => {
  const refusing = (...bad: readonly number[]) => {
    const made = setUp(kernel => {
      kernel.names = names
    })
    const marked = new Set(bad.map(portOf))
    made.kernel.refuses = (key, value) => marked.has(key.slice('chain/'.length)) && value.includes('10.244.66.')
    return made
  }

  it('the Service port at fault is set aside and the rest goes in', async () => {
    const { kernel, sync, syncer, heard } = refusing(3)
    await sync(...upTo(20).flatMap(arrives), endpointsBecome(3, '10.244.66.3'))
    expect(upTo(20).filter(n => kernel.endpointsOf(portOf(n)) === undefined)).toEqual([3])
    expect(kernel.held.has('front/10.96.0.3:80/TCP')).toBe(false)
    expect(syncer.setAsides).toMatchObject([{ family: 'IPv4', service: 'ns/svc-3', servicePort: `${portOf(3)}/TCP` }])
    expect(heard.setAsides).toEqual(syncer.setAsides)
    expect(heard.reports).toHaveLength(1)
  })

  it('it keeps its former rules', async () => {
    const { kernel, sync } = refusing(3)
    await sync(...upTo(6).flatMap(arrives))
    await sync(endpointsBecome(3, '10.244.66.3'), endpointsBecome(4, '10.244.66.4'))
    expect(kernel.endpointsOf(portOf(3))).toBe('10.244.0.3:8080')
    expect(kernel.held.get('front/10.96.0.3:80/TCP')).toBe(portOf(3))
    expect(kernel.endpointsOf(portOf(4))).toBe('10.244.66.4:8080')
  })

  it('several at once are all found', async () => {
    const bad = [0, 7, 8, 31]
    const { kernel, sync, syncer } = refusing(...bad)
    await sync(...upTo(32).flatMap(arrives))
    await sync(...upTo(32).map(n => endpointsBecome(n, `10.244.66.${n}`)))
    expect(syncer.setAsides.map(({ service }) => service).sort()).toEqual(bad.map(n => `ns/svc-${n}`).sort())
    for (const n of upTo(32)) {
      expect(kernel.endpointsOf(portOf(n))).toBe(bad.includes(n) ? `10.244.0.${n}:8080` : `10.244.66.${n}:8080`)
    }
  })

  it('its next change mends it', async () => {
    const { kernel, sync, syncer } = refusing(1)
    await sync(...upTo(3).flatMap(arrives), endpointsBecome(1, '10.244.66.1'))
    await sync(endpointsBecome(1, '10.244.5.5'))
    expect(kernel.endpointsOf(portOf(1))).toBe('10.244.5.5:8080')
    expect(kernel.held.get('front/10.96.0.1:80/TCP')).toBe(portOf(1))
    expect(syncer.setAsides).toEqual([])
  })

  it('it goes with its Service', async () => {
    const { kernel, sync, syncer } = refusing(1)
    await sync(...upTo(2).flatMap(arrives))
    await sync(endpointsBecome(1, '10.244.66.1'))
    await sync(gone('Service', 'ns/svc-1'))
    expect(kernel.endpointsOf(portOf(1))).toBeUndefined()
    expect(syncer.setAsides).toEqual([])
  })

  it('syncs of others do not try it again', async () => {
    const { kernel, sync, heard } = refusing(1)
    await sync(...upTo(3).flatMap(arrives))
    await sync(endpointsBecome(1, '10.244.66.1'))
    const attempts = kernel.attempts
    await sync(endpointsBecome(2, '10.244.7.7'))
    expect(kernel.attempts).toBe(attempts + 1)
    expect(heard.setAsides).toHaveLength(1)
  })

  it('a lock held on the way loses no change', async () => {
    for (const failing of upTo(8)) {
      const { kernel, sync, syncer } = refusing(3)
      await sync(...upTo(8).flatMap(arrives))
      kernel.failures.push(...upTo(failing).map(() => undefined), lockHeld())
      await sync(...upTo(8).map(n => endpointsBecome(n, `10.244.66.${n}`))).catch(() => undefined)
      kernel.failures.length = 0
      await sync()
      expect(syncer.setAsides).toMatchObject([{ service: 'ns/svc-3' }])
      for (const n of upTo(8)) {
        expect(kernel.endpointsOf(portOf(n))).toBe(n === 3 ? '10.244.0.3:8080' : `10.244.66.${n}:8080`)
      }
    }
  })

  it('after a restart, Services whose rules are in the kernel keep them while the one at fault is sought', async () => {
    const { kernel, sync } = refusing(5)
    await sync(...upTo(8).flatMap(arrives))
    const seen: number[] = []
    kernel.during = () => void seen.push(upTo(8).filter(n => kernel.endpointsOf(portOf(n)) !== undefined).length)
    const restarted = harness({ backend: fakeBackend(kernel) })
    await restarted.sync(...upTo(8).flatMap(arrives), endpointsBecome(5, '10.244.66.5'))
    expect(restarted.syncer.setAsides).toMatchObject([{ service: 'ns/svc-5' }])
    expect(Math.min(...seen)).toBeGreaterThanOrEqual(7)
  })

  /** One of three Services was refused, and would be taken now. */
  const refusedOnce = async (now: () => number) => {
    const kernel = new FakeKernel()
    kernel.names = names
    kernel.refuses = key => key === `chain/${portOf(1)}`
    const made = harness({ backend: fakeBackend(kernel), now, resyncMs: 10_000 })
    await made.sync(...upTo(3).flatMap(arrives))
    expect(made.syncer.setAsides).toHaveLength(1)
    kernel.refuses = () => false
    return { ...made, kernel }
  }

  it('what is refused once may be taken at a resync', async () => {
    let time = 0
    const { kernel, sync, syncer } = await refusedOnce(() => time)
    time = 9_999
    await sync()
    expect(syncer.setAsides).toHaveLength(1)
    time = 10_000
    await sync()
    expect(syncer.setAsides).toEqual([])
    expect(kernel.endpointsOf(portOf(1))).toBe('10.244.0.1:8080')
  })

  it('what is refused once may be taken later, also where doubts always come before it is time to compare', async () => {
    let time = 0
    const { sync, syncer } = await refusedOnce(() => time)
    const left: number[] = []
    for (time = 9_000; time < 40_000; time += 9_000) {
      syncer.markDoubtful()
      await sync()
      left.push(syncer.setAsides.length)
    }
    expect(left).toEqual([1, 0, 0, 0])
  })

  it('no Service is blamed for what the skeleton lacks', async () => {
    const { kernel, sync, syncer, heard } = setUp(made => {
      made.names = names
      made.refuses = key => key === 'skeleton'
    })
    await expect(sync(...arrives(0))).rejects.toMatchObject({ kind: 'refused' })
    expect(heard.setAsides).toEqual([])
    kernel.refuses = () => false
    await sync()
    expect(kernel.endpointsOf(portOf(0))).toBe('10.244.0.0:8080')
    expect(syncer.setAsides).toEqual([])
  })

  it('the skeleton does without what the kernel cannot do', async () => {
    const { kernel, sync, heard } = setUp(made => {
      made.names = names
      made.refuses = (_key, value) => value === 'jump'
      made.giveUp = () => {
        if (made.skeleton.length === 0) return undefined
        made.skeleton = []
        return 'no jump on this kernel'
      }
    })
    await sync(...arrives(0))
    expect(heard.degraded).toEqual(['no jump on this kernel'])
    expect(heard.setAsides).toEqual([])
    expect(kernel.endpointsOf(portOf(0))).toBe('10.244.0.0:8080')
  })
})

it('finds one refused Service port among a thousand within a few dozen commits', async () => {
  const { kernel, sync, syncer } = setUp(made => {
    made.names = false
    made.refuses = key => key === `chain/${portOf(617)}`
  })
  await sync(...upTo(1_000).flatMap(arrives))
  expect(syncer.setAsides).toHaveLength(1)
  expect(kernel.endpointsOf(portOf(618))).toBeDefined()
  expect(kernel.attempts).toBeLessThan(30)
})

it('looks at the kernel before it believes a refusal', async () => {
  const { kernel, sync, heard } = setUp()
  await sync(...upTo(2).flatMap(arrives))
  kernel.held.delete(`chain/${portOf(1)}`)
  kernel.failures.push(new CommitError('refused', 'no such chain', { keys: [`chain/${portOf(0)}`] }))
  await sync(endpointsBecome(0, '10.244.9.9'))
  expect(heard.setAsides).toEqual([])
  expect(kernel.endpointsOf(portOf(0))).toBe('10.244.9.9:8080')
  expect(kernel.endpointsOf(portOf(1))).toBe('10.244.0.1:8080')
})

it('gives up former rules that the kernel does not take any more', async () => {
  const { kernel, sync, syncer } = setUp()
  await sync(...upTo(3).flatMap(arrives))
  kernel.held.clear()
  kernel.refuses = key => key === `chain/${portOf(1)}`
  syncer.markDoubtful()
  await sync()
  expect(syncer.setAsides).toMatchObject([{ service: 'ns/svc-1' }])
  expect(kernel.endpointsOf(portOf(2))).toBe('10.244.0.2:8080')
})

describe('a Service that cannot be compiled', () => {
  it('keeps what it has, and the others go on', async () => {
    const { kernel, sync, syncer } = setUp()
    await sync(...upTo(3).flatMap(arrives))
    kernel.cannotCompile = portOf(1)
    await sync(...upTo(3).map(n => endpointsBecome(n, '10.244.9.9')))
    expect(upTo(3).map(n => kernel.endpointsOf(portOf(n)))).toEqual([
      '10.244.9.9:8080',
      '10.244.0.1:8080',
      '10.244.9.9:8080',
    ])
    expect(syncer.setAsides).toMatchObject([{ service: 'ns/svc-1', reason: 'cannot be compiled: Error: no such rule' }])
  })

  it('is no longer set aside once it can be, or is gone', async () => {
    for (const end of [endpointsBecome(1, '10.244.7.7'), gone('Service', 'ns/svc-1')]) {
      const { kernel, sync, syncer } = setUp(made => {
        made.cannotCompile = portOf(1)
      })
      await sync(...upTo(2).flatMap(arrives))
      expect(syncer.setAsides).toHaveLength(1)
      kernel.cannotCompile = undefined
      await sync(end)
      expect(syncer.setAsides).toEqual([])
    }
  })
})
