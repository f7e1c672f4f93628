// The cluster that the soak churns: which Services and slices there are, and random changes of them. The same seed makes
// the same changes in the same order; when each happens is the machine's affair.
import { type Family, formatCIDR } from '../../src/net/ip.ts'
import { world } from '../conformance/world.ts'
import type { Random } from '../differential/random.ts'
import { slicesOf } from '../differential/slices.ts'
import type { ObjectReference } from '../support/apiserver/server.ts'
import { changedSlices, type SoakSlice } from './endpoints.ts'
import { malformed } from './malformed.ts'
import { changedTraits, nameOf, namespaceOf, randomTraits, type SoakObject, serviceOf, type Traits } from './traits.ts'

/** What is to be done at the API server, in this order. */
export type Change = { readonly put: SoakObject } | { readonly remove: ObjectReference }

interface Held {
  readonly traits: Traits
  readonly slices: ReadonlyMap<string, SoakSlice>
}

const families: readonly Family[] = ['IPv4', 'IPv6']
const serviceCIDRs = world.clusterIPs.map(formatCIDR)
const podCIDRs = world.podCIDRs.map(formatCIDR)
const otherPodCIDRs = ['10.244.9.0/24', 'fd00:10:244:9::/64']

export class Population {
  readonly #random: Random
  readonly #target: number
  readonly #held = new Map<number, Held>()
  /** Numbers of Services whose newest objects are malformed: what was known before is in force, until they are mended. */
  readonly #spoilt = new Set<number>()
  /** Malformed from the start: nobody ever knew better. */
  #strays = 0
  #changes: Change[] = []
  #changesNode = true

  constructor(random: Random, target: number) {
    this.#random = random
    this.#target = target
  }

  /** Services there are. */
  get size(): number {
    return this.#held.size
  }

  /** What there is at the start. */
  begin(): Change[] {
    for (let n = 0; n < this.#target; n++) this.#create(n)
    this.#put(this.#usualNode(), this.#serviceCIDR(serviceCIDRs))
    return this.#drain()
  }

  /** A few changes, now and then many at once; `withNode`: also of the node and the service ranges, which concern every Service. */
  step(withNode = true): Change[] {
    const random = this.#random
    this.#changesNode = withNode
    const count = random.chance(0.04) ? random.int(10, Math.max(10, this.#target >> 1)) : random.int(1, 5)
    for (let i = 0; i < count; i++) this.#change()
    return this.#drain()
  }

  /** Puts the node back to what it was. */
  settleNode(): Change[] {
    this.#put(this.#usualNode(), this.#serviceCIDR(serviceCIDRs))
    return this.#drain()
  }

  /** Mends what is malformed, and nothing else: from here a fresh start and a long life know the same. */
  heal(): Change[] {
    for (const n of this.#spoilt) this.#restore(n)
    this.#spoilt.clear()
    return this.#drain()
  }

  #drain(): Change[] {
    const changes = this.#changes
    this.#changes = []
    return changes
  }

  #put(...objects: readonly SoakObject[]): void {
    for (const object of objects) this.#changes.push({ put: object })
  }

  #remove(kind: string, namespace: string, name: string): void {
    this.#changes.push({ remove: { kind, namespace, name } })
  }

  #change(): void {
    const random = this.#random
    const roll = random.int(0, 99)
    if (roll < 8 && this.#held.size < this.#target * 1.3) this.#create(random.int(0, this.#target * 2))
    else if (roll < 16 && this.#held.size > this.#target * 0.7) this.#delete(this.#anyone())
    else if (roll < 34) this.#changeService(this.#anyone())
    else if (roll < 92) this.#changeEndpoints(this.#anyone())
    else if (roll < 95) this.#spoil(this.#anyone())
    else if (roll < 97) this.#stray()
    else if (this.#changesNode) this.#changeNode()
    else this.#changeEndpoints(this.#anyone())
  }

  #anyone(): number {
    return this.#random.pick([...this.#held.keys()])
  }

  #create(n: number): void {
    if (this.#held.has(n)) {
      this.#changeEndpoints(n)
      return
    }
    const traits = randomTraits(this.#random, n)
    const slices = this.#freshSlices(n, traits)
    this.#held.set(n, { traits, slices })
    // Either may come first.
    const objects = [serviceOf(n, traits), ...slices.values()]
    this.#put(...(this.#random.chance(0.5) ? objects : objects.reverse()))
  }

  #delete(n: number): void {
    const held = this.#held.get(n)
    if (held === undefined) return
    const namespace = namespaceOf(n)
    this.#remove('Service', namespace, nameOf(n))
    for (const name of held.slices.keys()) this.#remove('EndpointSlice', namespace, name)
    this.#held.delete(n)
    this.#spoilt.delete(n)
  }

  #changeService(n: number): void {
    const held = this.#held.get(n)
    if (held === undefined) return
    const { traits, part } = changedTraits(this.#random, n, held.traits)
    this.#held.set(n, { ...held, traits })
    this.#put(serviceOf(n, traits))
    // Other ports are the slices' affair, too; and the slice controller follows a little later.
    if (part === 'ports' || part === 'families') this.#replaceSlices(n, this.#freshSlices(n, traits))
  }

  #changeEndpoints(n: number): void {
    const held = this.#held.get(n)
    if (held === undefined) return
    const slices = this.#random.chance(0.1)
      ? this.#freshSlices(n, held.traits)
      : changedSlices(this.#random, held.slices)
    this.#replaceSlices(n, slices)
  }

  #replaceSlices(n: number, slices: ReadonlyMap<string, SoakSlice>): void {
    const held = this.#held.get(n)
    if (held === undefined) return
    for (const name of held.slices.keys()) {
      if (!slices.has(name)) this.#remove('EndpointSlice', namespaceOf(n), name)
    }
    for (const [name, slice] of slices) if (held.slices.get(name) !== slice) this.#put(slice)
    this.#held.set(n, { ...held, slices })
  }

