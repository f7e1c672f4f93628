// Random packets into a cluster: to what its Services answer on, to what is nearly that, and from everybody.
import { cidrContains, type Family, familyOf, type IP, parseIP } from '../../src/net/ip.ts'
import type { Packet } from '../../src/net/packet.ts'
import { type Protocol, parseProtocol, protocols } from '../../src/net/protocol.ts'
import { list, mapping } from '../conformance/check.ts'
import { interfaces, world } from '../conformance/world.ts'
import { families, nodePortNumbers, portNumbers, type RandomCluster } from './cluster.ts'
import { type Places, places } from './places.ts'
import type { Random } from './random.ts'

/** A destination. */
interface Target {
  readonly dst: IP
  readonly port: number
  readonly protocol: Protocol
}

/** What there is to aim at in one family. */
interface Targets {
  readonly frontends: readonly Target[]
  readonly nodePorts: readonly Omit<Target, 'dst'>[]
  readonly endpoints: readonly Target[]
  readonly own: readonly IP[]
}

/** Makes packets of one cluster; the same for the same stream of numbers. */
export function packetMaker(cluster: RandomCluster): (random: Random) => Packet {
  const targets: Record<Family, Targets> = { IPv4: targetsOf(cluster, 'IPv4'), IPv6: targetsOf(cluster, 'IPv6') }
  return random => {
    const family = random.pick(families)
    const target = randomTarget(random, targets[family], places[family])
    const src = randomSource(random, targets[family], places[family])
    const arrived = interfaceFor(random, src, targets[family].own)
    return arrived === undefined ? { src, ...target } : { src, ...target, interface: arrived }
  }
}

function targetsOf({ objects, nodeAddresses }: RandomCluster, family: Family): Targets {
  const frontends: Target[] = []
  const nodePorts: Omit<Target, 'dst'>[] = []
  const endpoints: Target[] = []
  const addressIn = (value: unknown): IP[] => {
    const address = typeof value === 'string' ? parseIP(value) : undefined
    return address !== undefined && familyOf(address) === family ? [address] : []
  }
  for (const object of objects) {
    if (object.kind === 'Service') {
      const spec = mapping(object.spec, 'spec')
      const balancer = mapping(mapping(object.status ?? {}, 'status').loadBalancer ?? {}, 'loadBalancer')
      const ingress = list(balancer.ingress, 'ingress').map(item => mapping(item, 'ingress').ip)
      const addresses = [...list(spec.clusterIPs, 'clusterIPs'), ...list(spec.externalIPs, 'externalIPs'), ...ingress]
      for (const { protocol, port, nodePort } of portsOf(spec.ports)) {
        for (const dst of addresses.flatMap(addressIn)) frontends.push({ dst, port, protocol })
        if (nodePort !== 0) nodePorts.push({ port: nodePort, protocol })
      }
    }
    if (object.kind === 'EndpointSlice') {
      const hosts = list(object.endpoints, 'endpoints').flatMap(item =>
        list(mapping(item, 'endpoint').addresses, 'addresses'),
      )
      for (const { protocol, port } of portsOf(object.ports)) {
        for (const dst of hosts.flatMap(addressIn).slice(0, 3)) endpoints.push({ dst, port, protocol })
      }
    }
  }
  return { frontends, nodePorts, endpoints, own: nodeAddresses.filter(address => familyOf(address) === family) }
}

function portsOf(value: unknown): { protocol: Protocol; port: number; nodePort: number }[] {
  return list(value, 'ports').map(item => {
    const { protocol, port, nodePort } = mapping(item, 'port')
    return { protocol: parseProtocol(String(protocol)) ?? 'TCP', port: Number(port), nodePort: Number(nodePort ?? 0) }
  })
}

const anyPort = (random: Random): number => random.pick([...portNumbers, ...nodePortNumbers, 82, 30_084, 32_000, 8_081])

function randomTarget(random: Random, targets: Targets, at: Places): Target {
  const { frontends, nodePorts, endpoints, own } = targets
  const strayed = {
    dst: random.pick([...at.clusterIPs.slice(0, 12), ...at.vips, ...at.externalIPs]),
    port: anyPort(random),
    protocol: random.pick(protocols),
  }
  const frontend = frontends.length === 0 ? strayed : random.pick(frontends)
  const nodePort = nodePorts.length === 0 ? strayed : random.pick(nodePorts)
  const throw100 = random.int(0, 99)
  if (throw100 < 64) return frontend
  if (throw100 < 80) return { ...nodePort, dst: random.pick(own) }
  if (throw100 < 82) return { ...nodePort, dst: random.pick(at.loopback) }
  if (throw100 < 85) return { ...nodePort, dst: random.pick([at.otherNode, ...at.vips, ...at.clusterIPs.slice(0, 3)]) }
  if (throw100 < 89) return { ...frontend, port: anyPort(random) }
  if (throw100 < 92) return { ...frontend, protocol: random.pick(protocols) }
  if (throw100 < 94) return { ...frontend, dst: random.pick([...own, ...at.loopback, at.otherNode]) }
  if (throw100 < 96) return endpoints.length === 0 ? strayed : random.pick(endpoints)
  return strayed
}

function randomSource(random: Random, { own, frontends }: Targets, at: Places): IP {
  const throw100 = random.int(0, 99)
  // The pods that endpoints are most often on: many a packet is chosen back to its sender.
  if (throw100 < 22) return random.pick(at.localPods.slice(0, 7))
  if (throw100 < 32) return random.pick(at.remotePods.slice(0, 7))
  if (throw100 < 46) return random.pick(at.clients)
  if (throw100 < 66) return random.pick(at.outside)
  if (throw100 < 84) return random.pick(own)
  if (throw100 < 88) return random.pick(at.loopback)
  if (throw100 < 92) return at.otherNode
  if (throw100 < 98 || frontends.length === 0) return random.pick(at.strangers)
  // A load balancer's address that is not the node's, or a cluster address, as nobody but a liar sends it.
  return random.pick(frontends).dst
}

/** Mostly the one by which such a source arrives. */
function interfaceFor(random: Random, src: IP, own: readonly IP[]): string | undefined {
  if (isOfHost(src, own)) return undefined
  if (random.chance(0.1)) return random.pick([undefined, 'veth', 'vethc0', 'vethe01', 'eth0', 'lo'])
  return usualInterface(src)
}

/** True for an address of the node, loopback included. */
export const isOfHost = (address: IP, own: readonly IP[]): boolean =>
  own.includes(address) || address.startsWith('127.') || address === '::1'

function usualInterface(src: IP): string {
  if (!world.podCIDRs.some(cidr => cidrContains(cidr, src))) return interfaces.underlay
  const at = places[familyOf(src)]
  return at.clients.includes(src) ? interfaces.askingPods : interfaces.servingPods
}
