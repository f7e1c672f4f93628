// The event recorder against a writer that answers as it is told, on a clock that the tests turn.
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { createEventRecorder, type EventRecorder, type EventWriter } from '../../src/observe/events.ts'
import {
  degraded,
  drift,
  type EventInput,
  healthServerFailed,
  metricsServerFailed,
  notProgrammed,
  serviceHealthFailed,
  started,
  syncFailing,
} from '../../src/observe/events-known.ts'
import { Bucket } from '../../src/observe/events-limits.ts'

const minute = 60_000
const web = { namespace: 'shop', name: 'web', uid: 'u-1' }
const start = Date.parse('2026-03-01T10:00:00Z')

beforeEach(() => {
  vi.useFakeTimers({ now: start })
})
afterEach(() => {
  vi.useRealTimers()
})

interface Call {
  readonly at: number
  readonly method: string
  readonly path: string
  readonly body: Record<string, unknown>
}

interface Desk {
  readonly recorder: EventRecorder
  readonly calls: Call[]
  readonly lost: string[]
  /** What is answered from now on; `undefined`: nothing, as if the server were away. */
  answer: number | undefined
}

function desk(retryAfterMs?: number): Desk {
  const calls: Call[] = []
  const lost: string[] = []
  const write: EventWriter = async (method, path, body) => {
    calls.push({ at: Date.now() - start, method, path, body: JSON.parse(JSON.stringify(body)) })
    const status = self.answer
    if (status === undefined) throw new Error('connect ECONNREFUSED')
    return { status, ...(retryAfterMs === undefined ? {} : { retryAfterMs }) }
  }
  const recorder = createEventRecorder({ write, nodeName: 'node-a', onLost: (_, why) => lost.push(why) })
  const self: Desk = { recorder, calls, lost, answer: 201 }
  return self
}

const refused: EventInput = notProgrammed(web, 'node-a', 'shop/web:http', 'Invalid argument')

describe('an event', () => {
  it('reaches the API as events.k8s.io/v1 wants it', async () => {
    const { recorder, calls } = desk()
    recorder.record(refused)
    expect(calls).toEqual([])
    await recorder.idle()
    expect(calls).toEqual([
      {
        at: 0,
        method: 'POST',
        path: '/apis/events.k8s.io/v1/namespaces/shop/events',
        body: {
          apiVersion: 'events.k8s.io/v1',
          kind: 'Event',
          metadata: { name: `web.${(BigInt(start) * 1_000_000n).toString(16)}`, namespace: 'shop' },
          eventTime: '2026-03-01T10:00:00.000000Z',
          reportingController: 'kube-penstock',
          reportingInstance: 'kube-penstock-node-a',
          regarding: { apiVersion: 'v1', kind: 'Service', namespace: 'shop', name: 'web', uid: 'u-1' },
          type: 'Warning',
          reason: 'NotProgrammed',
          action: 'Sync',
          note: 'node node-a cannot program shop/web:http, which keeps its former rules there, or none: Invalid argument',
        },
      },
    ])
    expect(recorder.counts()).toEqual({ written: 1, merged: 0, refused: 0, dropped: 0 })
  })

  it('of a Node lives in namespace default', async () => {
    const { recorder, calls } = desk()
    recorder.record(started('node-a', 'v0.1.0', 'nftables'))
    await recorder.idle()
    expect(calls).toMatchObject([
      {
        path: '/apis/events.k8s.io/v1/namespaces/default/events',
        body: {
          metadata: { namespace: 'default' },
          regarding: { apiVersion: 'v1', kind: 'Node', name: 'node-a' },
          type: 'Normal',
          reason: 'Starting',
          action: 'StartKubeProxy',
        },
      },
    ])
  })

  it('has a name of its own', async () => {
    const { recorder, calls } = desk()
    for (const port of ['a', 'b', 'c']) recorder.record(notProgrammed(web, 'node-a', port, 'x'))
    await recorder.idle()
    expect(new Set(calls.map(({ body }) => JSON.stringify(body.metadata))).size).toBe(3)
  })

  it.each([
    ['a', 1],
    ['ü', 2],
    ['\u{1f6a2}', 4],
  ])('has a note of at most 1,024 bytes (%s)', async (character, bytes) => {
    const { recorder, calls } = desk()
    recorder.record({ ...refused, note: character.repeat(2_000) })
    await recorder.idle()
    const note = String(calls[0]?.body.note)
    expect(Buffer.byteLength(note)).toBeLessThanOrEqual(1_024)
    expect(Buffer.byteLength(note)).toBeGreaterThan(1_024 - 2 * bytes - 3)
    expect(note.replaceAll(character, '')).toBe('…')
  })
})

