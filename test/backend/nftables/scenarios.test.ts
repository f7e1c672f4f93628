// Every conformance scenario through the rules of the nftables backend, with its written differences to iptables mode.
import { describe, expect, it, test } from 'vitest'
import type { ObjectEvent } from '../../../src/api/decode.ts'
import type { Exec } from '../../../src/kernel/exec.ts'
import { asNftables, nftablesDeviations } from '../../conformance/nftables.ts'
import { loadScenarios } from '../../conformance/scenario.ts'
import { complaintAbout, eventsOf, subjectOf } from '../../conformance/subject.ts'

const noKernel: Exec = { run: () => Promise.reject(new Error('trace asks no kernel')) }

describe('scenarios through the nftables rules', () => {
  it('deviates only in scenarios that exist', () => {
    const names = new Set(loadScenarios().map(({ name }) => name))
    expect(nftablesDeviations.flatMap(({ scenarios }) => scenarios).filter(name => !names.has(name))).toEqual([])
  })

  test.each(loadScenarios().map(scenario => [scenario.name, asNftables(scenario)] as const))(
    '%s',
    async (_name, scenario) => {
      const latest = new Map<string, ObjectEvent>()
      const stepwise = subjectOf(scenario, 'nftables', noKernel)
      for (const step of scenario.steps) {
        const events = eventsOf(step)
        for (const event of events) latest.set(`${event.kind} ${event.key}`, event)
        stepwise.take(events)
        const programs = await stepwise.desired()
        for (const item of step.packets) {
          expect(complaintAbout(item, stepwise.trace(programs, item.packet)), step.title).toBeUndefined()
        }
        const afresh = subjectOf(scenario, 'nftables', noKernel)
        afresh.take([...latest.values()].filter(event => event.record !== undefined))
        for (const [family, program] of await afresh.desired()) {
          expect(new Map([...(programs.get(family) ?? [])].sort()), step.title).toEqual(new Map([...program].sort()))
        }
      }
      expect(stepwise.complaints).toEqual([])
    },
  )
})
