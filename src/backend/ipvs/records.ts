// Between the texts by which programs of IPVS mode are compared and the records that netlink is spoken in. What a program
// prints and what is read by netlink is the same text.
import type { IpsetOperation } from '../../kernel/netlink/ipset.ts'
import type { IpsetElement, IpsetHeader, IpsetSpec, IpsetTypeName } from '../../kernel/netlink/ipset-messages.ts'
import type { IpvsOperation } from '../../kernel/netlink/ipvs.ts'
import {
  familyOfService,
  type IpvsLoad,
  type IpvsService,
  type IpvsServiceId,
  ipvsForward,
  ipvsServiceFlag,
  wholeNetmask,
} from '../../kernel/netlink/ipvs-messages.ts'
import type { RouteOperation } from '../../kernel/netlink/route.ts'
import { bitsOf, type Family, familyOf, formatAddressPort, formatCIDR, parseCIDR, parseIP } from '../../net/ip.ts'
import { parseProtocol } from '../../net/protocol.ts'
import type { RoutingCommand, ServerCommand, SetCommand } from './commands.ts'
import { device, markHex, markServer, routeMark, type VirtualServer, virtualServer } from './names.ts'
import type { HeldServer, Load } from './parse.ts'
import { splitAddressPort } from './servers.ts'
import { textOf } from './sets.ts'

/** Which virtual server is meant. Throws an Error for a name that `virtualServer` and `markServer` do not write. */
export function serviceId(server: VirtualServer, family: Family): IpvsServiceId {
  const [kind = '', where = ''] = server.split(' ')
  if (kind === 'mark') return { kind, family, mark: Number(where) }
  const protocol = parseProtocol(kind)
  const found = splitAddressPort(where)
  if (protocol === undefined || found === undefined) throw new Error(`"${server}" is no virtual server`)
  return { kind: 'address', protocol, ...found }
}

/** The inverse of `serviceId`. */
export const serverName = (id: IpvsServiceId): VirtualServer =>
  id.kind === 'mark' ? markServer(id.mark) : virtualServer(id.protocol, id.address, id.port)

/** What the schedulers make of their flags; ipvsadm's names for those of any other. */
const schedulerFlags: Readonly<Record<string, readonly string[]>> = {
  sh: ['sh-fallback', 'sh-port'],
  mh: ['mh-fallback', 'mh-port'],
}
const plainFlags = ['flag-1', 'flag-2', 'flag-3']
const scheduleBits = [ipvsServiceFlag.schedule1, ipvsServiceFlag.schedule2, ipvsServiceFlag.schedule3]

/** A virtual server's options as ipvsadm 1.31 prints them. */
export function optionsText({ id, scheduler, flags, timeout, netmask }: IpvsService): string {
  const words = [`-s ${scheduler}`]
  if ((flags & ipvsServiceFlag.persistent) !== 0) words.push(`-p ${timeout}`)
  if (netmask !== wholeNetmask(familyOfService(id))) words.push(`-M ${netmask}`)
  if ((flags & ipvsServiceFlag.onePacket) !== 0) words.push('-o')
  const names = schedulerFlags[scheduler] ?? plainFlags
  const set = names.filter((_, index) => (flags & (scheduleBits[index] ?? 0)) !== 0)
  if (set.length > 0) words.push(`-b ${set.join(',')}`)
  return words.join(' ')
}

/** A virtual server from options as `optionsOf` writes them. Throws an Error for any other. */
export function serviceOf(id: IpvsServiceId, options: string): IpvsService {
  const [, scheduler, timeout, names] = /^-s (\S+)(?: -p (\d+))?(?: -b (\S+))?$/.exec(options) ?? []
  if (scheduler === undefined) throw new Error(`"${options}" are no options of a virtual server`)
  let flags = timeout === undefined ? 0 : ipvsServiceFlag.persistent
  for (const name of names?.split(',') ?? []) {
    const bit = scheduleBits[(schedulerFlags[scheduler] ?? plainFlags).indexOf(name)]
    if (bit === undefined) throw new Error(`"${name}" is no flag of the scheduler ${scheduler}`)
    flags |= bit
  }
  return { id, scheduler, flags, timeout: Number(timeout ?? 0), netmask: wholeNetmask(familyOfService(id)) }
}