it('says what kube-proxy says under its reasons and actions', () => {
  const said = [
    started('n', 'v1', 'ipvs'),
    healthServerFailed('n', 'EADDRINUSE'),
    metricsServerFailed('n', 'EADDRINUSE'),
    serviceHealthFailed(web, 'n', 30_000, 'EADDRINUSE'),
    drift('n', 'IPv4', '3 rules'),
    syncFailing('n', 'IPv4', 'denied'),
    degraded('n', 'IPv6', 'no counters'),
  ]
  expect(said.map(({ regarding, type, reason, action }) => [regarding.kind, type, reason, action])).toEqual([
    ['Node', 'Normal', 'Starting', 'StartKubeProxy'],
    ['Node', 'Warning', 'FailedToStartProxierHealthcheck', 'StartKubeProxy'],
    ['Node', 'Warning', 'FailedToStartMetricServer', 'StartKubeProxy'],
    ['Service', 'Warning', 'FailedToStartServiceHealthcheck', 'Listen'],
    ['Node', 'Warning', 'Drift', 'Repair'],
    ['Node', 'Warning', 'SyncFailing', 'Sync'],
    ['Node', 'Warning', 'Degraded', 'Sync'],
  ])
})

describe('repeats', () => {
  it('become a series: written at once, then once a minute', async () => {
    const { recorder, calls } = desk()
    recorder.record(refused)
    await recorder.idle()
    for (let second = 1; second <= 90; second++) {
      await vi.advanceTimersByTimeAsync(1_000)
      recorder.record(refused)
    }
    await vi.advanceTimersByTimeAsync(5 * minute)
    const [created, ...patches] = calls
    expect(created?.method).toBe('POST')
    const name = `web.${(BigInt(start) * 1_000_000n).toString(16)}`
    expect(created?.body.metadata).toMatchObject({ name })
    expect(patches.map(({ at, method, path, body }) => [at, method, path, body])).toEqual(
      [
        [1_000, 2, '2026-03-01T10:00:01.000000Z'],
        [61_000, 61, '2026-03-01T10:01:00.000000Z'],
        [121_000, 91, '2026-03-01T10:01:30.000000Z'],
      ].map(([at, count, lastObservedTime]) => [
        at,
        'PATCH',
        `/apis/events.k8s.io/v1/namespaces/shop/events/${name}`,
        { series: { count, lastObservedTime } },
      ]),
    )
    expect(recorder.counts()).toEqual({ written: 4, merged: 90, refused: 0, dropped: 0 })
  })

  it('before the first is written are in it', async () => {
    const { recorder, calls } = desk()
    for (let time = 0; time < 3; time++) recorder.record(refused)
    await recorder.idle()
    expect(calls).toMatchObject([{ method: 'POST', body: { series: { count: 3 } } }])
  })

  it('after six quiet minutes are a new event', async () => {
    const { recorder, calls } = desk()
    recorder.record(refused)
    await vi.advanceTimersByTimeAsync(6 * minute - 1)
    recorder.record(refused)
    await vi.advanceTimersByTimeAsync(6 * minute)
    recorder.record(refused)
    await recorder.idle()
    expect(calls.map(({ method }) => method)).toEqual(['POST', 'PATCH', 'POST'])
  })

  it.each([
    ['another reason', { ...refused, reason: 'Other' }],
    ['another text', { ...refused, note: 'Other' }],
    [
      'another Service of that name',
      notProgrammed({ ...web, uid: 'u-2' }, 'node-a', 'shop/web:http', 'Invalid argument'),
    ],
  ])('are not events with %s', async (_, other) => {
    const { recorder, calls } = desk()
    recorder.record(refused)
    recorder.record(other)
    await recorder.idle()
    expect(calls.map(({ method }) => method)).toEqual(['POST', 'POST'])
  })

  it('of an event that expired in the API go on in a new one', async () => {
    const one = desk()
    one.recorder.record(refused)
    await one.recorder.idle()
    const answers = [404, 201]
    Object.defineProperty(one, 'answer', { get: () => answers.shift() })
    one.recorder.record(refused)
    await one.recorder.idle()
    expect(one.calls.map(({ method }) => method)).toEqual(['POST', 'PATCH', 'POST'])
    expect(one.calls[2]?.body).toMatchObject({ series: { count: 2 } })
    expect(one.calls[2]?.body.metadata).not.toEqual(one.calls[0]?.body.metadata)
  })
})

