// The written differences: as data that means something, and as the tables that the READMEs of the backends show.
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it, test } from 'vitest'
import type { ProxyMode } from '../../src/config/types.ts'
import { asMeantBy, deviationsOf, deviationTable } from './deviations.ts'
import { loadScenarios } from './scenario.ts'

const modes: readonly ProxyMode[] = ['iptables', 'nftables', 'ipvs']
const readme = (mode: ProxyMode): string => join(import.meta.dirname, `../../src/backend/${mode}/README.md`)
const scenarios = loadScenarios()

test.each(modes)('every difference of %s mode changes something in every scenario it names', mode => {
  for (const scenario of scenarios) {
    const concerned = deviationsOf(mode).some(({ scenarios: named }) => named.includes(scenario.name))
    const before = scenario.steps.flatMap(({ packets }) => packets)
    const after = asMeantBy(mode, scenario).steps.flatMap(({ packets }) => packets)
    expect(after.map(({ packet }) => packet)).toEqual(before.map(({ packet }) => packet))
    expect(
      after.some((item, index) => item !== before[index]),
      scenario.name,
    ).toBe(concerned)
  }
})

describe('a difference', () => {
  const [scenario] = scenarios.filter(({ name }) => name === 'cluster-ip-without-endpoints-rejects')
  if (scenario === undefined) throw new Error('that scenario is there')

  it('that changes nothing is an error', () => {
    const idle = { reason: 'it rains', scenarios: [scenario.name], verdict: 'reject' as const }
    expect(() => asMeantBy('ipvs', scenario, [{ ...idle, concerns: () => false }])).toThrow(
      'cluster-ip-without-endpoints-rejects shows nothing of "it rains" in ipvs mode',
    )
    const same = {
      ...idle,
      concerns: ({ expect: { verdict } }: { expect: { verdict: string } }) => verdict === 'reject',
    }
    expect(() => asMeantBy('ipvs', scenario, [same])).toThrow('shows nothing of')
  })

  it('is shown in no other scenario', () => {
    const other = { reason: 'it rains', scenarios: ['another'], concerns: () => true, verdict: 'drop' as const }
    expect(asMeantBy('iptables', scenario, [other]).steps).toEqual(scenario.steps)
  })
})

test('an empty nodePortAddresses means every address, in nftables mode in so many words', () => {
  const [scenario] = scenarios.filter(({ config }) => config.nodePortAddresses.length === 0)
  if (scenario === undefined) throw new Error('most scenarios say nothing of them')
  const addresses = modes.map(mode => asMeantBy(mode, scenario).config.nodePortAddresses)
  expect(addresses).toEqual([[], ['0.0.0.0/0', '::/0'], []])
})

test.each(modes.filter(mode => existsSync(readme(mode))))('the README of %s shows its differences', mode => {
  const text = readFileSync(readme(mode), 'utf8')
  const shown = /^\| difference \|.*\n(?:\|.*\n)*/m.exec(text)?.[0] ?? ''
  const expected = deviationsOf(mode).length === 0 ? '' : `${deviationTable(mode)}\n`
  expect(shown, `put this table into src/backend/${mode}/README.md:\n\n${expected}`).toBe(expected)
})
