// The kernel's network devices, as far as dummy devices with addresses go.
import { type Family, familyOf, type IP, ipToHex } from '../../../src/net/ip.ts'

export interface Device {
  readonly index: number
  readonly name: string
  /** In the order in which they are listed. */
  readonly addresses: readonly IP[]
}

/** The kernel does not do it; the message is that of Linux 6.1, which iproute2 passes on. */
export class DeviceRefused extends Error {}

/** Wider scopes have smaller numbers. */
export type Scope = 'global' | 'link' | 'host'

/** The scope that iproute2 (IPv4) or the kernel (IPv6) gives an address. */
export function scopeOf(address: IP): Scope {
  if (familyOf(address) === 'IPv4') return address.startsWith('127.') ? 'host' : 'global'
  if (address === '::1') return 'host'
  return /^fe[89ab]/.test(ipToHex(address)) ? 'link' : 'global'
}

const rank: Readonly<Record<Scope, number>> = { global: 0, link: 253, host: 254 }

/** All devices of a machine. Every method that changes something throws DeviceRefused. */
export class Devices {
  readonly #devices = new Map<string, Device>()
  readonly #changed: (families: readonly Family[]) => void
  // The loopback device is the first.
  #last = 1

  /** `changed` is told of every change. */
  constructor(changed: (families: readonly Family[]) => void) {
    this.#changed = changed
  }

  /** The same devices in another kernel. */
  copyTo(other: Devices): void {
    for (const [name, device] of this.#devices) other.#devices.set(name, device)
    other.#last = this.#last
  }

  get(name: string): Device | undefined {
    return this.#devices.get(name)
  }

  all(): readonly Device[] {
    return [...this.#devices.values()]
  }

  add(name: string): void {
    if (this.#devices.has(name) || name === 'lo') throw new DeviceRefused('RTNETLINK answers: File exists')
    this.#devices.set(name, { index: ++this.#last, name, addresses: [] })
    this.#changed(['IPv4', 'IPv6'])
  }

  remove(name: string): void {
    this.#need(name)
    this.#devices.delete(name)
    this.#changed(['IPv4', 'IPv6'])
  }

  addAddress(name: string, address: IP): void {
    const device = this.#need(name)
    if (device.addresses.includes(address)) throw new DeviceRefused('RTNETLINK answers: File exists')
    if (familyOf(address) === 'IPv6' && (address === '::' || ipToHex(address).startsWith('ff')))
      throw new DeviceRefused('RTNETLINK answers: Cannot assign requested address')
    const scope = rank[scopeOf(address)]
    // IPv4 lists narrow scopes first and then by age; IPv6 wide scopes first and the newest of each first.
    const index =
      familyOf(address) === 'IPv4'
        ? device.addresses.findIndex(other => familyOf(other) === 'IPv6' || rank[scopeOf(other)] < scope)
        : device.addresses.findIndex(other => familyOf(other) === 'IPv6' && rank[scopeOf(other)] >= scope)
    const at = index === -1 ? device.addresses.length : index
    this.#devices.set(name, { ...device, addresses: device.addresses.toSpliced(at, 0, address) })
    this.#changed([familyOf(address)])
  }

  removeAddress(name: string, address: IP): void {
    const device = this.#need(name)
    const at = device.addresses.indexOf(address)
    if (at === -1) throw new DeviceRefused('RTNETLINK answers: Cannot assign requested address')
    this.#devices.set(name, { ...device, addresses: device.addresses.toSpliced(at, 1) })
    this.#changed([familyOf(address)])
  }

  #need(name: string): Device {
    const found = this.#devices.get(name)
    if (found === undefined) throw new DeviceRefused(`Cannot find device "${name}"`)
    return found
  }
}
