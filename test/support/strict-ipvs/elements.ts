// Elements of IP sets from text, as ipset reads them: addresses, `protocol:port`, networks and marks.
import { bitsOf, type Family, familyOf, formatCIDR, parseCIDR, parseIP } from '../../../src/net/ip.ts'
import { unsigned } from '../strict-iptables/words.ts'
import type { Element, SetSpec, SetType } from './sets.ts'

/** ipset does not understand a line. */
export class SyntaxProblem extends Error {
  /** The line is not named in front of the message. */
  readonly bare: boolean
  constructor(message: string, bare = false) {
    super(message)
    this.bare = bare
  }
}

/** A well-formed element, and what it takes in a message to the kernel. */
export interface ReadElement {
  readonly element: Element
  readonly bytes: number
  /** Bytes that must be left in a message before the element is put there. */
  readonly room: number
}

/** What is behind an element in a line. */
export interface Extras {
  readonly mark?: string
  readonly comment?: string
}

const dimensions: Readonly<Record<SetType, number>> = {
  'hash:ip': 1,
  'bitmap:port': 1,
  'hash:ip,port': 2,
  'hash:ip,port,net': 3,
}

/** How many parts an element of this type has; a rule that matches the set names as many directions. */
export const dimensionOf = (type: SetType): number => dimensions[type]

/** Reads an element for a set. Throws SyntaxProblem. Ranges, names of hosts and names of services are not known here. */
export function readElement(text: string, spec: SetSpec, { mark, comment }: Extras): ReadElement {
  const { bytes, ...plain } = readPlain(text, spec)
  const element: Element = {
    ...plain,
    ...(mark === undefined ? {} : { mark: readMark(mark) }),
    ...(comment === undefined ? {} : { comment: readComment(comment) }),
  }
  // A nested attribute around it all, then the comment, the mark, and the line's number.
  const before = 4 + bytes
  const commentBytes = comment === undefined ? 0 : 4 + 4 * Math.ceil((Buffer.byteLength(comment) + 1) / 4)
  const all = before + commentBytes + (mark === undefined ? 0 : 12) + 8
  // ipset makes sure that the kernel's answer fits around the message, and there of the longest comment.
  return { element, bytes: all, room: Math.max(all, comment === undefined ? 0 : before + 4 + 256) + 20 }
}

interface Plain {
  readonly text: string
  readonly port: number
  readonly problem?: string
  readonly bytes: number
}

function readPlain(text: string, spec: SetSpec): Plain {
  const [first = '', second = '', third = ''] = partsOf(text, spec)
  if (spec.type === 'bitmap:port') {
    const { text: pair, port } = readProtocolPort(first)
    if (pair.startsWith('sctp:')) throw new SyntaxProblem('Syntax error: Only protocols TCP and UDP are valid')
    return { text: `${port}`, port, bytes: 8 }
  }
  const family = spec.family ?? 'IPv4'
  const address = readAddress(first, family)
  if (spec.type === 'hash:ip') {
    const problem = address.isNull ? 'Null-valued element, cannot be stored in a hash type of set' : undefined
    return built(address.text, 0, problem, address.bytes)
  }
  const port = readProtocolPort(second)
  const pair = `${address.text},${port.text}`
  const bytes = address.bytes + 16
  if (spec.type === 'hash:ip,port')
    return built(pair, port.port, address.isNull ? 'Kernel error received: Invalid argument' : undefined, bytes)
  const network = readNetwork(third, family)
  const problem = network.isAll ? 'The value of the CIDR parameter of the IP address is invalid' : undefined
  return built(`${pair},${network.text}`, port.port, problem, bytes + network.bytes)
}

const built = (text: string, port: number, problem: string | undefined, bytes: number): Plain => ({
  text,
  port,
  bytes,
  ...(problem === undefined ? {} : { problem }),
})

/** A separator at either end is none. */
function splitOnce(text: string, separator: string): [string, string | undefined] {
  const at = text.startsWith(separator) || text.endsWith(separator) ? -1 : text.indexOf(separator)
  return at === -1 ? [text, undefined] : [text.slice(0, at), text.slice(at + 1)]
}

function partsOf(text: string, { type }: SetSpec): string[] {
  const dimension = dimensions[type]
  const [first, rest] = splitOnce(text, ',')
  if (dimension === 1) {
    if (rest !== undefined) throw tooMany('Elem separator', text, type, 'none')
    return [text]
  }
  if (rest === undefined) throw new SyntaxProblem(`Syntax error: Second element is missing from ${text}.`)
  const [second, third] = splitOnce(rest, ',')
  if (dimension === 2) {
    if (third !== undefined) throw tooMany('Two elem separators', text, type, 'one')
    return [first, second]
  }
  if (third === undefined) throw new SyntaxProblem(`Syntax error: Third element is missing from ${text}.`)
  if (splitOnce(third, ',')[1] !== undefined) throw tooMany('Three elem separators', text, type, 'two')
  return [first, second, third]
}

