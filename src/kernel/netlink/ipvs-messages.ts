// IPVS in generic netlink: what linux/ip_vs.h numbers, as payloads and back. Pure.
import { type Family, familyOf, type IP } from '../../net/ip.ts'
import type { Protocol } from '../../net/protocol.ts'
import { encodeGeneric, genericHeader, readGeneric } from './generic.ts'
import {
  type Attributes,
  addressFamily,
  familyOfNumber,
  field,
  paddedAddress,
  protocolNumber,
  protocolOfNumber,
  readAddress,
} from './generic-fields.ts'
import { readAttributes, readText, u32 } from './message.ts'
import { MessageWriter } from './writer.ts'

/** Name and version of the family. */
export const ipvsFamily = { name: 'IPVS', version: 1 } as const

/** IPVS_CMD_*. */
export const ipvsCommand = {
  newService: 1,
  setService: 2,
  deleteService: 3,
  getService: 4,
  newDestination: 5,
  setDestination: 6,
  deleteDestination: 7,
  getDestination: 8,
  setConfig: 12,
  getConfig: 13,
} as const
export type IpvsCommand = (typeof ipvsCommand)[keyof typeof ipvsCommand]

/** IPVS_CMD_ATTR_*. */
const part = { service: 1, destination: 2, tcp: 4, tcpFin: 5, udp: 6 } as const

/** IPVS_SVC_ATTR_*. */
const service = {
  family: 1,
  protocol: 2,
  address: 3,
  port: 4,
  mark: 5,
  scheduler: 6,
  flags: 7,
  timeout: 8,
  netmask: 9,
} as const

/** IPVS_DEST_ATTR_*. */
const destination = {
  address: 1,
  port: 2,
  forward: 3,
  weight: 4,
  upper: 5,
  lower: 6,
  active: 7,
  inactive: 8,
  persistent: 9,
  family: 11,
} as const

/** IP_VS_SVC_F_*: what of a virtual server's flags can be set. The three of the scheduler mean what it makes of them. */
export const ipvsServiceFlag = {
  persistent: 0x1,
  onePacket: 0x4,
  schedule1: 0x8,
  schedule2: 0x10,
  schedule3: 0x20,
} as const
const settableFlags = 0x3d

/** IP_VS_CONN_F_FWD_MASK, and the ways of forwarding in it. */
export const ipvsForward = { masquerade: 0, local: 1, tunnel: 2, route: 3 } as const
const forwardMask = 7

/** Which virtual server. The same mark may stand for one of each family. */
export type IpvsServiceId =
  | { readonly kind: 'address'; readonly protocol: Protocol; readonly address: IP; readonly port: number }
  | { readonly kind: 'mark'; readonly family: Family; readonly mark: number }

/** A virtual server. */
export interface IpvsService {
  readonly id: IpvsServiceId
  readonly scheduler: string
  /** Of `ipvsServiceFlag`. */
  readonly flags: number
  /** Seconds of persistence; meaningless without the flag. */
  readonly timeout: number
  /** Of persistence: 0xffffffff for single IPv4 addresses, in network order read as this machine's; IPv6: 128, the prefix. */
  readonly netmask: number
}

/** A real server. */
export interface IpvsDestination {
  readonly address: IP
  readonly port: number
  /** Of `ipvsForward`. */
  readonly forward: number
  readonly weight: number
}

/** A real server as the kernel tells of it. */
export interface IpvsLoad extends IpvsDestination {
  /** Connections: established, others, and templates of persistence. */
  readonly active: number
  readonly inactive: number
  readonly persistent: number
}

/** Seconds. In a request 0 leaves one as it is. */
export interface IpvsTimeouts {
  readonly tcp: number
  readonly tcpFin: number
  readonly udp: number
}

/** Persistence by single address, as every virtual server has it that says nothing else. */
export const wholeNetmask = (family: Family): number => (family === 'IPv4' ? 0xffffffff : 128)

/** The family of a virtual server. */
export const familyOfService = (id: IpvsServiceId): Family => (id.kind === 'mark' ? id.family : familyOf(id.address))

/** Writes payloads one after the other: a first load of 10,000 Services has 60,000. */
const writer = new MessageWriter()

/** A payload of its own: command and version of the family, and what `write` writes. */
function payloadOf(command: IpvsCommand, write: () => void): Buffer {
  writer.truncate(0)
  writer.raw(genericHeader(command, ipvsFamily.version))
  write()
  return Buffer.from(writer.bytes)
}

function writeIdentity(id: IpvsServiceId): void {
  writer.u16(service.family, addressFamily[familyOfService(id)])
  if (id.kind === 'mark') {
    writer.u32(service.mark, id.mark)
    return
  }
  writer.u16(service.protocol, protocolNumber(id.protocol))
  writer.data(service.address, paddedAddress(id.address))
  writer.be16(service.port, id.port)
}

/** The attribute that says which virtual server is meant. */
function writeWhich(id: IpvsServiceId): void {
  const at = writer.begin(part.service)
  writeIdentity(id)
  writer.end(at)
}

/** Which virtual server, and no more: to delete it, to ask for it, or to dump its real servers. */
export const encodeServiceId = (command: IpvsCommand, id: IpvsServiceId): Buffer =>
  payloadOf(command, () => writeWhich(id))

