// Whatever goes wrong on the way, and whenever the program is started anew: it ends at what a fresh program would compile.
import fc from 'fast-check'
import { expect, it } from 'vitest'
import { CommitError } from '../../src/backend/backend.ts'
import type { InjectedFailure } from '../support/strict-iptables/strict-iptables.ts'
import { family, life, variant } from './cluster.ts'
import { StrictNode, textOf } from './node.ts'

const setting = fc.record({ family, variant, chunk: fc.constantFrom(undefined, 1, 4, 15) })

/** Rules of others, in between and around which ours come and go. */
const foreign = [
  '*nat',
  ':CNI-OUT - [0:0]',
  '-A CNI-OUT -p tcp -j ACCEPT',
  '-A POSTROUTING -j CNI-OUT',
  'COMMIT',
  '*filter',
  ':FORWARD DROP [0:0]',
  ':FIREWALL - [0:0]',
  '-A FIREWALL -p udp -j DROP',
  '-A INPUT -j FIREWALL',
  'COMMIT',
  '',
].join('\n')

/** What is left of both tables without our chains and the jumps to them. */
const others = (node: StrictNode): string[] =>
  ['filter', 'nat'].flatMap(table =>
    node.kernel
      .save(table)
      .split('\n')
      .filter(line => !line.includes('PENSTOCK-')),
  )

const failure: fc.Arbitrary<InjectedFailure> = fc.oneof(
  fc.constant<InjectedFailure>({ kind: 'lock' }),
  fc.constant<InjectedFailure>({ kind: 'permission' }),
  fc.nat(6).map((afterTables): InjectedFailure => ({ kind: 'killed', afterTables })),
  fc.constant<InjectedFailure>({
    kind: 'other',
    exitCode: 4,
    stderr: 'line 3: TABLE_FLUSH failed (Resource temporarily unavailable): table nat\n',
  }),
)

const mishap = fc.record({
  failures: fc.array(failure, { maxLength: 4 }),
  restart: fc.boolean(),
  /** Somebody flushes a table or deletes one rule. */
  meddling: fc.constantFrom('none', 'none', 'flush nat', 'flush filter', 'remove a rule'),
})

const expected = (error: unknown): void => {
  if (!(error instanceof CommitError)) throw error
}

/** Syncs until it succeeds; failures that were asked for and have not struck yet strike now. */
async function untilSynced(node: StrictNode): Promise<void> {
  for (let left = 25; left > 0; left--) {
    const done = await node.sync().then(() => true, expected)
    if (done === true) return
  }
  throw new Error('a sync still fails with nothing in its way')
}

function meddle(node: StrictNode, how: string): void {
  if (how === 'flush nat') node.kernel.restore('*nat\n-F PREROUTING\n-F PENSTOCK-ADDR\nCOMMIT\n', { noflush: true })
  if (how === 'flush filter')
    node.kernel.restore('*filter\n-F INPUT\n-A INPUT -j FIREWALL\nCOMMIT\n', { noflush: true })
  if (how === 'remove a rule') node.kernel.restore('*nat\n-D PENSTOCK-SERVICES 1\nCOMMIT\n', { noflush: true })
}

it('failed, interrupted and repeated syncs and restarts end at the fresh program, and touch no rule of others', async () => {
  await fc.assert(
    fc.asyncProperty(
      setting,
      life,
      fc.array(mishap, { minLength: 5, maxLength: 5 }),
      async (options, batches, mishaps) => {
        const node = new StrictNode(options)
        node.kernel.restore(foreign, { noflush: true })
        const before = others(node)
        for (const [index, events] of batches.entries()) {
          const { failures = [], restart = false, meddling = 'none' } = mishaps[index] ?? {}
          node.kernel.failNext(...failures)
          meddle(node, meddling)
          await node.sync(...events).catch(expected)
          if (restart) node.restart()
          await node.sync().catch(expected)
        }
        await untilSynced(node)
        node.syncer.markDoubtful()
        await untilSynced(node)
        expect(textOf(node.held())).toEqual(textOf(await node.fresh()))
        expect(node.syncer.setAsides).toEqual([])
        expect(others(node)).toEqual(before)
      },
    ),
    { numRuns: 40 },
  )
})

it('what the kernel refuses is set aside, all else is as if it were not there, and it goes in when it is taken', async () => {
  // The address of one pod, of the kind that only some endpoint rules bear.
  const bad = /10\.244\.1\.12:|fd00:10:244:1::c\]:/
  const mishaps = fc.array(fc.option(failure, { nil: undefined, freq: 4 }), { minLength: 5, maxLength: 5 })
  await fc.assert(
    fc.asyncProperty(setting, life, mishaps, async (options, batches, failures) => {
      const node = new StrictNode(options)
      node.kernel.refuse(rule => bad.test(rule))
      for (const [index, events] of batches.entries()) {
        const injected = failures[index]
        if (injected !== undefined) node.kernel.failNext(injected)
        await node.sync(...events).catch(expected)
      }
      await untilSynced(node)

      const asides = new Set(node.syncer.setAsides.map(({ servicePort }) => servicePort))
      const fresh = await node.fresh()
      const wantsBad = new Set<string>()
      for (const owner of asides) {
        const wanted = await node.wanted(owner)
        if (wanted.some(({ value }) => bad.test(value))) wantsBad.add(owner)
      }
      // Nobody is set aside who is not at fault.
      expect(wantsBad).toEqual(asides)
      expect([...node.held().values()].filter(value => bad.test(value))).toEqual([])
      expect((await node.lacking()).filter(owner => !asides.has(owner))).toEqual([])
      if (asides.size === 0) expect(textOf(node.held())).toEqual(textOf(fresh))

      node.kernel.refuse(() => false)
      node.restart()
      await untilSynced(node)
      expect(textOf(node.held())).toEqual(textOf(fresh))
    }),
    { numRuns: 40 },
  )
})
