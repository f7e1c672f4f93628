// What one sync does: compile what is dirty, commit the difference, and try again what failed.
import { describe, expect, it } from 'vitest'
import { CommitError } from '../../src/backend/backend.ts'
import { Store } from '../../src/model/store.ts'
import { gone, ip, node, nodeEvent, serviceEvent } from '../model/build.ts'
import { FakeKernel, fakeBackend, lockHeld, setUp } from './fake-backend.ts'
import { harness } from './harness.ts'
import { arrives, endpointsBecome, numbered, portOf, upTo } from './objects.ts'

describe('a sync', () => {
  it('writes what is new, changed and gone, and nothing else', async () => {
    const { kernel, sync } = setUp()
    await sync(...upTo(3).flatMap(arrives))
    expect(kernel.commits).toHaveLength(1)
    await sync(endpointsBecome(1, '10.244.9.9'), gone('Service', 'ns/svc-2'))
    expect(kernel.commits[1]?.map(({ key }) => key).sort()).toEqual([
      `chain/${portOf(1)}`,
      `chain/${portOf(2)}`,
      'front/10.96.0.2:80/TCP',
    ])
    expect(kernel.endpointsOf(portOf(1))).toBe('10.244.9.9:8080')
    expect(kernel.endpointsOf(portOf(2))).toBeUndefined()
  })

  it('commits nothing for a change without meaning for this node', async () => {
    const { kernel, sync, heard } = setUp()
    await sync(...arrives(0))
    await sync(serviceEvent(numbered(0, { uid: 'other' })), nodeEvent(node({ eligible: false })))
    expect(kernel.compiled).toEqual([portOf(0), portOf(0)])
    expect(kernel.attempts).toBe(1)
    expect(heard.reports.at(-1)).toMatchObject({ services: 1, added: 0, changed: 0, removed: 0, compared: false })
  })

  it('writes nothing after a restart on an unchanged cluster', async () => {
    const { kernel, sync } = setUp()
    await sync(...upTo(5).flatMap(arrives))
    const restarted = harness({ backend: fakeBackend(kernel) })
    await restarted.sync(...upTo(5).flatMap(arrives))
    expect(kernel.attempts).toBe(1)
    expect(restarted.heard.reports).toMatchObject([{ added: 0, changed: 0, removed: 0, compared: true }])
  })

  it('removes what a former run left behind', async () => {
    const { kernel, sync } = setUp()
    kernel.held.set('chain/ns/old:http', '10.244.1.1:8080')
    await sync(...arrives(0))
    expect([...kernel.held.keys()].sort()).toEqual(['chain/ns/svc-0:http', 'front/10.96.0.0:80/TCP', 'skeleton'])
  })

  it('reads the kernel again when it is said to be doubtful', async () => {
    const { kernel, sync, syncer } = setUp()
    await sync(...arrives(0))
    kernel.held.delete(`chain/${portOf(0)}`)
    syncer.markDoubtful()
    await sync()
    expect(kernel.endpointsOf(portOf(0))).toBe('10.244.0.0:8080')
  })

  it('compiles everything again when the node changed', async () => {
    const { kernel, sync, syncer } = setUp()
    await sync(...upTo(4).flatMap(arrives))
    kernel.compiled.length = 0
    kernel.skeleton = [{ key: 'skeleton', value: 'another jump' }]
    syncer.markAll()
    await sync()
    expect(kernel.compiled.sort()).toEqual(upTo(4).map(portOf))
    expect(kernel.held.get('skeleton')).toBe('another jump')
  })
})

