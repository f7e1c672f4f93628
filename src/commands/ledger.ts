// What the Services of this node come to, kept as they are resolved: for health checks, metrics and `status`. State without I/O.
import type { ServiceHealthCheck } from '../health/service-health.ts'
import type { ServiceKey } from '../model/records.ts'
import type { ServicePort } from '../policy/service-port.ts'
import type { Conflict } from '../sync/contract.ts'

/** Of one address family. A change costs what the Service costs; nothing walks all of them. */
export class Ledger {
  readonly #checks = new Map<ServiceKey, ServiceHealthCheck>()
  #changedChecks = new Map<ServiceKey, ServiceHealthCheck | undefined>()
  readonly #withoutLocal = { internal: new Map<ServiceKey, number>(), external: new Map<ServiceKey, number>() }
  readonly #counts = { internal: 0, external: 0 }
  /** Told of since the Service was resolved the last time. */
  #newConflicts: Conflict[] = []
  readonly #conflicts = new Map<ServiceKey, readonly Conflict[]>()
  /** Milliseconds since the epoch; undefined before the first. */
  lastSync: number | undefined
  /** Times that rules of ours were changed by others. */
  drift = 0

  /** A frontend of a Service belongs to another. Told before `take`. */
  conflict(item: Conflict): void {
    this.#newConflicts.push(item)
  }

  /** Frontends that Services do not have because another is older. */
  get conflicts(): readonly Conflict[] {
    return [...this.#conflicts.values()].flat()
  }

  /** The ports of a Service on this node now; none if it is gone. */
  take(service: ServiceKey, ports: readonly ServicePort[]): void {
    const conflicts = this.#newConflicts.filter(item => item.service === service)
    this.#newConflicts = []
    if (conflicts.length === 0) this.#conflicts.delete(service)
    else this.#conflicts.set(service, conflicts)
    const check = ports.find(({ healthCheckNodePort }) => healthCheckNodePort !== 0)
    if (check === undefined) {
      if (this.#checks.delete(service)) this.#changedChecks.set(service, undefined)
    } else {
      const { healthCheckNodePort: port, localReadyEndpoints: localEndpoints = 0 } = check
      const known = { port, localEndpoints }
      this.#checks.set(service, known)
      this.#changedChecks.set(service, known)
    }
    this.#count('internal', service, ports)
    this.#count('external', service, ports)
  }

  /** Health checks of Services, by Service. */
  get checks(): ReadonlyMap<ServiceKey, ServiceHealthCheck> {
    return this.#checks
  }

  /** Health checks of Services that were taken since the last call; undefined where there is none any more. */
  takeChangedChecks(): ReadonlyMap<ServiceKey, ServiceHealthCheck | undefined> {
    const changed = this.#changedChecks
    this.#changedChecks = new Map()
    return changed
  }

  /** Service ports that a Local policy drops here, because their endpoints are on other nodes. */
  get noLocalEndpoints(): { readonly internal: number; readonly external: number } {
    return this.#counts
  }

  #count(traffic: 'internal' | 'external', service: ServiceKey, ports: readonly ServicePort[]): void {
    const now = ports.filter(port => port[traffic].kind === 'drop').length
    const known = this.#withoutLocal[traffic]
    this.#counts[traffic] += now - (known.get(service) ?? 0)
    if (now === 0) known.delete(service)
    else known.set(service, now)
  }
}
