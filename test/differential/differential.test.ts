// All backends give every packet the same verdict, endpoints and masquerade, the written differences aside: at least
// 100,000 random packets in every run. `hack/differential` runs as many as one likes.
import { afterAll, describe, expect, test } from 'vitest'
import { packetsPerCluster, runTrial, summed, type TrialResult } from './campaign.ts'
import { deviations } from './deviations.ts'
import { defaultSeed } from './kernel.ts'
import { type Compiled, compiledIn, modes } from './modes.ts'
import { described } from './report.ts'

const clustersATest = 25
const firstClusters = [1, 26, 51, 76, 101]

describe(`random packets, seed ${defaultSeed}`, () => {
  const results: TrialResult[] = []

  test.each(firstClusters)(
    'clusters from %i on',
    async first => {
      for (let cluster = first; cluster < first + clustersATest; cluster++) {
        const result = await runTrial({ seed: defaultSeed, cluster, packets: packetsPerCluster, modes })
        results.push(result)
        const [disagreement] = result.disagreements
        if (disagreement !== undefined) expect.fail(await described(defaultSeed, disagreement))
      }
    },
    300_000,
  )

  test('there were enough of them, of every verdict', () => {
    const { traced, verdicts } = summed(results)
    expect(traced).toBeGreaterThanOrEqual(100_000)
    for (const verdict of ['dnat', 'dnat, masqueraded', 'reject', 'drop', 'none']) {
      expect(verdicts.get(verdict), verdict).toBeGreaterThan(1_000)
    }
  })

  test('every written difference shows, or is to be struck off', () => {
    const { deviated } = summed(results)
    expect(deviations.map(({ reason }) => reason).filter(reason => !deviated.has(reason))).toEqual([])
  })

  afterAll(() => {
    const { traced, verdicts } = summed(results)
    const counts = [...verdicts].map(([verdict, count]) => `${count} ${verdict}`).join('; ')
    console.info(`seed ${defaultSeed}: ${traced} packets through ${modes.join(', ')}: ${counts}`)
  })
})

/** A backend with a mistake: UDP to one port is not masqueraded. */
const spoiled: typeof compiledIn = async (mode, cluster, events): Promise<Compiled> => {
  const compiled = await compiledIn(mode, cluster, events)
  if (mode !== 'nftables') return compiled
  return {
    mode,
    trace: packet => {
      const outcome = compiled.trace(packet)
      if (packet.protocol !== 'UDP' || packet.port !== 80) return outcome
      const endpoints = outcome.endpoints.map(endpoint => ({ ...endpoint, masquerade: false }))
      return { ...outcome, endpoints, masquerade: false }
    },
  }
}

test('a mistake in one backend is found, shown in a cluster of a few objects, and met again by its number', async () => {
  const trial = { seed: 'mistaken', modes, compile: spoiled }
  let found: TrialResult['disagreements'] = []
  for (let cluster = 1; found.length === 0 && cluster <= 20; cluster++) {
    found = (await runTrial({ ...trial, cluster, packets: packetsPerCluster })).disagreements
  }
  const [disagreement] = found
  if (disagreement === undefined) expect.fail('16,000 packets did not find it')
  expect(disagreement).toMatchObject({ mode: 'nftables', sent: { protocol: 'UDP', port: 80 } })

  const { cluster, packet: only } = disagreement
  expect((await runTrial({ ...trial, cluster, packets: { only } })).disagreements).toEqual(found)
  expect((await runTrial({ seed: 'mistaken', cluster, packets: { only }, modes })).disagreements).toEqual([])

  const text = await described('mistaken', disagreement, spoiled)
  expect(text).toContain(`hack/differential --seed mistaken --clusters ${cluster} --packet ${only}`)
  // A Service and a slice of it.
  expect(text.match(/^kind: .*$/gm)?.sort()).toEqual(['kind: EndpointSlice', 'kind: Service'])
}, 300_000)
