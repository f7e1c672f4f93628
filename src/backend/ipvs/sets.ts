// The sets of the glue: their types, and their elements as ipset prints them.
import { bitsOf, type CIDR, type Family, formatCIDR, type IP } from '../../net/ip.ts'
import type { Protocol } from '../../net/protocol.ts'
import type { SetRole } from './names.ts'

/** kube-proxy's sets end at 65,536 members. Memory is taken as members come. */
const maximumMembers = 1_048_576

const addressPort = 'hash:ip,port'

const types: Readonly<Record<SetRole, readonly [type: string, extension: string]>> = {
  INTERNAL: [addressPort, 'comment'],
  EXTERNAL: [addressPort, 'comment'],
  LOCAL: [addressPort, 'comment'],
  DROP: [addressPort, ''],
  RANGED: [addressPort, ''],
  RANGES: ['hash:ip,port,net', ''],
  MARK: [addressPort, 'skbinfo'],
  ADDRESS: ['hash:ip', ''],
  HEALTH: ['bitmap:port', ''],
}

/** A set's type with what matters of its options, in the order in which ipset prints them. */
export function setType(role: SetRole, family: Family): string {
  const [type, extension] = types[role]
  const end = extension === '' ? '' : ` ${extension}`
  if (type === 'bitmap:port') return `${type} range 0-65535${end}`
  return `${type} family ${family === 'IPv4' ? 'inet' : 'inet6'} maxelem ${maximumMembers}${end}`
}

/** `10.96.0.20,tcp:80`. */
export const frontendElement = (address: IP, protocol: Protocol, port: number): string =>
  `${address},${protocol.toLowerCase()}:${port}`

/** `10.96.0.20,tcp:80,198.51.100.0/24`; a single address without its length, as ipset prints it. */
export const rangeElement = (frontend: string, range: CIDR, family: Family): string =>
  `${frontend},${range.prefix === bitsOf(family) ? range.address : formatCIDR(range)}`

/** Names are validated on decoding and hold nothing that would end the quotes. */
export const commentOf = (text: string): string => `comment "${text}"`

/** The text of a comment; undefined if there is none. */
export const textOf = (value: string): string | undefined => /^comment "(.*)"$/.exec(value)?.[1]
