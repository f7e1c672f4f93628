// Who has an address and port that several Services want: the older Service, whatever the order of events.
import type { ServiceKey } from '../model/records.ts'
import { formatAddressPort } from '../net/ip.ts'
import type { Protocol } from '../net/protocol.ts'
import type { Frontend, ServicePort } from './service-port.ts'

/** A frontend that a Service port asked for and did not get. */
export interface LostFrontend {
  readonly frontend: Frontend
  readonly protocol: Protocol
  /** The Service that has it; the same Service if two of its ports are alike. */
  readonly holder: ServiceKey
}

export interface ClaimResult {
  /** The Service's ports without the frontends it lost; a port that is left with nothing to do is left out. */
  readonly granted: ServicePort[]
  readonly lost: readonly LostFrontend[]
  /** Services whose frontends this claim took or set free: they must claim again. */
  readonly alsoDirty: readonly ServiceKey[]
}

/** An address and port that more than one Service wants. */
export interface Contest {
  /** `203.0.113.1:80/TCP` or `node port 30080/TCP`. */
  readonly frontend: string
  readonly holder: ServiceKey
  /** In the order in which they would get it. */
  readonly waiting: readonly ServiceKey[]
}

interface Claimant {
  readonly service: ServiceKey
  readonly createdAt: number
  /** Each once. A list of one or two takes 60 bytes, a set 240. */
  readonly wanted: readonly string[]
}

/** The older Service first; of the same age, the one whose `namespace/name` comes first. */
const comesFirst = (a: Claimant, b: Claimant): boolean =>
  a.createdAt !== b.createdAt ? a.createdAt < b.createdAt : a.service < b.service

const frontendKey = ({ address, port }: Frontend, protocol: Protocol): string =>
  address === 'node-ports' ? `node port ${port}/${protocol}` : `${formatAddressPort(address, port)}/${protocol}`

/**
 * The frontends of one address family and who holds them. kube-proxy leaves a frontend that two Services claim to chance
 * (§3.1); here the older Service has it. A claim or release costs what the Service's own frontends cost. Once every
 * Service that was named as dirty has claimed again, the outcome depends on the claims alone, not on their order.
 */
export class Claims {
  readonly #claimants = new Map<ServiceKey, Claimant>()
  readonly #holders = new Map<string, Claimant>()
  /** Who wants what another holds: sorted, never empty. */
  readonly #waiting = new Map<string, Claimant[]>()

  /**
   * States all that a Service wants, in place of what it wanted before.
   * @param createdAt milliseconds since the epoch.
   */
  claim(service: ServiceKey, createdAt: number, ports: readonly ServicePort[]): ClaimResult {
    const wanted = wantedBy(ports)
    const before = this.#claimants.get(service)
    const alsoDirty = new Set<ServiceKey>()
    if (before !== undefined) {
      const keeps = new Set(createdAt === before.createdAt ? wanted : [])
      for (const key of before.wanted) if (!keeps.has(key)) this.#withdraw(before, key, alsoDirty)
    }
    const claimant: Claimant = { service, createdAt, wanted }
    if (wanted.length === 0) this.#claimants.delete(service)
    else this.#claimants.set(service, claimant)
    for (const key of wanted) this.#enter(claimant, key, alsoDirty)
    return { ...this.#grant(service, ports), alsoDirty: [...alsoDirty] }
  }

  /** The Service wants nothing any more. Returns the Services that got what it held: they must claim again. */
  release(service: ServiceKey): ServiceKey[] {
    const before = this.#claimants.get(service)
    if (before === undefined) return []
    const alsoDirty = new Set<ServiceKey>()
    for (const key of before.wanted) this.#withdraw(before, key, alsoDirty)
    this.#claimants.delete(service)
    return [...alsoDirty]
  }

  /** Everything that several Services want at present. */
  *contests(): Iterable<Contest> {
    for (const [key, waiting] of this.#waiting) {
      const holder = this.#holders.get(key)
      if (holder === undefined) continue
      yield { frontend: key, holder: holder.service, waiting: waiting.map(claimant => claimant.service) }
    }
  }

  #enter(claimant: Claimant, key: string, alsoDirty: Set<ServiceKey>): void {
    const holder = this.#holders.get(key)
    if (holder === undefined || holder.service === claimant.service) {
      this.#holders.set(key, claimant)
    } else if (comesFirst(claimant, holder)) {
      this.#holders.set(key, claimant)
      this.#wait(holder, key)
      alsoDirty.add(holder.service)
    } else {
      this.#wait(claimant, key)
    }
  }

  #wait(claimant: Claimant, key: string): void {
    const waiting = this.#waiting.get(key)
    if (waiting === undefined) {
      this.#waiting.set(key, [claimant])
      return
    }
    const own = waiting.findIndex(other => other.service === claimant.service)
    if (own >= 0) waiting.splice(own, 1)
    const place = waiting.findIndex(other => comesFirst(claimant, other))
    waiting.splice(place < 0 ? waiting.length : place, 0, claimant)
  }

  #withdraw({ service }: Claimant, key: string, alsoDirty: Set<ServiceKey>): void {
    const waiting = this.#waiting.get(key)
    if (this.#holders.get(key)?.service === service) {
      const next = waiting?.shift()
      if (next === undefined) {
        this.#holders.delete(key)
      } else {
        this.#holders.set(key, next)
        alsoDirty.add(next.service)
      }
    } else if (waiting !== undefined) {
      const own = waiting.findIndex(other => other.service === service)
      if (own >= 0) waiting.splice(own, 1)
    }
    if (waiting?.length === 0) this.#waiting.delete(key)
  }

  #grant(service: ServiceKey, ports: readonly ServicePort[]): Pick<ClaimResult, 'granted' | 'lost'> {
    const granted: ServicePort[] = []
    const lost: LostFrontend[] = []
    const taken = new Set<string>()
    for (const port of ports) {
      const frontends: Frontend[] = []
      for (const frontend of port.frontends) {
        const key = frontendKey(frontend, port.protocol)
        const holder = this.#holders.get(key)?.service ?? service
        // Of two ports of one Service the first has it.
        if (holder !== service || taken.has(key)) lost.push({ frontend, protocol: port.protocol, holder })
        else frontends.push(frontend)
        taken.add(key)
      }
      if (frontends.length === port.frontends.length) granted.push(port)
      else if (frontends.length > 0 || port.healthCheckNodePort !== 0) granted.push({ ...port, frontends })
    }
    return { granted, lost }
  }
}

function wantedBy(ports: readonly ServicePort[]): readonly string[] {
  const keys = ports.flatMap(({ frontends, protocol }) => frontends.map(frontend => frontendKey(frontend, protocol)))
  // As long as it must be: what is gathered piece by piece has room for more.
  return keys.length === 1 ? [...keys] : [...new Set(keys)].slice()
}
