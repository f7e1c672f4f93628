// One scenario in the world with real packets: what the program writes is met by probes, and must read back as it was meant.
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { ProxyMode } from '../../src/config/types.ts'
import { formatAddressPort } from '../../src/net/ip.ts'
import { list, mapping, texts } from '../conformance/check.ts'
import { type ApiObject, refOf } from '../conformance/objects.ts'
import type { Scenario, ScenarioConfig, ScenarioPacket, Step } from '../conformance/scenario.ts'
import { interfaceOf, world as places } from '../conformance/world.ts'
import type { Listener, Probe, ProbeResult } from '../support/world/agent.ts'
import type { World } from '../support/world/world.ts'

// Built once by the test: a source that is being edited must not change the program between two steps.
const program = [process.execPath, '--max-semi-space-size=2', join(import.meta.dirname, '../../dist/penstock.js')]

/** What a scenario came to: a sentence for every packet or check that went wrong, and what was not sent. */
export interface Report {
  readonly failures: readonly string[]
  readonly sent: number
  /** Reasons, one for each packet that was not sent. */
  readonly leftOut: readonly string[]
}

/** Why a packet of a real scenario cannot be sent; undefined if it can. */
export function unsendable({ packet, origin, real, why }: ScenarioPacket): string | undefined {
  if (!real) return why ?? 'it cannot be sent for real'
  if (packet.protocol === 'SCTP') return 'Node has no SCTP sockets'
  if (packet.interface !== interfaceOf(origin)) return 'it arrives by a device the world does not have'
  return undefined
}

/** Runs all steps of a scenario. `directory` is emptied and used for its manifests. */
export async function runScenario(
  world: World,
  scenario: Scenario,
  mode: ProxyMode,
  directory: string,
): Promise<Report> {
  const failures: string[] = []
  const leftOut: string[] = []
  let sent = 0
  const objects = new Map<string, ApiObject>()
  await rm(directory, { recursive: true, force: true })
  await mkdir(join(directory, 'manifests'), { recursive: true })
  await writeFile(join(directory, 'config.json'), JSON.stringify(configurationOf(scenario.config, mode)))
  await world.setFurtherAddresses(scenario.nodeAddresses.filter(address => !places.nodeAddresses.includes(address)))
  for (const step of scenario.steps) {
    changeObjects(objects, step)
    const present = [...objects.values()]
    await writeFile(join(directory, 'manifests/objects.json'), listOf(present))
    const fail = (what: string): void => void failures.push(`step "${step.title}": ${what}`)
    const [ran] = await Promise.all([
      penstock(world, directory, 'run', '--once'),
      world.serve([...listenersOf(present), ...listenersFor(step)]),
    ])
    if (ran.exitCode !== 0) {
      fail(`run --once ended with ${ran.exitCode}: ${ran.stderr.trim()}`)
      break
    }
    // A connection that was not answered before would be met again by one that happens to have its port, and not be translated.
    await world.forgetFlows()
    const sendable: ScenarioPacket[] = []
    for (const packet of step.packets) {
      const why = unsendable(packet)
      if (why === undefined) sendable.push(packet)
      else leftOut.push(why)
    }
    // Packets that must be dropped are waited for: time enough to read the rules back.
    const [plan, complaints] = await Promise.all([
      penstock(world, directory, 'plan'),
      eachLimited(sendable, 48, packet => complaintAbout(world, packet)),
    ])
    sent += sendable.length
    if (plan.exitCode !== 0)
      fail(`plan ended with ${plan.exitCode} after the sync: ${plan.stdout}${plan.stderr.trim()}`)
    for (const complaint of complaints) if (complaint !== undefined) fail(complaint)
  }
  return { failures, sent, leftOut }
}

function penstock(world: World, directory: string, ...args: readonly string[]) {
  const input = ['--manifests', join(directory, 'manifests'), '--config', join(directory, 'config.json')]
  return world.sandbox.exec({
    namespace: 'node-a',
    argv: [...program, ...args, ...input, '--hostname-override', places.nodeName],
    // Started hundreds of times: compiled once.
    env: { NODE_COMPILE_CACHE: join(directory, '../compiled') },
  })
}

/** The scenario's configuration as a file. What concerns the whole machine and not its rules is left as it is. */
function configurationOf(config: ScenarioConfig, mode: ProxyMode): object {
  const { masqueradeAll, masqueradeBit, localhostNodePorts, ...general } = config
  return {
    apiVersion: 'kubeproxy.config.k8s.io/v1alpha1',
    kind: 'KubeProxyConfiguration',
    mode,
    ...general,
    iptables: { masqueradeAll, masqueradeBit, localhostNodePorts },
    nftables: { masqueradeAll, masqueradeBit },
    conntrack: { maxPerCore: 0, min: 0 },
  }
}

function changeObjects(objects: Map<string, ApiObject>, step: Step): void {
  for (const ref of step.remove) objects.delete(`${ref.kind}/${ref.key}`)
  for (const object of step.apply) {
    const { kind, key } = refOf(object)
    objects.set(`${kind}/${key}`, object)
  }
}

const listOf = (objects: readonly ApiObject[]): string =>
  JSON.stringify({ apiVersion: 'v1', kind: 'List', items: objects })

