// From every mode to every other on a real kernel, while connections live and new ones come all the time.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { bundle } from '../daemon/program.ts'
import { manifest } from '../support/switching/cluster.ts'
import { commonKinds, orderedPairs } from '../support/switching/kinds.ts'
import { type Style, switchModes } from '../support/switching/switch.ts'
import { World } from '../support/world/world.ts'

let directory: string
let program: string
const seen: string[] = []
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'penstock-switching-'))
  program = await bundle(directory)
})
afterAll(async () => {
  await rm(directory, { recursive: true, force: true })
  console.info(['switches under traffic:', ...seen].join('\n  '))
})

describe.each<Style>(['daemon', 'once'])('%s', style => {
  test.each(orderedPairs(commonKinds).map(([from, to]) => [from.name, to.name, from, to] as const))(
    'from %s to %s',
    async (_from, _to, from, to) => {
      const world = await World.open(from.variant)
      try {
        const report = await switchModes(world, { from, to, style, program, directory: join(directory, 'switch') })
        expect(report.failures).toEqual([])
        expect(report.probes).toBeGreaterThan(1_000)
        seen.push(
          `${style}, ${from.name} to ${to.name}: ${report.probes} new connections and datagrams, ` +
            `${report.echoes} echoes of older ones, the slowest after ${report.slowestEcho} ms`,
        )
      } finally {
        await world.close()
      }
    },
  )
})

test('the traffic notices a careless switch', async () => {
  const world = await World.open('nft')
  const [from, to] = orderedPairs(commonKinds).find(([a, b]) => a.variant === 'nft' && b.mode === 'nftables') ?? []
  if (from === undefined || to === undefined) throw new Error('there are such kinds')
  const unguarded = manifest.replace(/"loadBalancerSourceRanges":\[.*?\]/, '"externalIPs":[]')
  const penstock = (args: readonly string[], input = ''): Promise<string> =>
    world.sandbox.check({ namespace: 'node-a', argv: [process.execPath, program, ...args], input })
  try {
    const { failures } = await switchModes(world, {
      ...{ from, to, style: 'once', program, directory: join(directory, 'careless') },
      patience: { answerMs: 1_000, slowRefusalMs: 1_000 },
      meanwhile: async traffic => {
        const config = join(directory, 'careless', `${from.name}.json`)
        await penstock(
          ['run', '--once', '--config', config, '--manifests', '-', '--hostname-override', 'node-a'],
          unguarded,
        )
        await traffic.advance(1)
        await penstock(['cleanup'])
        await world.forgetFlows()
        await traffic.advance(1)
      },
    })
    const matching = (pattern: RegExp): string[] => failures.filter(failure => pattern.test(failure))
    expect(matching(/TCP from a stranger to VIP of guarded: answered by/)).not.toEqual([])
    expect(matching(/UDP from a stranger to VIP of guarded: answered by/)).not.toEqual([])
    expect(matching(/TCP from a local pod to ClusterIP of web: silent/)).not.toEqual([])
    expect(matching(/TCP from a local pod to ClusterIP of empty: silent/)).not.toEqual([])
    expect(matching(/TCP from outside to NodePort of web: the established flow: /)).not.toEqual([])
    expect(matching(/UDP from outside to NodePort of web: the established flow: /)).not.toEqual([])
  } finally {
    await world.close()
  }
})
