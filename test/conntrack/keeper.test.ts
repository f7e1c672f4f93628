// When flows are cleaned: after a sync, one cleaning at a time, with a rest after each, again when it failed.
import { expect, test } from 'vitest'
import { type Cleaning, FlowKeeper } from '../../src/conntrack/keeper.ts'
import type { ServedPort } from '../../src/conntrack/table.ts'
import type { FlowFilter, Removal } from '../../src/net/flow.ts'
import type { IP } from '../../src/net/ip.ts'

const dns = (...serving: readonly string[]): readonly ServedPort[] => [
  {
    protocol: 'UDP',
    frontends: [{ kind: 'ClusterIP', address: '10.96.0.10' as IP, port: 53, traffic: 'internal' }],
    serving: serving.map(address => ({ address: address as IP, port: 53 })),
  },
]

/** A keeper whose searches end when the test says so. */
function setUp() {
  const searches: FlowFilter[] = []
  const rests: number[] = []
  const problems: (string | undefined)[] = []
  const cleanings: Cleaning[] = []
  let end: ((outcome: Removal | Error) => void) | undefined
  let wake: (() => void) | undefined
  let clock = 0
  const keeper = new FlowKeeper({
    family: 'IPv4',
    takesNodePorts: () => false,
    flows: {
      remove(filter) {
        searches.push(filter)
        return new Promise((resolve, reject) => {
          end = outcome => (outcome instanceof Error ? reject(outcome) : resolve(outcome))
        })
      },
    },
    onCleaned: cleaning => cleanings.push(cleaning),
    onProblem: problem => problems.push(problem),
    now: () => clock,
    sleep: (milliseconds, signal) =>
      new Promise((resolve, reject) => {
        rests.push(milliseconds)
        wake = resolve
        signal.addEventListener('abort', () => reject(new Error('aborted')))
      }),
  })
  const settle = async (): Promise<void> => {
    for (let turn = 0; turn < 10; turn++) await Promise.resolve()
  }
  return {
    keeper,
    searches,
    rests,
    problems,
    cleanings,
    end: async (outcome: Removal | Error, milliseconds = 0): Promise<void> => {
      clock += milliseconds
      end?.(outcome)
      await settle()
    },
    wake: async (): Promise<void> => {
      wake?.()
      await settle()
    },
  }
}
const clean: Removal = { seen: 5, removed: 2 }

test('nothing before a sync; then everything once; then what changed', async () => {
  const { keeper, searches, end, wake, cleanings } = setUp()
  keeper.note('a/dns', dns('10.0.0.1', '10.0.0.2'))
  expect(searches).toEqual([])
  keeper.afterSync()
  expect(searches).toEqual([{ family: 'IPv4' }])
  await end(clean, 3)
  expect(cleanings).toEqual([{ searches: 1, seen: 5, removed: 2, milliseconds: 3 }])
  await wake()
  keeper.afterSync()
  await keeper.idle()
  expect(searches).toHaveLength(1)
  keeper.note('a/dns', dns('10.0.0.2'))
  keeper.afterSync()
  expect(searches.slice(1)).toEqual([
    { family: 'IPv4', replySource: '10.0.0.1', replySourcePort: 53, destinationPort: 53 },
  ])
  await end(clean)
})

test('changes during a cleaning and the rest after it gather', async () => {
  const { keeper, searches, rests, end, wake } = setUp()
  keeper.note('a/dns', dns('10.0.0.1', '10.0.0.2', '10.0.0.3'))
  keeper.afterSync()
  keeper.note('a/dns', dns('10.0.0.2', '10.0.0.3'))
  keeper.afterSync()
  expect(searches).toHaveLength(1)
  await end(clean, 50)
  expect(rests).toEqual([450])
  keeper.note('a/dns', dns('10.0.0.3'))
  keeper.afterSync()
  expect(searches).toHaveLength(1)
  await wake()
  expect(searches[1]?.replySource).toBe('10.0.0.1')
  await end(clean)
  expect(searches[2]?.replySource).toBe('10.0.0.2')
  await end(clean)
  await wake()
  await keeper.idle()
})

test('what fails is said once, tried again ever later, and said to be over', async () => {
  const { keeper, searches, rests, problems, end, wake } = setUp()
  keeper.afterSync()
  for (let attempt = 0; attempt < 8; attempt++) {
    await end(new Error('no right to'))
    await wake()
  }
  expect(rests).toEqual([5000, 10_000, 20_000, 40_000, 80_000, 160_000, 300_000, 300_000])
  expect(problems).toEqual(['stale UDP flows could not be removed: no right to'])
  await end({ seen: 1, removed: 0, problem: 'one stays' })
  await wake()
  expect(searches).toHaveLength(10)
  await end(clean)
  expect(problems.slice(1)).toEqual(['one stays', undefined])
})

test('closing ends a rest and a search, and nothing begins after', async () => {
  const { keeper, searches, end } = setUp()
  keeper.afterSync()
  const closed = keeper.close()
  await end(new Error('aborted'))
  await closed
  keeper.note('a/dns', dns('10.0.0.1'))
  keeper.afterSync()
  expect(searches).toHaveLength(1)
})
