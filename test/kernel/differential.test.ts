// Random clusters and packets on the real kernel: what becomes of a packet is what `trace` says of the rules that the kernel
// holds. `hack/differential --kernel` sends others.
import { execFile } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { defaultSeed, kernelKinds, probesPerCluster, runRealTrial, usualRealClusters } from '../differential/kernel.ts'
import { World } from '../support/world/world.ts'

const clusters = Array.from({ length: usualRealClusters }, (_, index) => index + 1)

describe.each(kernelKinds)(`$name, seed ${defaultSeed}`, kind => {
  let world: World
  let directory: string
  const verdicts = new Map<string, number>()

  beforeAll(async () => {
    await promisify(execFile)(process.execPath, [join(import.meta.dirname, '../../hack/build.mjs')])
    directory = await mkdtemp(join(tmpdir(), 'penstock-differential-'))
    world = await World.open(kind.variant)
  })
  afterAll(async () => {
    await world?.close()
    await rm(directory, { recursive: true, force: true })
  })

  test.each(clusters)('cluster %i', async cluster => {
    const result = await runRealTrial(world, {
      seed: defaultSeed,
      cluster,
      kind,
      directory: join(directory, 'cluster'),
    })
    for (const [verdict, count] of result.verdicts) verdicts.set(verdict, (verdicts.get(verdict) ?? 0) + count)
    const again = `hack/differential --kernel --seed ${defaultSeed} --clusters ${cluster}`
    expect(result.failures, again).toEqual([])
    expect(result.sent).toBe(probesPerCluster)
  })

  test('every verdict was met', () => {
    expect([...verdicts.keys()].sort()).toEqual(['dnat', 'drop', 'none', 'reject'])
    console.info(`${kind.name}: ${[...verdicts].map(([verdict, count]) => `${count} ${verdict}`).join(', ')}`)
  })
})
