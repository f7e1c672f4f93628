// Connection tracking's netlink messages, UDP part: what asks for flows, reads one, removes one. Pure.
import type { Flow, FlowFilter } from '../net/flow.ts'
import { type Family, type IP, ipFromHex, ipToHex } from '../net/ip.ts'
import {
  attribute,
  be16,
  be32,
  eachAttribute,
  flag,
  nested,
  nfgen,
  nfgenLength,
  nfType,
  u8,
  u32,
} from './netlink/message.ts'
import type { NetlinkRequest } from './netlink/socket.ts'

/** NFNL_SUBSYS_CTNETLINK. */
const subsystem = 1
const operation = { create: 0, get: 1, remove: 2 } as const
const udp = 17

/** Numbers of linux/netfilter/nfnetlink_conntrack.h. */
const cta = { original: 1, reply: 2, status: 3, timeout: 7, id: 12, zone: 18, filter: 25 } as const
const ctaTuple = { ip: 1, protocol: 2, zone: 3 } as const
const ctaProtocol = { number: 1, sourcePort: 2, destinationPort: 3 } as const
const ctaFilter = { original: 1, reply: 2 } as const
/** Bits of what a filter compares in a tuple (nf_internals.h, Linux 5.8). */
const compare = { source: 1, destination: 2, protocol: 8, sourcePort: 16, destinationPort: 32 } as const

const addressFamily: Readonly<Record<Family, number>> = { IPv4: 2, IPv6: 10 }
const ctaIp = { IPv4: { source: 1, destination: 2 }, IPv6: { source: 3, destination: 4 } } as const

const protocolUdp = u8(ctaProtocol.number, udp)

const bytesOf = (ip: IP): Buffer => Buffer.from(ipToHex(ip), 'hex')

/**
 * Asks for the flows that pass the filter. Kernels before 5.8 know no CTA_FILTER and answer with all flows of the family:
 * whoever reads the answer looks again. So does one who asks for an address of IPv6: from 5.8 to 6.18 at least, the kernel
 * compares those the wrong way round, and hands over all flows but the wanted ones. Ports alone are asked for there.
 */
export function dumpRequest(filter: FlowFilter): NetlinkRequest {
  const { family, destinationPort, replySourcePort } = filter
  const destination = family === 'IPv4' ? filter.destination : undefined
  const replySource = family === 'IPv4' ? filter.replySource : undefined
  const ip = ctaIp[family]
  const original = nested(
    cta.original,
    ...(destination === undefined ? [] : [nested(ctaTuple.ip, attribute(ip.destination, bytesOf(destination)))]),
    nested(
      ctaTuple.protocol,
      protocolUdp,
      ...(destinationPort === undefined ? [] : [be16(ctaProtocol.destinationPort, destinationPort)]),
    ),
  )
  const reply = nested(
    cta.reply,
    ...(replySource === undefined ? [] : [nested(ctaTuple.ip, attribute(ip.source, bytesOf(replySource)))]),
    nested(
      ctaTuple.protocol,
      protocolUdp,
      ...(replySourcePort === undefined ? [] : [be16(ctaProtocol.sourcePort, replySourcePort)]),
    ),
  )
  const compared = (flags: readonly (readonly [unknown, number])[]): number =>
    flags.reduce<number>((sum, [value, bit]) => (value === undefined ? sum : sum | bit), compare.protocol)
  const bits = nested(
    cta.filter,
    u32(
      ctaFilter.original,
      compared([
        [destination, compare.destination],
        [destinationPort, compare.destinationPort],
      ]),
    ),
    u32(
      ctaFilter.reply,
      compared([
        [replySource, compare.source],
        [replySourcePort, compare.sourcePort],
      ]),
    ),
  )
  return {
    type: nfType(subsystem, operation.get),
    payload: Buffer.concat([nfgen(addressFamily[family]), original, reply, bits]),
  }
}

/** A flow with what names it to the kernel. The buffers are copies. */
export interface TrackedFlow {
  readonly flow: Flow
  readonly family: Family
  readonly original: Buffer
  readonly id: Buffer | undefined
}

/** The fields of one message, reused from flow to flow; -1: not there. */
interface Tuple {
  protocol: number
  source: number
  destination: number
  length: number
  sourcePort: number
  destinationPort: number
  zone: boolean
}

const emptyTuple = (): Tuple => ({
  protocol: -1,
  source: -1,
  destination: -1,
  length: 0,
  sourcePort: -1,
  destinationPort: -1,
  zone: false,
})

function readTuple(bytes: Buffer, from: number, to: number): Tuple {
  const tuple = emptyTuple()
  eachAttribute(bytes, from, to, (part, begin, end) => {
    if (part === ctaTuple.zone) tuple.zone = true
    if (part === ctaTuple.ip) readAddresses(bytes, begin, end, tuple)
    if (part === ctaTuple.protocol) readPorts(bytes, begin, end, tuple)
  })
  return tuple
}

