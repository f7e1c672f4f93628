// Hands out cluster IPs and node ports, as the API server's allocators do, and remembers who holds which.
import {
  bitsOf,
  type CIDR,
  cidrContains,
  type Family,
  familyOf,
  type IP,
  ipFromHex,
  ipToHex,
} from '../../../src/net/ip.ts'

const firstNodePort = 30_000
const lastNodePort = 32_767

/** Values held by owners; released by owner, so that an update can give up and take again. */
class Holdings {
  readonly #owners = new Map<string, string>()
  readonly #held = new Map<string, readonly string[]>()

  ownerOf(value: string): string | undefined {
    return this.#owners.get(value)
  }

  hold(owner: string, values: readonly string[]): void {
    for (const value of this.#held.get(owner) ?? []) if (this.#owners.get(value) === owner) this.#owners.delete(value)
    if (values.length === 0) this.#held.delete(owner)
    else this.#held.set(owner, values)
    for (const value of values) this.#owners.set(value, owner)
  }
}

/** Cluster IPs of the configured CIDRs and node ports 30000 to 32767. */
export class Allocator {
  readonly #cidrs: readonly CIDR[]
  readonly #ips = new Holdings()
  readonly #ports = new Holdings()
  readonly #nextIP = new Map<CIDR, bigint>()
  #nextPort = firstNodePort

  /** At most one CIDR a family; the first is the cluster's default family. */
  constructor(cidrs: readonly CIDR[]) {
    this.#cidrs = cidrs
  }

  /** The families there are CIDRs for, the default one first. */
  get families(): readonly Family[] {
    return this.#cidrs.map(cidr => familyOf(cidr.address))
  }

  /** The Service that holds this cluster IP. */
  ownerOfIP(ip: string): string | undefined {
    return this.#ips.ownerOf(ip)
  }

  /** The Service that holds this node port, given as `TCP/30000`. */
  ownerOfNodePort(port: string): string | undefined {
    return this.#ports.ownerOf(port)
  }

  /** Records what a Service holds now; empty lists release everything. */
  hold(owner: string, ips: readonly string[], nodePorts: readonly string[]): void {
    this.#ips.hold(owner, ips)
    this.#ports.hold(owner, nodePorts)
  }

  /** A free cluster IP of this family. Throws an Error if there is no CIDR of the family or it is used up. */
  freeIP(family: Family): IP {
    const cidr = this.#cidrs.find(c => familyOf(c.address) === family)
    if (cidr === undefined) throw new Error(`no service CIDR of family ${family} is configured`)
    const base = BigInt(`0x${ipToHex(cidr.address)}`)
    const size = 1n << BigInt(bitsOf(family) - cidr.prefix)
    const digits = bitsOf(family) / 4
    // The network's own address and its first are never handed out: the first belongs to Service default/kubernetes.
    let offset = this.#nextIP.get(cidr) ?? 2n
    for (let tried = 0n; tried < size; tried++) {
      if (offset >= size - (family === 'IPv4' ? 1n : 0n)) offset = 2n
      const ip = ipFromHex((base + offset++).toString(16).padStart(digits, '0'))
      if (cidrContains(cidr, ip) && this.#ips.ownerOf(ip) === undefined) {
        this.#nextIP.set(cidr, offset)
        return ip
      }
    }
    throw new Error(`the service CIDR of family ${family} is used up`)
  }

  /** A node port free for all these protocols and not among `taken`. Throws an Error if there is none. */
  freeNodePort(protocols: readonly string[], taken: ReadonlySet<number>): number {
    for (let tried = firstNodePort; tried <= lastNodePort; tried++) {
      const port = this.#nextPort
      this.#nextPort = port === lastNodePort ? firstNodePort : port + 1
      if (!taken.has(port) && protocols.every(p => this.#ports.ownerOf(`${p}/${port}`) === undefined)) return port
    }
    throw new Error('all node ports are used up')
  }
}