/** ipvsadm's option for a way of forwarding. */
const forwardText = (forward: number): string =>
  forward === ipvsForward.masquerade ? '-m' : forward === ipvsForward.tunnel ? '-i' : '-g'

/** A real server, and what it has to do. */
export function heldDestination(real: IpvsLoad): HeldServer['real'][number] & Load {
  const address = formatAddressPort(real.address, real.port)
  const connections = real.active + real.inactive
  return { address, weight: real.weight, rest: forwardText(real.forward), connections }
}

let lastId: { readonly server: VirtualServer; readonly family: Family; readonly id: IpvsServiceId } | undefined

/** `serviceId`; commands for the real servers of one virtual server follow each other. */
function knownId(server: VirtualServer, family: Family): IpvsServiceId {
  if (lastId?.server !== server || lastId.family !== family) lastId = { server, family, id: serviceId(server, family) }
  return lastId.id
}

/** What IPVS is told. Throws an Error for names that are not ours. */
export function serverOperation(command: ServerCommand, family: Family): IpvsOperation {
  const id = knownId(command.server, family)
  switch (command.kind) {
    case 'add-server':
      return { kind: 'add-service', service: serviceOf(id, command.options) }
    case 'edit-server':
      return { kind: 'edit-service', service: serviceOf(id, command.options) }
    case 'delete-server':
      return { kind: 'delete-service', id }
    case 'delete-real':
      return { kind: 'delete-destination', id, destination: realOf(command.real) }
    default: {
      const destination = { ...realOf(command.real), forward: ipvsForward.masquerade, weight: command.weight }
      return { kind: command.kind === 'add-real' ? 'add-destination' : 'edit-destination', id, destination }
    }
  }
}

function realOf(text: string): Pick<IpvsLoad, 'address' | 'port'> {
  const found = splitAddressPort(text)
  if (found === undefined) throw new Error(`"${text}" is no real server`)
  return found
}

/** What the kernel is told of the device or a local route. */
export function routeOperation(command: RoutingCommand): RouteOperation {
  switch (command.kind) {
    case 'add-device':
      return { kind: 'add-link', name: device, type: 'dummy' }
    case 'delete-device':
      return { kind: 'delete-link', name: device }
    case 'add-address':
      return { kind: 'add-local', address: command.address, ...routeMark }
    case 'delete-address':
      return { kind: 'delete-local', address: command.address, ...routeMark }
  }
}

/** What ipset is told. Throws an Error for types and elements that `sets.ts` does not write. */
export function setOperation(command: SetCommand): IpsetOperation {
  switch (command.kind) {
    case 'create-set':
      return { kind: 'create', set: setSpec(command.set, command.type) }
    case 'destroy-set':
      return { kind: 'destroy', name: command.set }
    case 'add-member': {
      const element = { ...elementOfText(command.element), ...extrasOf(command.value) }
      return { kind: 'add', name: command.set, element, replace: command.replace }
    }
    case 'delete-member':
      return { kind: 'delete', name: command.set, element: elementOfText(command.element) }
  }
}

const typeNames: readonly IpsetTypeName[] = ['hash:ip', 'hash:ip,port', 'hash:ip,port,net', 'bitmap:port']

/** A set from its type as `setType` writes it. Throws an Error for any other. */
export function setSpec(name: string, text: string): IpsetSpec {
  const [first = '', ...words] = text.split(' ')
  const type = typeNames.find(known => known === first)
  if (type === undefined) throw new Error(`"${text}" is no type of set`)
  const after = (word: string): string | undefined =>
    words.includes(word) ? words[words.indexOf(word) + 1] : undefined
  const family = after('family')
  const [from = 0, to = 0] = (after('range') ?? '').split('-').map(Number)
  return {
    name,
    type,
    family: family === undefined ? undefined : family === 'inet6' ? 'IPv6' : 'IPv4',
    maximum: Number(after('maxelem') ?? 0),
    comment: words.includes('comment'),
    skbinfo: words.includes('skbinfo'),
    ports: [from, to],
  }
}

