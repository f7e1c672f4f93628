// What a Service of the soak is like, in parts that change one at a time as they do in a cluster's life, and the API object made of them.

import type { Family } from '../../src/net/ip.ts'
import { protocols } from '../../src/net/protocol.ts'
import type { RandomPort } from '../differential/cluster.ts'
import { places } from '../differential/places.ts'
import type { Random } from '../differential/random.ts'

/** An API object as it is put; nothing checks it, because some are to be malformed. */
export interface SoakObject {
  readonly apiVersion: string
  readonly kind: string
  readonly metadata: { readonly name: string; readonly namespace?: string; readonly [field: string]: unknown }
  readonly [field: string]: unknown
}

/** One part a change. */
export interface Traits {
  readonly createdAt: string
  readonly type: string
  readonly families: readonly Family[]
  /** Which of its two addresses a family has; now and then a neighbour's, who may be older. */
  readonly address: number
  readonly ports: readonly RandomPort[]
  readonly externalIPs: readonly string[]
  readonly ingress: readonly object[]
  readonly ranges: readonly string[]
  readonly internalTrafficPolicy: string
  readonly externalTrafficPolicy: string
  readonly affinitySeconds: number | undefined
  readonly distribution: string | undefined
}

const both: readonly Family[] = ['IPv4', 'IPv6']

/** Names and numbers of Service n. */
export const nameOf = (n: number): string => `s${n}`
export const namespaceOf = (n: number): string => (n % 3 === 0 ? 'bank' : 'shop')

/** Addresses by number, below those that the API server hands out by itself. */
function clusterIP(family: Family, number: number): string {
  const host = (number + 0x400) & 0xffff
  return family === 'IPv4' ? `10.96.${host >> 8}.${host & 255}` : `fd00:10:96::${host.toString(16)}`
}

const anew: { readonly [K in keyof Traits]: (random: Random, n: number, now: Partial<Traits>) => Traits[K] } = {
  createdAt: random => `2026-01-0${random.int(1, 4)}T00:00:00Z`,
  type: random => random.pick(['ClusterIP', 'ClusterIP', 'ClusterIP', 'NodePort', 'LoadBalancer', 'LoadBalancer']),
  families: random => random.pick([['IPv4'], ['IPv6'], both, both, ['IPv6', 'IPv4']] as const),
  address: (random, n) => (random.chance(0.03) ? n + 1 : n + random.pick([0, 0, 0x2000])),
  ports: (random, n) => randomPorts(random, n),
  externalIPs: random =>
    random.chance(0.2) ? both.flatMap(family => random.some(places[family].externalIPs, 0.4)) : [],
  ingress: random =>
    both
      .flatMap(family => random.some(places[family].vips, 0.3))
      .map(ip => (random.chance(0.05) ? { ip, ipMode: 'Proxy' } : { ip })),
  ranges: random => (random.chance(0.3) ? both.flatMap(family => random.some(places[family].ranges, 0.2)) : []),
  internalTrafficPolicy: random => random.pick(['Cluster', 'Cluster', 'Cluster', 'Local']),
  externalTrafficPolicy: random => random.pick(['Cluster', 'Local']),
  affinitySeconds: random => (random.chance(0.15) ? random.pick([60, 10_800]) : undefined),
  distribution: random => random.pick([undefined, undefined, 'PreferSameZone', 'PreferSameNode']),
}

const parts = Object.keys(anew).filter((key): key is keyof Traits => key in anew)

/** Parts that may change while a Service exists: all but when it was created. */
const changeable = parts.filter(part => part !== 'createdAt')

function randomPorts(random: Random, n: number): RandomPort[] {
  const taken = new Set<string>()
  const ports: RandomPort[] = []
  const count = random.pick([1, 1, 1, 2, 3])
  for (let i = 0; i < count; i++) {
    const protocol = random.pick(['TCP', 'TCP', ...protocols])
    const port = random.pick([80, 80, 81, 443, 53, 8080])
    if (taken.has(`${protocol} ${port}`)) continue
    taken.add(`${protocol} ${port}`)
    // Now and then one that others may have.
    const nodePort = random.chance(0.05) ? random.int(30_000, 30_009) : 30_010 + ((n * 3 + i) % 1_900)
    ports.push({ name: `p${i}`, protocol, port, nodePort })
  }
  return ports
}

export function randomTraits(random: Random, n: number): Traits {
  return {
    createdAt: anew.createdAt(random, n, {}),
    type: anew.type(random, n, {}),
    families: anew.families(random, n, {}),
    address: anew.address(random, n, {}),
    ports: anew.ports(random, n, {}),
    externalIPs: anew.externalIPs(random, n, {}),
    ingress: anew.ingress(random, n, {}),
    ranges: anew.ranges(random, n, {}),
    internalTrafficPolicy: anew.internalTrafficPolicy(random, n, {}),
    externalTrafficPolicy: anew.externalTrafficPolicy(random, n, {}),
    affinitySeconds: anew.affinitySeconds(random, n, {}),
    distribution: anew.distribution(random, n, {}),
  }
}

/** The same Service with one part another. */
export function changedTraits(random: Random, n: number, traits: Traits): { traits: Traits; part: keyof Traits } {
  const part = random.pick(changeable)
  return { traits: { ...traits, [part]: anew[part](random, n, traits) }, part }
}

/** The object that the API server would hold. */
export function serviceOf(n: number, traits: Traits): SoakObject {
  const { type, families, ports, affinitySeconds, distribution, externalTrafficPolicy } = traits
  const isExposed = type !== 'ClusterIP'
  const addresses = families.map(family => clusterIP(family, traits.address))
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: nameOf(n), namespace: namespaceOf(n), creationTimestamp: traits.createdAt },
    spec: {
      type,
      clusterIP: addresses[0],
      clusterIPs: addresses,
      ipFamilies: families,
      ports: ports.map(({ nodePort, ...port }) => (isExposed ? { ...port, nodePort } : port)),
      externalIPs: traits.externalIPs,
      internalTrafficPolicy: traits.internalTrafficPolicy,
      ...(isExposed ? { externalTrafficPolicy } : {}),
      ...(type === 'LoadBalancer' && externalTrafficPolicy === 'Local'
        ? { healthCheckNodePort: 32_000 + (n % 700) }
        : {}),
      ...(traits.ranges.length > 0 ? { loadBalancerSourceRanges: traits.ranges } : {}),
      ...(distribution === undefined ? {} : { trafficDistribution: distribution }),
      ...(affinitySeconds === undefined
        ? {}
        : {
            sessionAffinity: 'ClientIP',
            sessionAffinityConfig: { clientIP: { timeoutSeconds: affinitySeconds } },
          }),
    },
    ...(type === 'LoadBalancer' ? { status: { loadBalancer: { ingress: traits.ingress } } } : {}),
  }
}
