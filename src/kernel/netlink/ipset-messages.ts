// IP sets in netlink: what linux/netfilter/ipset/ip_set.h numbers, as payloads and back, for the types of set that IPVS mode
// has. Pure.
import { bitsOf, type CIDR, type Family, familyOf, type IP } from '../../net/ip.ts'
import { type Attributes, addressBytes, addressFamily, familyOfNumber, field, readAddress } from './generic-fields.ts'
import {
  be16,
  be32,
  eachAttribute,
  NetlinkFormatError,
  nested,
  nfgen,
  nfType,
  readAttributes,
  readNfgen,
  readText,
  text,
  u8,
} from './message.ts'
import { MessageWriter } from './writer.ts'

/** NFNL_SUBSYS_IPSET. */
const subsystem = 6
/** IPSET_CMD_*. */
const command = { create: 2, destroy: 3, list: 7, add: 9, delete: 10 } as const
export type IpsetCommand = keyof typeof command

/** The type of a message. */
export const ipsetType = (which: IpsetCommand): number => nfType(subsystem, command[which])

/** Of those who speak it: kernels up to 5.1 know 6 alone, later ones both. What is done here is the same in either. */
const protocol = 6

/** IPSET_ATTR_*, of a command. */
const part = { protocol: 1, name: 2, type: 3, revision: 4, family: 5, data: 7, elements: 8 } as const
/** IPSET_ATTR_*, of a set and of its elements. */
const datum = {
  address: 1,
  port: 4,
  portTo: 5,
  timeout: 6,
  protocol: 7,
  flags: 8,
  maximum: 19,
  network: 20,
  prefix: 21,
  comment: 26,
  mark: 27,
} as const
/** IPSET_ATTR_IPADDR_*, within an address. */
const version: Readonly<Record<Family, number>> = { IPv4: 1, IPv6: 2 }
/** IPSET_FLAG_WITH_*: what elements may have besides. */
const withFlag = { counters: 8, comment: 16, forceAdd: 32, skbinfo: 64 } as const
/** IPSET_FLAG_NOMATCH, of an element. */
const noMatch = 4
/** NLA_F_NET_BYTEORDER: ipset insists on it. */
const netOrder = 0x4000

/**
 * The revision of each type that is asked for: the one that brought `skbinfo` (Linux 3.19), after which nothing came that is
 * of use here. A newer one would only keep an older ipset(8) from listing the set.
 */
const revisions = { 'hash:ip': 4, 'hash:ip,port': 5, 'hash:ip,port,net': 7, 'bitmap:port': 3 } as const
export type IpsetTypeName = keyof typeof revisions

/** A set as it is to be made. */
export interface IpsetSpec {
  readonly name: string
  readonly type: IpsetTypeName
  /** undefined: bitmap:port. */
  readonly family: Family | undefined
  /** Elements of a hash at most. */
  readonly maximum: number
  readonly comment: boolean
  readonly skbinfo: boolean
  /** First and last port of a bitmap. */
  readonly ports: readonly [number, number]
}

/** A set as the kernel tells of it. */
export interface IpsetHeader {
  readonly name: string
  /** May be one that is not known here. */
  readonly type: string
  readonly family: Family | undefined
  readonly maximum: number | undefined
  readonly ports: readonly [number, number] | undefined
  /** Seconds; undefined where elements last for ever. */
  readonly timeout: number | undefined
  readonly counters: boolean
  readonly comment: boolean
  readonly skbinfo: boolean
  readonly forceAdd: boolean
}

/** An element; which fields it has is a matter of the set's type. */
export interface IpsetElement {
  readonly address?: IP
  /** IPPROTO number. */
  readonly protocol?: number
  readonly port?: number
  readonly network?: CIDR
  readonly comment?: string
  /** A packet that matches can be given these bits of a mark. */
  readonly mark?: { readonly value: number; readonly mask: number }
  /** What is within another element is meant not to match. */
  readonly noMatch?: boolean
}

const port16 = (type: number, value: number): Buffer => be16(type | netOrder, value)
const number32 = (type: number, value: number): Buffer => be32(type | netOrder, value)

const begin = (family: number): Buffer[] => [nfgen(family), u8(part.protocol, protocol)]
/** What messages of elements begin with. */
const first = begin(0)

