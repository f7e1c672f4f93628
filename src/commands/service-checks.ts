// The servers of all healthCheckNodePorts. They outlive a configuration: a load balancer must not lose this node because a
// file changed, or because the API server is away while it does.
import { ServiceHealth, type ServiceHealthCheck } from '../health/service-health.ts'
import type { ServiceKey } from '../model/records.ts'
import type { Family, IP } from '../net/ip.ts'

/** What they are told by the configuration that is in force. */
export interface CheckMeans {
  readonly addresses: (family: Family) => readonly IP[]
  readonly failed: (service: ServiceKey, port: number, reason: string) => void
}

export class ServiceChecks {
  readonly #servers = new Map<Family, ServiceHealth>()
  readonly #isProxyHealthy: () => boolean
  #means: CheckMeans = { addresses: () => [], failed: () => undefined }

  constructor(isProxyHealthy: () => boolean) {
    this.#isProxyHealthy = isProxyHealthy
  }

  /** Another configuration is in force. What is served stays until the next `update`. */
  use(means: CheckMeans): void {
    this.#means = means
  }

  /** Serves exactly these in a family. To be called after a sync: before, there is nothing behind an answer. */
  update(family: Family, checks: ReadonlyMap<ServiceKey, ServiceHealthCheck>): void {
    this.#server(family).update(checks)
  }

  /** Likewise, where only these changed since the last `update` or `change`; undefined: no check any more. */
  change(family: Family, changed: ReadonlyMap<ServiceKey, ServiceHealthCheck | undefined>): void {
    this.#server(family).change(changed)
  }

  async close(): Promise<void> {
    await Promise.all([...this.#servers.values()].map(server => server.close()))
  }

  #server(family: Family): ServiceHealth {
    const server = this.#servers.get(family) ?? this.#make(family)
    this.#servers.set(family, server)
    return server
  }

  #make(family: Family): ServiceHealth {
    return new ServiceHealth({
      addresses: () => this.#means.addresses(family),
      isProxyHealthy: this.#isProxyHealthy,
      onListenFailure: (service, port, reason) => this.#means.failed(service, port, reason),
    })
  }
}