describe('a flood', () => {
  it('about one object is cut to 25 at once and one in five minutes', async () => {
    const { recorder, calls, lost } = desk()
    const flood = () => {
      for (let port = 0; port < 100; port++) recorder.record(notProgrammed(web, 'node-a', `p${port}`, `${Date.now()}`))
    }
    flood()
    await recorder.idle()
    expect(calls).toHaveLength(25)
    expect(recorder.counts().dropped).toBe(75)
    expect(new Set(lost)).toEqual(new Set(['too many events of this object']))
    await vi.advanceTimersByTimeAsync(5 * minute - 1)
    flood()
    await recorder.idle()
    expect(calls).toHaveLength(25)
    await vi.advanceTimersByTimeAsync(1)
    flood()
    await recorder.idle()
    expect(calls).toHaveLength(26)
  })

  it('about one object leaves the others alone', async () => {
    const { recorder, calls } = desk()
    for (let port = 0; port < 30; port++) recorder.record(notProgrammed(web, 'node-a', `p${port}`, 'x'))
    recorder.record(notProgrammed({ namespace: 'shop', name: 'api' }, 'node-a', 'shop/api', 'x'))
    await recorder.idle()
    expect(calls.at(-1)?.body.regarding).toMatchObject({ name: 'api' })
  })

  it('about many objects reaches the API one a second after the first 50', async () => {
    const { recorder, calls } = desk()
    for (let number = 0; number < 2_000; number++) {
      recorder.record(notProgrammed({ namespace: 'shop', name: `s${number}` }, 'node-a', 'p', 'x'))
    }
    await vi.advanceTimersByTimeAsync(10_000)
    expect(calls).toHaveLength(60)
    expect(recorder.counts().dropped).toBe(1_000)
  })

  it('of one event goes on being counted when its object has no writes left', async () => {
    const { recorder, calls } = desk()
    for (let port = 0; port < 25; port++) recorder.record(notProgrammed(web, 'node-a', `p${port}`, 'x'))
    await recorder.idle()
    for (let second = 0; second < 10; second++) recorder.record(notProgrammed(web, 'node-a', 'p3', 'x'))
    await vi.advanceTimersByTimeAsync(4 * minute)
    expect(calls).toHaveLength(25)
    await vi.advanceTimersByTimeAsync(2 * minute)
    expect(calls).toHaveLength(26)
    expect(calls[25]).toMatchObject({ method: 'PATCH', body: { series: { count: 11 } } })
  })
})

describe('an API server', () => {
  it('that is away is tried for half a minute; then the event is dropped, and recorded anew later', async () => {
    const one = desk()
    one.answer = undefined
    one.recorder.record(refused)
    await vi.advanceTimersByTimeAsync(minute)
    expect(one.calls.map(({ at }) => at)).toEqual([0, 1_000, 3_000, 7_000, 15_000, 31_000])
    expect(one.recorder.counts()).toEqual({ written: 0, merged: 0, refused: 0, dropped: 1 })
    expect(one.lost).toEqual(['the API server is away'])
    one.answer = 201
    one.recorder.record(refused)
    await one.recorder.idle()
    expect(one.calls.at(-1)?.method).toBe('POST')
    expect(one.recorder.counts().written).toBe(1)
  })

  it('that comes back gets the event, with its count', async () => {
    const one = desk()
    one.answer = 503
    one.recorder.record(refused)
    await vi.advanceTimersByTimeAsync(2_000)
    one.recorder.record(refused)
    one.answer = 201
    await vi.advanceTimersByTimeAsync(2_000)
    expect(one.calls.at(-1)).toMatchObject({ at: 3_000, method: 'POST', body: { series: { count: 2 } } })
    expect(one.recorder.counts()).toMatchObject({ written: 1, dropped: 0 })
  })

  it('that asks for patience gets it', async () => {
    const one = desk(20_000)
    one.answer = 429
    one.recorder.record(refused)
    await vi.advanceTimersByTimeAsync(19_999)
    expect(one.calls).toHaveLength(1)
    await vi.advanceTimersByTimeAsync(1)
    expect(one.calls).toHaveLength(2)
  })

  it.each([400, 403, 404, 422])('that answers %d is not asked again', async status => {
    const one = desk()
    one.answer = status
    one.recorder.record(refused)
    await vi.advanceTimersByTimeAsync(minute)
    expect(one.calls).toHaveLength(1)
    expect(one.recorder.counts()).toEqual({ written: 0, merged: 0, refused: 1, dropped: 0 })
    expect(one.lost).toEqual([`the API server answered ${status}`])
  })

  it('that has the event already, from an attempt whose answer was lost, is done', async () => {
    const one = desk()
    one.answer = 409
    one.recorder.record(refused)
    await one.recorder.idle()
    expect(one.recorder.counts()).toMatchObject({ written: 1, refused: 0 })
  })
})

describe('stopping', () => {
  it('gives up what waits, with no timer left', async () => {
    const one = desk()
    one.answer = undefined
    for (const port of ['a', 'b']) one.recorder.record(notProgrammed(web, 'node-a', port, 'x'))
    await vi.advanceTimersByTimeAsync(500)
    one.recorder.stop()
    await one.recorder.idle()
    one.recorder.record(refused)
    await vi.advanceTimersByTimeAsync(minute)
    expect(one.calls).toHaveLength(1)
    expect(vi.getTimerCount()).toBe(0)
  })

  it('leaves no timer of a series', async () => {
    const { recorder } = desk()
    for (let time = 0; time < 3; time++) {
      recorder.record(refused)
      await recorder.idle()
    }
    expect(vi.getTimerCount()).toBe(1)
    recorder.stop()
    expect(vi.getTimerCount()).toBe(0)
  })
})

it('a quiet recorder runs no timer', async () => {
  const { recorder } = desk()
  recorder.record(refused)
  await recorder.idle()
  expect(vi.getTimerCount()).toBe(0)
})

it('a bucket whose clock is set back refills from then on', () => {
  const bucket = new Bucket({ burst: 1, refillMs: 100 }, 1_000)
  expect(bucket.take(1_000)).toBe(true)
  expect(bucket.wait(500)).toBe(100)
  expect(bucket.take(599)).toBe(false)
  expect(bucket.take(600)).toBe(true)
})