/** Throws RangeError for a name that is longer than a set's can be. */
function checkName(name: string): void {
  // IPSET_MAXNAMELEN is 32 with the end of the text.
  if (name === '' || Buffer.byteLength(name) > 31) throw new RangeError(`"${name}" is no name for a set`)
}

function named(name: string): Buffer {
  checkName(name)
  return text(part.name, name)
}

/** Makes a set. Throws RangeError for a name that is none. */
export function encodeIpset({ name, type, family, maximum, comment, skbinfo, ports }: IpsetSpec): Buffer {
  const number = family === undefined ? 0 : addressFamily[family]
  const flags = (comment ? withFlag.comment : 0) | (skbinfo ? withFlag.skbinfo : 0)
  const size =
    type === 'bitmap:port'
      ? [port16(datum.port, ports[0]), port16(datum.portTo, ports[1])]
      : [number32(datum.maximum, maximum)]
  return Buffer.concat([
    ...begin(number),
    named(name),
    text(part.type, type),
    u8(part.revision, revisions[type]),
    u8(part.family, number),
    nested(part.data, ...size, ...(flags === 0 ? [] : [number32(datum.flags, flags)])),
  ])
}

/** A set by name, to be deleted or listed. Throws RangeError for a name that is none. */
export const encodeIpsetName = (name: string): Buffer => Buffer.concat([...begin(0), named(name)])

/** Writes the elements' payloads one after the other: a first load of 10,000 Services has 20,000. */
const writer = new MessageWriter()

/** One element of a set, to be added or deleted. Throws RangeError for a name that is none, or a comment beyond 255 bytes. */
export function encodeIpsetElement(name: string, element: IpsetElement): Buffer {
  const { address, protocol: of, port, network, comment, mark } = element
  checkName(name)
  // IPSET_MAX_COMMENT_SIZE; the kernel cuts longer ones without a word.
  if (comment !== undefined && Buffer.byteLength(comment) > 255) throw new RangeError(`a comment too long: ${comment}`)
  writer.truncate(0)
  for (const bytes of first) writer.raw(bytes)
  writer.text(part.name, name)
  const data = writer.begin(part.data)
  if (address !== undefined) writeAddress(datum.address, address)
  if (port !== undefined) writer.be16(datum.port | netOrder, port)
  if (of !== undefined) writer.u8(datum.protocol, of)
  if (network !== undefined) {
    writeAddress(datum.network, network.address)
    writer.u8(datum.prefix, network.prefix)
  }
  if (element.noMatch === true) writer.be32(datum.flags | netOrder, noMatch)
  if (comment !== undefined) writer.text(datum.comment, comment)
  if (mark !== undefined) {
    const both = Buffer.alloc(8)
    both.writeUInt32BE(mark.value >>> 0, 0)
    both.writeUInt32BE(mark.mask >>> 0, 4)
    writer.data(datum.mark | netOrder, both)
  }
  writer.end(data)
  return Buffer.from(writer.bytes)
}

function writeAddress(type: number, ip: IP): void {
  const at = writer.begin(type)
  writer.data(version[familyOf(ip)] | netOrder, addressBytes(ip))
  writer.end(at)
}

/** One message of a listing: a set's beginning has its header, and each has some of its elements. */
export interface IpsetListing {
  readonly name: string
  readonly header: IpsetHeader | undefined
  /** The elements as they came, a view: the same bytes are the same elements. */
  readonly elements: Buffer
}

/** Takes such a message apart; `readIpsetElements` reads the elements. Throws NetlinkFormatError. */
export function readIpsetListing(payload: Buffer): IpsetListing {
  const attributes = readAttributes(readNfgen(payload).attributes)
  const name = readText(field(attributes, part.name, 1))
  const type = attributes.get(part.type)
  return {
    name,
    header: type === undefined ? undefined : readHeader(name, readText(type), attributes),
    elements: attributes.get(part.elements) ?? Buffer.alloc(0),
  }
}

