// Injected faults: each breaks what it says, for whom it says, as often as it says.
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type ApiServer, startApiServer } from '../support/apiserver/server.ts'
import { allServices, call, openWatch, service, summary, WatchReader } from './client.ts'

let server: ApiServer
beforeEach(async () => {
  server = await startApiServer()
})
afterEach(() => server.stop())

const watching = () => openWatch(server, `${allServices}?watch=true&allowWatchBookmarks=true`)

describe('a fault of requests', () => {
  test('reset: the connection is reset, as often as said', async () => {
    const fault = server.fault({ kind: 'reset', verb: 'list', resource: 'services', count: 2 })
    expect((await call(server, '/api/v1/nodes')).status).toBe(200)
    await expect(call(server, allServices)).rejects.toThrow('read ECONNRESET')
    await expect(call(server, allServices)).rejects.toThrow('read ECONNRESET')
    expect((await call(server, allServices)).status).toBe(200)
    expect(fault.hits).toBe(2)
  })

  test('stall: not a byte comes, others are served', async () => {
    server.fault({ kind: 'stall', verb: 'watch', count: 1 })
    const stalled = new WatchReader(server, `${allServices}?watch=true`)
    await expect.poll(() => server.count('watch')).toBe(1)
    const served = await watching()
    server.put(service('a'))
    await served.first(1)
    expect([stalled.status, stalled.isOpen]).toEqual([0, true])
    stalled.close()
  })

  test.each([
    [410, undefined, 'Expired'],
    [429, 7, 'TooManyRequests'],
    [500, undefined, 'InternalError'],
    [503, undefined, 'ServiceUnavailable'],
  ])('status %d', async (code, retryAfterSeconds, reason) => {
    const fault = server.fault({
      kind: 'status',
      code,
      ...(retryAfterSeconds === undefined ? {} : { retryAfterSeconds }),
    })
    const answer = await call(server, allServices)
    expect(answer).toMatchObject({ status: code, body: { kind: 'Status', code, reason } })
    expect(answer.headers['retry-after']).toBe(retryAfterSeconds === undefined ? undefined : String(retryAfterSeconds))
    expect((await call(server, allServices)).status).toBe(code)
    fault.remove()
    expect((await call(server, allServices)).status).toBe(200)
  })

  test('delay and drip: slow, but whole', async () => {
    server.put(Array.from({ length: 20 }, (_, i) => service(`s-${i}`)))
    server.fault({ kind: 'delay', ms: 30, count: 1 })
    expect((await call(server, allServices)).status).toBe(200)
    server.fault({ kind: 'drip', bytes: 500, everyMs: 2, count: 1 })
    const { body } = await call(server, allServices)
    expect(body).toMatchObject({ items: { length: 20 } })
  })
})

describe('a fault of streams', () => {
  test('reset strikes watches that are open', async () => {
    const watch = await watching()
    server.fault({ kind: 'stream-reset', resource: 'services' })
    expect(await watch.ended()).toMatch(/ECONNRESET|aborted/)
    await expect.poll(() => server.openSockets).toBe(0)
  })

  test('reset after so many events lets them through first', async () => {
    server.fault({ kind: 'stream-reset', after: 2, count: 1 })
    const watch = await watching()
    server.put([service('a'), service('b'), service('c')])
    expect(await watch.ended()).toMatch(/ECONNRESET|aborted/)
    expect(summary(watch.events)).toEqual(['ADDED a', 'ADDED b'])
  })

  test('freeze: neither events nor bookmarks nor the end come any more', async () => {
    const frozen = await watching()
    server.put(service('a'))
    await frozen.first(1)
    const fault = server.fault({ kind: 'stream-freeze', verb: 'watch', count: 1 })
    const fresh = await watching()
    server.put(service('b'))
    server.sendBookmarks()
    expect(summary(await fresh.first(3))).toEqual(['ADDED a', 'ADDED b', 'BOOKMARK'])
    expect(summary(frozen.events)).toEqual(['ADDED a'])
    expect(frozen.isOpen).toBe(true)
    expect(server.openWatches()).toBe(2)
    expect(fault.hits).toBe(1)
  })

  test.each([410, 500])('error %d: an ERROR event and the end', async code => {
    const watch = await watching()
    server.fault({ kind: 'stream-error', code, count: 1 })
    expect(await watch.ended()).toBe('end')
    expect(watch.events).toMatchObject([{ type: 'ERROR', object: { kind: 'Status', code } }])
  })

  test('half a line, then the end', async () => {
    const watch = await watching()
    server.fault({ kind: 'stream-half-line', after: 1, count: 1 })
    server.put([service('a'), service('b'), service('c')])
    expect(await watch.ended()).toBe('end')
    expect(summary(watch.events)).toEqual(['ADDED a'])
    expect(watch.rest).toMatch(/^\{"type":"ADDED","object":\{/)
    expect(() => JSON.parse(watch.rest)).toThrow()
  })

  test('close: an orderly end, too early', async () => {
    const watch = await watching()
    server.fault({ kind: 'stream-close', count: 1 })
    expect(await watch.ended()).toBe('end')
    expect(watch.events).toEqual([])
  })

  test('strikes its own watches only, and lists only when told to', async () => {
    const watch = await watching()
    const nodes = await openWatch(server, '/api/v1/nodes?watch=true')
    const fault = server.fault({ kind: 'stream-close', resource: 'services' })
    const other = server.fault({ kind: 'stream-close', resource: 'endpointslices' })
    expect(await watch.ended()).toBe('end')
    expect((await call(server, allServices)).body).toMatchObject({ kind: 'ServiceList' })
    server.put({ apiVersion: 'v1', kind: 'Node', metadata: { name: 'n' } })
    expect(summary(await nodes.first(1))).toEqual(['ADDED n'])
    expect([fault.hits, other.hits]).toEqual([1, 0])
  })

  test('a list breaks off in the middle', async () => {
    server.put(Array.from({ length: 10 }, (_, i) => service(`s-${i}`)))
    server.fault({ kind: 'stream-half-line', verb: 'list', count: 1 })
    const { body } = await call(server, allServices)
    expect(body).toBeTypeOf('string')
    expect(String(body)).toContain('"s-4"')
    expect(String(body)).not.toContain('"s-9"')
    server.fault({ kind: 'stream-reset', verb: 'list', count: 1 })
    await expect(call(server, allServices)).rejects.toThrow(/ECONNRESET|aborted/)
    expect((await call(server, allServices)).body).toMatchObject({ items: { length: 10 } })
  })
})

describe('an outage', () => {
  test('drops connections, refuses new ones, and ends on the same port with the same state', async () => {
    server.put(service('a'))
    const { port } = server
    const watch = await watching()
    await server.refuseConnections()
    expect(await watch.ended()).not.toBe('end')
    await expect(call(server, allServices)).rejects.toThrow('ECONNREFUSED')
    server.put(service('b'))
    await server.acceptConnections()
    expect(server.port).toBe(port)
    expect((await call(server, allServices)).body).toMatchObject({
      items: [{ metadata: { name: 'a' } }, { metadata: { name: 'b' } }],
    })
  })
})
