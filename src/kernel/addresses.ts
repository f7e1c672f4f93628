// The machine's own addresses, and when to ask for them again.
import { networkInterfaces } from 'node:os'
import { type Family, type IP, parseIP } from '../net/ip.ts'
import type { NetlinkMessage } from './netlink/message.ts'
import { openRoute, type RouteConnection } from './netlink/route.ts'
import { type NetlinkSocket, openNetlink } from './netlink/socket.ts'

/** Holds addresses of Services in kube-proxy's mode ipvs: they are not the node's own. */
const serviceDevice = 'kube-ipvs0'
const families: readonly Family[] = ['IPv4', 'IPv6']
/** RTNLGRP_IPV4_IFADDR and RTNLGRP_IPV6_IFADDR of linux/rtnetlink.h. */
const groups = [5, 9]
/** Where `ifaddrmsg` has the number of its device. */
const indexAt = 4

const everyMs = 5_000
/** Where the kernel tells of changes, one look in so many finds what it may not have told. */
const looksPerFind = 12

/** Addresses of all interfaces, without zones; those without carrier are left out where there is no netlink. */
export async function hostAddresses(): Promise<IP[]> {
  const route = await openRoute()
  if (route === undefined) return ofRunning()
  try {
    return (await readOver(route)).addresses
  } catch {
    // They change all the time, or the kernel lacks something.
    return ofRunning()
  } finally {
    await route.close()
  }
}

/** libuv passes over interfaces that are not running (IFF_RUNNING). */
function ofRunning(): IP[] {
  const found = new Set<IP>()
  for (const [name, list] of Object.entries(networkInterfaces())) {
    if (name === serviceDevice) continue
    for (const { address } of list ?? []) {
      const ip = parseIP(address.split('%')[0] ?? '')
      if (ip !== undefined) found.add(ip)
    }
  }
  return [...found]
}

interface Read {
  readonly addresses: IP[]
  /** The number of the device of Services. */
  readonly services: number | undefined
}

/**
 * The machine's addresses by rtnetlink, which tells devices by number. Throws NetlinkError; and an Error where the device of
 * Services came or went meanwhile: whose its addresses are cannot be told then.
 */
export async function readOver(route: RouteConnection): Promise<Read> {
  const services = (await route.link(serviceDevice))?.index
  const found = new Set<IP>()
  for (const family of families) {
    await route.addresses(undefined, family, ({ index, address }) => index !== services && found.add(address))
  }
  if ((await route.link(serviceDevice))?.index !== services) throw new Error(`${serviceDevice} came or went meanwhile`)
  return { addresses: [...found], services }
}

export interface AddressWatch {
  close(): Promise<void>
}

/**
 * Hands over the addresses soon, and again within seconds after some have come or gone. A listing costs what there are, 10,000
 * of Services among them: where the kernel tells of changes there is one a minute, and one after each change elsewhere than on
 * the device of Services. `periodMs`: between looks at what was told.
 */
export async function followAddresses(
  changed: (addresses: readonly IP[]) => void,
  periodMs: number = everyMs,
): Promise<AddressWatch> {
  const events = await openNetlink('route', { groups })
  const route = await openRoute()
  const touched = new Touched(events)
  let services: number | undefined
  let looks = 0
  let timer: NodeJS.Timeout | undefined
  let last: Promise<void> = Promise.resolve()
  let isClosed = false

  const look = async (): Promise<void> => {
    const isTold = touched.take(services)
    if (events !== undefined && route !== undefined && !isTold && looks++ % looksPerFind !== 0) return
    if (route === undefined) return changed(ofRunning())
    const read = await readOver(route).catch(() => undefined)
    // They change all the time: next time, then.
    if (read === undefined) return touched.again()
    services = read.services
    changed(read.addresses)
  }
  const arm = (): void => {
    if (isClosed) return
    timer = setTimeout(() => {
      last = look().finally(arm)
    }, periodMs).unref()
  }
  arm()
  return {
    async close() {
      isClosed = true
      clearTimeout(timer)
      await last.catch(() => undefined)
      await Promise.all([events?.close(), route?.close()])
    },
  }
}

/** Devices of which the kernel has told that addresses came or went. */
class Touched {
  readonly #devices = new Set<number>()
  #isUnknown = false

  constructor(events: NetlinkSocket | undefined) {
    events?.subscribe(
      message => this.#hear(message),
      () => this.again(),
    )
  }

  /** True if something changed that is not on this device; forgets it. */
  take(services: number | undefined): boolean {
    const isTold = this.#isUnknown || [...this.#devices].some(index => index !== services)
    this.#isUnknown = false
    this.#devices.clear()
    return isTold
  }

  /** Whatever changed has to be found out. */
  again(): void {
    this.#isUnknown = true
  }

  #hear({ payload }: NetlinkMessage): void {
    if (payload.length >= indexAt + 4) this.#devices.add(payload.readUInt32LE(indexAt))
  }
}
