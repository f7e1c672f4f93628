// A step's packets: who must answer on which address, what is sent, and whether the outcome is the expected one. Pure.
import { formatAddressPort } from '../../../src/net/ip.ts'
import { list, mapping, texts } from '../../conformance/check.ts'
import type { ApiObject } from '../../conformance/objects.ts'
import type { ScenarioPacket, Step } from '../../conformance/scenario.ts'
import { interfaceOf, world as places } from '../../conformance/world.ts'
import type { Listener, ProbeResult, Spread } from './agent.ts'
import type { Question } from './world.ts'

/** How long is waited for what does not come, and how often is asked where the answer is a matter of chance. */
export interface Pace {
  /** Milliseconds until silence is believed. */
  readonly silenceMs: number
  /** The same where a refusal may come a second late. */
  readonly lateSilenceMs: number
  /** Milliseconds that an expected answer may take. */
  readonly patienceMs: number
  /** Connections to a set of that many endpoints. */
  readonly attemptsFor: (endpoints: number) => Pick<Spread, 'atLeast' | 'attempts' | 'parallel'>
  /** Packets of a step under way at once from one place. */
  readonly parallel: number
}

/** Why a packet of a real scenario cannot be sent; undefined if it can. */
export function unsendable({ packet, origin, real, why }: ScenarioPacket): string | undefined {
  if (!real) return why ?? 'it cannot be sent for real'
  if (packet.protocol === 'SCTP') return 'Node has no SCTP sockets'
  if (packet.interface !== interfaceOf(origin)) return 'it arrives by a device the world does not have'
  return undefined
}

/** Every address and port of every slice answers, chosen or not: a packet that goes astray is seen. */
export function listenersOf(objects: readonly ApiObject[]): Listener[] {
  const listeners: Listener[] = []
  for (const object of objects) {
    if (object.kind !== 'EndpointSlice') continue
    const addresses = list(object.endpoints, 'endpoints').map(
      endpoint => texts(mapping(endpoint, 'endpoint').addresses, 'addresses')[0],
    )
    const ports = list(object.ports, 'ports').map(port => mapping(port, 'port'))
    for (const address of addresses) {
      if (address === undefined || !isInWorld(address)) continue
      for (const { port, protocol = 'TCP' } of ports) {
        if (typeof port === 'number' && isProbed(protocol)) listeners.push({ address, port, protocol })
      }
    }
  }
  return listeners
}

/** The endpoints that a step's packets must find, wherever they come from. */
export function listenersFor(step: Step): Listener[] {
  const listeners: Listener[] = []
  for (const { expect, packet } of step.packets) {
    for (const endpoint of expect.endpoints) {
      if (!isProbed(packet.protocol)) continue
      const { address, port } = splitEndpoint(endpoint)
      listeners.push({ address, port, protocol: packet.protocol })
    }
  }
  return listeners
}

const isProbed = (protocol: unknown): protocol is 'TCP' | 'UDP' => protocol === 'TCP' || protocol === 'UDP'

const isInWorld = (address: string): boolean =>
  /^10\.244\.[12]\.|^fd00:10:244:[12]:/.test(address) ||
  [...places.nodeAddresses, ...places.otherNodeAddresses].some(own => own === address)

function splitEndpoint(endpoint: string): { readonly address: string; readonly port: number } {
  const at = endpoint.lastIndexOf(':')
  return { address: endpoint.slice(0, at).replace(/^\[|\]$/g, ''), port: Number(endpoint.slice(at + 1)) }
}

