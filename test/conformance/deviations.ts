// What a mode makes of a packet otherwise than the scenarios say: as data, and the scenarios as that mode means them.
import type { ProxyMode } from '../../src/config/types.ts'
import { addressesInUse, type InUse } from './in-use.ts'
import type { Scenario, ScenarioPacket } from './scenario.ts'

/** A written difference: why, in which scenarios, which of their packets, and the verdict that those meet instead. */
export interface Deviation {
  readonly reason: string
  readonly scenarios: readonly string[]
  /** `inUse`: addresses that Services have at that step. */
  readonly concerns: (packet: ScenarioPacket, inUse: InUse) => boolean
  readonly verdict: 'none' | 'reject' | 'drop'
}

/** kube-proxy's iptables mode alone lets the kernel route what came from a loopback address (`route_localnet`). */
const noNodePortsOnLoopback: Deviation = {
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
}

/** Scenarios that send to a port which no Service defines, on the cluster address of a Service. */
const strayOnClusterIPs = [
  'cluster-ip-spreads-over-all-ready-endpoints',
  'every-port-of-a-service-has-its-own-endpoints',
  'many-ports-on-one-address',
  'sctp-follows-every-policy',
  'tcp-and-udp-share-a-port-number',
]

const deviations: Readonly<Record<ProxyMode, readonly Deviation[]>> = {
  iptables: [],
  nftables: [
    noNodePortsOnLoopback,
    {
      reason: 'a port that no Service defines is rejected on a cluster address in use',
      scenarios: strayOnClusterIPs,
      concerns: ({ packet, expect }, { clusterIPs }) => expect.verdict === 'none' && clusterIPs.has(packet.dst),
      verdict: 'reject',
    },
  ],
  ipvs: [
    noNodePortsOnLoopback,
    {
      reason: 'a port that no Service defines is rejected on a Service address',
      scenarios: [
        ...strayOnClusterIPs,
        'external-ip-cluster-policy-masquerades-everybody',
        'load-balancer-cluster-policy-masquerades-everybody',
        'services-share-an-address-on-different-ports',
        'source-ranges-admit-and-drop',
      ].sort(),
      concerns: ({ packet, expect }, { clusterIPs, others }) =>
        expect.verdict === 'none' && (clusterIPs.has(packet.dst) || others.has(packet.dst)),
      verdict: 'reject',
    },
  ],
}

/** The written differences of a mode. */
export const deviationsOf = (mode: ProxyMode): readonly Deviation[] => deviations[mode]

/**
 * The scenario with the verdicts that a mode's packets meet. An empty nodePortAddresses means every address in the
 * scenarios; nftables mode takes it for `primary` (`kube-proxy.md` §14). Throws an Error if a deviation that is written
 * down for this scenario changes nothing in it: it is to be struck off.
 */
export function asMeantBy(mode: ProxyMode, scenario: Scenario, written = deviationsOf(mode)): Scenario {
  const mine = written.filter(({ scenarios }) => scenarios.includes(scenario.name))
  const changing = new Set<Deviation>()
  const used = mine.length === 0 ? [] : addressesInUse(scenario)
  const steps = scenario.steps.map((step, index) => {
    const inUse = used[index]
    if (inUse === undefined) return step
    const packets = step.packets.map((item): ScenarioPacket => {
      const deviation = mine.find(({ concerns }) => concerns(item, inUse))
      if (deviation === undefined) return item
      if (deviation.verdict !== item.expect.verdict) changing.add(deviation)
      return { ...item, expect: { verdict: deviation.verdict, endpoints: [], sticky: false } }
    })
    return { ...step, packets }
  })
  for (const deviation of mine) {
    if (!changing.has(deviation))
      throw new Error(`${scenario.name} shows nothing of "${deviation.reason}" in ${mode} mode`)
  }
  const { nodePortAddresses } = scenario.config
  const everywhere = mode === 'nftables' && nodePortAddresses.length === 0 ? ['0.0.0.0/0', '::/0'] : nodePortAddresses
  return { ...scenario, steps, config: { ...scenario.config, nodePortAddresses: everywhere } }
}

/** The differences as a Markdown table, for the README of the mode's backend. */
export function deviationTable(mode: ProxyMode): string {
  const rows = deviationsOf(mode).map(
    ({ reason, verdict, scenarios }) =>
      `| ${reason} | ${verdict} | ${scenarios.map(name => `\`${name}\``).join(', ')} |`,
  )
  return ['| difference | verdict | scenarios |', '| --- | --- | --- |', ...rows].join('\n')
}
