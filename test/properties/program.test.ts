// Whatever the cluster and its history: the kernel holds exactly what a fresh program would compile.
import fc from 'fast-check'
import { expect, it } from 'vitest'
import type { ModelEvent } from '../../src/model/records.ts'
import { family, life, variant } from './cluster.ts'
import { StrictNode, textOf } from './node.ts'

const chunk = fc.constantFrom(undefined, undefined, 1, 3, 10)
const setting = fc.record({ family, variant, chunk })

it('applying a plan yields exactly the desired program, and a restart writes nothing', async () => {
  await fc.assert(
    fc.asyncProperty(setting, life, async (options, batches) => {
      const node = new StrictNode(options)
      for (const events of batches) {
        await node.sync(...events)
        expect(textOf(node.held())).toEqual(textOf(await node.fresh()))
      }
      node.kernel.resetCounts()
      node.restart()
      await node.sync()
      expect(node.kernel.counts.restores).toBe(0)
      expect(node.heard.reports).toMatchObject([{ added: 0, changed: 0, removed: 0, compared: true }])
    }),
    { numRuns: 60 },
  )
})

it('reading back what was written leaves no difference', async () => {
  await fc.assert(
    fc.asyncProperty(setting, life, async (options, batches) => {
      const node = new StrictNode(options)
      await node.sync(...batches.flat())
      const delta = await node.syncer.difference(new AbortController().signal)
      expect(delta).toEqual({ added: [], changed: [], removed: [] })
    }),
    { numRuns: 30 },
  )
})

/** Events of one object keep their order; whose turn it is, and where syncs come in between, is free. */
function shuffled(events: readonly ModelEvent[], turns: readonly number[]): ModelEvent[] {
  const queues = new Map<string, ModelEvent[]>()
  for (const event of events) {
    const name = event.kind === 'synced' ? event.of : `${event.kind} ${event.key}`
    const queue = queues.get(name)
    if (queue === undefined) queues.set(name, [event])
    else queue.push(event)
  }
  const open = [...queues.values()]
  const out: ModelEvent[] = []
  for (let i = 0; open.length > 0; i++) {
    const at = (turns[i % turns.length] ?? 0) % open.length
    const queue = open[at] ?? []
    const event = queue.shift()
    if (event !== undefined) out.push(event)
    if (queue.length === 0) open.splice(at, 1)
  }
  return out
}

it('the order of events and where syncs fall between them do not matter', async () => {
  const turns = fc.array(fc.nat(1_000), { minLength: 1, maxLength: 60 })
  const sizes = fc.array(fc.integer({ min: 1, max: 60 }), { minLength: 1, maxLength: 10 })
  await fc.assert(
    fc.asyncProperty(setting, life, turns, sizes, async (options, batches, order, cuts) => {
      const events = batches.flat()
      const straight = new StrictNode(options)
      await straight.sync(...events)
      const other = new StrictNode(options)
      const mixed = shuffled(events, order)
      for (let from = 0, i = 0; from < mixed.length; i++) {
        const size = cuts[i % cuts.length] ?? 1
        await other.sync(...mixed.slice(from, from + size))
        from += size
      }
      expect(textOf(other.held())).toEqual(textOf(straight.held()))
    }),
    { numRuns: 40 },
  )
})
