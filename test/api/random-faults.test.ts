// Random faults in between random changes: whatever came, in the end the state equals a fresh list.
import { setTimeout as sleep } from 'node:timers/promises'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { Fault } from '../support/apiserver/faults.ts'
import type { ApiServer } from '../support/apiserver/server.ts'
import { service, slice, startWorld } from './harness.ts'

type Step =
  | { readonly do: 'put-service'; readonly n: number; readonly port: number }
  | { readonly do: 'put-slice'; readonly n: number; readonly endpoints: number }
  | { readonly do: 'delete-service' | 'delete-slice'; readonly n: number }
  | { readonly do: 'fault'; readonly fault: Fault }
  | { readonly do: 'compact' | 'drop' | 'outage' | 'bookmarks' | 'pause' }

const n = fc.integer({ min: 1, max: 6 })
const count = fc.integer({ min: 1, max: 3 })
const after = fc.integer({ min: 0, max: 3 })

const fault: fc.Arbitrary<Fault> = fc.oneof(
  fc.record({ kind: fc.constantFrom('reset', 'stall'), count }),
  fc.record({ kind: fc.constant('status'), code: fc.constantFrom(401, 403, 410, 429, 500, 503, 504), count }),
  fc.record({ kind: fc.constant('delay'), ms: fc.constant(20), count }),
  fc.record({
    kind: fc.constantFrom('stream-reset', 'stream-freeze', 'stream-close', 'stream-half-line'),
    after,
    count,
  }),
  fc.record({ kind: fc.constant('stream-error'), code: fc.constantFrom(410, 500), after, count }),
)

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ do: fc.constant('put-service'), n, port: fc.integer({ min: 1, max: 9 }) }) },
  { weight: 6, arbitrary: fc.record({ do: fc.constant('put-slice'), n, endpoints: fc.integer({ min: 0, max: 4 }) }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constantFrom('delete-service', 'delete-slice'), n }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('fault'), fault }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constantFrom('compact', 'drop', 'outage', 'bookmarks', 'pause') }) },
)

function remove(server: ApiServer, kind: string, name: string): void {
  const reference = { kind, namespace: 'shop', name }
  if (server.get(reference) !== undefined) server.delete(reference)
}

async function take(server: ApiServer, one: Step): Promise<void> {
  switch (one.do) {
    case 'put-service':
      server.put(service(`s${one.n}`, 20 + one.n, 8000 + one.port))
      break
    case 'put-slice':
      server.put(slice(`s${one.n}`, one.n, one.endpoints))
      break
    case 'delete-service':
      remove(server, 'Service', `s${one.n}`)
      break
    case 'delete-slice':
      remove(server, 'EndpointSlice', `s${one.n}-${one.n}`)
      break
    case 'fault':
      server.fault(one.fault)
      break
    case 'compact':
      server.compact()
      break
    case 'drop':
      server.dropConnections()
      break
    case 'outage':
      await server.refuseConnections()
      await sleep(5)
      await server.acceptConnections()
      break
    case 'bookmarks':
      server.sendBookmarks()
      break
    case 'pause':
      await sleep(15)
  }
}

test.each(['served', 'refused'] as const)(
  'random faults and changes, initial events %s',
  async watchList => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 25 }), async steps => {
        const world = await startWorld({
          server: { watchList, bookmarkIntervalMs: 50 },
          timers: {
            idleMs: 400,
            initialIdleMs: 300,
            pageSize: 3,
            backoff: { baseMs: 5, capMs: 40, random: Math.random },
          },
        })
        try {
          for (const one of steps) await take(world.server, one)
          // Faults that nothing has met yet stay in force: they are part of what must be survived.
          await world.inStep(20_000)
          world.server.clearFaults()
          world.server.put(service('last', 99))
          await world.inStep(20_000)
          expect(world.server.openSockets).toBeLessThanOrEqual(4)
        } finally {
          await world.stop()
          world.connection.close()
          await world.server.stop()
        }
      }),
      { numRuns: 15, endOnFailure: true },
    )
  },
  120_000,
)
