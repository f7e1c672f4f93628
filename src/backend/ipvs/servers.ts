// Virtual and real servers as text: what ipvsadm is told, and what it prints.
import { type Family, familyOf, formatAddressPort, type IP, parseIP } from '../../net/ip.ts'
import type { Endpoint } from '../../policy/service-port.ts'
import type { VirtualServer } from './names.ts'

/** A virtual server's options as ipvsadm prints them, and its real servers. */
export interface ServerState {
  /** `-s rr -p 10800 -b mh-port`. */
  readonly options: string
  /** `10.0.1.2:8080`, with ` weight N` after it where the weight is not 1. Sorted. */
  readonly real: readonly string[]
}

export const serverValue = ({ options, real }: ServerState): string => [options, ...real].join('\n')

export function parseServerValue(value: string): ServerState {
  const [options = '', ...real] = value.split('\n')
  return { options, real }
}

/** Real servers of these endpoints, sorted by text. */
export const realServers = (endpoints: readonly Endpoint[]): string[] =>
  endpoints.map(({ address, port }) => formatAddressPort(address, port)).sort()

/** Flags by scheduler, in the order in which ipvsadm prints them; it refuses those of another scheduler. */
const flagsOf: Readonly<Record<string, readonly string[]>> = {
  sh: ['sh-fallback', 'sh-port'],
  mh: ['mh-fallback', 'mh-port'],
}

/** A scheduler and its flags. */
export interface Scheduling {
  readonly scheduler: string
  readonly flags: readonly string[]
}

/**
 * Reads `mh` or `sh,sh-fallback,sh-port`: a scheduler of the kernel, then its flags. As in kube-proxy `mh` alone means
 * `mh,mh-port`: without it all connections of a client go to one endpoint. Empty: rr. Undefined if it cannot be read; the
 * kernel says whether it has the scheduler.
 */
export function parseScheduling(text: string): Scheduling | undefined {
  const [scheduler = '', ...flags] = text.split(',').map(word => word.trim())
  if (text.trim() === '') return { scheduler: 'rr', flags: [] }
  // IP_VS_SCHEDNAME_MAXLEN is 16 with the end.
  const known = flagsOf[scheduler] ?? []
  if (!/^[a-z][a-z0-9_]{0,14}$/.test(scheduler) || !flags.every(flag => known.includes(flag))) return undefined
  if (scheduler === 'mh' && flags.length === 0) return { scheduler, flags: ['mh-port'] }
  return { scheduler, flags: known.filter(flag => flags.includes(flag)) }
}

/**
 * Options of a virtual server by mark. With persistence IPVS would not translate the port there (`ip_vs_sched_persist` takes
 * the real server's port only where the packet's is the virtual server's, which is 0): affinity is by a hash of the source.
 */
export const poolOptionsOf = (scheduling: Scheduling, affinitySeconds: number | undefined): string =>
  optionsOf(affinitySeconds === undefined ? scheduling : { scheduler: 'sh', flags: ['sh-fallback'] }, undefined)

/** Options as ipvsadm prints them. */
export function optionsOf({ scheduler, flags }: Scheduling, affinitySeconds: number | undefined): string {
  const persistent = affinitySeconds === undefined ? '' : ` -p ${affinitySeconds}`
  return `-s ${scheduler}${persistent}${flags.length === 0 ? '' : ` -b ${flags.join(',')}`}`
}

const protocolOptions: Readonly<Record<string, string>> = { tcp: '-t', udp: '-u', sctp: '--sctp-service' }

/** How ipvsadm is told which virtual server is meant. */
export function serverArguments(server: VirtualServer, family: Family): string {
  const [kind = '', where = ''] = server.split(' ')
  if (kind === 'mark') return `-f ${Number(where)}${family === 'IPv6' ? ' -6' : ''}`
  return `${protocolOptions[kind] ?? kind} ${where}`
}

/** The address of a virtual server; undefined for one by mark. */
export function addressOf(server: VirtualServer): string | undefined {
  const [kind = '', where = ''] = server.split(' ')
  if (kind === 'mark') return undefined
  const host = where.slice(0, where.lastIndexOf(':'))
  return host.startsWith('[') ? host.slice(1, -1) : host
}

/** `10.96.0.20,tcp:80`: the virtual server as an element of a set. Undefined for one by mark. */
export function elementOf(server: VirtualServer): string | undefined {
  const address = addressOf(server)
  if (address === undefined) return undefined
  const [kind = '', where = ''] = server.split(' ')
  return `${address},${kind}:${where.slice(where.lastIndexOf(':') + 1)}`
}

/** Takes `10.0.0.1:80` or `[fd00::1]:80` apart. Undefined if it is neither. */
export function splitAddressPort(text: string): { readonly address: IP; readonly port: number } | undefined {
  const colon = text.lastIndexOf(':')
  const host = text.slice(0, colon)
  const address = parseIP(host.startsWith('[') ? host.slice(1, -1) : host)
  const port = Number(text.slice(colon + 1))
  return address === undefined || !Number.isInteger(port) ? undefined : { address, port }
}

/** `10.0.0.1:80` or `[fd00::1]:80`, with the address in canonical form. Undefined if it is neither. */
export function canonicalAddressPort(text: string): { readonly text: string; readonly family: Family } | undefined {
  const found = splitAddressPort(text)
  return found && { text: formatAddressPort(found.address, found.port), family: familyOf(found.address) }
}
