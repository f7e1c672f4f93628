// The source against a healthy server: what it asks, what it tells, how it stops.
import { expect, test } from 'vitest'
import { eventually, nodeName, service, slice, startWorld } from './harness.ts'

test('tells everything that exists, then every change', async () => {
  const world = await startWorld()
  await world.inStep()
  expect(Object.keys(world.mirror.state)).toEqual([
    'EndpointSlice shop/api-1',
    'EndpointSlice shop/web-1',
    `Node ${nodeName}`,
    'Service shop/api',
    'Service shop/web',
  ])
  world.server.put(service('web', 1, 8443))
  world.server.put(slice('web', 2, 3))
  world.server.delete({ kind: 'Service', namespace: 'shop', name: 'api' })
  await world.inStep()
  expect(world.mirror.removed).toEqual(['Service shop/api'])
  expect(world.mirror.synced).toHaveLength(4)
})

test('asks with the selectors of kube-proxy, for bookmarks, and for a time limit of five to ten minutes', async () => {
  const world = await startWorld({ timers: { timeoutSeconds: [300, 600] } })
  await world.inStep()
  const queryOf = (resource: string) => world.server.requests('watch', resource)[0]?.query
  expect(queryOf('services')?.get('labelSelector')).toBe('!service.kubernetes.io/service-proxy-name')
  expect(queryOf('services')?.get('fieldSelector')).toBe('spec.clusterIP!=None')
  expect(queryOf('endpointslices')?.get('labelSelector')).toBe('!service.kubernetes.io/headless')
  expect(queryOf('nodes')?.get('fieldSelector')).toBe(`metadata.name=${nodeName}`)
  for (const { query } of world.server.requests('watch')) {
    expect(query.get('sendInitialEvents')).toBe('true')
    expect(query.get('allowWatchBookmarks')).toBe('true')
    expect(Number(query.get('timeoutSeconds'))).toBeGreaterThanOrEqual(300)
    expect(Number(query.get('timeoutSeconds'))).toBeLessThanOrEqual(600)
  }
  expect(world.server.count('list')).toBe(0)
})

test.each(['refused', 'unknown'] as const)(
  'lists in pages and watches from there where initial events are %s',
  async watchList => {
    const world = await startWorld({
      server: { watchList },
      timers: { pageSize: 2 },
      prepare: server => server.put(Array.from({ length: 7 }, (_, index) => slice('web', index + 2, 1))),
    })
    await world.inStep()
    const pages = world.server.requests('list', 'endpointslices')
    expect(pages.length).toBeGreaterThanOrEqual(1)
    expect(pages.every(({ query }) => query.get('limit') === '2')).toBe(true)
    // Remembered for the server: not each of four reflectors has to be told.
    world.server.clearRequests()
    world.server.compact()
    world.server.fault({ kind: 'stream-error', code: 410, count: 4 })
    world.server.put(service('web', 1, 81))
    await eventually(() => expect(world.server.count('list')).toBeGreaterThanOrEqual(4))
    await world.inStep()
    expect(world.server.requests('watch').some(({ query }) => query.has('sendInitialEvents'))).toBe(false)
  },
)

test('a bookmark counts as a sign of life and moves the version on', async () => {
  const world = await startWorld({ server: { bookmarkIntervalMs: 60_000 }, timers: { idleMs: 60_000 } })
  await world.inStep()
  const before = world.source.stats().kinds.Service
  world.server.put(slice('web', 5, 1))
  await world.inStep()
  world.server.sendBookmarks()
  await eventually(() => {
    expect(world.source.stats().kinds.Service?.resourceVersion).toBe(String(world.server.resourceVersion))
    expect(world.source.stats().kinds.Service?.events).toBeGreaterThan(before?.events ?? 0)
  })
})

test('a server without ServiceCIDRs has none, and is asked again rarely', async () => {
  const world = await startWorld({
    prepare: server => void server.fault({ kind: 'status', code: 404, resource: 'servicecidrs', count: 1 }),
  })
  await eventually(() => expect(world.mirror.synced).toContain('ServiceCIDR'))
  expect(world.states).toContain('ServiceCIDR absent')
  await eventually(() => expect(world.source.stats().kinds.ServiceCIDR?.state).toBe('watching'))
  await world.inStep()
})

test('an object that goes bad keeps its last good record and is told of once', async () => {
  const world = await startWorld()
  await world.inStep()
  const good = world.mirror.records.get('Service shop/web')
  const bad = { ...service('web', 1), spec: { type: 'Wrong', clusterIP: '10.96.1.1', ports: [] } }
  world.server.put(bad)
  world.server.put({ ...bad, metadata: { name: 'web', namespace: 'shop', annotations: { again: 'yes' } } })
  world.server.put(service('marker', 9))
  await eventually(() => expect(world.mirror.records.has('Service shop/marker')).toBe(true))
  expect(world.mirror.records.get('Service shop/web')).toEqual(good)
  expect(world.problems.map(problem => `${problem.object} ${problem.field}`)).toEqual(['Service shop/web spec.type'])
  expect(world.source.stats().undecodable).toBe(1)
  world.server.put(service('web', 1, 99))
  await world.inStep()
  expect(world.source.stats().undecodable).toBe(0)
})

test('a bad object that is deleted is gone', async () => {
  const world = await startWorld()
  await world.inStep()
  world.server.put({ ...service('web', 1), spec: { type: 'Wrong', clusterIP: '10.96.1.1' } })
  world.server.delete({ kind: 'Service', namespace: 'shop', name: 'web' })
  await world.inStep()
  expect(world.source.stats().undecodable).toBe(0)
})

test('stopping closes every connection', async () => {
  const world = await startWorld()
  await world.inStep()
  await world.stop()
  world.connection.close()
  await eventually(() => {
    expect(world.server.openWatches()).toBe(0)
    expect(world.server.openSockets).toBe(0)
  })
  expect(world.source.stats().kinds.Service?.state).toBe('stopped')
})

test('a watch that ends in its time is followed at once from where it ended, without a list', async () => {
  const world = await startWorld({ timers: { timeoutSeconds: [1, 1] } })
  await world.inStep()
  world.server.clearRequests()
  await eventually(() => expect(world.server.count('watch')).toBeGreaterThanOrEqual(8))
  world.server.put(service('web', 1, 82))
  await world.inStep()
  expect(world.server.count('list')).toBe(0)
  expect(world.server.requests('watch').every(({ query }) => query.get('resourceVersion') !== null)).toBe(true)
  expect(world.source.stats().kinds.Service?.errors).toEqual({})
})

test('a list that nobody asked for finds what a watch never told', async () => {
  const world = await startWorld({ timers: { timeoutSeconds: [1, 1], relistMs: 1 } })
  await world.inStep()
  await eventually(() => expect(world.source.stats().kinds.Service?.lists).toBeGreaterThanOrEqual(2))
  await world.inStep()
  expect(world.mirror.removed).toEqual([])
})