function readAddresses(bytes: Buffer, from: number, to: number, tuple: Tuple): void {
  eachAttribute(bytes, from, to, (type, begin, end) => {
    tuple.length = end - begin
    if (type === ctaIp.IPv4.source || type === ctaIp.IPv6.source) tuple.source = begin
    else tuple.destination = begin
  })
}

function readPorts(bytes: Buffer, from: number, to: number, tuple: Tuple): void {
  eachAttribute(bytes, from, to, (type, begin, end) => {
    if (type === ctaProtocol.number && end - begin >= 1) tuple.protocol = bytes.readUInt8(begin)
    if (end - begin < 2) return
    if (type === ctaProtocol.sourcePort) tuple.sourcePort = bytes.readUInt16BE(begin)
    if (type === ctaProtocol.destinationPort) tuple.destinationPort = bytes.readUInt16BE(begin)
  })
}

const isWhole = (tuple: Tuple): boolean =>
  tuple.protocol === udp &&
  (tuple.length === 4 || tuple.length === 16) &&
  Math.min(tuple.source, tuple.destination, tuple.sourcePort, tuple.destinationPort) >= 0

function addressAt(bytes: Buffer, at: number, length: number): IP {
  // Four octets in place are canonical text already, and ten times as quick as the way through hexadecimal.
  if (length === 4) return `${bytes[at]}.${bytes[at + 1]}.${bytes[at + 2]}.${bytes[at + 3]}` as IP
  return ipFromHex(bytes.toString('hex', at, at + length))
}

/**
 * Reads one flow of a dump; undefined for what is not a UDP flow of the default zone. Flows in other zones are of those
 * who made the zones. `keep` decides whether it is worth copying what names it.
 */
export function readFlow(payload: Buffer, keep: (flow: Flow) => boolean): TrackedFlow | 'not kept' | undefined {
  if (payload.length < nfgenLength) return undefined
  let original: Tuple | undefined
  let reply: Tuple | undefined
  let zone = false
  let name: [number, number] | undefined
  let id: [number, number] | undefined
  eachAttribute(payload, nfgenLength, payload.length, (type, from, to) => {
    if (type === cta.original) {
      original = readTuple(payload, from, to)
      name = [from, to]
    } else if (type === cta.reply) reply = readTuple(payload, from, to)
    else if (type === cta.zone) zone = true
    else if (type === cta.id) id = [from, to]
  })
  if (original === undefined || reply === undefined || name === undefined || zone) return undefined
  if (!isWhole(original) || !isWhole(reply) || original.zone || reply.zone) return undefined
  const flow: Flow = {
    source: addressAt(payload, original.source, original.length),
    sourcePort: original.sourcePort,
    destination: addressAt(payload, original.destination, original.length),
    destinationPort: original.destinationPort,
    replySource: addressAt(payload, reply.source, reply.length),
    replySourcePort: reply.sourcePort,
  }
  if (!keep(flow)) return 'not kept'
  return {
    flow,
    family: original.length === 4 ? 'IPv4' : 'IPv6',
    original: Buffer.from(payload.subarray(...name)),
    id: id === undefined ? undefined : Buffer.from(payload.subarray(...id)),
  }
}

/**
 * Removes exactly this flow. With its id: a flow that has taken its place meanwhile, and was translated by the new rules,
 * is another one and stays (the kernel says ENOENT).
 */
export const removeRequest = ({ family, original, id }: TrackedFlow): NetlinkRequest => ({
  type: nfType(subsystem, operation.remove),
  payload: Buffer.concat([
    nfgen(addressFamily[family]),
    nested(cta.original, original),
    ...(id === undefined ? [] : [attribute(cta.id, id)]),
  ]),
})

/** Makes a UDP flow that lives for so many seconds, as if its packets had passed: for trials of full tables. */
export function createRequest(family: Family, flow: Flow, seconds: number): NetlinkRequest {
  const ip = ctaIp[family]
  const tuple = (type: number, from: IP, to: IP, fromPort: number, toPort: number): Buffer =>
    nested(
      type,
      nested(ctaTuple.ip, attribute(ip.source, bytesOf(from)), attribute(ip.destination, bytesOf(to))),
      nested(
        ctaTuple.protocol,
        u8(ctaProtocol.number, udp),
        be16(ctaProtocol.sourcePort, fromPort),
        be16(ctaProtocol.destinationPort, toPort),
      ),
    )
  const { source, sourcePort, destination, destinationPort, replySource, replySourcePort } = flow
  const confirmedAndSeen = 0x8 | 0x2
  return {
    type: nfType(subsystem, operation.create),
    flags: flag.create | flag.excl,
    payload: Buffer.concat([
      nfgen(addressFamily[family]),
      tuple(cta.original, source, destination, sourcePort, destinationPort),
      tuple(cta.reply, replySource, source, replySourcePort, sourcePort),
      be32(cta.timeout, seconds),
      be32(cta.status, confirmedAndSeen),
    ]),
  }
}
