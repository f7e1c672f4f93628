// Devices, their addresses and routes in rtnetlink: what linux/if_link.h, if_addr.h and rtnetlink.h number, as payloads and
// back. Pure.
import { bitsOf, type Family, familyOf, type IP } from '../../net/ip.ts'
import { addressBytes, addressFamily, familyNumberOf, familyOfNumber, field, readAddress } from './generic-fields.ts'
import { attribute, eachAttribute, NetlinkFormatError, nested, readAttributes, readText, text, u32 } from './message.ts'

/** RTM_*. */
export const routeType = {
  newLink: 16,
  deleteLink: 17,
  getLink: 18,
  getAddress: 22,
  newRoute: 24,
  deleteRoute: 25,
  getRoute: 26,
} as const

/** Lengths of `ifinfomsg`, `ifaddrmsg` and `rtmsg`. */
const linkHeaderLength = 16
const addressHeaderLength = 8
const routeHeaderLength = 12

/** IFLA_* and IFLA_INFO_KIND. */
const link = { name: 3, info: 18, kind: 1 } as const
/** IFA_*. */
const address = { address: 1, local: 2 } as const
/** RTA_*. */
const route = { destination: 1, device: 4, metric: 6, table: 15 } as const
/** RT_TABLE_LOCAL, RT_SCOPE_HOST, RTN_LOCAL: what the kernel writes itself for each address that it has. */
const localTable = 255
const hostScope = 254
const localType = 2
/** The device `lo` has this number in every network namespace (LOOPBACK_IFINDEX). */
const loopback = 1

/** A device. */
export interface Link {
  readonly index: number
  readonly name: string
}

/** An address on a device. */
export interface LinkAddress {
  readonly index: number
  readonly address: IP
}

/** By what routes are told apart that lead to the same. */
export interface RouteMark {
  /** Who made it: RTPROT_*, or a number of one's own above 4. */
  readonly protocol: number
  /** Of several to one address the lowest is used. 0: the kernel's own, and those of IPv4 that say nothing. */
  readonly metric: number
}

/** A single address that packets are delivered for on this machine, without its being an address of a device. */
export interface LocalRoute extends RouteMark {
  readonly address: IP
}

/** A device by name, to be asked for or deleted. Throws RangeError for a name that is longer than a device's can be. */
export const encodeLinkName = (name: string): Buffer =>
  Buffer.concat([Buffer.alloc(linkHeaderLength), text(link.name, checked(name))])

/** A device of a kind that needs no more than a name, as `dummy`. */
export const encodeLink = (name: string, kind: string): Buffer =>
  Buffer.concat([encodeLinkName(name), nested(link.info, attribute(link.kind, Buffer.from(kind)))])

/** IFNAMSIZ is 16 with the end of the text. */
function checked(name: string): string {
  if (name === '' || Buffer.byteLength(name) > 15) throw new RangeError(`"${name}" is no name for a device`)
  return name
}

/** The device of a message. Throws NetlinkFormatError. */
export function readLink(payload: Buffer): Link {
  if (payload.length < linkHeaderLength) throw new NetlinkFormatError('a message about a device ends within its header')
  const attributes = readAttributes(payload.subarray(linkHeaderLength))
  return { index: payload.readInt32LE(4), name: readText(field(attributes, link.name, 0)) }
}

/** All addresses; the kernel tells those of one device apart only when it is asked in a stricter way. */
export const encodeAddressDump = (family: 'IPv4' | 'IPv6'): Buffer => {
  const head = Buffer.alloc(addressHeaderLength)
  head[0] = addressFamily[family]
  return head
}

/** The address of a message; undefined for one that is neither IPv4 nor IPv6. Throws NetlinkFormatError. */
export function readLinkAddress(payload: Buffer): LinkAddress | undefined {
  if (payload.length < addressHeaderLength) {
    throw new NetlinkFormatError('a message about an address ends within its header')
  }
  const family = familyOfNumber(payload.readUInt8(0))
  if (family === undefined) return undefined
  // IFA_ADDRESS is the other end's where there is one.
  let own: Buffer | undefined
  let other: Buffer | undefined
  eachAttribute(payload, addressHeaderLength, payload.length, (type, from, to) => {
    if (type === address.local) own = payload.subarray(from, to)
    else if (type === address.address) other = payload.subarray(from, to)
  })
  const bytes = own ?? other
  if (bytes === undefined) throw new NetlinkFormatError('a message about an address has none')
  return { index: payload.readUInt32LE(4), address: readAddress(bytes, family) }
}

/** A local route, as `ip route … local ADDRESS dev lo table local proto PROTOCOL metric METRIC` would say it. */
export function encodeLocalRoute({ address: ip, protocol, metric }: LocalRoute): Buffer {
  const head = Buffer.alloc(routeHeaderLength)
  head[0] = familyNumberOf(ip)
  head[1] = bitsOf(familyOf(ip))
  head[4] = localTable
  head[5] = protocol
  head[6] = hostScope
  head[7] = localType
  const destination = attribute(route.destination, addressBytes(ip))
  return Buffer.concat([head, destination, u32(route.device, loopback), u32(route.metric, metric)])
}

/** All local routes of a protocol. A kernel before 4.20, or one that was not told to be strict, tells of all routes. */
export function encodeLocalRouteDump(family: Family, protocol: number): Buffer {
  const head = Buffer.alloc(routeHeaderLength)
  head[0] = addressFamily[family]
  head[4] = localTable
  head[5] = protocol
  head[7] = localType
  return head
}

/** What the machine would do with a packet for an address. */
export function encodeRouteQuestion(ip: IP): Buffer {
  const head = Buffer.alloc(routeHeaderLength)
  head[0] = familyNumberOf(ip)
  head[1] = bitsOf(familyOf(ip))
  return Buffer.concat([head, attribute(route.destination, addressBytes(ip))])
}

/** True if the route of a message delivers on this machine. Throws NetlinkFormatError. */
export function isLocalRoute(payload: Buffer): boolean {
  if (payload.length < routeHeaderLength) throw new NetlinkFormatError('a message about a route ends within its header')
  return payload.readUInt8(7) === localType
}

/** The route of a message; undefined for one that is not a single address's in the table of local ones. Throws NetlinkFormatError. */
export function readLocalRoute(payload: Buffer): LocalRoute | undefined {
  if (!isLocalRoute(payload)) return undefined
  const family = familyOfNumber(payload.readUInt8(0))
  if (family === undefined || payload.readUInt8(1) !== bitsOf(family)) return undefined
  let table: number = payload.readUInt8(4)
  let metric = 0
  let destination: Buffer | undefined
  eachAttribute(payload, routeHeaderLength, payload.length, (type, from, to) => {
    if (type === route.destination) destination = payload.subarray(from, to)
    else if (type === route.table && to - from >= 4) table = payload.readUInt32LE(from)
    else if (type === route.metric && to - from >= 4) metric = payload.readUInt32LE(from)
  })
  if (table !== localTable) return undefined
  if (destination === undefined) throw new NetlinkFormatError('a route to a single address names none')
  return { address: readAddress(destination, family), protocol: payload.readUInt8(5), metric }
}
