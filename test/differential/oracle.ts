// What becomes of a packet, read straight from the Service ports, without chains, maps or marks: the words of
// `kube-proxy.md` §3 as iptables mode means them. Naive on purpose, so that a mistake that all backends share shows.
import { type CIDR, cidrContains, formatAddressPort, type IP } from '../../src/net/ip.ts'
import type { Packet } from '../../src/net/packet.ts'
import type { Network } from '../../src/policy/network.ts'
import type { EndpointChoice, Frontend, ServicePort } from '../../src/policy/service-port.ts'
import { isOfHost } from './packets.ts'

/** What is asked of a backend's `trace`. Every endpoint is equally likely. */
export interface Answer {
  readonly verdict: 'dnat' | 'reject' | 'drop' | 'none'
  /** `10.244.1.10:8080`, or `10.244.1.10:8080 masqueraded`; sorted. */
  readonly endpoints: readonly string[]
  readonly servicePort: string | null
}

/** A frontend and whose it is. */
export interface Found {
  readonly port: ServicePort
  readonly frontend: Frontend
}

/** One family of a cluster as policy sees it. */
export interface View {
  readonly network: Network
  /** With the frontends that they were granted. */
  readonly ports: readonly ServicePort[]
  /** Of the cluster, whatever the mode makes of them. */
  readonly serviceCIDRs: readonly CIDR[]
  /** By address, protocol and port. */
  readonly frontends: ReadonlyMap<string, Found>
  /** What the Services have each address as. */
  readonly addresses: ReadonlyMap<Frontend['address'], ReadonlySet<Frontend['kind']>>
}

/** Service ports as they are looked up. */
export function viewOf(network: Network, ports: readonly ServicePort[], serviceCIDRs: readonly CIDR[]): View {
  const frontends = new Map<string, Found>()
  const addresses = new Map<Frontend['address'], Set<Frontend['kind']>>()
  for (const port of ports) {
    for (const frontend of port.frontends) {
      frontends.set(`${frontend.address} ${port.protocol} ${frontend.port}`, { port, frontend })
      addresses.set(frontend.address, (addresses.get(frontend.address) ?? new Set()).add(frontend.kind))
    }
  }
  return { network, ports, serviceCIDRs, frontends, addresses }
}

/** The answer of the policy. */
export function answerOf(packet: Packet, view: View): Answer {
  const found = frontendFor(packet, view)
  if (found === undefined) return { verdict: 'none', endpoints: [], servicePort: null }
  const { port, frontend } = found
  const { choice, masquerade } = decide(packet, found, view.network)
  if (choice.kind !== 'endpoints') return { verdict: choice.kind, endpoints: [], servicePort: port.name }
  if (isShutOut(packet.src, frontend)) return { verdict: 'drop', endpoints: [], servicePort: port.name }
  const fromHost = isOfHost(packet.src, view.network.nodeAddresses)
  const endpoints = choice.endpoints.map(({ address, port: number }) => {
    // What others send to the host itself does not leave it again, and keeps its source.
    const leaves = fromHost || !isOfHost(address, view.network.nodeAddresses)
    const masqueraded = leaves && (masquerade || address === packet.src)
    return `${formatAddressPort(address, number)}${masqueraded ? ' masqueraded' : ''}`
  })
  return { verdict: 'dnat', endpoints: endpoints.sort(), servicePort: port.name }
}

/** The frontend that a packet is for: an exact address first, then a node port. */
export const frontendFor = (packet: Packet, view: View): Found | undefined =>
  find(packet, packet.dst, view) ?? nodePortFor(packet, view)

/** The node port that a packet is for, if no Service has its address. */
export const nodePortFor = (packet: Packet, view: View): Found | undefined =>
  takesNodePorts(packet.dst, view.network) ? find(packet, 'node-ports', view) : undefined

const find = ({ protocol, port }: Packet, address: Frontend['address'], { frontends }: View): Found | undefined =>
  frontends.get(`${address} ${protocol} ${port}`)

function takesNodePorts(dst: IP, { nodePortAddresses, nodeAddresses, localhostNodePorts }: Network): boolean {
  if (!isOfHost(dst, nodeAddresses)) return false
  if (isOfHost(dst, []) && !localhostNodePorts) return false
  return nodePortAddresses.kind === 'all' || nodePortAddresses.cidrs.some(cidr => cidrContains(cidr, dst))
}

/** Where the packet goes and whether its source is replaced, before source ranges are looked at. */
function decide(
  packet: Packet,
  { port, frontend }: Found,
  network: Network,
): { choice: EndpointChoice; masquerade: boolean } {
  const fromPod = isFromPod(packet, network)
  if (frontend.traffic === 'internal') {
    const masquerade = network.masqueradeAll || (network.detector.kind !== 'none' && !fromPod)
    return { choice: port.internal, masquerade }
  }
  if (port.externalMasquerade) return { choice: port.external, masquerade: true }
  if (fromPod) return { choice: port.externalFromNode, masquerade: false }
  if (isOfHost(packet.src, network.nodeAddresses)) return { choice: port.externalFromNode, masquerade: true }
  return { choice: port.external, masquerade: false }
}

function isFromPod({ src, interface: arrived }: Packet, { detector }: Network): boolean {
  switch (detector.kind) {
    case 'none':
      return false
    case 'source-cidr':
      return cidrContains(detector.cidr, src)
    case 'interface':
      return arrived === detector.name
    case 'interface-prefix':
      return arrived?.startsWith(detector.prefix) === true
  }
}

const isShutOut = (src: IP, { sourceRanges }: Frontend): boolean =>
  sourceRanges !== undefined && !sourceRanges.some(range => cidrContains(range, src))
