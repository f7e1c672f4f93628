// What packets meet while rules change: after every COMMIT of every restore, between a state before and a state after.
import fc from 'fast-check'
import { expect, it } from 'vitest'
import type { Outcome, Program } from '../../src/backend/backend.ts'
import { trace } from '../../src/backend/iptables/trace.ts'
import type { ModelEvent } from '../../src/model/records.ts'
import type { Family } from '../../src/net/ip.ts'
import { formatAddressPort } from '../../src/net/ip.ts'
import type { Packet } from '../../src/net/packet.ts'
import { networkOf } from '../sync/harness.ts'
import { bulkService, family, life, packetsOf, variant } from './cluster.ts'
import { StrictNode } from './node.ts'

const samples: Readonly<Record<Family, readonly Packet[]>> = { IPv4: packetsOf('IPv4'), IPv6: packetsOf('IPv6') }

const outcomes = (of: Family, program: Program): Outcome[] =>
  samples[of].map(packet => trace(program, packet, networkOf(of)))

/** A sentence if a packet's way in the middle is not between its ways before and after. */
function complaint(packet: Packet, before: Outcome, during: Outcome, after: Outcome): string | undefined {
  const ends = [before, after]
  const verdicts = ends.map(({ verdict }) => verdict)
  const wrong = (what: string): string =>
    `${packet.protocol} ${packet.src} to ${formatAddressPort(packet.dst, packet.port)}: ${verdicts.join(' then ')}, ${what}`
  if (verdicts.every(verdict => verdict === 'dnat') && during.verdict !== 'dnat') {
    return wrong(`on the way ${during.verdict}`)
  }
  if (during.verdict === 'none' && !verdicts.includes('none')) return wrong('on the way not refused')
  if (during.verdict !== 'dnat') return undefined
  const known = ends.flatMap(({ endpoints }) => endpoints.map(({ address }) => address))
  const strange = during.endpoints.filter(({ address }) => !known.includes(address))
  return strange.length === 0 ? undefined : wrong(`on the way to ${strange.map(({ address }) => address).join(', ')}`)
}

/** Runs a life and looks at the kernel after every commit. */
async function watch(node: StrictNode, of: Family, batches: readonly (readonly ModelEvent[])[]): Promise<string[]> {
  const complaints: string[] = []
  let before = outcomes(of, node.held())
  for (const events of batches) {
    const steps: Program[] = []
    node.kernel.onCommit(() => steps.push(node.held()))
    await node.sync(...events)
    node.kernel.onCommit(undefined)
    const last = steps.pop()
    if (last === undefined) continue
    const after = outcomes(of, last)
    for (const [index, step] of steps.entries()) {
      for (const [i, during] of outcomes(of, step).entries()) {
        const [packet, from, to] = [samples[of][i], before[i], after[i]]
        if (packet === undefined || from === undefined || to === undefined) continue
        const wrong = complaint(packet, from, during, to)
        if (wrong !== undefined) complaints.push(`commit ${index + 1} of ${steps.length + 1}: ${wrong}`)
      }
    }
    before = after
  }
  return complaints
}

const property = (chunk: fc.Arbitrary<number | undefined>) =>
  fc.asyncProperty(fc.record({ family, variant, chunk }), life, async (options, batches) => {
    expect(await watch(new StrictNode(options), options.family, batches)).toEqual([])
  })

it('a packet with an endpoint before and after a change has one at each step, and none that is refused leaks', async () => {
  await fc.assert(property(fc.constant(undefined)), { numRuns: 30 })
})

it('the same holds when a change is written in parts', async () => {
  await fc.assert(property(fc.integer({ min: 1, max: 12 })), { numRuns: 8 })
})

it.each([undefined, 3])(
  'Services that get endpoints while the tree of refusals splits or merges are refused until then',
  async chunk => {
    const numbers = Array.from({ length: 80 }, (_, n) => n)
    const become = (from: number, to: number, what: Parameters<typeof bulkService>[1]): ModelEvent[] =>
      numbers.slice(from, to).flatMap(n => bulkService(n, what))
    for (const of of ['IPv4', 'IPv6'] as const) {
      const node = new StrictNode({ family: of, variant: 'nft', chunk })
      const splits = [...become(0, 8, 'ready'), ...become(31, 80, 'empty')]
      const merges = [...become(20, 40, 'ready'), ...become(40, 80, 'gone'), ...become(0, 8, 'empty')]
      expect(await watch(node, of, [become(0, 31, 'empty'), splits, merges, splits])).toEqual([])
    }
  },
)
