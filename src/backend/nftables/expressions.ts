// Expressions that our rules are made of, with the kernel's numbers (linux/netfilter/nf_tables.h), and their canonical text.
import type { NftElement, NftExpression, NftSet, NftVerdict, Register } from '../../kernel/netlink/nft-objects.ts'
import type { Family } from '../../net/ip.ts'

export const metaKey = { mark: 3, inputName: 6, protocol: 16 } as const
export const ctStatus = 2
/** IPS_DST_NAT. */
export const translatedBit = 0x20
export const payloadBase = { network: 1, transport: 2 } as const
export const compare = { equal: 0, unequal: 1, less: 2, atMost: 3, atLeast: 5 } as const
export const rangeOperator = { outside: 1 } as const
export const toNetworkOrder = 1
export const dynsetUpdate = 1
export const fibAddressType = 3
export const fibFlag = { saddr: 1, daddr: 2 } as const
/** RTN_LOCAL. */
export const routeLocal = 2
export const numgenRandom = 1
export const natDestination = 1
/** NF_NAT_RANGE_*. The kernel sets the first two itself, by what else is given. */
export const natRange = { address: 0x1, port: 0x2, fullyRandom: 0x10 } as const
export const rejectUnreachable = 0
/** IFNAMSIZ. */
export const interfaceNameLength = 16
/** Where the destination port is in the transport header. */
export const destinationPort = { offset: 2, length: 2 } as const

/** What differs by family. */
export const ofFamily = {
  IPv4: { number: 2, addressLength: 4, saddr: 12, daddr: 16, portUnreachable: 3 },
  IPv6: { number: 10, addressLength: 16, saddr: 8, daddr: 24, portUnreachable: 4 },
} as const satisfies Readonly<Record<Family, unknown>>

/** The register that begins after so many words of 4 bytes, under the name that nft and the kernel give it. */
export const registerAt = (words: number): Register => (words % 4 === 0 ? words / 4 + 1 : 8 + words)

/** A set within a rule, with its elements. */
export interface AnonymousSet {
  readonly set: NftSet
  readonly elements: readonly NftElement[]
}

/** The sets within rules, by the name that rules have for them; in what is to be written they are told apart by number. */
export type AnonymousSets = (name: string, id: number | undefined) => AnonymousSet | undefined

/**
 * Text that two rules share if they do the same: what the kernel fills in by itself is left out, and a set within a rule is
 * told by its elements.
 */
export const rulePattern = (expressions: readonly NftExpression[], sets: AnonymousSets): string =>
  expressions.map(expression => expressionText(expression, sets)).join(' ')

function expressionText(expression: NftExpression, sets: AnonymousSets): string {
  const words: string[] = [expression.kind]
  for (const [name, value] of Object.entries(expression)) {
    if (name === 'kind' || name === 'setId' || value === undefined) continue
    words.push(`${name}=${fieldText(expression, name, value, sets)}`)
  }
  return `[${words.sort().join(' ')}]`
}

function fieldText(expression: NftExpression, name: string, value: unknown, sets: AnonymousSets): string {
  if (Buffer.isBuffer(value)) return value.toString('hex')
  if (name === 'set' && (expression.kind === 'lookup' || expression.kind === 'dynset')) {
    const anonymous = sets(expression.set, expression.setId)
    return anonymous === undefined ? expression.set : contentsText(anonymous)
  }
  if (name === 'flags' && expression.kind === 'nat') return `${expression.flags & ~(natRange.address | natRange.port)}`
  return typeof value === 'object' ? JSON.stringify(value) : String(value)
}

function contentsText({ set, elements }: AnonymousSet): string {
  const texts = elements.map(({ key, keyEnd, data, flags = 0 }) => {
    const end = keyEnd === undefined ? '' : `-${keyEnd.toString('hex')}`
    return `${key.toString('hex')}${end}/${flags}${data === undefined ? '' : ` : ${dataText(data)}`}`
  })
  return `${set.flags}/${set.keyType}/${set.keyLength}{${texts.sort().join(',')}}`
}

const dataText = (data: Buffer | NftVerdict): string =>
  Buffer.isBuffer(data) ? data.toString('hex') : JSON.stringify(data)
