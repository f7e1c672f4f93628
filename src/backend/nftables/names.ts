// Names in our table, and keys of kernel objects.
import type { Family, IP } from '../../net/ip.ts'
import { spread32 } from '../../net/spread.ts'

/** The table's name in both families. It is ours whole; no other table is read or written. */
export const tableName = 'penstock'

/** nft's word for the family, in front of the table's name and of addresses. */
export const familyWord = (family: Family): 'ip' | 'ip6' => (family === 'IPv4' ? 'ip' : 'ip6')

/** `ip penstock`. */
export const tableOf = (family: Family): string => `${familyWord(family)} ${tableName}`

/** Static chains. */
export const chains = {
  prerouting: 'prerouting',
  output: 'output',
  postrouting: 'postrouting',
  /** From prerouting and output: where a packet may be given an endpoint or be refused. */
  services: 'services',
  /** Where packets are rejected. `reject` itself is a word of nft's language. */
  refused: 'refused',
} as const

/**
 * Chains that packets come in by to Services. When the table is deleted they go first, in a transaction of their own: a packet
 * that is on its way in a table which is deleted at once finds the elements of its maps out of force, those of its sets not yet
 * (nft_map_deactivate in Linux), and so is refused as one for a port that no Service has. Seen on Linux 6.18 once in 200
 * deletions under a full load of new connections.
 */
export const entrances: readonly string[] = [chains.prerouting, chains.output]

/** Chains that send a packet to one of `count` endpoints. */
export const pickChains = {
  /** Found by address, protocol and port. */
  pick: (count: number): string => `pick-${count}`,
  /** The same, and masqueraded. */
  masquerade: (count: number): string => `masquerade-${count}`,
  /** Found by protocol and port, and masqueraded. */
  nodePort: (count: number): string => `node-port-${count}`,
} as const

/** Sets and maps that are always there. */
export const containers = {
  /** address . protocol . port → verdict. */
  services: 'services',
  /** protocol . port → verdict. */
  nodePorts: 'node-ports',
  /** address . protocol . port . index → endpoint. */
  endpoints: 'endpoints',
  /** protocol . port . index → endpoint. */
  nodePortEndpoints: 'node-port-endpoints',
  /** Every cluster address that is in use. */
  clusterIPs: 'cluster-ips',
  /** All pairs of one octet with itself: comparing two addresses. */
  octets: 'octets',
} as const

/** `shop/web/tcp/http`; without its last part when the port is unnamed. Unique among Service ports. */
export function servicePortId(name: string, protocol: string): string {
  const colon = name.indexOf(':')
  return colon < 0
    ? `${name}/${protocol.toLowerCase()}`
    : `${name.slice(0, colon)}/${protocol.toLowerCase()}/${name.slice(colon + 1)}`
}

/** `10.1.2.3/8080`. nft's names hold no colon. */
export const endpointPart = (address: IP, port: number): string => `${address.replaceAll(':', '.')}/${port}`

const base32 = 'abcdefghijklmnopqrstuvwxyz234567'

/** Depth of the groups of a large Service's endpoints, at most. */
export const mostLetters = 8

/** Letters that one number of 32 bits decides, of five bits each. */
const lettersOfNumber = 6

/** The letter that an endpoint is grouped by at a depth below `mostLetters`; only its address and port decide. */
export function groupLetter(addressPort: string, depth: number): string {
  const bits = spread32(addressPort, Math.floor(depth / lettersOfNumber)) >>> (5 * (depth % lettersOfNumber))
  return base32[bits & 31] ?? ''
}

export const chainKey = (name: string): string => `chain ${name}`
export const setKey = (name: string): string => `set ${name}`
export const mapKey = (name: string): string => `map ${name}`
export const elementKey = (container: string, key: string): string => `element ${container} ${key}`
/** Of elements that differ in an index; its value has one element a line, in the order of the index. */
export const indexedKey = (container: string, key: string): string => `indexed ${container} ${key}`

/** What the table itself has been made into by somebody else; in no program of ours. */
export const tableKey = 'table flags'

/** What a key stands for. */
export type ParsedKey =
  | { readonly kind: 'table'; readonly name: string }
  | { readonly kind: 'chain'; readonly name: string }
  | { readonly kind: 'set'; readonly name: string }
  | { readonly kind: 'map'; readonly name: string }
  | { readonly kind: 'element'; readonly container: string; readonly key: string }
  | { readonly kind: 'indexed'; readonly container: string; readonly key: string }

/** Takes a key apart. Keys are made here only, so a malformed one is a programming error and throws. */
export function parseKey(key: string): ParsedKey {
  const space = key.indexOf(' ')
  const kind = key.slice(0, space)
  const rest = key.slice(space + 1)
  switch (kind) {
    case 'table':
    case 'chain':
    case 'set':
    case 'map':
      return { kind, name: rest }
    case 'element':
    case 'indexed': {
      const end = rest.indexOf(' ')
      return { kind, container: rest.slice(0, end), key: rest.slice(end + 1) }
    }
    default:
      throw new Error(`not a key of the nftables backend: ${key}`)
  }
}
