// Reading what ipset, ipvsadm and ip print, back into objects: the inverse of `plan.ts`.
import { type Family, familyOf, type IP, parseIP } from '../../net/ip.ts'
import { roleOf, type SetRole, type VirtualServer } from './names.ts'
import { canonicalAddressPort } from './servers.ts'

/** A set of ours as the kernel holds it. */
export interface HeldSet {
  readonly role: SetRole
  readonly name: string
  /** As `setType` writes it. */
  readonly type: string
  /** Elements, with what comes with them. */
  readonly members: ReadonlyMap<string, string>
}

/** Our sets of one family in what `ipset save` prints; those of others are passed over. */
export function parseSets(text: string, family: Family): HeldSet[] {
  const found = new Map<string, { role: SetRole; name: string; type: string; members: Map<string, string> }>()
  for (const line of text.split('\n')) {
    const [verb = '', name = '', third = '', ...rest] = line.split(' ')
    if (verb === 'create') {
      const role = roleOf(family, name)
      if (role !== undefined) found.set(name, { role, name, type: typeOf(third, rest), members: new Map() })
    } else if (verb === 'add') {
      found.get(name)?.members.set(canonicalElement(third), rest.join(' '))
    }
  }
  return [...found.values()]
}

/** Options that are not ours to choose: how large a set has grown, and how it hashes. */
const incidental = new Set(['hashsize', 'bucketsize', 'initval'])

function typeOf(type: string, words: readonly string[]): string {
  const kept = [type]
  for (let i = 0; i < words.length; i++) {
    const word = words[i] ?? ''
    if (incidental.has(word)) i++
    else kept.push(word)
  }
  return kept.join(' ')
}

/** Addresses of an element in the form of RFC 5952; glibc prints some of them otherwise. */
const canonicalElement = (element: string): string =>
  element
    .split(',')
    .map(part => {
      if (!part.includes('::') || /^(?:tcp|udp|sctp):/.test(part)) return part
      const [address = '', prefix] = part.split('/')
      const ip = parseIP(address)
      return ip === undefined ? part : prefix === undefined ? ip : `${ip}/${prefix}`
    })
    .join(',')

/** A virtual server as the kernel holds it. */
export interface HeldServer {
  readonly server: VirtualServer
  readonly options: string
  /** Real servers with their weight, and what else is said of them. */
  readonly real: readonly { readonly address: string; readonly weight: number; readonly rest: string }[]
}

/** Virtual servers of one family in what `ipvsadm -Sn` prints. */
export function parseServers(text: string, family: Family): HeldServer[] {
  const found: { server: VirtualServer; options: string; real: HeldServer['real'][number][] }[] = []
  let current: (typeof found)[number] | undefined
  for (const line of text.split('\n')) {
    const words = line.trim().split(' ')
    const [verb, option = '', where = ''] = words
    if (verb === '-A') {
      const isSix = words[3] === '-6'
      const server = serverOf(option, where, isSix)
      const rest = words.slice(isSix ? 4 : 3)
      current =
        server === undefined || server.family !== family
          ? undefined
          : { server: server.name, options: rest.join(' '), real: [] }
      if (current !== undefined) found.push(current)
    } else if (verb === '-a' && current !== undefined) {
      const at = words.indexOf('-r')
      const address = canonicalAddressPort(words[at + 1] ?? '')?.text
      const weight = Number(words[words.indexOf('-w') + 1])
      const rest = words.slice(at + 2).filter((word, i, all) => word !== '-w' && all[i - 1] !== '-w')
      if (address !== undefined) current.real.push({ address, weight, rest: rest.join(' ') })
    }
  }
  return found
}

const protocolOf: Readonly<Record<string, string>> = { '-t': 'tcp', '-u': 'udp', '--sctp-service': 'sctp' }

/** A virtual server from ipvsadm's option for it, `-t 10.96.0.1:80`; undefined if it is none. */
export function serverOf(
  option: string,
  where: string,
  isSix: boolean,
): { name: VirtualServer; family: Family } | undefined {
  if (option === '-f') {
    const mark = Number(where)
    return { name: `mark 0x${mark.toString(16)}`, family: isSix ? 'IPv6' : 'IPv4' }
  }
  const protocol = protocolOf[option]
  const found = canonicalAddressPort(where)
  return protocol === undefined || found === undefined
    ? undefined
    : { name: `${protocol} ${found.text}`, family: found.family }
}

/** What a real server has to do. */
export interface Load {
  readonly weight: number
  /** Active and inactive together. */
  readonly connections: number
}

/** By virtual server and real server. */
export type Loads = ReadonlyMap<VirtualServer, ReadonlyMap<string, Load>>

/** Weights and connections in what `ipvsadm -Ln` prints. */
export function parseLoads(text: string): Loads {
  const found = new Map<VirtualServer, Map<string, Load>>()
  let current: Map<string, Load> | undefined
  for (const line of text.split('\n')) {
    const words = line.trim().split(/\s+/)
    const [first = '', second = ''] = words
    if (first === '->') {
      const address = canonicalAddressPort(second)?.text
      const [weight = Number.NaN, active = Number.NaN, inactive = Number.NaN] = words.slice(-3).map(Number)
      const connections = active + inactive
      if (address !== undefined && Number.isFinite(connections)) current?.set(address, { weight, connections })
    } else if (['TCP', 'UDP', 'SCTP', 'FWM'].includes(first)) {
      const where = first === 'FWM' ? `0x${Number(second).toString(16)}` : canonicalAddressPort(second)?.text
      // The same mark may stand for a virtual server of each family.
      const key =
        first === 'FWM' ? `mark ${where}${words[2] === 'IPv6' ? ' IPv6' : ''}` : `${first.toLowerCase()} ${where}`
      current = new Map()
      found.set(key, current)
    } else {
      current = undefined
    }
  }
  return found
}

/** What a virtual server is called among loads: the same mark may stand for one of each family. */
export const loadKey = (server: VirtualServer, family: Family): string =>
  server.startsWith('mark ') && family === 'IPv6' ? `${server} IPv6` : server

/** The load of one real server; undefined if the kernel does not know it. */
export const loadOf = (loads: Loads, server: VirtualServer, real: string, family: Family): Load | undefined =>
  loads.get(loadKey(server, family))?.get(real)

/** Addresses of local routes of this metric in what `ip route show` prints. */
export function parseLocals(text: string, metric: number): IP[] {
  const found: IP[] = []
  for (const [, address = '', rest = ''] of text.matchAll(/^local ([0-9a-fA-F.:]+) (.*)$/gm)) {
    const ip = parseIP(address)
    if (ip !== undefined && /\bmetric (\d+)/.exec(rest)?.[1] === `${metric}`) found.push(ip)
  }
  return found
}

/** Addresses of one family in what `ip -o addr show` prints. Link-local ones are the kernel's own. */
export function parseAddresses(text: string, family: Family): IP[] {
  const found: IP[] = []
  for (const [, address = ''] of text.matchAll(/ inet6? ([0-9a-fA-F.:]+)\/\d+ /g)) {
    const ip = parseIP(address)
    if (ip !== undefined && familyOf(ip) === family && !ip.startsWith('fe80:')) found.push(ip)
  }
  return found
}
