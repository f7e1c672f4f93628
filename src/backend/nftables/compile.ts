// From a Service port to the elements, chains and sets it needs. Pure: same input, same objects.
import type { Network } from '../../policy/network.ts'
import type { Endpoint, EndpointChoice, Frontend, ServicePort } from '../../policy/service-port.ts'
import type { KernelObject } from '../backend.ts'
import { type Choose, chooser } from './choose.ts'
import { chains, containers, pickChains, servicePortId } from './names.ts'
import type { NftObject, Rule, Statement, Verdict } from './objects.ts'
import { isEverything, mergeCIDRs } from './ranges.ts'
import { kernelObject } from './render.ts'
import { fromLocalPod, gotoRule, mostElements } from './skeleton.ts'

/**
 * What one Service port needs in the kernel. Objects of different Service ports share a key only where they are equal:
 * the cluster address of a Service with several ports.
 */
export function* compileServicePort(port: ServicePort, network: Network): Iterable<KernelObject> {
  for (const object of objects(port, network)) yield kernelObject(object, network.family)
}

function objects(port: ServicePort, network: Network): readonly NftObject[] {
  const id = servicePortId(port.name, port.protocol)
  const out: NftObject[] = []
  const choose = chooser(port, id, object => out.push(object))
  const internal = port.frontends.filter(frontend => frontend.traffic === 'internal')
  const external = port.frontends.filter(frontend => frontend.traffic === 'external')

  let internalChain: string | undefined
  for (const frontend of internal) {
    if (frontend.kind === 'ClusterIP') {
      out.push({ kind: 'element', container: containers.clusterIPs, key: [frontend.address] })
    }
    if (port.internal.kind !== 'endpoints') {
      out.push(entry(port, frontend, refusal(port.internal)))
    } else if (isPlain(port, port.internal.endpoints)) {
      out.push(elements(port, frontend, port.internal.endpoints))
      out.push(entry(port, frontend, { kind: 'goto', chain: pickChains.pick(port.internal.endpoints.length) }))
    } else {
      internalChain ??= addChain(out, `service/${id}`, choose(port.internal.endpoints, 'service'))
      out.push(entry(port, frontend, { kind: 'goto', chain: internalChain }))
    }
  }
  if (external.length > 0) {
    const target = externalTarget(port, network, id, out, choose, internalChain)
    const firewalls = new Map<string, Verdict>()
    for (const frontend of external) {
      if (port.external.kind === 'endpoints' && isPlainOutside(port)) {
        out.push(elements(port, frontend, port.external.endpoints))
      }
      out.push(entry(port, frontend, withRanges(frontend, id, out, target(frontend), firewalls)))
    }
  }
  return out
}

/** Endpoints that need no chain: few, and with no client to remember. */
const isPlain = (port: ServicePort, endpoints: readonly Endpoint[]): boolean =>
  endpoints.length <= mostElements && port.affinitySeconds === undefined

const refusal = (choice: EndpointChoice): Verdict =>
  choice.kind === 'drop' ? { kind: 'drop' } : { kind: 'goto', chain: chains.refused }

/** A comment may have 127 characters; names of the greatest length allowed, of all three parts, come to 191. */
const commentOf = (name: string): string => (name.length <= 127 ? name : `${name.slice(0, 124)}...`)

const entry = (port: ServicePort, { address, port: number }: Frontend, data: Verdict): NftObject => {
  const protocol = port.protocol.toLowerCase()
  const comment = commentOf(port.name)
  return address === 'node-ports'
    ? { kind: 'element', container: containers.nodePorts, key: [protocol, number], data, comment }
    : { kind: 'element', container: containers.services, key: [address, protocol, number], data, comment }
}

const elements = (port: ServicePort, frontend: Frontend, endpoints: readonly Endpoint[]): NftObject => {
  const protocol = port.protocol.toLowerCase()
  const data = endpoints.map(endpoint => [endpoint.address, endpoint.port])
  return frontend.address === 'node-ports'
    ? { kind: 'indexed', container: containers.nodePortEndpoints, key: [protocol, frontend.port], data }
    : { kind: 'indexed', container: containers.endpoints, key: [frontend.address, protocol, frontend.port], data }
}