/** How often a packet is sent, and how long is waited for what becomes of it. Throws for a protocol that is not probed. */
export function questionFor({ packet, origin, expect }: ScenarioPacket, pace: Pace): Question {
  const { src, dst, port, protocol } = packet
  if (!isProbed(protocol)) throw new Error(`${protocol} is not probed`)
  // A refusal that arrives while the kernel is still inside connect() counts, for TCP over IPv6, only at the first
  // retransmission one second later.
  const slowRefusal = protocol === 'TCP' && src.includes(':')
  const silence = expect.verdict === 'drop' && slowRefusal ? pace.lateSilenceMs : pace.silenceMs
  const timeoutMs = expect.verdict === 'drop' || expect.verdict === 'none' ? silence : pace.patienceMs
  const probe = { src, dst, port, protocol, timeoutMs }
  const once = { atLeast: 1, attempts: 1, parallel: 1 }
  // One after another: the first connection must be known before the second asks for it.
  const sticky = { atLeast: 8, attempts: 8, parallel: 1 }
  const often = expect.verdict !== 'dnat' ? once : expect.sticky ? sticky : pace.attemptsFor(expect.endpoints.length)
  return { origin, probe, expected: expect.endpoints, ...often }
}

/** A sentence if what became of a packet is not what it should be. `owns` tells the addresses a masqueraded packet can bear. */
export function complaintAbout(
  { packet, expect }: Pick<ScenarioPacket, 'packet' | 'expect'>,
  results: readonly ProbeResult[],
  owns: (address: string) => boolean,
): string | undefined {
  const target = formatAddressPort(packet.dst, packet.port)
  const wrong =
    expect.verdict === 'dnat'
      ? complaintAboutAnswers({ packet, expect }, results, owns)
      : complaintAboutOther(expect.verdict, target, results[0])
  return wrong === undefined ? undefined : `${packet.protocol} ${packet.src} to ${target}: ${wrong}`
}

function complaintAboutOther(
  verdict: 'reject' | 'drop' | 'none',
  target: string,
  result: ProbeResult | undefined,
): string | undefined {
  if (result === undefined) return 'was not sent'
  const met = {
    reject: result.kind === 'refused',
    drop: result.kind === 'silent',
    none: result.kind !== 'answered' || result.by === target,
  }[verdict]
  return met ? undefined : `expected ${verdict}, was ${describe(result)}`
}

const answerers = (results: readonly ProbeResult[]): string[] => [
  ...new Set(results.flatMap(result => (result.kind === 'answered' ? [result.by] : []))),
]

function complaintAboutAnswers(
  { packet, expect }: Pick<ScenarioPacket, 'packet' | 'expect'>,
  results: readonly ProbeResult[],
  owns: (address: string) => boolean,
): string | undefined {
  for (const result of results) {
    if (result.kind !== 'answered') return `expected an answer, was ${describe(result)}`
    if (!expect.endpoints.includes(result.by)) {
      return `answered by ${result.by}, expected only ${expect.endpoints.join(', ')}`
    }
    const wrong = complaintAboutSource({ packet, expect }, result.by, result.seen, owns)
    if (wrong !== undefined) return wrong
  }
  const seen = answerers(results)
  if (expect.sticky) return seen.length === 1 ? undefined : `one source went to several endpoints: ${seen.join(', ')}`
  const never = expect.endpoints.filter(endpoint => !seen.includes(endpoint))
  return never.length === 0 ? undefined : `in ${results.length} connections never answered by ${never.join(', ')}`
}

function complaintAboutSource(
  { packet, expect }: Pick<ScenarioPacket, 'packet' | 'expect'>,
  by: string,
  seen: string,
  owns: (address: string) => boolean,
): string | undefined {
  if (expect.masquerade === undefined) return undefined
  const { address } = splitEndpoint(by)
  // A packet delivered on the node itself never passes POSTROUTING: there is nothing to be seen of its mark.
  if (owns(address) && !owns(packet.src)) return undefined
  if (!expect.masquerade) {
    return seen === packet.src ? undefined : `${by} saw the source ${seen}, expected the client's own`
  }
  // Where only the way back to oneself is masqueraded, other endpoints may see the client.
  const mayBeSelf = expect.endpoints.some(endpoint => splitEndpoint(endpoint).address === packet.src)
  if (mayBeSelf && address !== packet.src) return undefined
  return owns(seen) ? undefined : `${by} saw the source ${seen}, expected an address of the node`
}

function describe(result: ProbeResult): string {
  if (result.kind === 'answered') return `answered by ${result.by}, which saw ${result.seen}`
  return result.kind === 'silent' ? 'not answered at all' : result.kind
}
