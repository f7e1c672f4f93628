// The written differences of nftables mode, as data, and the scenarios as that mode means them (`kube-proxy.md` §14).
import type { Scenario, ScenarioPacket } from './scenario.ts'

/** A difference: why, in which scenarios, which of their packets, and the verdict those meet instead. */
export interface PacketDeviation {
  readonly reason: string
  readonly scenarios: readonly string[]
  readonly concerns: (packet: ScenarioPacket) => boolean
  readonly verdict: 'none' | 'reject'
}

export const nftablesDeviations: readonly PacketDeviation[] = [
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
    concerns: ({ packet }) => packet.dst.startsWith('127.') || packet.dst === '::1',
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
    concerns: ({ packet, expect: { verdict } }) =>
      verdict === 'none' && ['10.96.0.20', 'fd00:10:96::20'].includes(packet.dst),
    verdict: 'reject',
  },
]

/**
 * The scenario as nftables mode means it. That mode takes an empty nodePortAddresses for `primary`; the scenarios are
 * written for one that means everything. Throws if a deviation that is written down changes nothing: it is to be struck off.
 */
export function asNftables(scenario: Scenario): Scenario {
  const deviations = nftablesDeviations.filter(({ scenarios }) => scenarios.includes(scenario.name))
  let deviating = 0
  const packet = (item: ScenarioPacket): ScenarioPacket => {
    const deviation = deviations.find(({ concerns }) => concerns(item))
    if (deviation === undefined) return item
    if (deviation.verdict !== item.expect.verdict) deviating++
    return { ...item, expect: { verdict: deviation.verdict, endpoints: [], sticky: false } }
  }
  const steps = scenario.steps.map(step => ({ ...step, packets: step.packets.map(packet) }))
  if (deviations.length > 0 && deviating === 0) throw new Error(`${scenario.name} does not deviate in nftables mode`)
  const { nodePortAddresses } = scenario.config
  const everywhere = nodePortAddresses.length > 0 ? nodePortAddresses : ['0.0.0.0/0', '::/0']
  return { ...scenario, steps, config: { ...scenario.config, nodePortAddresses: everywhere } }
}