function addChain(out: NftObject[], name: string, rules: readonly Rule[]): string {
  out.push({ kind: 'chain', name, rules })
  return name
}

/** The same, where everybody from outside and inside goes to the same endpoints and is masqueraded. */
const isPlainOutside = (port: ServicePort): boolean =>
  port.externalMasquerade && port.external.kind === 'endpoints' && isPlain(port, port.external.endpoints)

/** Where packets to external frontends go that no source range stops. */
function externalTarget(
  port: ServicePort,
  network: Network,
  id: string,
  out: NftObject[],
  choose: Choose,
  internalChain: string | undefined,
): (frontend: Frontend) => Verdict {
  const { external: fromOutside, externalFromNode: fromNode } = port
  if (fromOutside.kind !== 'endpoints' && fromNode.kind !== 'endpoints') return () => refusal(fromOutside)
  if (fromOutside.kind === 'endpoints' && isPlainOutside(port)) {
    const count = fromOutside.endpoints.length
    return ({ address }) => ({
      kind: 'goto',
      chain: address === 'node-ports' ? pickChains.nodePort(count) : pickChains.masquerade(count),
    })
  }

  const reuse = (endpoints: readonly Endpoint[]): string | undefined =>
    port.internal.kind === 'endpoints' && sameEndpoints(port.internal.endpoints, endpoints) ? internalChain : undefined
  const setMark: Statement = { kind: 'set-mark', mark: network.masqueradeMark }
  const rules: Rule[] = []
  if (port.externalMasquerade) {
    rules.push([setMark])
  } else if (port.frontends.some(({ traffic, address }) => traffic === 'external' && address !== 'node-ports')) {
    // The address may be the cluster address of another Service: packets to that are marked whatever their port.
    rules.push([
      { kind: 'mark-set', mark: network.masqueradeMark },
      { kind: 'clear-mark', mark: network.masqueradeMark },
    ])
  }
  if (!port.externalMasquerade && fromNode.kind === 'endpoints') {
    const cluster = reuse(fromNode.endpoints) ?? addChain(out, `cluster/${id}`, choose(fromNode.endpoints, 'cluster'))
    const fromPod = fromLocalPod(network.detector, false)
    if (fromPod !== undefined) rules.push(gotoRule(cluster, fromPod))
    rules.push(gotoRule(cluster, { kind: 'local', side: 'saddr', negated: false }, setMark))
  }
  if (fromOutside.kind === 'endpoints') {
    const same = reuse(fromOutside.endpoints)
    rules.push(...(same === undefined ? choose(fromOutside.endpoints, 'external') : [gotoRule(same)]))
  } else {
    rules.push([{ kind: 'verdict', verdict: refusal(fromOutside) }])
  }
  const chain = addChain(out, `external/${id}`, rules)
  return () => ({ kind: 'goto', chain })
}

/** A frontend with source ranges is reached through a chain that drops other sources. Without endpoints all are refused. */
function withRanges(
  frontend: Frontend,
  id: string,
  out: NftObject[],
  target: Verdict,
  firewalls: Map<string, Verdict>,
): Verdict {
  if (frontend.sourceRanges === undefined || target.kind !== 'goto' || target.chain === chains.refused) return target
  const ranges = mergeCIDRs(frontend.sourceRanges)
  if (ranges.some(isEverything)) return target
  const text = JSON.stringify([target, ranges])
  const known = firewalls.get(text)
  if (known !== undefined) return known
  const drop: Rule = [{ kind: 'verdict', verdict: { kind: 'drop' } }]
  const rules: Rule[] =
    ranges.length === 0
      ? [drop]
      : [gotoRule(target.chain, { kind: 'address', side: 'saddr', negated: false, ranges }), drop]
  // All load balancer addresses of a Service have the same ranges; a second chain would be for others.
  const name = firewalls.size === 0 ? `firewall/${id}` : `firewall-${firewalls.size + 1}/${id}`
  const verdict: Verdict = { kind: 'goto', chain: addChain(out, name, rules) }
  firewalls.set(text, verdict)
  return verdict
}

const sameEndpoints = (a: readonly Endpoint[], b: readonly Endpoint[]): boolean =>
  a === b ||
  (a.length === b.length &&
    a.every((endpoint, i) => endpoint.address === b[i]?.address && endpoint.port === b[i]?.port))
