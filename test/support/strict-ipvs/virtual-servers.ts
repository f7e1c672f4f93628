// The kernel's IPVS table: virtual servers and their real servers, and what it answers to each request.
import { type Family, familyOf, type IP, ipToHex } from '../../../src/net/ip.ts'

export type ServerProtocol = 'TCP' | 'UDP' | 'SCTP'
export type Forwarding = 'Masq' | 'Route' | 'Tunnel'

/** Which virtual server: one address, protocol and port, or a mark and an address family. */
export type ServerId =
  | { readonly kind: 'address'; readonly protocol: ServerProtocol; readonly address: IP; readonly port: number }
  | { readonly kind: 'mark'; readonly mark: number; readonly family: Family }

/** What of a virtual server can be changed. */
export interface ServerSettings {
  readonly scheduler: string
  /** Seconds of persistence; undefined without it. */
  readonly persistent: number | undefined
  readonly onePacket: boolean
  /** Which of the three flags that a scheduler may give a meaning. */
  readonly flags: ReadonlySet<1 | 2 | 3>
}

/** A real server's place in a virtual server. */
export interface Destination {
  readonly address: IP
  readonly port: number
  readonly forwarding: Forwarding
  readonly weight: number
}

/** Connections to a real server, as `ipvsadm -Ln` counts them. */
export interface Connections {
  readonly active: number
  readonly inactive: number
}

export interface RealServer extends Destination, Connections {}

export interface VirtualServer extends ServerSettings {
  readonly id: ServerId
  /** By address and port. */
  readonly real: ReadonlyMap<string, RealServer>
}

export type Refusal =
  | 'Service already exists'
  | 'Scheduler or persistence engine not found'
  | 'No such service'
  | 'Service not defined'
  | 'Destination already exists'
  | 'No such destination'
  | 'Invalid operation.  Possibly wrong module version, address not unicast, ...'

/** The kernel does not do it; the message is ipvsadm's. */
export class ServerRefused extends Error {
  constructor(message: Refusal) {
    super(message)
  }
}

/** Schedulers that Debian's kernel 6.1 has modules for. */
export const debianSchedulers = [
  ...['rr', 'wrr', 'lc', 'wlc', 'lblc', 'lblcr', 'dh', 'sh', 'sed', 'nq', 'fo', 'ovf', 'mh'],
] as const

/** Seconds; zero in a request leaves one as it is. */
export interface Timeouts {
  readonly tcp: number
  readonly tcpFin: number
  readonly udp: number
}

export const familyOfServer = (id: ServerId): Family => (id.kind === 'mark' ? id.family : familyOf(id.address))

const keyOf = (id: ServerId): string =>
  id.kind === 'mark' ? `mark ${id.mark} ${id.family}` : `${id.protocol} ${id.address} ${id.port}`

const destinationKey = ({ address, port }: Pick<Destination, 'address' | 'port'>): string => `${address} ${port}`

const noConnections: Connections = { active: 0, inactive: 0 }

/** All virtual servers of a machine, both families. Every method that changes something throws ServerRefused. */
export class VirtualServers {
  readonly #servers = new Map<string, VirtualServer>()
  /** Connections that outlive their real server; it gets them back if it comes back. */
  readonly #trash = new Map<string, Connections>()
  readonly #schedulers: ReadonlySet<string>
  readonly #changed: (families: readonly Family[]) => void
  /** As they are printed; until the next change. */
  #listed: readonly VirtualServer[] | undefined
  #timeouts: Timeouts = { tcp: 900, tcpFin: 120, udp: 300 }

  /** `changed` is told of every change. */
  constructor(schedulers: Iterable<string>, changed: (families: readonly Family[]) => void) {
    this.#schedulers = new Set(schedulers)
    this.#changed = changed
  }

