// Fields of fixed length in attributes, addresses among them: each read is checked against the attribute's own length.
import { type Family, familyOf, type IP, ipFromHex, putIP } from '../../net/ip.ts'
import { type Protocol, protocols } from '../../net/protocol.ts'
import { NetlinkFormatError } from './message.ts'

/** Attributes of a message by type, as `readAttributes` gives them. */
export type Attributes = ReadonlyMap<number, Buffer>

/** AF_INET and AF_INET6. */
export const addressFamily: Readonly<Record<Family, number>> = { IPv4: 2, IPv6: 10 }

/** The family of an AF number; undefined for any other. */
export function familyOfNumber(number: number): Family | undefined {
  return number === addressFamily.IPv4 ? 'IPv4' : number === addressFamily.IPv6 ? 'IPv6' : undefined
}

const protocolNumbers: Readonly<Record<Protocol, number>> = { TCP: 6, UDP: 17, SCTP: 132 }

/** IPPROTO number of a protocol. */
export const protocolNumber = (protocol: Protocol): number => protocolNumbers[protocol]

/** The protocol of an IPPROTO number; undefined for those that no Service has. */
export const protocolOfNumber = (number: number): Protocol | undefined =>
  protocols.find(protocol => protocolNumbers[protocol] === number)

/** An address in network order: 4 bytes or 16. */
export function addressBytes(ip: IP): Buffer {
  const out = Buffer.allocUnsafe(ip.includes(':') ? 16 : 4)
  putIP(out, 0, ip)
  return out
}

/** The address in the first 4 or 16 bytes. Throws NetlinkFormatError where there are fewer. */
export function readAddress(payload: Buffer, family: Family): IP {
  const length = family === 'IPv4' ? 4 : 16
  if (payload.length < length) throw new NetlinkFormatError(`an ${family} address of ${payload.length} bytes`)
  return ipFromHex(payload.toString('hex', 0, length))
}

/** Bytes of an address that fill `nf_inet_addr`, 16 whatever the family. */
export function paddedAddress(ip: IP): Buffer {
  const out = Buffer.allocUnsafe(16).fill(0)
  putIP(out, 0, ip)
  return out
}

/** What a device's or a set's address is told by: its family as an AF number. */
export const familyNumberOf = (ip: IP): number => addressFamily[familyOf(ip)]

/** The payload of an attribute that has to be there, at least so long. Throws NetlinkFormatError. */
export function field(attributes: Attributes, type: number, length: number): Buffer {
  const payload = attributes.get(type)
  if (payload === undefined) throw new NetlinkFormatError(`netlink attribute ${type} is missing`)
  if (payload.length < length) {
    throw new NetlinkFormatError(`netlink attribute ${type} has ${payload.length} bytes instead of ${length}`)
  }
  return payload
}
