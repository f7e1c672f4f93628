// What one address family of this node wants of the kernel: which Services are to be looked at again, and what they compile to.
import type { KernelObject } from '../backend/backend.ts'
import type { ServiceKey, ServiceRecord } from '../model/records.ts'
import { resolve } from '../policy/resolve.ts'
import type { ServicePort } from '../policy/service-port.ts'
import { Committer } from './committer.ts'
import type { SetAside, SyncerOptions } from './contract.ts'
import { inSlices, type Steps } from './slices.ts'

const ownerOf = ({ name, protocol }: ServicePort): string => `${name}/${protocol}`

/** What decides which objects are wanted; nothing of when they are written. */
export type WantedOptions = Pick<
  SyncerOptions,
  'family' | 'backend' | 'reader' | 'claims' | 'node' | 'network' | 'observer' | 'now'
>

export class Wanted {
  /** Stands between what is wanted and the kernel. */
  readonly committer: Committer
  readonly #options: WantedOptions
  readonly #dirty = new Set<ServiceKey>()
  /** Owners (Service ports) of each Service that has any. */
  readonly #ports = new Map<ServiceKey, readonly string[]>()
  /** By owner; by Service where the Service cannot be compiled. */
  readonly #setAside = new Map<string, SetAside>()
  #all = true

  constructor(options: WantedOptions) {
    this.#options = options
    this.committer = new Committer(options.backend, {
      refused: (owner, reason) => {
        const service = [...this.#ports].find(([, owners]) => owners.includes(owner))?.[0] ?? owner
        this.#putAside(service, owner, reason)
      },
      giveUp: () => this.#giveUp(),
    })
  }

  get setAsides(): readonly SetAside[] {
    return [...this.#setAside.values()]
  }

  /** Services that have something to do in this family. */
  get services(): number {
    return this.#ports.size
  }

  /** Services that wait to be looked at. */
  get pending(): number {
    return this.#dirty.size
  }

  /** True if `compile` has something to do. */
  get isPending(): boolean {
    return this.#all || this.#dirty.size > 0
  }

  /** Owners of objects that a Service has in the program: its ports. */
  ownersOf(service: ServiceKey): readonly string[] {
    return this.#ports.get(service) ?? []
  }

  /** These Services changed. */
  markDirty(keys: Iterable<ServiceKey>): void {
    for (const key of keys) this.#dirty.add(key)
  }

  /** Everything must be resolved again: the node or the configuration changed. */
  markAll(): void {
    this.#all = true
  }

  /** What the kernel refused is tried again. */
  retrySetAside(): void {
    for (const { service } of this.#setAside.values()) this.#dirty.add(service)
  }

  /** Resolves and compiles what is dirty. Returns how many Services that were. */
  compile(): Promise<number> {
    return inSlices(this.#compileInSteps(), this.#options.now)
  }

  *#compileInSteps(): Steps<number> {
    const { reader } = this.#options
    if (this.#all) {
      this.committer.replaceSkeleton(this.#options.backend.skeleton(this.#options.network()))
      this.#all = false
      for (const key of reader.keys()) this.#dirty.add(key)
      for (const key of this.#ports.keys()) this.#dirty.add(key)
    }
    let count = 0
    // Keys added on the way, such as Services whose address became free, are visited too.
    for (const key of this.#dirty) {
      this.#dirty.delete(key)
      try {
        this.#compileService(key)
      } catch (error) {
        // A Service that cannot be compiled keeps what it has; the others go on.
        this.#putAside(key, key, `cannot be compiled: ${String(error)}`)
      }
      count++
      yield
    }
    return count
  }

  #compileService(key: ServiceKey): void {
    const { reader, backend, family } = this.#options
    const network = this.#options.network()
    const granted = this.#resolve(key, reader.service(key))
    this.#options.observer.resolved?.(family, key, granted)
    // Everything is compiled before anything is replaced: a Service is taken whole or not at all.
    const compiled = new Map<string, readonly KernelObject[]>()
    for (const port of granted) compiled.set(ownerOf(port), [...backend.compile(port, network)])
    for (const owner of this.#ports.get(key) ?? []) {
      this.#setAside.delete(owner)
      if (!compiled.has(owner)) this.committer.replace(owner, [])
    }
    for (const [owner, objects] of compiled) this.committer.replace(owner, objects)
    this.#setAside.delete(key)
    if (granted.length === 0) this.#ports.delete(key)
    else this.#ports.set(key, granted.map(ownerOf))
  }

  #resolve(key: ServiceKey, service: ServiceRecord | undefined): readonly ServicePort[] {
    const { claims, family, observer } = this.#options
    if (service === undefined) {
      for (const other of claims.release(key)) this.#dirty.add(other)
      return []
    }
    const ports = resolve(service, this.#options.reader.slices(key), this.#options.node(), family)
    const result = claims.claim(key, service.createdAt, ports)
    for (const other of result.alsoDirty) this.#dirty.add(other)
    for (const { frontend, protocol, holder } of result.lost) {
      const where = frontend.address === 'node-ports' ? 'node port ' : `${frontend.address} port `
      observer.conflict({
        family,
        service: key,
        frontend: `${where}${frontend.port}/${protocol}`,
        holder,
      })
    }
    return result.granted
  }

  #putAside(service: ServiceKey, servicePort: string, reason: string): void {
    const item: SetAside = { family: this.#options.family, service, servicePort, reason }
    this.#setAside.set(servicePort, item)
    this.#options.observer.setAside(item)
  }

  #giveUp(): boolean {
    const { backend, observer, family, network } = this.#options
    const lost = backend.giveUp?.()
    if (lost === undefined) return false
    observer.degraded?.(family, lost)
    this.committer.replaceSkeleton(backend.skeleton(network()))
    return true
  }
}
