// Random EndpointSlices: several for a Service, endpoints in every state, ports that match and ports that do not.
import type { Family } from '../../src/net/ip.ts'
import type { ApiObject } from '../conformance/objects.ts'
import type { RandomPort } from './cluster.ts'
import { places } from './places.ts'
import type { Random } from './random.ts'

export interface SlicesOptions {
  /** Of the Service. */
  readonly name: string
  readonly family: Family
  readonly ports: readonly RandomPort[]
  readonly small: boolean
}

/** The slices of a Service in one family; a family that the Service does not have may have some too. */
export function slicesOf(random: Random, { name, family, ports, small }: SlicesOptions): ApiObject[] {
  const style = randomStyle(random)
  const slices = Array.from({ length: random.pick([0, 1, 1, 1, 2, 3]) }, (_, index): ApiObject => {
    const endpoints = randomEndpoints(random, family, style, small)
    return {
      apiVersion: 'discovery.k8s.io/v1',
      kind: 'EndpointSlice',
      metadata: {
        name: `${name}-${family.toLowerCase()}-${index}`,
        namespace: 'shop',
        labels: { 'kubernetes.io/service-name': name },
      },
      addressType: family,
      ports: ports.flatMap((port, at) => slicePort(random, port, at)),
      endpoints,
    }
  })
  return slices
}

function slicePort(random: Random, { name, protocol }: RandomPort, at: number): object[] {
  if (random.chance(0.08)) return []
  return [
    {
      name: name ?? '',
      protocol: random.chance(0.04) ? random.pick(['TCP', 'UDP']) : protocol,
      // Slices may differ in the number: a rolling change of targetPort. Some are a Service's number, or a node port.
      port: random.chance(0.1) ? random.pick([80, 8_081, 30_080, 9_000]) : 8_080 + at,
    },
  ]
}

/** What the endpoints of one Service are like as a whole: hints and states only matter if they agree. */
interface Style {
  readonly dying: number
  readonly zones: boolean
  readonly nodes: boolean
  readonly where: readonly ('local' | 'remote' | 'host')[]
}

const randomStyle = (random: Random): Style => ({
  dying: random.pick([0, 0, 0.2, 1]),
  zones: random.chance(0.25),
  nodes: random.chance(0.15),
  where: random.pick([
    ['local', 'remote'],
    ['local', 'remote', 'remote', 'host'],
    ['local'],
    ['remote'],
    ['host', 'remote'],
  ] as const),
})

function randomEndpoints(random: Random, family: Family, style: Style, small: boolean): object[] {
  const large = !small && random.chance(0.06)
  const count = large ? random.int(20, 90) : random.pick([0, 1, 1, 2, 2, 3, 4])
  return Array.from({ length: count }, (_, n) => {
    const at = places[family]
    const where = random.pick(style.where)
    const [address] =
      where === 'local'
        ? [large ? at.localPods[n % at.localPods.length] : random.pick(at.localPods.slice(0, 6))]
        : where === 'remote'
          ? [large ? at.remotePods[n % at.remotePods.length] : random.pick(at.remotePods.slice(0, 6))]
          : [random.pick([at.nodeAddresses[0], at.otherNode])]
    const nodeName = where === 'remote' || address === at.otherNode ? 'node-b' : 'node-a'
    return {
      addresses: [address],
      conditions: conditionsOf(random, style),
      ...(random.chance(0.03) ? {} : { nodeName: random.chance(0.02) ? 'node-c' : nodeName }),
      ...hintsOf(random, style, nodeName),
    }
  })
}

function conditionsOf(random: Random, { dying }: Style): object {
  if (random.chance(dying)) {
    return { ready: false, serving: random.chance(0.8), terminating: true }
  }
  return random.pick([
    {},
    { ready: true },
    { ready: true, serving: true, terminating: false },
    { ready: random.chance(0.5) },
  ])
}

function hintsOf(random: Random, { zones, nodes }: Style, nodeName: string): object {
  if (!zones && !nodes) return {}
  const lacking = 0.03
  const hints = {
    ...(zones && !random.chance(lacking) ? { forZones: [{ name: random.pick(['zone-a', 'zone-b']) }] } : {}),
    ...(nodes && !random.chance(lacking) ? { forNodes: [{ name: random.chance(0.9) ? nodeName : 'node-a' }] } : {}),
  }
  return { hints }
}
