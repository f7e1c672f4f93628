// What broke other watch clients, one test a line of the list; after each of them the state equals a fresh list.
import { readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { expect, test } from 'vitest'
import type { Fault } from '../support/apiserver/faults.ts'
import { eventually, nodeName, service, slice, startServer, startWorld, type World } from './harness.ts'

/** Changes of every sort: an object is deleted, one changed, one new. */
function change(world: World, round: number): void {
  const { server } = world
  if (server.get({ kind: 'Service', namespace: 'shop', name: `gone-${round - 1}` }) !== undefined) {
    server.delete({ kind: 'Service', namespace: 'shop', name: `gone-${round - 1}` })
    server.delete({ kind: 'EndpointSlice', namespace: 'shop', name: `gone-${round - 1}-1` })
  }
  server.put([service(`gone-${round}`, 100 + round), { ...slice(`gone-${round}`, 1, 1) }])
  server.put(service('web', 1, 8000 + round))
  server.put(slice('web', 1, 1 + round))
}

/** In step, and after that still alive: one more round of changes arrives. */
async function inStepAndAlive(world: World, round: number): Promise<void> {
  await world.inStep()
  change(world, round + 1)
  await world.inStep()
}

const faults: readonly { readonly name: string; readonly fault: Fault }[] = [
  { name: 'the connection is reset (#1496: the informer stopped for ever)', fault: { kind: 'stream-reset', count: 4 } },
  {
    name: 'a silent stall, not a byte, no error (#364, #596, #958, #2432)',
    fault: { kind: 'stream-freeze', count: 4 },
  },
  { name: 'the server ends the watch early', fault: { kind: 'stream-close', count: 4 } },
  { name: 'half a JSON line (parse errors were swallowed)', fault: { kind: 'stream-half-line', count: 4 } },
  { name: 'a 410 ERROR event (#1933: at once, no jitter)', fault: { kind: 'stream-error', code: 410, count: 4 } },
  { name: 'a 500 ERROR event (was ignored)', fault: { kind: 'stream-error', code: 500, count: 4 } },
  {
    name: 'an ERROR event that asks to wait',
    fault: { kind: 'stream-error', code: 429, retryAfterSeconds: 1, count: 4 },
  },
  { name: 'half a JSON line after two events', fault: { kind: 'stream-half-line', after: 2, count: 4 } },
  { name: 'a reset after two events', fault: { kind: 'stream-reset', after: 2, count: 6 } },
]

test.each(faults)('a watch survives: $name', async ({ fault }) => {
  const world = await startWorld()
  await world.inStep()
  change(world, 1)
  await world.inStep()
  world.server.fault(fault)
  change(world, 2)
  await inStepAndAlive(world, 2)
})

test.each(faults)('the first list survives: $name', async ({ fault }) => {
  const world = await startWorld({ prepare: server => void server.fault({ ...fault, verb: 'watch' }) })
  await inStepAndAlive(world, 1)
})

const requestFaults: readonly { readonly name: string; readonly fault: Fault }[] = [
  { name: 'requests are reset', fault: { kind: 'reset', count: 6 } },
  { name: 'requests are never answered', fault: { kind: 'stall', count: 4 } },
  { name: '429 with Retry-After (pepr #3052)', fault: { kind: 'status', code: 429, retryAfterSeconds: 1, count: 4 } },
  { name: '500', fault: { kind: 'status', code: 500, count: 8 } },
  { name: '503', fault: { kind: 'status', code: 503, count: 8 } },
  { name: '504', fault: { kind: 'status', code: 504, count: 8 } },
  { name: '403 that is taken back', fault: { kind: 'status', code: 403, count: 8 } },
  { name: '410 in the answer', fault: { kind: 'status', code: 410, count: 8 } },
  { name: 'slow answers', fault: { kind: 'delay', ms: 100, count: 8 } },
]

test.each(requestFaults)('a reconnect survives: $name', async ({ fault }) => {
  const world = await startWorld()
  await world.inStep()
  world.server.fault(fault)
  world.server.dropConnections()
  change(world, 1)
  await inStepAndAlive(world, 1)
})

test.each([...requestFaults, ...faults.filter(({ fault }) => fault.kind !== 'stream-error')])(
  'a paged list survives: $name',
  async ({ fault }) => {
    const world = await startWorld({
      server: { watchList: 'refused' },
      timers: { pageSize: 2 },
      prepare: server => void server.fault({ ...fault, verb: 'list' }),
    })
    await inStepAndAlive(world, 1)
  },
)

test('changes during an outage, deletions too, are there after it (#76338: stale for four days)', async () => {
  const world = await startWorld()
  await world.inStep()
  await world.server.refuseConnections()
  await eventually(() => expect(world.source.stats().kinds.Service?.errors.unavailable ?? 0).toBeGreaterThan(3))
  expect(world.mirror.removed).toEqual([])
  world.server.delete({ kind: 'EndpointSlice', namespace: 'shop', name: 'web-1' })
  change(world, 1)
  await world.server.acceptConnections()
  await inStepAndAlive(world, 1)
  // Told when it began (reset, then refused), not with every attempt.
  expect(world.states.filter(state => state === 'Service waiting').length).toBeLessThanOrEqual(2)
})

test('changes during an outage whose history is compacted come by a fresh list', async () => {
  const world = await startWorld()
  await world.inStep()
  await world.server.refuseConnections()
  world.server.delete({ kind: 'Service', namespace: 'shop', name: 'api' })
  world.server.delete({ kind: 'EndpointSlice', namespace: 'shop', name: 'api-1' })
  world.server.compact()
  await world.server.acceptConnections()
  await world.inStep()
  expect(world.mirror.removed.toSorted()).toEqual(['EndpointSlice shop/api-1', 'Service shop/api'])
  await inStepAndAlive(world, 1)
})

test('410 as the answer to the watch itself', async () => {
  const world = await startWorld({ server: { gone: 'response' } })
  await world.inStep()
  await world.server.refuseConnections()
  world.server.delete({ kind: 'Service', namespace: 'shop', name: 'api' })
  world.server.put(slice('web', 7, 2))
  world.server.compact()
  await world.server.acceptConnections()
  await inStepAndAlive(world, 1)
  expect(world.source.stats().kinds.Service?.errors.gone).toBeGreaterThan(0)
})

test('deletions while disconnected survive the first update after it (cilium #48050)', async () => {
  const world = await startWorld({ prepare: server => server.put([slice('web', 2, 2), slice('web', 3, 2)]) })
  await world.inStep()
  world.server.compact()
  world.server.fault({ kind: 'reset', verb: 'watch', count: 4 })
  world.server.dropConnections()
  world.server.delete({ kind: 'EndpointSlice', namespace: 'shop', name: 'web-2' })
  world.server.put(slice('web', 3, 5))
  await world.inStep()
  world.server.put(slice('web', 3, 6))
  await world.inStep()
  expect(world.mirror.removed).toEqual(['EndpointSlice shop/web-2'])
})

test('while a fresh list is slow, nothing vanishes that is still there', async () => {
  const world = await startWorld({ server: { watchList: 'refused' } })
  await world.inStep()
  world.server.fault({ kind: 'drip', bytes: 40, everyMs: 2, resource: 'services', count: 1 })
  world.server.fault({ kind: 'stream-error', code: 410, resource: 'services', count: 1 })
  world.server.delete({ kind: 'Service', namespace: 'shop', name: 'api' })
  await world.inStep()
  expect(world.mirror.removed).toEqual(['Service shop/api'])
})

test('a list that is slow but alive is not given up, however long it takes', async () => {
  const world = await startWorld({
    server: { watchList: 'refused' },
    timers: { idleMs: 1_000 },
    prepare: server => void server.fault({ kind: 'drip', bytes: 8, everyMs: 15, resource: 'services', count: 1 }),
  })
  await world.inStep()
  expect(world.source.stats().kinds.Service?.errors.idle).toBeUndefined()
})

test('a quiet watch with bookmarks is never cut (#3020: aborted after 30 s)', async () => {
  const world = await startWorld({ server: { bookmarkIntervalMs: 20 }, timers: { idleMs: 1_500 } })
  await world.inStep()
  const { watches, events } = world.source.stats().kinds.Service ?? { watches: 0, events: 0 }
  // A hundred bookmarks last longer than the limit of silence.
  await eventually(() => expect(world.source.stats().kinds.Service?.events).toBeGreaterThan(events + 100))
  expect(world.source.stats().kinds.Service?.watches).toBe(watches)
  await world.inStep()
})

test('a watch that is silent for too long is replaced at once, not after a growing wait', async () => {
  const world = await startWorld({
    server: { bookmarkIntervalMs: 60_000 },
    timers: { idleMs: 400, initialIdleMs: 10_000, backoff: { baseMs: 60_000, capMs: 60_000, random: () => 1 } },
  })
  await world.inStep()
  await eventually(() => expect(world.source.stats().kinds.Service?.watches).toBeGreaterThan(4))
  change(world, 1)
  await world.inStep()
})

test('expiring watches lose nothing that happens between two of them (fabric8 #8111)', async () => {
  const world = await startWorld({ timers: { timeoutSeconds: [1, 1] } })
  await world.inStep()
  for (let round = 1; (world.source.stats().kinds.Service?.watches ?? 0) < 4; round++) {
    change(world, round % 90)
    await new Promise(resolve => setTimeout(resolve, 20))
  }
  await world.inStep()
  expect(world.source.stats().kinds.Service?.errors).toEqual({})
})

test('after any number of failures there is one connection a watch (#494: leaked on reconnect)', async () => {
  const world = await startWorld()
  await world.inStep()
  const kinds: Fault['kind'][] = ['stream-reset', 'stream-half-line', 'stream-close']
  for (let round = 1; round <= 12; round++) {
    const kind = kinds[round % kinds.length]
    if (kind === 'stream-reset' || kind === 'stream-half-line' || kind === 'stream-close') {
      world.server.fault({ kind, count: 4 })
    }
    world.server.fault({ kind: 'status', code: 500, count: 2 })
    change(world, round)
    await world.inStep()
  }
  await eventually(() => {
    expect(world.server.openWatches()).toBe(4)
    expect(world.server.openSockets).toBe(4)
  })
})

test('one request at a time, with waits that grow (#1933: tens of requests a second after an outage)', async () => {
  const world = await startWorld({ timers: { backoff: { baseMs: 40, capMs: 400, random: () => 1 } } })
  await world.inStep()
  world.server.clearRequests()
  const fault = world.server.fault({ kind: 'status', code: 500, verb: 'watch', resource: 'services' })
  world.server.dropConnections()
  await eventually(() => expect(fault.hits).toBeGreaterThanOrEqual(6))
  const times = world.server.requests('watch', 'services').map(({ at }) => at)
  const waits = times.slice(1).map((at, index) => at - (times[index] ?? 0))
  // 40, 80, 160, 320, 400 ms at the least: a timer never fires early by more than its own millisecond.
  for (const [index, least] of [40, 80, 160, 320, 400].entries()) expect(waits[index]).toBeGreaterThanOrEqual(least - 2)
  fault.remove()
  await inStepAndAlive(world, 1)
})

test('Retry-After is honoured', async () => {
  const world = await startWorld()
  await world.inStep()
  world.server.clearRequests()
  world.server.fault({ kind: 'status', code: 503, retryAfterSeconds: 1, resource: 'services', count: 1 })
  world.server.dropConnections()
  await inStepAndAlive(world, 1)
  const [first, second] = world.server.requests('watch', 'services')
  expect((second?.at ?? 0) - (first?.at ?? 0)).toBeGreaterThanOrEqual(998)
})

test('what the consumer throws ends the source with that error and no event after it (swallowed in client-node)', async () => {
  const failure = new Error('the model broke')
  let calls = 0
  const world = await startWorld({
    sink: () => {
      calls += 1
      throw failure
    },
  })
  await expect(world.running).rejects.toBe(failure)
  expect(calls).toBeGreaterThanOrEqual(1)
  expect(calls).toBeLessThanOrEqual(4)
  await eventually(() => expect(world.server.openWatches()).toBe(0))
})

test('a consumer that fails on one change, later, ends the source too', async () => {
  const failure = new Error('the model broke')
  const world = await startWorld({
    sink: event => {
      if (event.kind === 'Service' && event.key === 'shop/poison') throw failure
    },
  })
  await eventually(() => expect(world.server.openWatches()).toBe(4))
  world.server.put(service('poison', 66))
  await expect(world.running).rejects.toBe(failure)
})

test('a cluster restored from a backup, at a lower version, is listed afresh', async () => {
  const world = await startWorld({ server: { resourceVersion: 5_000 } })
  await world.inStep()
  const kubeconfig = path.join(world.directory, 'kubeconfig')
  expect(readFileSync(kubeconfig, 'utf8')).toContain(world.server.url)
  const { port, token } = world.server
  await world.server.stop()
  // The same address and token; another CA comes with it, so the kubeconfig is written anew as an operator would.
  const restored = await startServer({ port, token })
  writeFileSync(kubeconfig, restored.kubeconfig())
  restored.put([service('web', 1, 4711), slice('web', 1, 3)])
  await eventually(() => {
    expect([...world.mirror.records.keys()].sort()).toEqual(['EndpointSlice shop/web-1', 'Service shop/web'])
    expect(JSON.stringify(world.mirror.records.get('Service shop/web'))).toContain('4711')
  })
  expect(world.mirror.removed).toContain(`Node ${nodeName}`)
})

test('a token that is replaced in its file is read again, its newline left out', async () => {
  let tokenFile = ''
  const world = await startWorld({
    kubeconfig: (server, directory) => {
      tokenFile = path.join(directory, 'token')
      writeFileSync(tokenFile, `${server.token}\n`)
      // A relative path, as kubeadm may write it: relative to the kubeconfig.
      return server.kubeconfig(undefined, { tokenFile: 'token' })
    },
  })
  await world.inStep()
  const token = world.server.rotateToken()
  world.server.dropConnections()
  await eventually(() => expect(world.source.stats().kinds.Service?.errors.status ?? 0).toBeGreaterThan(0))
  writeFileSync(tokenFile, `${token}\n`)
  await inStepAndAlive(world, 1)
})

test('a token that is replaced in the kubeconfig is found on 401, without a failure', async () => {
  const world = await startWorld()
  await world.inStep()
  world.server.rotateToken()
  writeFileSync(path.join(world.directory, 'kubeconfig'), world.server.kubeconfig())
  world.server.dropConnections()
  await inStepAndAlive(world, 1)
  expect(world.source.stats().kinds.Service?.errors.status).toBeUndefined()
})

test('a CA that changes in its file is trusted from the next connection on', async () => {
  let caFile = ''
  const world = await startWorld({
    kubeconfig: (server, directory) => {
      caFile = path.join(directory, 'ca.crt')
      writeFileSync(caFile, server.ca)
      return server.kubeconfig(undefined, { caFile })
    },
  })
  await world.inStep()
  await world.server.swapCertificate({ newAuthority: true })
  world.server.dropConnections()
  await eventually(() => expect(world.source.stats().kinds.Service?.errors.tls ?? 0).toBeGreaterThan(0))
  writeFileSync(caFile, world.server.ca)
  await inStepAndAlive(world, 1)
})

test('a CA that changes inside the kubeconfig is found too', async () => {
  const world = await startWorld()
  await world.inStep()
  await world.server.swapCertificate({ newAuthority: true })
  writeFileSync(path.join(world.directory, 'kubeconfig'), world.server.kubeconfig())
  world.server.dropConnections()
  await inStepAndAlive(world, 1)
})
