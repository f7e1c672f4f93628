// What the table needs whatever the Services are: maps, sets, base chains and the way from those to the maps.
import { type CIDR, type Family, hostCIDR, type IP, parseCIDR, parseIP } from '../../net/ip.ts'
import type { LocalDetector, Network } from '../../policy/network.ts'
import type { KernelObject } from '../backend.ts'
import { staticContainers } from './containers.ts'
import { chains, containers, pickChains } from './names.ts'
import type { Chain, Field, NftObject, Rule, Statement } from './objects.ts'
import { mergeCIDRs, rangeOf } from './ranges.ts'
import { kernelObject } from './render.ts'

/** Endpoints that are map elements; a larger set gets chains of its own, in groups. */
export const mostElements = 32

/** Loopback, which NodePorts leave alone: the kernel does not route translated packets from there (§3.4). */
export const loopback = (family: Family): CIDR => {
  const cidr = family === 'IPv4' ? parseCIDR('127.0.0.0/8') : hostCIDR(parseIP('::1') as IP)
  if (cidr === undefined) throw new Error('unreachable: the loopback CIDR is well formed')
  return cidr
}

const frontendFields: readonly Field[] = ['daddr', 'protocol', 'port']
const portFields: readonly Field[] = ['protocol', 'port']

/** A rule that goes to a chain if all of these hold. */
export const gotoRule = (chain: string, ...matches: readonly Statement[]): Rule => [
  ...matches,
  { kind: 'verdict', verdict: { kind: 'goto', chain } },
]

/** The match for packets of this node's pods; undefined without detector. */
export function fromLocalPod(detector: LocalDetector, negated: boolean): Statement | undefined {
  switch (detector.kind) {
    case 'none':
      return undefined
    case 'source-cidr':
      return { kind: 'address', side: 'saddr', negated, ranges: [rangeOf(detector.cidr)] }
    case 'interface':
      return { kind: 'input-interface', name: detector.name, prefix: false, negated }
    case 'interface-prefix':
      return { kind: 'input-interface', name: detector.prefix, prefix: true, negated }
  }
}

/** The static objects, in no particular order. */
export function* skeleton(network: Network): Iterable<KernelObject> {
  for (const object of objects(network)) yield kernelObject(object, network.family)
}

function* objects(network: Network): Iterable<NftObject> {
  yield* staticContainers
  for (let octet = 0; octet < 256; octet++) {
    const text = `0x${octet.toString(16)}`
    yield { kind: 'element', container: containers.octets, key: [text, text] }
  }

  for (const hook of ['prerouting', 'output'] as const) {
    const rules: Rule[] = [[{ kind: 'verdict', verdict: { kind: 'jump', chain: chains.services } }]]
    yield { kind: 'chain', name: chains[hook], hook: { hook, priority: -100 }, rules }
  }
  yield {
    kind: 'chain',
    name: chains.postrouting,
    hook: { hook: 'postrouting', priority: 100 },
    rules: masquerading(network),
  }
  yield { kind: 'chain', name: chains.services, rules: dispatch(network) }
  yield { kind: 'chain', name: chains.refused, rules: [[{ kind: 'reject' }]] }
  for (let count = 1; count <= mostElements; count++) yield* pickers(count, network.masqueradeMark)
}

/** From addresses and ports to what becomes of the packet. */
function dispatch(network: Network): Rule[] {
  const { family, detector, masqueradeAll, masqueradeMark, nodePortAddresses, serviceCIDRs = [] } = network
  const toClusterIP: Statement = { kind: 'in-set', fields: ['daddr'], set: containers.clusterIPs }
  const setMark: Statement = { kind: 'set-mark', mark: masqueradeMark }
  const rules: Rule[] = []

  const notFromPod = fromLocalPod(detector, true)
  if (masqueradeAll) rules.push([toClusterIP, setMark])
  else if (notFromPod !== undefined) rules.push([toClusterIP, notFromPod, setMark])

  rules.push([{ kind: 'verdict-map', fields: frontendFields, map: containers.services }])

  const admitted: Statement[] =
    nodePortAddresses.kind === 'all'
      ? []
      : [{ kind: 'address', side: 'daddr', negated: false, ranges: mergeCIDRs(nodePortAddresses.cidrs) }]
  rules.push([
    { kind: 'address', side: 'daddr', negated: true, ranges: [rangeOf(loopback(family))] },
    ...admitted,
    { kind: 'local', side: 'daddr', negated: false },
    { kind: 'verdict-map', fields: portFields, map: containers.nodePorts },
  ])

  // An address that the node has bound itself, such as that of a node-local DNS cache, is left to the node.
  const elsewhere: Statement = { kind: 'local', side: 'daddr', negated: true }
  rules.push([toClusterIP, elsewhere, { kind: 'reject' }])
  if (serviceCIDRs.length > 0) {
    const inCIDRs: Statement = { kind: 'address', side: 'daddr', negated: false, ranges: mergeCIDRs(serviceCIDRs) }
    rules.push([inCIDRs, elsewhere, { kind: 'verdict', verdict: { kind: 'drop' } }])
  }
  return rules
}

/** Masquerades what is marked, and what reached itself. */
function masquerading({ family, masqueradeMark }: Network): Rule[] {
  const octets = Array.from({ length: family === 'IPv4' ? 4 : 16 }, (_, octet) => octet)
  return [
    // Cleared, so that the packet is not taken for ours if it comes through another hook (§4.3).
    [{ kind: 'mark-set', mark: masqueradeMark }, { kind: 'clear-mark', mark: masqueradeMark }, { kind: 'masquerade' }],
    // nft before 1.1.2 and kernels before 6.13 cannot compare two fields of a packet; octet by octet they can look the
    // pair up. From the last octet on: the first look-up fails unless the addresses are near each other.
    [
      { kind: 'translated' },
      ...octets.reverse().map((octet): Statement => ({ kind: 'octet-pair', octet, set: containers.octets })),
      { kind: 'masquerade' },
    ],
  ]
}

/** Chains for a number of endpoints that are map elements. */
function* pickers(count: number, mark: number): Iterable<Chain> {
  const setMark: Rule = [{ kind: 'set-mark', mark }]
  yield { kind: 'chain', name: pickChains.pick(count), rules: pick(count, frontendFields, containers.endpoints) }
  yield { kind: 'chain', name: pickChains.masquerade(count), rules: [setMark, gotoRule(pickChains.pick(count))] }
  const byPort = pick(count, portFields, containers.nodePortEndpoints)
  yield { kind: 'chain', name: pickChains.nodePort(count), rules: [setMark, ...byPort] }
}

function pick(count: number, fields: readonly Field[], map: string): Rule[] {
  const rules: Rule[] = [[{ kind: 'dnat-map', fields, of: count, map }]]
  // A packet on its way while a transaction takes effect may have met the former count: the first endpoint is always there.
  if (count > 1) rules.push([{ kind: 'dnat-map', fields, of: 1, map }])
  rules.push([{ kind: 'verdict', verdict: { kind: 'drop' } }])
  return rules
}