/** A set's type with what matters of its options, in ipset's order: `setType` for ours, anything else for others. */
export function typeText(header: IpsetHeader): string {
  const words = [header.type]
  if (header.family !== undefined) words.push(`family ${header.family === 'IPv4' ? 'inet' : 'inet6'}`)
  if (header.ports !== undefined) words.push(`range ${header.ports.join('-')}`)
  if (header.maximum !== undefined) words.push(`maxelem ${header.maximum}`)
  if (header.timeout !== undefined) words.push(`timeout ${header.timeout}`)
  for (const option of ['counters', 'comment', 'skbinfo'] as const) if (header[option]) words.push(option)
  if (header.forceAdd) words.push('forceadd')
  return words.join(' ')
}

/** IPPROTO numbers that ipset prints by name, of protocols that have ports. */
const protocolNames: ReadonlyMap<number, string> = new Map([
  [6, 'tcp'],
  [17, 'udp'],
  [132, 'sctp'],
  [136, 'udplite'],
])

/** An element as ipset prints it; protocols without ports, which are never ours, by number. */
export function elementText({ address, protocol, port, network, noMatch }: IpsetElement): string {
  const parts: string[] = []
  if (address !== undefined) parts.push(address)
  if (protocol !== undefined) parts.push(`${protocolNames.get(protocol) ?? protocol}:${port ?? 0}`)
  else if (port !== undefined) parts.push(`${port}`)
  if (network !== undefined) {
    const isHost = network.prefix === bitsOf(familyOf(network.address))
    parts.push(isHost ? network.address : formatCIDR(network))
  }
  return parts.join(',') + (noMatch === true ? ' nomatch' : '')
}

/** The inverse of `elementText`. Throws an Error for any other text. */
export function elementOfText(text: string): IpsetElement {
  const [plain = '', ...rest] = text.split(' ')
  const [first = '', second, third] = plain.split(',')
  const noMatch = rest.includes('nomatch') ? { noMatch: true } : {}
  if (/^\d+$/.test(first)) return { port: Number(first) }
  const address = parseIP(first)
  if (address === undefined) throw new Error(`"${text}" is no element of a set`)
  if (second === undefined) return { address }
  const [name = '', port] = second.split(':')
  const protocol = [...protocolNames].find(([, known]) => known === name)?.[0] ?? Number(name)
  if (port === undefined || !(protocol >= 0)) throw new Error(`"${text}" is no element of a set`)
  const pair = { address, protocol, port: Number(port) }
  if (third === undefined) return pair
  const network = parseCIDR(third.includes('/') ? third : `${third}/${bitsOf(familyOf(address))}`)
  if (network === undefined) throw new Error(`"${text}" is no element of a set`)
  return { ...pair, network, ...noMatch }
}

const allBits = 0xffffffff

/** What comes with an element, as ipset prints it. */
export function valueText({ comment, mark }: IpsetElement): string {
  const words: string[] = []
  if (mark !== undefined) {
    words.push(`skbmark ${markHex(mark.value)}${mark.mask === allBits ? '' : `/${markHex(mark.mask)}`}`)
  }
  if (comment !== undefined) words.push(`comment "${comment}"`)
  return words.join(' ')
}

/** The inverse of `valueText`, of what is ours: a comment or a whole mark. Throws an Error for anything else. */
function extrasOf(value: string): Pick<IpsetElement, 'comment' | 'mark'> {
  if (value === '') return {}
  const comment = textOf(value)
  if (comment !== undefined) return { comment }
  const mark = /^skbmark (0x[0-9a-f]{1,8})$/.exec(value)?.[1]
  if (mark === undefined) throw new Error(`"${value}" is nothing that an element of ours has`)
  return { mark: { value: Number(mark), mask: allBits } }
}
