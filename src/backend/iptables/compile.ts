// From a Service port to the chains and entries it needs. Pure: same input, same text.
import { formatAddressPort, formatCIDR, type IP, ipToHex } from '../../net/ip.ts'
import { spread32 } from '../../net/spread.ts'
import type { Network } from '../../policy/network.ts'
import type { Endpoint, EndpointChoice, Frontend, ServicePort } from '../../policy/service-port.ts'
import type { KernelObject } from '../backend.ts'
import { chainKey, hashName, type Table } from '../xtables/names.ts'
import {
  chance,
  comment,
  destination,
  dnat,
  fromLocalPod,
  lower,
  markPacket,
  portMatch,
  recent,
  reject,
} from '../xtables/rules.ts'
import { entryKey, type ServiceChainKind, serviceChain, serviceHashLength, trees } from './names.ts'
import { entryPath } from './tree.ts'

/** Endpoints that stay in one chain; beyond, groups by hash get a chain each, so that a change rewrites one group. */
const inlineEndpoints = 32

/** What a group holds on average when a Service is split; the number of groups is a power of two. */
const usualGroup = 20
/** Bits that one chain splits by, at most. */
const widestSplit = 6
const hashLength = 30

interface HashedEndpoint {
  readonly endpoint: Endpoint
  /** Binary digits. */
  readonly bits: string
}

const hashBits = (text: string): string => spread32(text).toString(2).padStart(32, '0')

/** What one Service port needs in the kernel. Objects of different Service ports never share a key. */
export function* compileServicePort(port: ServicePort, network: Network): Iterable<KernelObject> {
  const internal = port.frontends.filter(frontend => frontend.traffic === 'internal')
  const external = port.frontends.filter(frontend => frontend.traffic === 'external')
  const build = builder(port, network)

  let internalChain: string | undefined
  if (port.internal.kind === 'endpoints' && internal.length > 0) {
    internalChain = build.internal(internal, external, port.internal.endpoints)
    for (const frontend of internal) build.entry('nat', frontend, `-g ${internalChain}`)
  } else {
    for (const frontend of internal) build.refusal(frontend, port.internal)
  }
  if (external.length > 0) build.external(external, internalChain)
  if (port.healthCheckNodePort !== 0) build.healthCheck(port.healthCheckNodePort)
  yield* build.objects
}

