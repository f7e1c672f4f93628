// Which UDP flows are stale: the frontends there are, who serves them, and what changed since flows were last cleaned.
// State without I/O. The rules are those of kube-proxy (`kube-proxy.md` §7), without its gaps: Services with no serving
// endpoint left, and Services that are gone, are cleaned too (kubernetes #139628), a node port counts at the node's own
// addresses only, and a change costs what it changed (#135323).
import type { Flow, FlowFilter } from '../net/flow.ts'
import { type Family, type IP, parseIP } from '../net/ip.ts'
import type { ServicePort } from '../policy/service-port.ts'

/** What must be known of a Service port: its addresses, and every endpoint that serves. */
export interface ServedPort extends Pick<ServicePort, 'protocol' | 'frontends'> {
  /**
   * Endpoints whose condition is serving, wherever they are and terminating or not, whatever policy and topology choose
   * for new connections: a flow to one of them is as good as it was. Read of UDP ports only.
   */
  readonly serving?: readonly { readonly address: IP; readonly port: number }[]
}

/**
 * Changes that wait where nothing can be removed, as without the means to. Beyond, everything is looked through when it can
 * be; flows of Services that are gone by then end by themselves.
 */
const mostChanges = 10_000

/** `address:port`; of a node port `*:port`. The last colon ends the address, so IPv6 needs no brackets. */
type Key = string

const keyAt = (address: IP | 'node-ports', port: number): Key => `${address === 'node-ports' ? '*' : address}:${port}`
const addressOf = (key: Key): IP | 'node-ports' => parseIP(key.slice(0, key.lastIndexOf(':'))) ?? 'node-ports'
const portOf = (key: Key): number => Number(key.slice(key.lastIndexOf(':') + 1))

/** What a frontend was, since its flows were last cleaned. */
interface Change {
  /** Once it was not there, or nobody served it: flows to it went wherever the rules of others took them. */
  readonly wasUnserved: boolean
  /** Every endpoint that served it. */
  readonly served: ReadonlySet<Key>
}

type Changes = ReadonlyMap<Key, Change>

/** Work for one cleaning. */
export interface StaleFlows {
  /** The searches that find all of them. */
  readonly searches: readonly FlowFilter[]
  /** Which of the flows found are stale. Answers from the table as it is when asked. */
  readonly isStale: (flow: Flow) => boolean
}

/**
 * A search walks the kernel's whole table, but hands over only what it is for: 80 ms in a table of 200,000 flows, off the
 * event loop. Handing over and reading all 200,000 takes 0.8 s. More searches than this are no better than everything.
 */
const searchesAtMost = 4

const nobody: ReadonlySet<Key> = new Set()

export class ServedTable {
  readonly #family: Family
  readonly #frontends = new Map<Key, { readonly service: string; readonly serving: ReadonlySet<Key> }>()
  readonly #keysOf = new Map<string, readonly Key[]>()
  /** Noted, but not in the kernel's rules yet. */
  #noted = new Map<Key, Change>()
  /** In the kernel's rules: their flows can be cleaned. `everything`: flows from before our time. */
  #due: { everything: boolean; changes: Map<Key, Change> } = { everything: true, changes: new Map() }
  #sealed = false

  constructor(family: Family) {
    this.#family = family
  }

  /** The Service's ports from now on; none when it is gone. Ports of other protocols are passed over. */
  note(service: string, ports: readonly ServedPort[]): void {
    const keys: Key[] = []
    for (const { protocol, frontends, serving = [] } of ports) {
      if (protocol !== 'UDP') continue
      const served = new Set(serving.map(({ address, port }) => keyAt(address, port)))
      for (const { address, port } of frontends) {
        const key = keyAt(address, port)
        keys.push(key)
        const before = this.#frontends.get(key)?.serving
        this.#frontends.set(key, { service, serving: served })
        if (before === undefined || !isEqual(before, served)) this.#change(key, before)
      }
    }
    const kept = new Set(keys)
    for (const key of this.#keysOf.get(service) ?? []) {
      const entry = this.#frontends.get(key)
      // Another Service may have taken the address over meanwhile.
      if (kept.has(key) || entry?.service !== service) continue
      this.#frontends.delete(key)
      this.#change(key, entry.serving)
    }
    if (keys.length > 0) this.#keysOf.set(service, keys)
    else this.#keysOf.delete(service)
  }

