// Objects as nft's own language writes them. The text of an object is what the kernel's state is compared by.
import type { Family } from '../../net/ip.ts'
import type { KernelObject } from '../backend.ts'
import { chainKey, elementKey, familyWord, indexedKey, mapKey, setKey } from './names.ts'
import type {
  Chain,
  Element,
  Field,
  Hook,
  KeyType,
  MapObject,
  NftObject,
  Rule,
  SetObject,
  Statement,
  Verdict,
} from './objects.ts'
import { formatRange } from './ranges.ts'

/** Key and value of an object. */
export function kernelObject(object: NftObject, family: Family): KernelObject {
  switch (object.kind) {
    case 'chain':
      return { key: chainKey(object.name), value: chainText(object, family) }
    case 'set':
      return { key: setKey(object.name), value: containerText(object, family) }
    case 'map':
      return { key: mapKey(object.name), value: containerText(object, family) }
    case 'element':
      return { key: elementKey(object.container, object.key.join(' . ')), value: elementText(object) }
    case 'indexed': {
      const value = object.data.map(parts => parts.join(' . ')).join('\n')
      return { key: indexedKey(object.container, object.key.join(' . ')), value }
    }
  }
}

/** A hook line first if it is a base chain, then one rule a line. */
function chainText({ hook, rules }: Chain, family: Family): string {
  const lines = rules.map(rule => ruleText(rule, family))
  return (hook === undefined ? lines : [hookText(hook), ...lines]).join('\n')
}

/** `type nat hook prerouting priority -100; policy accept;`. Numbers: nft refuses the word dstnat in the output hook. */
export const hookText = ({ hook, priority }: Hook): string =>
  `type nat hook ${hook} priority ${priority}; policy accept;`

export const ruleText = (rule: Rule, family: Family): string =>
  rule.map(statement => statementText(statement, family)).join(' ')

const not = (negated: boolean): string => (negated ? '!= ' : '')

/** `0x4000`. */
const hex = (mark: number): string => `0x${(mark >>> 0).toString(16)}`

/** First bits of the two addresses in the network header. */
const addressOffsets: Readonly<Record<Family, { source: number; destination: number }>> = {
  IPv4: { source: 96, destination: 128 },
  IPv6: { source: 64, destination: 192 },
}

function statementText(statement: Statement, family: Family): string {
  const ip = familyWord(family)
  switch (statement.kind) {
    case 'address': {
      const ranges = statement.ranges.map(formatRange)
      const text = ranges.length === 1 ? ranges.join() : `{ ${ranges.join(', ')} }`
      return `${ip} ${statement.side} ${not(statement.negated)}${text}`
    }
    case 'input-interface':
      return `iifname ${not(statement.negated)}"${statement.name}${statement.prefix ? '*' : ''}"`
    case 'protocol':
      return `meta l4proto ${statement.protocol.toLowerCase()}`
    case 'local':
      return `fib ${statement.side} type ${not(statement.negated)}local`
    case 'chance':
      return `numgen random mod ${statement.of} ${statement.below === 1 ? '0' : `< ${statement.below}`}`
    case 'in-set':
      return `${fieldsText(statement.fields, ip)} @${statement.set}`
    case 'mark-set':
      return `meta mark & ${hex(statement.mark)} != 0x0`
    case 'translated':
      return 'ct status dnat'
    case 'octet-pair': {
      const { source, destination } = addressOffsets[family]
      const bits = statement.octet * 8
      return `@nh,${source + bits},8 . @nh,${destination + bits},8 @${statement.set}`
    }
    case 'set-mark':
      return `meta mark set meta mark | ${hex(statement.mark)}`
    case 'clear-mark':
      return `meta mark set meta mark ^ ${hex(statement.mark)}`
    case 'remember':
      return `update @${statement.set} { ${ip} saddr }`
    case 'verdict-map':
      return `${fieldsText(statement.fields, ip)} vmap @${statement.map}`
    case 'dnat':
      return `dnat to ${statement.address.includes(':') ? `[${statement.address}]` : statement.address}:${statement.port}`
    case 'dnat-map':
      return `dnat ${ip} to ${fieldsText(statement.fields, ip)} . numgen random mod ${statement.of} map @${statement.map}`
    case 'masquerade':
      return 'masquerade fully-random'
    case 'reject':
      return 'reject'
    case 'verdict':
      return verdictText(statement.verdict)
  }
}

