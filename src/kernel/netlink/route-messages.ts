// Devices and their addresses in rtnetlink: what linux/if_link.h and if_addr.h number, as payloads and back. Pure.
import { bitsOf, familyOf, type IP } from '../../net/ip.ts'
import { addressBytes, addressFamily, familyNumberOf, familyOfNumber, field, readAddress } from './generic-fields.ts'
import { attribute, eachAttribute, NetlinkFormatError, nested, readAttributes, readText, text } from './message.ts'

/** RTM_*. */
export const routeType = {
  newLink: 16,
  deleteLink: 17,
  getLink: 18,
  newAddress: 20,
  deleteAddress: 21,
  getAddress: 22,
} as const

/** Lengths of `ifinfomsg` and `ifaddrmsg`. */
const linkHeaderLength = 16
const addressHeaderLength = 8

/** IFLA_* and IFLA_INFO_KIND. */
const link = { name: 3, info: 18, kind: 1 } as const
/** IFA_*. */
const address = { address: 1, local: 2, cacheInfo: 6 } as const
/** RT_SCOPE_HOST; 0 is everywhere. */
const hostScope = 254
const forever = 0xffffffff

/** A device. */
export interface Link {
  readonly index: number
  readonly name: string
}

/** An address on a device. */
export interface LinkAddress {
  readonly index: number
  readonly address: IP
  readonly prefix: number
  /** The kernel chooses it as source only where there is no other: its preferred lifetime is 0. */
  readonly deprecated: boolean
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

/** A single address on a device, as `ip addr add ADDRESS/32 dev DEVICE` would say it. Deprecated: IPv6 only. */
export function encodeAddress({ index, address: ip, deprecated }: Omit<LinkAddress, 'prefix'>): Buffer {
  const head = Buffer.alloc(addressHeaderLength)
  head[0] = familyNumberOf(ip)
  head[1] = bitsOf(familyOf(ip))
  // iproute2 gives loopback addresses of IPv4 this scope; of IPv6 the kernel knows it.
  head[3] = ip.startsWith('127.') ? hostScope : 0
  head.writeUInt32LE(index, 4)
  const bytes = addressBytes(ip)
  const parts = [head, attribute(address.local, bytes), attribute(address.address, bytes)]
  if (deprecated) {
    const lifetimes = Buffer.alloc(16)
    lifetimes.writeUInt32LE(forever, 4)
    parts.push(attribute(address.cacheInfo, lifetimes))
  }
  return Buffer.concat(parts)
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
  let preferred = forever
  eachAttribute(payload, addressHeaderLength, payload.length, (type, from, to) => {
    if (type === address.local) own = payload.subarray(from, to)
    else if (type === address.address) other = payload.subarray(from, to)
    else if (type === address.cacheInfo && to - from >= 4) preferred = payload.readUInt32LE(from)
  })
  const bytes = own ?? other
  if (bytes === undefined) throw new NetlinkFormatError('a message about an address has none')
  return {
    index: payload.readUInt32LE(4),
    address: readAddress(bytes, family),
    prefix: payload.readUInt8(1),
    deprecated: preferred === 0,
  }
}
