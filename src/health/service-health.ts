// Health checks of Services with externalTrafficPolicy Local: has this node an endpoint of its own? (`kube-proxy.md` §8.2)
import type { ServiceKey } from '../model/records.ts'
import { type HttpAnswer, jsonAnswer } from '../net/http.ts'
import type { IP } from '../net/ip.ts'
import { Connections } from './connections.ts'
import { HttpListener, type Patience } from './listener.ts'

export interface ServiceHealthCheck {
  /** healthCheckNodePort. */
  readonly port: number
  /** Distinct addresses of ready local endpoints over all ports of the Service (`kube-proxy.md` §2.3). */
  readonly localEndpoints: number
}

export interface ServiceHealthOptions {
  /**
   * The addresses to listen on, of one family: 0.0.0.0 or ::, or the node's addresses that nodePortAddresses admits.
   * Asked at every update and change, so that an address that comes later is served too; kube-proxy looks at the start only.
   */
  readonly addresses: () => readonly IP[]
  /** Whether the proxy programs its rules (`ProxyHealth.isHealthy`), whatever the node's eligibility. */
  readonly isProxyHealthy: () => boolean
  /** Told why a Service's check is not served, as a sentence, once for each distinct reason. It is retried by itself. */
  readonly onListenFailure: (service: ServiceKey, port: number, reason: string) => void
  readonly patience?: Partial<Patience>
}

interface Check {
  readonly port: number
  localEndpoints: number
  /** By address; empty while another Service has the port. */
  readonly listeners: Map<IP, HttpListener>
  /** The Service it was last told to wait for. */
  waitsFor: ServiceKey | undefined
}

/** Enough for every load balancer that probes, over all Services. */
const mostConnections = 512
/** There may be a thousand of these servers, and the limit of connections already keeps silent clients in bounds. */
const patience: Partial<Patience> = { lookMs: 30_000 }

/**
 * The servers of all healthCheckNodePorts, of one family. kube-proxy has an instance for each family too: a client that
 * probes over IPv6 is told of IPv6 endpoints. A port that cannot be had holds no other back.
 */
export class ServiceHealth {
  readonly #options: ServiceHealthOptions
  readonly #checks = new Map<ServiceKey, Check>()
  /** Who listens on a port. API servers give no port to two Services; should it happen, the first keeps it. */
  readonly #holders = new Map<number, ServiceKey>()
  /** Services whose port another one holds, in the order in which they came. */
  readonly #waiting = new Set<ServiceKey>()
  readonly #connections = new Connections(mostConnections)
  readonly #closing = new Set<Promise<void>>()

  constructor(options: ServiceHealthOptions) {
    this.#options = options
  }

  /**
   * Serves exactly these checks, on the addresses there are now, and tries again at once what could not be listened on. To
   * be called after a sync that succeeded: before, there is nothing behind the answer.
   */
  update(desired: ReadonlyMap<ServiceKey, ServiceHealthCheck>): void {
    for (const [service, { port }] of this.#checks) if (desired.get(service)?.port !== port) this.#remove(service)
    for (const [service, check] of desired) this.#add(service, check)
    this.#settle(this.#checks.keys())
  }

  /** `update` for these Services alone, undefined for one that has no check any more. Costs what they cost. */
  change(changed: ReadonlyMap<ServiceKey, ServiceHealthCheck | undefined>): void {
    if (changed.size === 0) return
    for (const [service, check] of changed) if (this.#checks.get(service)?.port !== check?.port) this.#remove(service)
    for (const [service, check] of changed) if (check !== undefined) this.#add(service, check)
    this.#settle(changed.keys())
  }

  /** Gives all ports up at once and ends all connections. */
  async close(): Promise<void> {
    for (const service of [...this.#checks.keys()]) this.#remove(service)
    await Promise.all(this.#closing)
  }

  #remove(service: ServiceKey): void {
    const check = this.#checks.get(service)
    if (check === undefined) return
    this.#checks.delete(service)
    this.#waiting.delete(service)
    if (this.#holders.get(check.port) === service) this.#holders.delete(check.port)
    for (const address of [...check.listeners.keys()]) this.#stop(check, address)
  }

  #add(service: ServiceKey, { port, localEndpoints }: ServiceHealthCheck): void {
    const known = this.#checks.get(service)
    if (known !== undefined) {
      known.localEndpoints = localEndpoints
      return
    }
    this.#checks.set(service, { port, localEndpoints, listeners: new Map(), waitsFor: undefined })
    this.#waiting.add(service)
  }

  /** Gives free ports to those who wait for them; these and the changed listen on all addresses and on no other. */
  #settle(changed: Iterable<ServiceKey>): void {
    const services = new Set(changed)
    for (const service of this.#waiting) if (this.#take(service)) services.add(service)
    const addresses = new Set(this.#options.addresses())
    for (const service of services) this.#listenOn(addresses, service)
  }

  /** Returns true if the port is now the Service's. */
  #take(service: ServiceKey): boolean {
    const check = this.#checks.get(service)
    if (check === undefined) return false
    const holder = this.#holders.get(check.port)
    if (holder === undefined) {
      this.#holders.set(check.port, service)
      this.#waiting.delete(service)
      return true
    }
    if (check.waitsFor !== holder) {
      check.waitsFor = holder
      this.#options.onListenFailure(service, check.port, `the health check of Service ${holder} has port ${check.port}`)
    }
    return false
  }

  #listenOn(addresses: ReadonlySet<IP>, service: ServiceKey): void {
    const check = this.#checks.get(service)
    if (check === undefined || this.#holders.get(check.port) !== service) return
    for (const address of [...check.listeners.keys()]) if (!addresses.has(address)) this.#stop(check, address)
    for (const address of addresses) {
      const listener = check.listeners.get(address)
      if (listener !== undefined) listener.retryNow()
      else check.listeners.set(address, this.#start(address, service, check))
    }
  }

  #start(address: IP, service: ServiceKey, check: Check): HttpListener {
    const listener = new HttpListener({
      binding: { address, port: check.port },
      handle: () => this.#answer(service, check),
      onListenFailure: reason => this.#options.onListenFailure(service, check.port, reason),
      connections: this.#connections,
      patience: { ...patience, ...this.#options.patience },
    })
    void listener.start()
    return listener
  }

  #stop(check: Check, address: IP): void {
    const closing = check.listeners.get(address)?.close()
    check.listeners.delete(address)
    if (closing === undefined) return
    this.#closing.add(closing)
    void closing.then(() => this.#closing.delete(closing))
  }

  /**
   * Whatever path and method. A request that is still on its way when its Service goes is cut off with its connection, never
   * answered by an empty 200 as in kube-proxy (issue 141272).
   */
  #answer(service: ServiceKey, { localEndpoints }: Check): HttpAnswer {
    const slash = service.indexOf('/')
    const serviceProxyHealthy = this.#options.isProxyHealthy()
    return jsonAnswer(
      localEndpoints > 0 && serviceProxyHealthy ? 200 : 503,
      {
        service: { namespace: service.slice(0, slash), name: service.slice(slash + 1) },
        localEndpoints,
        serviceProxyHealthy,
      },
      { indent: '\t', headers: { 'X-Load-Balancing-Endpoint-Weight': String(localEndpoints) } },
    )
  }
}