function builder(port: ServicePort, network: Network) {
  const { family, masqueradeMark } = network
  const id = `${port.name}|${lower(port.protocol)}`
  const hash = hashName(id, serviceHashLength)
  const objects: KernelObject[] = []

  const addChain = (kind: ServiceChainKind, chainHash: string, lines: readonly string[]): string => {
    const name = serviceChain(kind, chainHash)
    objects.push({ key: chainKey('nat', name), value: lines.join('\n') })
    return name
  }
  const chooseFrom = (endpoints: readonly Endpoint[], kind: ServiceChainKind): string[] =>
    chooseEndpoint(port, network, endpoints, kind, addChain)

  const entry = (table: Table, frontend: Frontend, target: string): void => {
    const rule = [portMatch(port.protocol, frontend.port), comment(port.name), target]
    if (frontend.address === 'node-ports') {
      const path = entryPath('', port.protocol, frontend.port)
      objects.push({ key: entryKey(table, trees.nodePort, path), value: rule.join(' ') })
    } else {
      const path = entryPath(ipToHex(frontend.address), port.protocol, frontend.port)
      objects.push({
        key: entryKey(table, trees.address, path),
        value: [destination(frontend.address), ...rule].join(' '),
      })
    }
  }

  /** Packets that no endpoint took are refused in the filter table, where they still carry the frontend's address. */
  const refusal = (frontend: Frontend, choice: EndpointChoice): void => {
    switch (choice.kind) {
      case 'reject':
        entry('filter', frontend, reject(family))
        break
      case 'drop':
        entry('filter', frontend, '-j DROP')
        break
      case 'endpoints':
        // Sources outside the ranges come through nat without an endpoint.
        if (frontend.sourceRanges !== undefined) entry('filter', frontend, '-j DROP')
    }
  }

  const markUnlessLocal = (address: IP): string[] => {
    if (network.masqueradeAll) return [`${destination(address)} ${markPacket(masqueradeMark)}`]
    const notLocal = fromLocalPod(network.detector, true)
    if (notLocal === undefined) return []
    return [`${notLocal.source}${destination(address)} ${notLocal.input}${markPacket(masqueradeMark)}`]
  }

  return {
    objects,
    entry,
    refusal,

    /** Opens the host's firewall for the load balancer's health checks (§3.7). */
    healthCheck(checkPort: number): void {
      const rule = `${portMatch('TCP', checkPort)} ${comment(port.name)} -j ACCEPT`
      objects.push({ key: entryKey('filter', trees.health, entryPath('', 'TCP', checkPort)), value: rule })
    },

    internal(frontends: readonly Frontend[], external: readonly Frontend[], endpoints: readonly Endpoint[]): string {
      const lines: string[] = []
      for (const { address } of frontends) {
        if (address !== 'node-ports') lines.push(...markUnlessLocal(address))
      }
      if (external.length > 0 && sharesInternalChain(port)) {
        // Whatever is not addressed to the cluster address came by an external frontend.
        const [first] = frontends
        const not = first === undefined || first.address === 'node-ports' ? '' : `! ${destination(first.address)} `
        lines.push(`${not}${markPacket(masqueradeMark)}`)
      }
      lines.push(...chooseFrom(endpoints, 'SVC'))
      return addChain('SVC', hash, lines)
    },

    external(frontends: readonly Frontend[], internalChain: string | undefined): void {
      const fromOutside = port.external
      const fromNode = port.externalFromNode
      if (fromOutside.kind === 'endpoints' || fromNode.kind === 'endpoints') {
        const target =
          internalChain !== undefined && sharesInternalChain(port)
            ? internalChain
            : addChain('EXT', hash, [...this.externalRules(internalChain)])
        for (const frontend of frontends) {
          entry('nat', frontend, `-g ${frontend.sourceRanges === undefined ? target : this.ranges(frontend, target)}`)
        }
      }
      for (const frontend of frontends) refusal(frontend, fromOutside)
    },

    *externalRules(internalChain: string | undefined): Iterable<string> {
      const fromOutside = port.external
      const fromNode = port.externalFromNode
      if (port.externalMasquerade) {
        yield markPacket(masqueradeMark)
      } else if (fromNode.kind === 'endpoints') {
        const cluster =
          internalChain !== undefined &&
          port.internal.kind === 'endpoints' &&
          sameEndpoints(port.internal.endpoints, fromNode.endpoints)
            ? internalChain
            : addChain('CLU', hash, chooseFrom(fromNode.endpoints, 'CLU'))
        const local = fromLocalPod(network.detector, false)
        if (local !== undefined) yield `${local.source}${local.input}-g ${cluster}`
        yield `-m addrtype --src-type LOCAL ${markPacket(masqueradeMark)}`
        yield `-m addrtype --src-type LOCAL -g ${cluster}`
      }
      if (fromOutside.kind === 'endpoints') yield* chooseFrom(fromOutside.endpoints, 'EXT')
      // Ends the walk, so that a node port of the same number cannot take the packet: it is refused in filter.
      else yield '-j ACCEPT'
    },

    ranges(frontend: Frontend, target: string): string {
      const lines = (frontend.sourceRanges ?? []).map(range =>
        range.prefix === 0 ? `-g ${target}` : `-s ${formatCIDR(range)} -g ${target}`,
      )
      lines.push('-j ACCEPT')
      const chainHash = hashName(`${id}|${lines.join('|')}`, serviceHashLength)
      const name = serviceChain('SRC', chainHash)
      const key = chainKey('nat', name)
      if (!objects.some(object => object.key === key)) objects.push({ key, value: lines.join('\n') })
      return name
    },
  }
}