function readHeader(name: string, type: string, attributes: Attributes): IpsetHeader {
  const data = readAttributes(attributes.get(part.data) ?? Buffer.alloc(0))
  const be32Of = (of: number): number | undefined => (data.has(of) ? field(data, of, 4).readUInt32BE(0) : undefined)
  const flags = be32Of(datum.flags) ?? 0
  const hasPorts = data.has(datum.port) && data.has(datum.portTo)
  const portOf = (of: number): number => field(data, of, 2).readUInt16BE(0)
  return {
    name,
    type,
    family: familyOfNumber(field(attributes, part.family, 1).readUInt8(0)),
    maximum: be32Of(datum.maximum),
    ports: hasPorts ? [portOf(datum.port), portOf(datum.portTo)] : undefined,
    timeout: be32Of(datum.timeout),
    counters: (flags & withFlag.counters) !== 0,
    comment: (flags & withFlag.comment) !== 0,
    skbinfo: (flags & withFlag.skbinfo) !== 0,
    forceAdd: (flags & withFlag.forceAdd) !== 0,
  }
}

/** The elements of a message of a listing. Throws NetlinkFormatError. */
export function readIpsetElements(elements: Buffer, visit: (element: IpsetElement) => void): void {
  eachAttribute(elements, 0, elements.length, (type, from, to) => {
    if (type === part.data) visit(readElement(elements, from, to))
  })
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] }

function readElement(bytes: Buffer, begin: number, end: number): IpsetElement {
  const found: Mutable<IpsetElement> = {}
  let network: IP | undefined
  let prefix: number | undefined
  eachAttribute(bytes, begin, end, (type, from, to) => {
    const payload = bytes.subarray(from, to)
    const long = (length: number): Buffer => {
      if (payload.length < length) throw new NetlinkFormatError(`an element's attribute ${type} is cut off`)
      return payload
    }
    if (type === datum.address) found.address = readElementAddress(payload)
    else if (type === datum.port) found.port = long(2).readUInt16BE(0)
    else if (type === datum.protocol) found.protocol = long(1).readUInt8(0)
    else if (type === datum.network) network = readElementAddress(payload)
    else if (type === datum.prefix) prefix = long(1).readUInt8(0)
    else if (type === datum.comment) found.comment = readText(payload)
    else if (type === datum.flags) {
      if ((long(4).readUInt32BE(0) & noMatch) !== 0) found.noMatch = true
    } else if (type === datum.mark) {
      const mark = { value: long(8).readUInt32BE(0), mask: long(8).readUInt32BE(4) }
      // ipset(8) prints none of which both are zero.
      if (mark.value !== 0 || mark.mask !== 0) found.mark = mark
    }
  })
  if (network !== undefined) found.network = { address: network, prefix: prefix ?? bitsOf(familyOf(network)) }
  return found
}

function readElementAddress(payload: Buffer): IP {
  let found: IP | undefined
  eachAttribute(payload, 0, payload.length, (type, from, to) => {
    for (const family of ['IPv4', 'IPv6'] as const) {
      if (type === version[family]) found = readAddress(payload.subarray(from, to), family)
    }
  })
  if (found === undefined) throw new NetlinkFormatError('an element has an address of no family')
  return found
}

/** IPSET_ERR_*: what ipset refuses beyond errno's numbers, in ipset(8)'s words. */
const refusals: ReadonlyMap<number, string> = new Map([
  [4097, 'the kernel speaks another protocol of ipset'],
  [4098, 'the kernel does not have this type of set'],
  [4099, 'the kernel holds as many sets as it can'],
  [4100, 'the set is in use'],
  [4103, 'the element is there already, or is not there'],
  [4104, 'the prefix of a network is out of range'],
  [4106, 'the family of the set is not one that the type has'],
  [4112, 'the set was made without comments'],
  [4114, 'the set was made without marks'],
  [4352, 'the set is full'],
  [4353, 'the element cannot be stored in such a set'],
  [4354, 'the protocol cannot be stored in such a set'],
])

/** IPSET_ERR_BUSY, IPSET_ERR_EXIST, IPSET_ERR_FIND_TYPE and IPSET_ERR_PROTOCOL, for telling refusals apart. */
export const ipsetRefusal = { protocol: 4097, findType: 4098, busy: 4100, exists: 4103 } as const

/** What a refusal of ipset means; undefined for errno's own numbers. */
export const ipsetWords = (errno: number): string | undefined => refusals.get(errno)