/** A virtual server with its settings, to be made or changed. All flags that can be set are. */
export function encodeService(command: IpvsCommand, { id, scheduler, flags, timeout, netmask }: IpvsService): Buffer {
  const both = Buffer.alloc(8)
  both.writeUInt32LE((flags & settableFlags) >>> 0, 0)
  // The mask: which flags are meant.
  both.writeUInt32LE(0xffffffff, 4)
  return payloadOf(command, () => {
    const at = writer.begin(part.service)
    writeIdentity(id)
    writer.text(service.scheduler, scheduler)
    writer.data(service.flags, both)
    writer.u32(service.timeout, timeout)
    writer.u32(service.netmask, netmask)
    writer.end(at)
  })
}

/** A real server of a virtual server, to be made or changed; its numbers of connections have no bounds. */
export const encodeDestination = (command: IpvsCommand, id: IpvsServiceId, to: IpvsDestination): Buffer =>
  payloadOf(command, () => {
    writeWhich(id)
    const at = writer.begin(part.destination)
    writeDestinationIdentity(to)
    writer.u32(destination.forward, to.forward)
    writer.u32(destination.weight, to.weight)
    writer.u32(destination.upper, 0)
    writer.u32(destination.lower, 0)
    writer.end(at)
  })

/** Which real server, to delete it. */
export const encodeDestinationId = (
  command: IpvsCommand,
  id: IpvsServiceId,
  to: Pick<IpvsDestination, 'address' | 'port'>,
): Buffer =>
  payloadOf(command, () => {
    writeWhich(id)
    const at = writer.begin(part.destination)
    writeDestinationIdentity(to)
    writer.end(at)
  })

/** The family is said from Linux 3.18 on; older kernels do not know the attribute and pass it over. */
function writeDestinationIdentity({ address, port }: Pick<IpvsDestination, 'address' | 'port'>): void {
  writer.u16(destination.family, addressFamily[familyOf(address)])
  writer.data(destination.address, paddedAddress(address))
  writer.be16(destination.port, port)
}

/** Sets timeouts. */
export const encodeTimeouts = ({ tcp, tcpFin, udp }: IpvsTimeouts): Buffer =>
  encodeGeneric(
    ipvsCommand.setConfig,
    ipvsFamily.version,
    u32(part.tcp, tcp),
    u32(part.tcpFin, tcpFin),
    u32(part.udp, udp),
  )

/** A command that is only a question. */
export const encodePlain = (command: IpvsCommand): Buffer => encodeGeneric(command, ipvsFamily.version)

const number16 = (attributes: Attributes, type: number): number => field(attributes, type, 2).readUInt16LE(0)
const number32 = (attributes: Attributes, type: number): number => field(attributes, type, 4).readUInt32LE(0)

const partsOf = (payload: Buffer): Attributes => readAttributes(readGeneric(payload).attributes)

/**
 * The virtual server of a message. Undefined for one of a family or protocol that no Service has.
 * Throws NetlinkFormatError.
 */
export function readService(payload: Buffer): IpvsService | undefined {
  const attributes = readAttributes(field(partsOf(payload), part.service, 0))
  const id = readServiceId(attributes)
  if (id === undefined) return undefined
  return {
    id,
    scheduler: readText(field(attributes, service.scheduler, 0)),
    flags: (field(attributes, service.flags, 8).readUInt32LE(0) & settableFlags) >>> 0,
    timeout: number32(attributes, service.timeout),
    netmask: number32(attributes, service.netmask),
  }
}

function readServiceId(attributes: Attributes): IpvsServiceId | undefined {
  const family = familyOfNumber(number16(attributes, service.family))
  if (family === undefined) return undefined
  if (attributes.has(service.mark)) return { kind: 'mark', family, mark: number32(attributes, service.mark) }
  const protocol = protocolOfNumber(number16(attributes, service.protocol))
  if (protocol === undefined) return undefined
  const address = readAddress(field(attributes, service.address, 0), family)
  return { kind: 'address', protocol, address, port: field(attributes, service.port, 2).readUInt16BE(0) }
}

/**
 * The real server of a message; its family is its virtual server's where it does not say (before Linux 3.18). Undefined for
 * one of a family that no Service has. Throws NetlinkFormatError.
 */
export function readDestination(payload: Buffer, ofService: Family): IpvsLoad | undefined {
  const attributes = readAttributes(field(partsOf(payload), part.destination, 0))
  const said = attributes.has(destination.family) ? number16(attributes, destination.family) : undefined
  const family = said === undefined ? ofService : familyOfNumber(said)
  if (family === undefined) return undefined
  return {
    address: readAddress(field(attributes, destination.address, 0), family),
    port: field(attributes, destination.port, 2).readUInt16BE(0),
    forward: number32(attributes, destination.forward) & forwardMask,
    weight: number32(attributes, destination.weight),
    active: number32(attributes, destination.active),
    inactive: number32(attributes, destination.inactive),
    persistent: number32(attributes, destination.persistent),
  }
}

/** The timeouts of a message. Throws NetlinkFormatError. */
export function readTimeouts(payload: Buffer): IpvsTimeouts {
  const attributes = partsOf(payload)
  return {
    tcp: number32(attributes, part.tcp),
    tcpFin: number32(attributes, part.tcpFin),
    udp: number32(attributes, part.udp),
  }
}