  /** The same servers in another kernel. */
  copyTo(other: VirtualServers): void {
    for (const [key, server] of this.#servers) other.#servers.set(key, server)
    for (const [key, connections] of this.#trash) other.#trash.set(key, connections)
    other.#timeouts = this.#timeouts
    other.#listed = this.#listed
  }

  get timeouts(): Timeouts {
    return this.#timeouts
  }

  /** In the order in which `ipvsadm` prints them, but where a hash decides: among addresses more than 2^31 apart. */
  list(): readonly VirtualServer[] {
    this.#listed ??= mergeSorted([...this.#servers.values()], compareServers)
    return this.#listed
  }

  /** Undefined if there is none. */
  get(id: ServerId): VirtualServer | undefined {
    return this.#servers.get(keyOf(id))
  }

  add(id: ServerId, settings: ServerSettings): void {
    if (this.#servers.has(keyOf(id))) throw new ServerRefused('Service already exists')
    this.#needScheduler(settings)
    this.#put({ ...settings, id, real: new Map() })
  }

  edit(id: ServerId, settings: ServerSettings): void {
    const server = this.#need(id, 'No such service')
    this.#needScheduler(settings)
    this.#put({ ...settings, id, real: server.real })
  }

  remove(id: ServerId): void {
    const server = this.#need(id, 'No such service')
    for (const real of server.real.values()) this.#discard(id, real)
    this.#servers.delete(keyOf(id))
    this.#listed = undefined
    this.#changed([familyOfServer(id)])
  }

  /** `ipvsadm -C`. */
  clear(): void {
    for (const { id } of [...this.#servers.values()]) this.remove(id)
  }

  addDestination(id: ServerId, destination: Destination): void {
    const server = this.#need(id, 'Service not defined')
    const key = destinationKey(destination)
    if (server.real.has(key)) throw new ServerRefused('Destination already exists')
    if (!isUnicast(destination.address))
      throw new ServerRefused('Invalid operation.  Possibly wrong module version, address not unicast, ...')
    const kept = this.#trash.get(trashKey(id, destination)) ?? noConnections
    this.#trash.delete(trashKey(id, destination))
    this.#put({ ...server, real: new Map(server.real).set(key, { ...destination, ...kept }) })
  }

  editDestination(id: ServerId, destination: Destination): void {
    const server = this.#need(id, 'Service not defined')
    const { active, inactive } = this.#needDestination(server, destination)
    const real = new Map(server.real).set(destinationKey(destination), { ...destination, active, inactive })
    this.#put({ ...server, real })
  }

  removeDestination(id: ServerId, destination: Pick<Destination, 'address' | 'port'>): void {
    const server = this.#need(id, 'Service not defined')
    this.#discard(id, this.#needDestination(server, destination))
    const real = new Map(server.real)
    real.delete(destinationKey(destination))
    this.#put({ ...server, real })
  }

  /** Lets a real server have so many connections from now on; no change that anybody is told of. */
  setConnections(id: ServerId, destination: Pick<Destination, 'address' | 'port'>, connections: Connections): void {
    const server = this.#need(id, 'Service not defined')
    const found = this.#needDestination(server, destination)
    const { active, inactive } = connections
    const real = new Map(server.real).set(destinationKey(destination), { ...found, active, inactive })
    this.#servers.set(keyOf(id), { ...server, real })
    this.#listed = undefined
  }

  setTimeouts({ tcp, tcpFin, udp }: Timeouts): void {
    const before = this.#timeouts
    this.#timeouts = { tcp: tcp || before.tcp, tcpFin: tcpFin || before.tcpFin, udp: udp || before.udp }
  }

  #put(server: VirtualServer): void {
    this.#servers.set(keyOf(server.id), server)
    this.#listed = undefined
    this.#changed([familyOfServer(server.id)])
  }

  #discard(id: ServerId, { active, inactive, ...destination }: RealServer): void {
    if (active + inactive > 0) this.#trash.set(trashKey(id, destination), { active, inactive })
  }

  #needScheduler({ scheduler }: ServerSettings): void {
    if (!this.#schedulers.has(scheduler)) throw new ServerRefused('Scheduler or persistence engine not found')
  }

  #need(id: ServerId, refusal: Refusal): VirtualServer {
    const found = this.#servers.get(keyOf(id))
    if (found === undefined) throw new ServerRefused(refusal)
    return found
  }

  #needDestination(server: VirtualServer, destination: Pick<Destination, 'address' | 'port'>): RealServer {
    const found = server.real.get(destinationKey(destination))
    if (found === undefined) throw new ServerRefused('No such destination')
    return found
  }
}

const trashKey = (id: ServerId, destination: Pick<Destination, 'address' | 'port'>): string =>
  `${keyOf(id)} ${destinationKey(destination)}`

/** As the kernel's inet_addr_type and ipv6_addr_type see an address that no interface has. */
function isUnicast(address: IP): boolean {
  if (familyOf(address) === 'IPv6') return !/^ff|^fe[89ab]/.test(ipToHex(address)) && address !== '::'
  const first = Number(address.split('.')[0])
  return first !== 0 && (first < 224 || first > 239) && address !== '255.255.255.255'
}

/** Real servers of a virtual server in the order in which `ipvsadm` prints them; the kernel hands over the newest first. */
export const sortedReal = ({ real }: VirtualServer): readonly RealServer[] =>
  mergeSorted([...real.values()].reverse(), (a, b) => compareAddresses(a.address, b.address) || a.port - b.port)

/** IPPROTO numbers. */
const protocolNumber = { TCP: 6, UDP: 17, SCTP: 132 } as const

function compareServers({ id: a }: VirtualServer, { id: b }: VirtualServer): number {
  const byMark = ((a.kind === 'mark' ? a.mark : 0) - (b.kind === 'mark' ? b.mark : 0)) | 0
  if (byMark !== 0) return byMark
  const byFamily = Number(familyOfServer(a) === 'IPv6') - Number(familyOfServer(b) === 'IPv6')
  if (byFamily !== 0 || a.kind === 'mark' || b.kind === 'mark') return byFamily
  const byProtocol = protocolNumber[a.protocol] - protocolNumber[b.protocol]
  return byProtocol || compareAddresses(a.address, b.address) || a.port - b.port
}

/** libipvs subtracts 32-bit words into an int: 192.168.0.1 comes before 10.0.0.1. */
function compareAddresses(a: IP, b: IP): number {
  const [first, second] = [wordsOf(a), wordsOf(b)]
  for (let at = 0; at < first.length; at++) {
    const difference = ((first[at] ?? 0) - (second[at] ?? 0)) | 0
    if (difference !== 0) return difference
  }
  return 0
}

const knownWords = new Map<IP, readonly number[]>()

/** An address in words of 32 bits. */
function wordsOf(address: IP): readonly number[] {
  const known = knownWords.get(address)
  if (known !== undefined) return known
  const words = (ipToHex(address).match(/.{8}/g) ?? []).map(word => Number.parseInt(word, 16))
  knownWords.set(address, words)
  return words
}

/** glibc's qsort: where the comparison is not an order, as above, the way of sorting shows. */
function mergeSorted<T>(items: readonly T[], compare: (a: T, b: T) => number): T[] {
  if (items.length < 2) return [...items]
  const middle = items.length >> 1
  const left = mergeSorted(items.slice(0, middle), compare)
  const right = mergeSorted(items.slice(middle), compare)
  const merged: T[] = []
  let l = 0
  let r = 0
  for (;;) {
    const [a, b] = [left[l], right[r]]
    if (a === undefined || b === undefined) break
    if (compare(a, b) <= 0) {
      merged.push(a)
      l++
    } else {
      merged.push(b)
      r++
    }
  }
  return [...merged, ...left.slice(l), ...right.slice(r)]
}