  #freshSlices(n: number, { ports }: Traits): Map<string, SoakSlice> {
    const made = families.flatMap(family => slicesOf(this.#random, { name: nameOf(n), family, ports, small: false }))
    const slices = new Map<string, SoakSlice>()
    for (const slice of made) {
      const name = String(slice.metadata.name)
      slices.set(name, { ...slice, metadata: { ...slice.metadata, name, namespace: namespaceOf(n) } })
    }
    return slices
  }

  #restore(n: number): void {
    const held = this.#held.get(n)
    if (held === undefined) return
    this.#put(serviceOf(n, held.traits), ...held.slices.values())
  }

  #spoil(n: number): void {
    const held = this.#held.get(n)
    if (held === undefined) return
    const object = this.#random.pick([serviceOf(n, held.traits), ...held.slices.values()])
    this.#spoilt.add(n)
    this.#put(malformed(this.#random, object))
  }

  /** An object that was never well formed; a few of them stay for good. */
  #stray(): void {
    const random = this.#random
    // A name is used once: what is malformed leaves in force what was known under its name before.
    const name = `stray-${this.#strays++}`
    const service = { ...serviceOf(0, randomTraits(random, 0)), metadata: { name, namespace: 'shop' } }
    const slice = {
      apiVersion: 'discovery.k8s.io/v1',
      kind: 'EndpointSlice',
      metadata: { name, namespace: 'shop', labels: { 'kubernetes.io/service-name': name } },
      addressType: 'IPv4',
      endpoints: [{ addresses: ['10.244.1.10'] }],
      ports: [{ name: 'p0', port: 80, protocol: 'TCP' }],
    }
    for (const kind of ['Service', 'EndpointSlice']) this.#remove(kind, 'shop', `stray-${this.#strays - 8}`)
    this.#put(malformed(random, random.chance(0.5) ? service : slice))
  }

  #changeNode(): void {
    const random = this.#random
    if (random.chance(0.3)) {
      const others = [...serviceCIDRs, '10.97.0.0/16'].slice(random.int(0, 1))
      this.#put(this.#serviceCIDR(random.chance(0.5) ? serviceCIDRs : others))
      return
    }
    if (random.chance(0.1)) this.#changes.push({ remove: { kind: 'Node', name: world.nodeName } })
    const zone = random.pick(['zone-a', 'zone-b', undefined])
    this.#put(this.#node(zone, random.chance(0.3) ? otherPodCIDRs : podCIDRs, random.chance(0.1)))
  }

  #usualNode(): SoakObject {
    return this.#node('zone-a', podCIDRs, false)
  }

  #node(zone: string | undefined, podCIDRs: readonly string[], isLeaving: boolean): SoakObject {
    return {
      apiVersion: 'v1',
      kind: 'Node',
      metadata: {
        name: world.nodeName,
        labels: {
          'kubernetes.io/hostname': world.nodeName,
          ...(zone === undefined ? {} : { 'topology.kubernetes.io/zone': zone }),
        },
      },
      spec: {
        podCIDR: podCIDRs[0],
        podCIDRs,
        ...(isLeaving ? { taints: [{ key: 'ToBeDeletedByClusterAutoscaler', effect: 'NoSchedule' }] } : {}),
      },
      status: { addresses: world.nodeIPs.map(address => ({ type: 'InternalIP', address })) },
    }
  }

  #serviceCIDR(cidrs: readonly string[]): SoakObject {
    return {
      apiVersion: 'networking.k8s.io/v1',
      kind: 'ServiceCIDR',
      metadata: { name: 'kubernetes' },
      spec: { cidrs },
    }
  }
}
