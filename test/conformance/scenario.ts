// Scenario files: read, checked to the last field, and expanded into objects and packets. README.md describes the format.
import { readdirSync, readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { loadAll } from 'js-yaml'
import { formatAddressPort, type IP, parseIP } from '../../src/net/ip.ts'
import type { Packet } from '../../src/net/packet.ts'
import { protocols } from '../../src/net/protocol.ts'
import { type Fields, fieldsOf, flag, list, oneOf, ScenarioError, text, texts } from './check.ts'
import { expandList } from './generate.ts'
import { type ApiObject, type ObjectRef, objectOf, parseRef, refOf, worldNode } from './objects.ts'
import { interfaceOf, type Origin, originOf, world } from './world.ts'

/** Fields of KubeProxyConfiguration; the three that a mode's own section holds are written plain (README.md). */
export interface ScenarioConfig {
  readonly clusterCIDR: string
  readonly detectLocalMode: 'ClusterCIDR' | 'NodeCIDR' | 'BridgeInterface' | 'InterfaceNamePrefix'
  readonly detectLocal: { readonly bridgeInterface: string; readonly interfaceNamePrefix: string }
  readonly nodePortAddresses: readonly string[]
  readonly masqueradeAll: boolean
  readonly masqueradeBit: number
  readonly localhostNodePorts: boolean
}

export interface Expectation {
  readonly verdict: 'dnat' | 'reject' | 'drop' | 'none'
  /** Exact set, sorted; empty unless the verdict is dnat. */
  readonly endpoints: readonly string[]
  /** Absent: not looked at. */
  readonly masquerade?: boolean
  /** Absent: not looked at. */
  readonly servicePort?: string
  /** All connections of one source go to one endpoint of the set; only real packets can show it. */
  readonly sticky: boolean
}

export interface ScenarioPacket {
  readonly packet: Packet
  readonly origin: Origin
  readonly expect: Expectation
  /** False when this packet cannot be sent for real; `why` then says why. */
  readonly real: boolean
  readonly why?: string
}

export interface Step {
  readonly title: string
  /** Created or replaced. */
  readonly apply: readonly ApiObject[]
  readonly remove: readonly ObjectRef[]
  readonly packets: readonly ScenarioPacket[]
}

export interface Scenario {
  /** File name without `.yaml`. */
  readonly name: string
  readonly shows: string
  readonly reference: readonly string[]
  readonly config: ScenarioConfig
  /** Everything the node owns besides loopback: the world's addresses and the scenario's further ones. */
  readonly nodeAddresses: readonly IP[]
  readonly real: boolean
  readonly why?: string
  /** The first step applies the Node and the file's objects. */
  readonly steps: readonly Step[]
}

const scenarioFields = ['kind', 'shows', 'reference', 'config', 'node', 'real', 'why', 'steps']
const configFields = [
  'clusterCIDR',
  'detectLocalMode',
  'detectLocal',
  'nodePortAddresses',
  'masqueradeAll',
  'masqueradeBit',
  'localhostNodePorts',
]
const verdicts = ['dnat', 'reject', 'drop', 'none'] as const
const detectModes = ['ClusterCIDR', 'NodeCIDR', 'BridgeInterface', 'InterfaceNamePrefix'] as const

/** Where the scenario files are. */
export const scenarioDirectory = fileURLToPath(new URL('scenarios/', import.meta.url))

/** All scenarios, sorted by name. Throws ScenarioError, naming file and field, if one is wrong. */
export function loadScenarios(directory = scenarioDirectory): readonly Scenario[] {
  const files = readdirSync(directory).filter(file => file.endsWith('.yaml'))
  return files.sort().map(file => parseScenario(readFileSync(join(directory, file), 'utf8'), file))
}

/** Parses the text of one scenario file. Throws ScenarioError, naming file and field, if it is wrong. */
export function parseScenario(yaml: string, file: string): Scenario {
  const [head, ...documents] = documentsOf(yaml, file)
  const fields = fieldsOf(head, file, scenarioFields)
  oneOf(fields.kind, `${file}.kind`, ['Scenario'])
  const node = fieldsOf(fields.node ?? {}, `${file}.node`, ['zone', 'addresses'])
  const further = texts(node.addresses, `${file}.node.addresses`).map(address =>
    ipOf(address, `${file}.node.addresses`),
  )
  const zone =
    node.zone === undefined ? world.zone : node.zone === null ? undefined : text(node.zone, `${file}.node.zone`)
  const first = [worldNode(zone), ...objectsOf(documents, `${file} documents`)]
  const steps = expanded(fields.steps, `${file}.steps`).map((step, index) =>
    stepOf(step, `${file}.steps[${index}]`, index === 0 ? first : [], further),
  )
  if (steps.length === 0) throw new ScenarioError(`${file}.steps`, 'must have at least one step')
  const scenario: Scenario = {
    name: basename(file, '.yaml'),
    shows: text(fields.shows, `${file}.shows`),
    reference: texts(fields.reference, `${file}.reference`),
    config: configOf(fields.config ?? {}, `${file}.config`),
    nodeAddresses: [...world.nodeAddresses, ...further],
    ...realOf(fields, file),
    steps,
  }
  checkObjects(scenario, file)
  return scenario
}

function documentsOf(yaml: string, file: string): unknown[] {
  try {
    return loadAll(yaml, { filename: file })
  } catch (error) {
    throw new ScenarioError(file, error instanceof Error ? error.message : String(error))
  }
}

const expanded = (value: unknown, place: string): unknown[] => expandList(list(value, place), place)

function objectsOf(documents: unknown, place: string): ApiObject[] {
  return expanded(documents, place).map((object, index) => objectOf(object, `${place}[${index}]`))
}

function stepOf(value: unknown, place: string, first: readonly ApiObject[], further: readonly IP[]): Step {
  const fields = fieldsOf(value, place, ['title', 'apply', 'delete', 'packets'])
  const packets = list(fields.packets, `${place}.packets`)
  if (packets.length === 0) throw new ScenarioError(`${place}.packets`, 'must have at least one packet')
  return {
    title: text(fields.title, `${place}.title`),
    apply: [...first, ...objectsOf(fields.apply, `${place}.apply`)],
    remove: texts(fields.delete, `${place}.delete`).map(ref => parseRef(ref, `${place}.delete`)),
    packets: packets.flatMap((packet, index) => packetsOf(packet, `${place}.packets[${index}]`, further)),
  }
}

/** `from` and `to` may be lists: every source then sends a packet to every destination. */
function packetsOf(value: unknown, place: string, further: readonly IP[]): ScenarioPacket[] {
  const fields = fieldsOf(value, place, ['from', 'to', 'protocol', 'interface', 'expect', 'real', 'why'])
  const protocol = oneOf(fields.protocol ?? 'TCP', `${place}.protocol`, protocols)
  const expect = expectationOf(fields.expect, `${place}.expect`)
  const via = fields.interface === undefined ? undefined : text(fields.interface, `${place}.interface`)
  const real = realOf(fields, place)
  const packets: ScenarioPacket[] = []
  for (const from of oneOrMore(fields.from, `${place}.from`)) {
    const src = ipOf(from, `${place}.from`)
    const origin = placed(() => originOf(src, further), `${place}.from`)
    const arrivesBy = via ?? interfaceOf(origin)
    for (const to of oneOrMore(fields.to, `${place}.to`)) {
      const { address: dst, port } = parseAddressPort(to, `${place}.to`)
      if (src.includes(':') !== dst.includes(':'))
        throw new ScenarioError(place, `${src} and ${dst} are of different families`)
      const packet = { src, dst, port, protocol, ...(arrivesBy === undefined ? {} : { interface: arrivesBy }) }
      packets.push({ packet, origin, expect, ...real })
    }
  }
  return packets
}

function expectationOf(value: unknown, place: string): Expectation {
  const fields = fieldsOf(value, place, ['verdict', 'endpoints', 'masquerade', 'servicePort', 'sticky'])
  const verdict = oneOf(fields.verdict, `${place}.verdict`, verdicts)
  const endpoints = texts(fields.endpoints, `${place}.endpoints`).map(endpoint => {
    const { address, port } = parseAddressPort(endpoint, `${place}.endpoints`)
    return formatAddressPort(address, port)
  })
  if (new Set(endpoints).size !== endpoints.length)
    throw new ScenarioError(`${place}.endpoints`, 'has an endpoint twice')
  if ((verdict === 'dnat') !== endpoints.length > 0)
    throw new ScenarioError(`${place}.endpoints`, 'must be given with the verdict dnat, and only then')
  return {
    verdict,
    endpoints: endpoints.sort(),
    sticky: flag(fields.sticky, `${place}.sticky`, false),
    ...(fields.masquerade === undefined ? {} : { masquerade: flag(fields.masquerade, `${place}.masquerade`, false) }),
    ...(fields.servicePort === undefined ? {} : { servicePort: text(fields.servicePort, `${place}.servicePort`) }),
  }
}

function configOf(value: unknown, place: string): ScenarioConfig {
  const fields = fieldsOf(value, place, configFields)
  const detect = fieldsOf(fields.detectLocal ?? {}, `${place}.detectLocal`, ['bridgeInterface', 'interfaceNamePrefix'])
  const optionalText = (found: unknown, at: string, otherwise: string) =>
    found === undefined || found === '' ? (found ?? otherwise) : text(found, at)
  const bit = fields.masqueradeBit ?? 14
  if (typeof bit !== 'number' || !Number.isInteger(bit) || bit < 0 || bit > 31)
    throw new ScenarioError(`${place}.masqueradeBit`, 'must be a whole number from 0 to 31')
  return {
    clusterCIDR: optionalText(fields.clusterCIDR, `${place}.clusterCIDR`, world.clusterCIDR),
    detectLocalMode: oneOf(fields.detectLocalMode ?? 'ClusterCIDR', `${place}.detectLocalMode`, detectModes),
    detectLocal: {
      bridgeInterface: optionalText(detect.bridgeInterface, `${place}.detectLocal.bridgeInterface`, ''),
      interfaceNamePrefix: optionalText(detect.interfaceNamePrefix, `${place}.detectLocal.interfaceNamePrefix`, ''),
    },
    nodePortAddresses: texts(fields.nodePortAddresses, `${place}.nodePortAddresses`),
    masqueradeAll: flag(fields.masqueradeAll, `${place}.masqueradeAll`, false),
    masqueradeBit: bit,
    localhostNodePorts: flag(fields.localhostNodePorts, `${place}.localhostNodePorts`, true),
  }
}

function realOf(fields: Fields, place: string): { real: boolean; why?: string } {
  const real = flag(fields.real, `${place}.real`, true)
  if (real !== (fields.why === undefined))
    throw new ScenarioError(`${place}.why`, 'must be given with real: false, and only then')
  return real ? { real } : { real, why: text(fields.why, `${place}.why`) }
}

/** Nothing is deleted that is not there: a misspelt name would make a step test nothing. */
function checkObjects(scenario: Scenario, file: string): void {
  const present = new Set<string>()
  for (const step of scenario.steps) {
    for (const ref of step.remove) {
      if (!present.delete(`${ref.kind}/${ref.key}`))
        throw new ScenarioError(`${file} step "${step.title}"`, `deletes ${ref.kind}/${ref.key}, which does not exist`)
    }
    for (const object of step.apply) {
      const { kind, key } = refOf(object)
      present.add(`${kind}/${key}`)
    }
  }
}

const oneOrMore = (value: unknown, place: string): readonly string[] =>
  Array.isArray(value) && value.length > 0 ? texts(value, place) : [text(value, place)]

function placed<T>(read: () => T, place: string): T {
  try {
    return read()
  } catch (error) {
    throw new ScenarioError(place, error instanceof Error ? error.message : String(error))
  }
}

function ipOf(value: string, place: string): IP {
  const parsed = parseIP(value)
  if (parsed === undefined) throw new ScenarioError(place, `${value} is not an IP address`)
  return parsed
}

function parseAddressPort(value: string, place: string): { address: IP; port: number } {
  const match = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(value)
  const address = parseIP(match?.[1] ?? match?.[2] ?? '')
  const port = Number(match?.[3])
  if (address === undefined || !(port >= 1 && port <= 65535))
    throw new ScenarioError(place, `${value} is not an address and port; IPv6 addresses go in brackets`)
  return { address, port }
}