/** External frontends can use the internal chain when every packet goes to the same endpoints and is masqueraded. */
const sharesInternalChain = (port: ServicePort): boolean =>
  port.externalMasquerade &&
  port.internal.kind === 'endpoints' &&
  port.external.kind === 'endpoints' &&
  sameEndpoints(port.internal.endpoints, port.external.endpoints)

function sameEndpoints(a: readonly Endpoint[], b: readonly Endpoint[]): boolean {
  return (
    a === b ||
    (a.length === b.length &&
      a.every((endpoint, i) => endpoint.address === b[i]?.address && endpoint.port === b[i]?.port))
  )
}

type AddChain = (kind: ServiceChainKind, hash: string, lines: readonly string[]) => string

/** Rules that send a packet to one of the endpoints: to the one its source had before, else to a random one. */
function chooseEndpoint(
  port: ServicePort,
  network: Network,
  endpoints: readonly Endpoint[],
  kind: ServiceChainKind,
  addChain: AddChain,
): string[] {
  const id = `${port.name}|${lower(port.protocol)}`
  const proto = `-p ${lower(port.protocol)} `
  const addressPort = (endpoint: Endpoint) => formatAddressPort(endpoint.address, endpoint.port)
  // Shared by all chains of the Service port: an affinity made by one frontend holds for the others (§3.6).
  const list = (endpoint: Endpoint) =>
    serviceChain('AFF', hashName(`${id}|${addressPort(endpoint)}`, serviceHashLength))
  const seconds = port.affinitySeconds

  const recall = (endpoint: Endpoint): string =>
    `${proto}${recent(`--update --seconds ${seconds} --reap`, list(endpoint), network.family)} ${dnat(endpoint)}`
  const pick = (endpoint: Endpoint, remaining: number): string => {
    const remember = seconds === undefined ? '' : `${recent('--set', list(endpoint), network.family)} `
    return `${proto}${chance(1, remaining)}${remember}${dnat(endpoint)}`
  }
  const pickOne = (group: readonly Endpoint[]): string[] => group.map((endpoint, i) => pick(endpoint, group.length - i))

  if (endpoints.length <= inlineEndpoints) {
    return [...(seconds === undefined ? [] : endpoints.map(recall)), ...pickOne(endpoints)]
  }

  // Groups are by bits of a hash, so that an endpoint's coming or going leaves the other groups as they are.
  const hashed = endpoints.map(endpoint => ({ endpoint, bits: hashBits(addressPort(endpoint)) }))
  const recalls: string[] = []
  const pickGroup = (members: readonly HashedEndpoint[], path: string): string[] => {
    if (members.length <= inlineEndpoints || path.length >= hashLength) {
      const group = members.map(member => member.endpoint)
      if (seconds !== undefined) {
        const chain = addChain('AFF', hashName(`${id}|${kind}|aff|${path}`, serviceHashLength), group.map(recall))
        recalls.push(`-j ${chain}`)
      }
      return pickOne(group)
    }
    const width = Math.min(widestSplit, Math.ceil(Math.log2(members.length / usualGroup)))
    const groups = new Map<string, HashedEndpoint[]>()
    for (const member of members) {
      const inner = member.bits.slice(0, path.length + width)
      const group = groups.get(inner)
      if (group === undefined) groups.set(inner, [member])
      else group.push(member)
    }
    const lines: string[] = []
    let remaining = members.length
    for (const [inner, group] of [...groups].sort(([a], [b]) => (a < b ? -1 : 1))) {
      const chain = addChain('EPG', hashName(`${id}|${kind}|${inner}`, serviceHashLength), pickGroup(group, inner))
      lines.push(`${chance(group.length, remaining)}-g ${chain}`)
      remaining -= group.length
    }
    return lines
  }
  const picks = pickGroup(hashed, '')
  return [...recalls, ...picks]
}