/** Every address and port of every slice answers, chosen or not: a packet that goes astray is seen. */
function listenersOf(objects: readonly ApiObject[]): Listener[] {
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

function listenersFor(step: Step): Listener[] {
  const listeners: Listener[] = []
  for (const { expect, packet } of step.packets) {
    for (const endpoint of expect.endpoints) {
      const at = endpoint.lastIndexOf(':')
      const address = endpoint.slice(0, at).replace(/^\[|\]$/g, '')
      if (!isProbed(packet.protocol)) continue
      listeners.push({ address, port: Number(endpoint.slice(at + 1)), protocol: packet.protocol })
    }
  }
  return listeners
}

const isProbed = (protocol: unknown): protocol is 'TCP' | 'UDP' => protocol === 'TCP' || protocol === 'UDP'

const isInWorld = (address: string): boolean =>
  /^10\.244\.[12]\.|^fd00:10:244:[12]:/.test(address) ||
  [...places.nodeAddresses, ...places.otherNodeAddresses].some(own => own === address)

/** That an answer may take: on a busy machine a lost SYN is sent again after 1, 3 and 7 s. */
const patienceMs = 10_000

/** A sentence if what became of the packet is not what it should be. */
async function complaintAbout(world: World, { packet, origin, expect }: ScenarioPacket): Promise<string | undefined> {
  if (!isProbed(packet.protocol)) return undefined
  const { src, dst, port, protocol } = packet
  const what = `${protocol} ${src} to ${formatAddressPort(dst, port)}`
  // A refusal that arrives while the kernel is still inside connect() counts, for TCP over IPv6, only at the first
  // retransmission one second later.
  const slowRefusal = protocol === 'TCP' && src.includes(':')
  const timeoutMs =
    expect.verdict === 'drop' ? (slowRefusal ? 1500 : 400) : expect.verdict === 'none' ? 400 : patienceMs
  const probe: Probe = { src, dst, port, protocol, timeoutMs }
  if (expect.verdict === 'dnat') {
    const count = expect.endpoints.length
    const results = expect.sticky
      ? await repeat(world, origin, probe, 8)
      : await world.spread(origin, { probe, expected: expect.endpoints, ...attemptsFor(count), parallel: 8 })
    const wrong = complaintAboutAnswers(world, { packet, origin, expect, real: true }, results)
    return wrong === undefined ? undefined : `${what}: ${wrong}`
  }
  const result = await world.probe(origin, probe)
  const met =
    expect.verdict === 'reject'
      ? result.kind === 'refused'
      : expect.verdict === 'drop'
        ? result.kind === 'silent'
        : result.kind !== 'answered' || result.by === formatAddressPort(dst, port)
  return met ? undefined : `${what}: expected ${expect.verdict}, was ${describe(result)}`
}

/**
 * With n endpoints one of them stays unseen through 25 n connections once in 10^10 times, and an endpoint too many through
 * 8 (n + 1) once in 3,000.
 */
const attemptsFor = (endpoints: number) => ({ atLeast: 8 * (endpoints + 1), attempts: 25 * endpoints + 16 })

async function repeat(world: World, origin: ScenarioPacket['origin'], probe: Probe, times: number) {
  const results: ProbeResult[] = []
  for (let i = 0; i < times; i++) results.push(await world.probe(origin, probe))
  return results
}

const answerers = (results: readonly ProbeResult[]): string[] => [
  ...new Set(results.flatMap(result => (result.kind === 'answered' ? [result.by] : []))),
]

function complaintAboutAnswers(
  world: World,
  { packet, expect }: ScenarioPacket,
  results: readonly ProbeResult[],
): string | undefined {
  for (const result of results) {
    if (result.kind !== 'answered') return `expected an answer, was ${describe(result)}`
    if (!expect.endpoints.includes(result.by)) {
      return `answered by ${result.by}, expected only ${expect.endpoints.join(', ')}`
    }
    const wrong = complaintAboutSource(world, { packet, expect }, result.by, result.seen)
    if (wrong !== undefined) return wrong
  }
  const seen = answerers(results)
  if (expect.sticky) return seen.length === 1 ? undefined : `one source went to several endpoints: ${seen.join(', ')}`
  const never = expect.endpoints.filter(endpoint => !seen.includes(endpoint))
  return never.length === 0 ? undefined : `in ${results.length} connections never answered by ${never.join(', ')}`
}

function complaintAboutSource(
  world: World,
  { packet, expect }: Pick<ScenarioPacket, 'packet' | 'expect'>,
  by: string,
  seen: string,
): string | undefined {
  if (expect.masquerade === undefined) return undefined
  const address = by.slice(0, by.lastIndexOf(':')).replace(/^\[|\]$/g, '')
  // A packet delivered on the node itself never passes POSTROUTING: there is nothing to be seen of its mark.
  if (world.ownsAddress(address) && !world.ownsAddress(packet.src)) return undefined
  if (!expect.masquerade) {
    return seen === packet.src ? undefined : `${by} saw the source ${seen}, expected the client's own`
  }
  // Where only the way back to oneself is masqueraded, other endpoints may see the client.
  const mayBeSelf = expect.endpoints.some(
    endpoint => endpoint.startsWith(`${packet.src}:`) || endpoint.startsWith(`[${packet.src}]`),
  )
  if (mayBeSelf && address !== packet.src) return undefined
  return world.ownsAddress(seen) ? undefined : `${by} saw the source ${seen}, expected an address of the node`
}

function describe(result: ProbeResult): string {
  if (result.kind === 'answered') return `answered by ${result.by}, which saw ${result.seen}`
  return result.kind === 'silent' ? 'not answered at all' : result.kind
}

async function eachLimited<T, R>(items: readonly T[], limit: number, run: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = []
  const queue = [...items.entries()]
  const lane = async (): Promise<void> => {
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
      const [index, item] = next
      results[index] = await run(item)
    }
  }
  await Promise.all(Array.from({ length: Math.min(limit, items.length) }, lane))
  return results
}
