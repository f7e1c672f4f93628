// Random clusters one after the other, as in the differential test, written by netlink and by nft: the kernel holds the same
// after each, whatever it held before, and either reads it as it was compiled.
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Backend } from '../../src/backend/backend.ts'
import { nftablesBackend } from '../../src/backend/nftables/index.ts'
import type { Exec } from '../../src/kernel/exec.ts'
import { DesiredProgram } from '../../src/sync/program.ts'
import { listedLines } from '../backend/nftables/listing-lines.ts'
import { backendWorker, remoteBackend } from '../backend/nftables/remote.ts'
import type { BackendMethods } from '../backend/nftables/worker.ts'
import { families, randomCluster } from '../differential/cluster.ts'
import { defaultSeed } from '../differential/kernel.ts'
import { assembled, eventsOf } from '../differential/modes.ts'
import { Random } from '../differential/random.ts'
import { inputOf } from '../support/input.ts'
import { Sandbox, type Worker } from '../support/netns/sandbox.ts'

const clusters = 12
const { signal } = new AbortController()

let sandbox: Sandbox
let writer: Worker<BackendMethods>
let reader: Worker<BackendMethods>

const execIn = (namespace: string): Exec => ({
  run: async (command, args, options = {}) => ({
    ...(await sandbox.exec({ namespace, argv: [command, ...args], input: (await inputOf(options)) ?? '' })),
    notFound: false,
  }),
})

beforeAll(async () => {
  sandbox = await Sandbox.open()
  await sandbox.addNamespaces(['netlink', 'nft'])
  writer = await backendWorker(sandbox, 'netlink', true)
  reader = await backendWorker(sandbox, 'nft')
})
afterAll(async () => {
  await sandbox?.close()
})

const asText = (objects: ReadonlyMap<string, string>): string[] =>
  [...objects].map(([key, value]) => `${key}\n${value}`).sort()

/** What nft lists. That the table has an owner is no difference. */
async function listing(namespace: string): Promise<readonly string[]> {
  const text = await sandbox.check({ namespace, argv: ['nft', '-n', 'list', 'ruleset'] })
  return listedLines(text.replaceAll(/^(table \S+ \S+ \{).*\n(?:\tflags .*\n\n?)?/gm, '$1\n'))
}

describe.each(families)('%s', family => {
  test(`${clusters} clusters, seed ${defaultSeed}`, async () => {
    const byNetlink: readonly [Backend, Backend] = [
      remoteBackend(() => writer, family),
      remoteBackend(() => reader, family),
    ]
    const byNft = ['netlink', 'nft'].map(namespace => nftablesBackend({ family, exec: execIn(namespace) }))
    const [toNetlink, toNft] = [byNetlink[0], byNft[1]]
    if (toNft === undefined) expect.fail('there are two')
    const program = new DesiredProgram()
    let objects = 0
    for (let number = 1; number <= clusters; number++) {
      const cluster = randomCluster(new Random(defaultSeed, number, 'netlink'), {})
      const assembly = assembled(cluster, 'nftables', eventsOf(cluster))
      const compiled = await assembly.families.find(part => part.family === family)?.syncer.compile()
      if (compiled === undefined) expect.fail(`nothing is compiled for ${family}`)
      program.replace(
        'cluster',
        [...compiled].map(([key, value]) => ({ key, value })),
      )
      const delta = program.pending()
      for (const backend of [toNetlink, toNft]) await backend.commit(backend.plan(delta, program.objects), signal)
      program.settle()
      objects += compiled.size
      expect(await listing('netlink'), `cluster ${number}`).toEqual(await listing('nft'))
      for (const backend of [...byNetlink, ...byNft]) {
        expect(asText(await backend.read(signal)), `cluster ${number}`).toEqual(asText(compiled))
      }
    }
    // The skeleton alone has some 370.
    expect(objects).toBeGreaterThan(clusters * 400)
    expect(await writer.call('programs', undefined)).toBe(0)
  })
})