/** The octet that a raw offset into the header stands for; undefined if it is not one of the source address. */
export function octetAt(bit: number, family: Family): number | undefined {
  const octet = (bit - addressOffsets[family].source) / 8
  return Number.isInteger(octet) && octet >= 0 && octet < (family === 'IPv4' ? 4 : 16) ? octet : undefined
}

export const verdictText = (verdict: Verdict): string =>
  verdict.kind === 'goto' || verdict.kind === 'jump' ? `${verdict.kind} ${verdict.chain}` : verdict.kind

function fieldsText(fields: readonly Field[], ip: string): string {
  const text = (field: Field): string => {
    switch (field) {
      case 'saddr':
      case 'daddr':
        return `${ip} ${field}`
      case 'protocol':
        return 'meta l4proto'
      case 'port':
        return 'th dport'
    }
  }
  return fields.map(text).join(' . ')
}

const typeNames = (family: Family): Readonly<Partial<Record<KeyType, string>>> => ({
  address: family === 'IPv4' ? 'ipv4_addr' : 'ipv6_addr',
  protocol: 'inet_proto',
  port: 'inet_service',
})

/** Types without a name are given by an expression of that type. */
function typeText(key: readonly KeyType[], data: readonly KeyType[] | 'verdict' | undefined, family: Family): string {
  const ip = familyWord(family)
  const isNamed = key.every(type => type !== 'index' && type !== 'octet')
  const expression = (type: KeyType, index: number): string => {
    switch (type) {
      case 'address':
        return `${ip} daddr`
      case 'protocol':
        return 'meta l4proto'
      case 'port':
        return 'th dport'
      case 'index':
        return 'numgen random mod 2'
      case 'octet':
        return `@nh,${index * 8},8`
    }
  }
  const text = (types: readonly KeyType[]): string =>
    types.map((type, index) => (isNamed ? typeNames(family)[type] : expression(type, index))).join(' . ')
  const value = data === undefined ? '' : ` : ${data === 'verdict' ? data : text(data)}`
  return `${isNamed ? 'type' : 'typeof'} ${text(key)}${value};`
}

/**
 * Clients that a dynamic set remembers. The kernel makes the table for that many at once: 0.1 MB a set. nft's default of
 * 65,535 costs 2 MB, for each endpoint of each Service with affinity. iptables mode remembers 100 by default.
 */
export const dynamicSize = 4_096

function setText({ key, timeoutSeconds }: SetObject, family: Family): string {
  const dynamic =
    timeoutSeconds === undefined ? '' : ` size ${dynamicSize}; flags dynamic,timeout; timeout ${timeoutSeconds}s;`
  return typeText(key, undefined, family) + dynamic
}

const mapText = ({ key, data }: MapObject, family: Family): string => typeText(key, data, family)

/** The declaration of a set or map, as its object's value has it. */
export const containerText = (container: SetObject | MapObject, family: Family): string =>
  container.kind === 'set' ? setText(container, family) : mapText(container, family)

/** What follows the key: `comment "shop/web:http" : goto pick-2`. */
export function elementText({ data, comment }: Pick<Element, 'data' | 'comment'>): string {
  const parts: string[] = []
  if (comment !== undefined) parts.push(`comment "${comment}"`)
  if (data !== undefined) parts.push(`: ${'kind' in data ? verdictText(data) : data.join(' . ')}`)
  return parts.join(' ')
}