describe('a failure', () => {
  it('that is transient keeps what is dirty, and the kernel is asked before the next try', async () => {
    const { kernel, sync, syncer } = setUp()
    await sync(...arrives(0))
    kernel.failures.push(lockHeld())
    await expect(sync(...arrives(1), gone('Service', 'ns/svc-0'))).rejects.toMatchObject({ kind: 'transient' })
    expect(syncer.lastError?.kind).toBe('transient')
    const reads = kernel.reads
    await sync()
    expect(kernel.reads).toBe(reads + 1)
    expect(kernel.endpointsOf(portOf(0))).toBeUndefined()
    expect(kernel.endpointsOf(portOf(1))).toBe('10.244.0.1:8080')
    expect(syncer.lastError).toBeUndefined()
  })

  it('to read keeps what is dirty too', async () => {
    const { kernel, sync } = setUp()
    kernel.readFailures.push(lockHeld())
    await expect(sync(...arrives(0))).rejects.toMatchObject({ kind: 'transient' })
    expect(kernel.attempts).toBe(0)
    await sync()
    expect(kernel.endpointsOf(portOf(0))).toBe('10.244.0.0:8080')
  })

  it('that is stale leads to a look and another commit within the same sync', async () => {
    const { kernel, sync, heard } = setUp()
    await sync(...upTo(3).flatMap(arrives))
    kernel.held.set(`chain/${portOf(1)}`, 'written by somebody')
    kernel.held.delete(`chain/${portOf(2)}`)
    await sync(endpointsBecome(1, '10.244.9.9'))
    expect(heard.failures.map(({ kind }) => kind)).toEqual(['stale'])
    expect(heard.reports.at(-1)).toMatchObject({ compared: true })
    expect(kernel.endpointsOf(portOf(1))).toBe('10.244.9.9:8080')
    expect(kernel.endpointsOf(portOf(2))).toBe('10.244.0.2:8080')
  })

  it('that stays stale is given up until later', async () => {
    const { kernel, sync, heard } = setUp()
    kernel.failures.push(...upTo(5).map(() => new CommitError('stale', 'changed again')))
    await expect(sync(...arrives(0))).rejects.toMatchObject({ kind: 'stale' })
    expect(heard.failures).toHaveLength(2)
  })

  it('of one family leaves the other alone', async () => {
    const store = new Store({ nodeName: 'node-a' })
    const [broken, sound] = [new FakeKernel(), new FakeKernel()]
    const ipv6 = harness({ backend: fakeBackend(broken), family: 'IPv6', store })
    const ipv4 = harness({ backend: fakeBackend(sound), family: 'IPv4', store })
    broken.failures.push(...upTo(9).map(() => new CommitError('unsupported', 'no ip6tables')))
    for (const event of arrives(0)) store.apply(event)
    const results = await Promise.allSettled([ipv6.sync(), ipv4.sync()])
    expect(results.map(({ status }) => status)).toEqual(['rejected', 'fulfilled'])
    expect(sound.endpointsOf(portOf(0))).toBe('10.244.0.0:8080')
    expect(ipv4.heard.failures).toEqual([])
  })

  it('inside a backend is taken for transient and says what it was', async () => {
    const { kernel, sync } = setUp()
    kernel.during = () => {
      throw new Error('not foreseen')
    }
    await expect(sync(...arrives(0))).rejects.toThrow('sync failed: Error: not foreseen')
    kernel.during = () => undefined
    await sync()
    expect(kernel.endpointsOf(portOf(0))).toBe('10.244.0.0:8080')
  })
})

describe('two Services with one address', () => {
  const younger = serviceEvent(numbered(7, { externalIPs: [ip('192.0.2.1')] }))
  const older = serviceEvent(numbered(2, { externalIPs: [ip('192.0.2.1')] }))
  const holder = (kernel: FakeKernel) => kernel.held.get('front/192.0.2.1:80/TCP')

  it.each([
    ['the younger comes first', [younger, older]],
    ['the older comes first', [older, younger]],
  ])('leave it to the older one when %s', async (_, events) => {
    for (const apart of [false, true]) {
      const { kernel, sync, heard } = setUp()
      if (apart) for (const event of events) await sync(event)
      else await sync(...events)
      expect(holder(kernel)).toBe(portOf(2))
      expect(heard.conflicts.at(-1)).toEqual({
        family: 'IPv4',
        service: 'ns/svc-7',
        frontend: '192.0.2.1 port 80/TCP',
        holder: 'ns/svc-2',
      })
    }
  })

  it.each([
    ['the older goes', gone('Service', 'ns/svc-2')],
    ['the older lets it go', serviceEvent(numbered(2))],
  ])('leave it to the younger one when %s', async (_, event) => {
    const { kernel, sync } = setUp()
    await sync(older, younger)
    await sync(event)
    expect(holder(kernel)).toBe(portOf(7))
    await sync(gone('Service', 'ns/svc-7'))
    expect(holder(kernel)).toBeUndefined()
  })

  it('keep the older one connected when the younger goes', async () => {
    const { kernel, sync } = setUp()
    await sync(older, younger)
    await sync(gone('Service', 'ns/svc-7'))
    expect(holder(kernel)).toBe(portOf(2))
  })
})

it('gives the event loop its turns during a full pass', async () => {
  const kernel = new FakeKernel()
  let time = 0
  // Each look at the clock is a millisecond later: a Service takes about one.
  const { apply, syncer } = harness({ backend: fakeBackend(kernel), now: () => time++ })
  apply(...upTo(100).flatMap(arrives))
  const compiledAtTurn: number[] = []
  let done = false
  const turn = (): void => {
    compiledAtTurn.push(kernel.compiled.length)
    if (!done) setImmediate(turn)
  }
  setImmediate(turn)
  await syncer.sync(new AbortController().signal)
  done = true
  const steps = compiledAtTurn.map((count, i) => count - (compiledAtTurn[i - 1] ?? 0))
  expect(Math.max(...steps)).toBeLessThanOrEqual(12)
  expect(kernel.compiled).toHaveLength(100)
})

it('takes changes in that come during a commit with the next sync', async () => {
  const { kernel, sync, apply } = setUp()
  kernel.during = () => {
    kernel.during = () => undefined
    apply(...arrives(1), endpointsBecome(0, '10.244.9.9'))
  }
  await sync(...arrives(0))
  expect(kernel.endpointsOf(portOf(0))).toBe('10.244.0.0:8080')
  await sync()
  expect(kernel.endpointsOf(portOf(0))).toBe('10.244.9.9:8080')
  expect(kernel.endpointsOf(portOf(1))).toBe('10.244.0.1:8080')
})
