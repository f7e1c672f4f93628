// Watches over HTTP: where they begin, what they show, how they end.
import { afterEach, describe, expect, test } from 'vitest'
import { type ApiServer, type ApiServerOptions, startApiServer } from '../support/apiserver/server.ts'
import { allServices, call, openWatch, service, summary } from './client.ts'

let server: ApiServer
afterEach(() => server.stop())

const start = async (options: ApiServerOptions = {}): Promise<void> => {
  server = await startApiServer(options)
}
const put = (...all: string[]) => server.put(all.map(name => service(name)))
const remove = (name: string) => server.delete({ kind: 'Service', name })
const watching = (query = '') => openWatch(server, `${allServices}?watch=true${query}`)

describe('where a watch begins', () => {
  test.each(['', '&resourceVersion=', '&resourceVersion=0'])(
    'at the present state, as ADDED events (%s)',
    async query => {
      await start()
      put('a', 'b')
      const watch = await watching(query)
      put('c')
      remove('a')
      expect(summary(await watch.first(4))).toEqual(['ADDED a', 'ADDED b', 'ADDED c', 'DELETED a'])
    },
  )

  test('after a revision, with what happened since', async () => {
    await start()
    put('a')
    const then = server.resourceVersion
    put('b')
    server.put(service('a', { changed: 'yes' }))
    const watch = await watching(`&resourceVersion=${then}`)
    remove('b')
    const events = await watch.first(3)
    expect(summary(events)).toEqual(['ADDED b', 'MODIFIED a', 'DELETED b'])
    expect(events.map(e => Number(e.object.metadata.resourceVersion))).toEqual([then + 1, then + 2, then + 3])
    expect(events[0]?.object.kind).toBe('Service')
  })

  test('after a revision that is yet to come: from there', async () => {
    await start()
    put('a')
    const watch = await watching(`&resourceVersion=${server.resourceVersion + 1}`)
    put('b', 'c')
    expect(summary(await watch.first(1))).toEqual(['ADDED c'])
  })

  test('before a compaction: an ERROR event with 410, and the end', async () => {
    await start()
    put('a', 'b')
    const then = server.resourceVersion - 1
    server.compact()
    const watch = await watching(`&resourceVersion=${then}`)
    expect(watch.status).toBe(200)
    expect(await watch.first(1)).toMatchObject([
      { type: 'ERROR', object: { kind: 'Status', code: 410, reason: 'Expired' } },
    ])
    expect(await watch.ended()).toBe('end')
  })

  test('before a compaction, on a server that answers so: HTTP 410', async () => {
    await start({ gone: 'response' })
    put('a', 'b')
    server.compact()
    const { status, body } = await call(server, `${allServices}?watch=1&resourceVersion=1`)
    expect(status).toBe(410)
    expect(body).toMatchObject({ kind: 'Status', reason: 'Expired' })
  })
})

describe('sendInitialEvents', () => {
  const asked = '&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true'

  test('sends the state, then the annotated bookmark, then changes', async () => {
    await start()
    put('a', 'b')
    const revision = server.resourceVersion
    const watch = await watching(asked)
    put('c')
    const events = await watch.first(4)
    expect(summary(events)).toEqual(['ADDED a', 'ADDED b', 'BOOKMARK', 'ADDED c'])
    expect(events[2]?.object).toMatchObject({
      kind: 'Service',
      apiVersion: 'v1',
      metadata: { resourceVersion: String(revision), annotations: { 'k8s.io/initial-events-end': 'true' } },
    })
  })

  test('with a revision that is yet to come: an ERROR event with 504', async () => {
    await start()
    const watch = await watching(`${asked}&resourceVersion=${server.resourceVersion + 5}`)
    expect(await watch.first(1)).toMatchObject([{ type: 'ERROR', object: { code: 504 } }])
  })

  test('false: nothing of the present state', async () => {
    await start()
    put('a')
    const watch = await watching('&sendInitialEvents=false&resourceVersionMatch=NotOlderThan')
    put('b')
    expect(summary(await watch.first(1))).toEqual(['ADDED b'])
  })

  test.each(['&sendInitialEvents=true', '&resourceVersionMatch=NotOlderThan'])(
    '%s alone is refused with 422',
    async query => {
      await start()
      expect((await call(server, `${allServices}?watch=true${query}`)).status).toBe(422)
    },
  )

  test('is refused with 422 Invalid by a server that has it switched off', async () => {
    await start({ watchList: 'refused' })
    const { status, body } = await call(server, `${allServices}?watch=true${asked}`)
    expect(status).toBe(422)
    expect(body).toMatchObject({
      reason: 'Invalid',
      message: expect.stringContaining('sendInitialEvents is forbidden'),
    })
  })

  test('is passed over by a server that never heard of it', async () => {
    await start({ watchList: 'unknown' })
    put('a')
    const watch = await watching(asked)
    put('b')
    server.sendBookmarks()
    const events = await watch.first(3)
    expect(summary(events)).toEqual(['ADDED a', 'ADDED b', 'BOOKMARK'])
    expect(events[2]?.object.metadata.annotations).toBeUndefined()
  })
})

