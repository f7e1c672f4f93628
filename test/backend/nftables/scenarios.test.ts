// Every conformance scenario through the rules of the nftables backend, with its written differences to iptables mode.
import { describe, expect, test } from 'vitest'
import type { ObjectEvent } from '../../../src/api/decode.ts'
import type { Exec } from '../../../src/kernel/exec.ts'
import { loadScenarios, type Scenario, type ScenarioPacket } from '../../conformance/scenario.ts'
import { complaintAbout, eventsOf, subjectOf } from '../../conformance/subject.ts'

const noKernel: Exec = { run: () => Promise.reject(new Error('trace asks no kernel')) }

/** What nftables mode means differently, as kube-proxy's does (`kube-proxy.md` §14); by the packets it concerns. */
const deviations = [
  {
    reason: 'node ports are not available on loopback',
    scenarios: [
      'localhost-node-ports-follow-node-port-addresses',
      'node-port-addresses-with-a-zero-prefix-admit-all',
      'node-port-cluster-policy-masquerades-everybody',
      'node-port-local-policy-keeps-client-address',
      'node-port-local-policy-without-local-endpoint-drops',
      'node-port-without-endpoints-rejects',
    ],
    concerns: ({ packet }: ScenarioPacket) => packet.dst.startsWith('127.') || packet.dst === '::1',
    verdict: 'none',
  },
  {
    reason: 'a port that no Service defines is rejected on a cluster address in use',
    scenarios: [
      'cluster-ip-spreads-over-all-ready-endpoints',
      'every-port-of-a-service-has-its-own-endpoints',
      'many-ports-on-one-address',
      'sctp-follows-every-policy',
      'tcp-and-udp-share-a-port-number',
    ],
    concerns: ({ packet, expect: { verdict } }: ScenarioPacket) =>
      verdict === 'none' && ['10.96.0.20', 'fd00:10:96::20'].includes(packet.dst),
    verdict: 'reject',
  },
] as const

/** nftables mode takes an empty list for `primary`; the scenarios are written for one that means everything. */
function asIptables(scenario: Scenario): Scenario {
  const { nodePortAddresses = [] } = scenario.config
  if (nodePortAddresses.length > 0) return scenario
  return { ...scenario, config: { ...scenario.config, nodePortAddresses: ['0.0.0.0/0', '::/0'] } }
}

describe('scenarios through the nftables rules', () => {
  test.each(loadScenarios().map(scenario => [scenario.name, asIptables(scenario)] as const))(
    '%s',
    async (name, scenario) => {
      const ofScenario = deviations.filter(({ scenarios }) => scenarios.some(named => named === name))
      let deviating = 0
      const latest = new Map<string, ObjectEvent>()
      const stepwise = subjectOf(scenario, 'nftables', noKernel)
      for (const step of scenario.steps) {
        const events = eventsOf(step)
        for (const event of events) latest.set(`${event.kind} ${event.key}`, event)
        stepwise.take(events)
        const programs = await stepwise.desired()
        for (const item of step.packets) {
          const outcome = stepwise.trace(programs, item.packet)
          const deviation = ofScenario.find(({ concerns }) => concerns(item))
          if (deviation === undefined) {
            expect(complaintAbout(item, outcome), step.title).toBeUndefined()
          } else {
            expect(outcome.verdict, deviation.reason).toBe(deviation.verdict)
            if (outcome.verdict !== item.expect.verdict) deviating++
          }
        }
        const afresh = subjectOf(scenario, 'nftables', noKernel)
        afresh.take([...latest.values()].filter(event => event.record !== undefined))
        for (const [family, program] of await afresh.desired()) {
          expect(new Map([...(programs.get(family) ?? [])].sort()), step.title).toEqual(new Map([...program].sort()))
        }
      }
      expect(stepwise.complaints).toEqual([])
      // A deviation that is none any more is to be struck off the list.
      expect(deviating > 0).toBe(ofScenario.length > 0)
    },
  )
})
