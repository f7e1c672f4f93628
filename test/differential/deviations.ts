// The written differences between the modes, as data: why, which packets, and what the mode answers instead of iptables
// mode (`kube-proxy.md` §14). A mode that is not named answers as iptables mode does.
import { cidrContains, type IP } from '../../src/net/ip.ts'
import type { Packet } from '../../src/net/packet.ts'
import type { ScenarioConfig } from '../conformance/scenario.ts'
import { ip } from '../conformance/world.ts'
import { type Answer, frontendFor, nodePortFor, type View } from './oracle.ts'
import { isOfHost } from './packets.ts'

export interface Deviation {
  readonly modes: readonly string[]
  readonly reason: string
  /** `policy` is what iptables mode's policy answers. */
  readonly concerns: (packet: Packet, view: View, policy: Answer) => boolean
  /** `any`: the answer is left open. */
  readonly verdict: 'none' | 'reject' | 'drop' | 'any'
}

/** An address that ipvs mode makes the node's own. */
const isOfService = (address: IP, view: View): boolean => view.addresses.has(address) && !isHosts(address, view)

const isHealthCheck = ({ protocol, port }: Packet, { ports }: View): boolean =>
  protocol === 'TCP' && ports.some(({ healthCheckNodePort }) => healthCheckNodePort === port)

const isHosts = (address: IP, { network }: View): boolean => isOfHost(address, network.nodeAddresses)

function addressPortOf(endpoint: string): Pick<Packet, 'dst' | 'port'> {
  const [, dst = '', port = ''] = /^\[?(.+?)\]?:(\d+)(?: masqueraded)?$/.exec(endpoint) ?? []
  return { dst: ip(dst), port: Number(port) }
}

/** The packet is for an address that a Service has, and would otherwise be for a node port. */
function isNodePortToo(packet: Packet, view: View): boolean {
  const kind = frontendFor(packet, view)?.frontend.kind
  return kind !== undefined && kind !== 'NodePort' && nodePortFor(packet, view) !== undefined
}

/** The first one that concerns a packet counts. */
export const deviations: readonly Deviation[] = [
  {
    modes: ['iptables'],
    reason:
      'with localhost node ports the kernel routes to loopback (route_localnet), which stays closed to all others',
    // In INPUT refusals of Services come first, in OUTPUT they do not know node ports.
    concerns: ({ src, dst }, view, policy) =>
      view.network.localhostNodePorts &&
      isOfHost(dst, []) &&
      !isOfHost(src, []) &&
      (policy.verdict === 'none' || (policy.verdict !== 'dnat' && isHosts(src, view))),
    verdict: 'drop',
  },
  {
    modes: ['iptables', 'ipvs'],
    reason: 'as in kube-proxy, an endpoint whose address and port a frontend has too meets what that frontend refuses',
    concerns: (packet, view, { endpoints }) =>
      endpoints.some(endpoint => frontendFor({ ...packet, ...addressPortOf(endpoint) }, view) !== undefined),
    verdict: 'any',
  },
  {
    modes: ['iptables'],
    reason: 'as in kube-proxy, a node port takes what a frontend of the same number on an address of the node refuses',
    concerns: (packet, view, policy) => policy.verdict !== 'dnat' && isNodePortToo(packet, view),
    verdict: 'any',
  },
  {
    modes: ['nftables', 'ipvs'],
    reason: 'node ports are not available on loopback',
    concerns: (packet, view) => isOfHost(packet.dst, []) && frontendFor(packet, view)?.frontend.kind === 'NodePort',
    verdict: 'none',
  },
  {
    modes: ['nftables'],
    reason: 'a port that no Service defines is rejected on a cluster address in use',
    concerns: (packet, view, policy) =>
      policy.verdict === 'none' &&
      view.addresses.get(packet.dst)?.has('ClusterIP') === true &&
      !isHosts(packet.dst, view),
    verdict: 'reject',
  },
  {
    modes: ['nftables'],
    reason: 'an address inside the ServiceCIDRs that no Service has is dropped',
    concerns: (packet, view, policy) =>
      policy.verdict === 'none' &&
      view.serviceCIDRs.some(cidr => cidrContains(cidr, packet.dst)) &&
      !isHosts(packet.dst, view),
    verdict: 'drop',
  },
  {
    modes: ['ipvs'],
    reason: "addresses of Services are the node's own: one that comes as a source from elsewhere is a martian",
    concerns: ({ src }, view) => isOfService(src, view),
    verdict: 'any',
  },
  {
    modes: ['ipvs'],
    reason: "an endpoint on an external IP that is the address of another node is not reached: that is the node's own",
    concerns: (_packet, view, { endpoints }) => endpoints.some(item => isOfService(addressPortOf(item).dst, view)),
    verdict: 'any',
  },
  {
    modes: ['ipvs'],
    reason: 'a port that no Service defines is rejected on an address of a Service',
    concerns: (packet, view, policy) =>
      policy.verdict === 'none' && isOfService(packet.dst, view) && !isHealthCheck(packet, view),
    verdict: 'reject',
  },
]

/** What a mode must answer, and why not what the policy answers if it is something else. */
export interface Expected {
  readonly answer: Answer | 'any'
  readonly policy: Answer
  /** Of the deviation that concerns the packet. */
  readonly reason?: string
}

/** The answer that a mode must give where the policy gives this one. */
export function expectedIn(mode: string, policy: Answer, packet: Packet, view: View): Expected {
  const deviation = deviations.find(({ modes, concerns }) => modes.includes(mode) && concerns(packet, view, policy))
  if (deviation === undefined) return { answer: policy, policy }
  const { reason, verdict } = deviation
  return { answer: verdict === 'any' ? 'any' : { verdict, endpoints: [], servicePort: null }, policy, reason }
}

/**
 * The configuration by which a mode means what iptables mode means by this one: nftables mode takes an empty
 * nodePortAddresses for `primary`, iptables mode for every address (§3.4).
 */
export function configurationIn(mode: string, config: ScenarioConfig): ScenarioConfig {
  if (mode !== 'nftables') return config
  const { nodePortAddresses } = config
  if (nodePortAddresses.length === 0) return { ...config, nodePortAddresses: ['0.0.0.0/0', '::/0'] }
  return nodePortAddresses.length === 1 && nodePortAddresses[0] === 'primary'
    ? { ...config, nodePortAddresses: [] }
    : config
}