  /** All that was noted is in the kernel's rules now. Before that, the old rules would make the same flows again. */
  seal(): void {
    this.#sealed = true
    mergeInto(this.#due.changes, this.#noted)
    this.#noted = new Map()
  }

  /** True if there is something to clean. */
  get isDue(): boolean {
    return this.#sealed && (this.#due.everything || this.#due.changes.size > 0)
  }

  /**
   * Takes what is to be cleaned; undefined when there is nothing. `restore` gives it back if the cleaning fails.
   * @param takesNodePorts whether an address is one of the node's at which node ports answer.
   */
  take(takesNodePorts: (ip: IP) => boolean): (StaleFlows & { readonly restore: () => void }) | undefined {
    if (!this.isDue) return undefined
    const taken = this.#due
    this.#due = { everything: false, changes: new Map() }
    const searches = taken.everything ? [{ family: this.#family }] : this.#searches(taken.changes)
    return {
      searches,
      isStale: flow => this.#isStale(flow, taken.changes, takesNodePorts),
      restore: () => {
        mergeInto(taken.changes, this.#due.changes)
        const everything = taken.everything || this.#due.everything || taken.changes.size > mostChanges
        this.#due = { everything, changes: taken.changes.size > mostChanges ? new Map() : taken.changes }
      },
    }
  }

  #change(key: Key, before: ReadonlySet<Key> | undefined): void {
    const change = { wasUnserved: before === undefined || before.size === 0, served: before ?? nobody }
    mergeInto(this.#noted, new Map([[key, change]]))
  }

  #searches(changes: Changes): FlowFilter[] {
    const family = this.#family
    const sources = new Map<IP, { readonly replies: Set<number>; readonly asked: Set<number> }>()
    const destinations = new Map<IP, Set<number>>()
    const nodePorts = new Set<number>()
    for (const [key, { wasUnserved, served }] of changes) {
      const now = this.#frontends.get(key)?.serving
      for (const endpoint of served) {
        const address = addressOf(endpoint)
        if (address === 'node-ports' || now?.has(endpoint) === true) continue
        const source = entryOf(sources, address, () => ({ replies: new Set(), asked: new Set() }))
        source.replies.add(portOf(endpoint))
        source.asked.add(portOf(key))
      }
      if (now === undefined || !wasUnserved) continue
      const address = addressOf(key)
      if (address === 'node-ports') nodePorts.add(portOf(key))
      else entryOf(destinations, address, () => new Set()).add(portOf(key))
    }
    if (sources.size + destinations.size + nodePorts.size > searchesAtMost) return [{ family }]
    return [
      ...[...sources].map(([replySource, { replies, asked }]) => ({
        ...{ family, replySource },
        ...onlyOne('replySourcePort', replies),
        ...onlyOne('destinationPort', asked),
      })),
      ...[...destinations].map(([destination, ports]) => ({
        ...{ family, destination },
        ...onlyOne('destinationPort', ports),
      })),
      ...[...nodePorts].map(destinationPort => ({ family, destinationPort })),
    ]
  }

  #isStale(flow: Flow, changes: Changes, takesNodePorts: (ip: IP) => boolean): boolean {
    const { destination, destinationPort } = flow
    const answers = keyAt(flow.replySource, flow.replySourcePort)
    const exact = keyAt(destination, destinationPort)
    const nodePort = keyAt('node-ports', destinationPort)
    const entry = this.#frontends.get(exact)
    if (entry !== undefined) return !entry.serving.has(answers)
    const wasExact = changes.get(exact)
    const portEntry = this.#frontends.get(nodePort)
    const wasNodePort = changes.get(nodePort)
    if (wasExact === undefined && portEntry === undefined && wasNodePort === undefined) return false
    const isNodePort = (portEntry !== undefined || wasNodePort !== undefined) && takesNodePorts(destination)
    if (isNodePort && portEntry !== undefined) return !portEntry.serving.has(answers)
    // A frontend that is gone: what its endpoints answer was ours, anything else is not ours to judge.
    return wasExact?.served.has(answers) === true || (isNodePort && wasNodePort?.served.has(answers) === true)
  }
}

function entryOf<K, V>(map: Map<K, V>, key: K, make: () => V): V {
  const known = map.get(key)
  if (known !== undefined) return known
  const made = make()
  map.set(key, made)
  return made
}

/** A port narrows a search only where it is the same for all that is searched for. */
function onlyOne(name: 'destinationPort' | 'replySourcePort', ports: ReadonlySet<number>): Partial<FlowFilter> {
  const [port] = ports
  return port === undefined || ports.size > 1 ? {} : { [name]: port }
}

const isWithin = (part: ReadonlySet<Key>, whole: ReadonlySet<Key>): boolean => {
  for (const key of part) if (!whole.has(key)) return false
  return true
}

const isEqual = (a: ReadonlySet<Key>, b: ReadonlySet<Key>): boolean => a.size === b.size && isWithin(a, b)

function mergeInto(into: Map<Key, Change>, changes: Changes): void {
  for (const [key, { wasUnserved, served }] of changes) {
    const earlier = into.get(key)
    into.set(key, {
      wasUnserved: wasUnserved || earlier?.wasUnserved === true,
      served: earlier === undefined ? served : new Set([...earlier.served, ...served]),
    })
  }
}