describe('bookmarks', () => {
  test('come at the interval, with the revision of the present, to those who take them', async () => {
    await start({ bookmarkIntervalMs: 20 })
    put('a')
    const then = server.resourceVersion
    server.put({ apiVersion: 'v1', kind: 'Node', metadata: { name: 'n' } })
    const watch = await watching(`&resourceVersion=${then}&allowWatchBookmarks=true`)
    const without = await watching(`&resourceVersion=${then}`)
    const events = await watch.first(2)
    expect(summary(events)).toEqual(['BOOKMARK', 'BOOKMARK'])
    expect(events[0]?.object.metadata.resourceVersion).toBe(String(then + 1))
    put('b')
    expect(summary(await without.first(1))).toEqual(['ADDED b'])
  })
})

describe('a watch with a selector', () => {
  test('shows objects that enter as ADDED and those that leave as DELETED, with the state they had', async () => {
    await start()
    server.put([service('in', { t: '1' }), service('out')])
    const watch = await watching('&labelSelector=t%3D1')
    server.put(service('out', { t: '1' }))
    server.put(service('out', { t: '1', more: 'x' }))
    server.put(service('in', { t: '2' }))
    server.put(service('in', { t: '3' }))
    server.delete({ kind: 'Service', name: 'in' })
    server.delete({ kind: 'Service', name: 'out' })
    const events = await watch.first(5)
    expect(summary(events)).toEqual(['ADDED in', 'ADDED out', 'MODIFIED out', 'DELETED in', 'DELETED out'])
    expect(events[3]?.object.metadata.labels).toEqual({ t: '1' })
    const revisions = events.map(e => Number(e.object.metadata.resourceVersion))
    expect(revisions).toEqual([...revisions].sort((a, b) => a - b))
    expect(revisions[4]).toBe(server.resourceVersion)
  })

  test('does so for the past too', async () => {
    await start()
    server.put(service('a', { t: '1' }))
    const then = server.resourceVersion
    server.put(service('a'))
    const watch = await watching(`&labelSelector=t&resourceVersion=${then}`)
    expect(summary(await watch.first(1))).toEqual(['DELETED a'])
  })

  test('of one namespace or one name sees no others', async () => {
    await start()
    const named = await watching('&fieldSelector=metadata.name%3Db')
    const inside = await openWatch(server, '/api/v1/namespaces/other/services?watch=1')
    server.put([service('a'), service('b'), service('b', {}, 'other')])
    expect(summary(await named.first(2))).toEqual(['ADDED b', 'ADDED b'])
    expect(summary(await inside.first(1))).toEqual(['ADDED b'])
    expect(inside.events.length).toBe(1)
  })
})

describe('a watch', () => {
  test('ends after timeoutSeconds, with a last bookmark', async () => {
    await start()
    const watch = await watching('&timeoutSeconds=1&allowWatchBookmarks=true')
    expect(await watch.ended()).toBe('end')
    expect(summary(watch.events)).toEqual(['BOOKMARK'])
    await expect.poll(() => server.openWatches()).toBe(0)
  })

  test('carries thousands of changes at once, in order, to each of several clients', async () => {
    await start()
    const watches = await Promise.all([watching(), watching(), watching()])
    server.put(Array.from({ length: 5000 }, (_, i) => service(`s-${i}`)))
    for (const watch of watches) {
      const events = await watch.first(5000)
      expect(events.at(0)?.object.metadata.name).toBe('s-0')
      expect(events.at(-1)?.object.metadata.name).toBe('s-4999')
    }
  })

  test('is counted while it is open', async () => {
    await start()
    const watch = await watching()
    const other = await openWatch(server, '/api/v1/nodes?watch=true')
    expect([server.openWatches(), server.openWatches('services'), server.openWatches('nodes')]).toEqual([2, 1, 1])
    expect(server.openSockets).toBe(2)
    watch.close()
    other.close()
    await expect.poll(() => [server.openWatches(), server.openSockets]).toEqual([0, 0])
    expect([server.count('watch'), server.count('watch', 'nodes'), server.count('list')]).toEqual([2, 1, 0])
    expect(server.requests('watch', 'nodes')[0]?.query.get('watch')).toBe('true')
  })
})