const tooMany = (what: string, text: string, type: string, most: string): SyntaxProblem =>
  new SyntaxProblem(`Syntax error: ${what} in ${text}, but settype ${type} supports ${most}.`)

function readAddress(text: string, family: Family): { text: string; isNull: boolean; bytes: number } {
  const [host, prefix] = splitOnce(text, '/')
  if (prefix !== undefined && prefix !== `${bitsOf(family)}`) {
    if (!isPrefix(prefix, family) && family === 'IPv4') throw outOfRange(prefix, family)
    throw new SyntaxProblem(`Syntax error: plain IP address must be supplied: ${text}`)
  }
  const address = parse(host, family)
  return { text: address, isNull: address === '0.0.0.0' || address === '::', bytes: sizeOf(family, prefix) }
}

function readNetwork(text: string, family: Family): { text: string; isAll: boolean; bytes: number } {
  const [host, prefix] = splitOnce(text, '/')
  if (prefix !== undefined && !isPrefix(prefix, family)) throw outOfRange(prefix, family)
  const address = parse(host, family)
  const cidr = parseCIDR(`${address}/${prefix ?? bitsOf(family)}`)
  if (cidr === undefined) throw unresolved(host, family)
  const isWhole = cidr.prefix === bitsOf(family)
  return {
    text: isWhole ? cidr.address : formatCIDR(cidr),
    isAll: cidr.prefix === 0,
    bytes: sizeOf(family, prefix),
  }
}

const sizeOf = (family: Family, prefix: string | undefined): number =>
  (family === 'IPv4' ? 12 : 24) + (prefix === undefined ? 0 : 8)

const isPrefix = (text: string, family: Family): boolean => /^\d{1,3}$/.test(text) && Number(text) <= bitsOf(family)

const outOfRange = (prefix: string, family: Family): SyntaxProblem =>
  new SyntaxProblem(
    /^\d+$/.test(prefix)
      ? `Syntax error: '${prefix}' is out of range 0-${Number(prefix) > 255 ? 255 : bitsOf(family)}`
      : `Syntax error: '${prefix}' is invalid as number`,
  )

const unresolved = (text: string, family: Family): SyntaxProblem =>
  new SyntaxProblem(`Syntax error: cannot parse ${text}: resolving to ${family} address failed`)

function parse(text: string, family: Family): string {
  const address = parseIP(text)
  const octets = /^(?:0|[1-9]\d*)(?:\.(?:0|[1-9]\d*)){3}$/
  const isPlain = family === 'IPv6' || octets.test(text)
  if (address === undefined || familyOf(address) !== family || !isPlain) throw unresolved(text, family)
  return address
}

const protocols: Readonly<Record<string, string>> = {
  tcp: 'tcp',
  udp: 'udp',
  sctp: 'sctp',
  TCP: 'tcp',
  UDP: 'udp',
  SCTP: 'sctp',
  '6': 'tcp',
  '17': 'udp',
  '132': 'sctp',
}

function readProtocolPort(text: string): { text: string; port: number } {
  const [protocol, port] = splitOnce(text, ':')
  if (port === undefined) {
    const alone = readPort(text, 'tcp')
    return { text: `tcp:${alone}`, port: alone }
  }
  const name = protocols[protocol]
  if (name === undefined) throw new SyntaxProblem(`Syntax error: cannot parse '${protocol}' as a protocol`)
  const number = readPort(port, protocol)
  return { text: `${name}:${number}`, port: number }
}

function readPort(text: string, protocol: string): number {
  const port = unsigned(text)
  if (port !== undefined && port <= 65535) return port
  const isNumber = /^-?\d+$/.test(text)
  const reasons = [
    `Syntax error: '${text}' is ${isNumber ? 'out of range 0-65535' : 'invalid as number'}`,
    ...(/^\d+$/.test(protocol) ? [] : [`Syntax error: '${protocol}' is invalid as number`]),
    `cannot parse '${text}' as a ${protocol} port`,
  ]
  throw new SyntaxProblem(reasons.join('\n'), true)
}

/** `0xVALUE` or `0xVALUE/0xMASK`. The kernel keeps no mark of which both are zero. */
function readMark(text: string): string {
  const match = /^0x([0-9a-f]{1,8})(?:\/0x([0-9a-f]{1,8}))?$/i.exec(text)
  if (match === null) {
    throw new SyntaxProblem('Syntax error: Invalid skbmark format, it should be:  MARK/MASK or MARK (see manpage)')
  }
  const [value, mask] = [match[1] ?? '', match[2] ?? 'ffffffff'].map(digits => Number.parseInt(digits, 16).toString(16))
  if (mask === 'ffffffff') return `0x${value}`
  return value === '0' && mask === '0' ? '' : `0x${value}/0x${mask}`
}

function readComment(text: string): string {
  if (text.length > 255)
    throw new SyntaxProblem('Syntax error: Comment is longer than the maximum allowed 255 characters')
  return text
}
