// From the kernel's dumps to nf_tables' values. Pure. What does not hold together is a NetlinkFormatError.
import { eachAttribute, NetlinkFormatError, nfgenLength, readAttributes, readNfgen, readText } from './message.ts'
import { decodeData, decodeValue } from './nft-data.ts'
import { decodeExpression } from './nft-decode-expression.ts'
import {
  chainAttribute,
  descriptionAttribute,
  elementAttribute,
  elementsAttribute,
  familyNumber,
  fieldLength,
  generationId,
  hookAttribute,
  policyNumber,
  ruleAttribute,
  setAttribute,
  tableAttribute,
} from './nft-numbers.ts'
import {
  elementFlag,
  type NftChain,
  type NftElement,
  type NftExpression,
  type NftFamily,
  type NftRule,
  type NftSet,
  type NftTable,
  type NftVerdict,
} from './nft-objects.ts'

type Attributes = ReadonlyMap<number, Buffer>

/** The attributes of a message's payload, after its netfilter header, and the family; undefined for one we do not use. */
function open(payload: Buffer): { readonly family: NftFamily | undefined; readonly attributes: Attributes } {
  const { family, attributes } = readNfgen(payload)
  const known = family === familyNumber.ip ? 'ip' : family === familyNumber.ip6 ? 'ip6' : undefined
  return { family: known, attributes: readAttributes(attributes) }
}

const missing = (what: string): NetlinkFormatError => new NetlinkFormatError(`nf_tables left out ${what}`)

function textOf(attributes: Attributes, type: number, what: string): string {
  const found = attributes.get(type)
  if (found === undefined) throw missing(what)
  return readText(found)
}

function be32Of(attributes: Attributes, type: number, what: string): number {
  const found = optional32(attributes, type)
  if (found === undefined) throw missing(what)
  return found
}

function optional32(attributes: Attributes, type: number): number | undefined {
  const found = attributes.get(type)
  if (found === undefined) return undefined
  if (found.length !== 4) throw new NetlinkFormatError(`a number of nf_tables has ${found.length} bytes, not 4`)
  return found.readUInt32BE()
}

function optional64(attributes: Attributes, type: number): bigint | undefined {
  const found = attributes.get(type)
  if (found === undefined) return undefined
  if (found.length !== 8) throw new NetlinkFormatError(`a number of nf_tables has ${found.length} bytes, not 8`)
  return found.readBigUInt64BE()
}

/** A copy, so that a value does not keep the whole datagram it came in. */
function optionalCopy(attributes: Attributes, type: number): Buffer | undefined {
  const found = attributes.get(type)
  return found === undefined ? undefined : Buffer.from(found)
}

/** The number of the last transaction, from NFT_MSG_NEWGEN. Throws NetlinkFormatError. */
export const decodeGeneration = (payload: Buffer): number =>
  be32Of(open(payload).attributes, generationId, 'the generation')

/** A table from NFT_MSG_NEWTABLE; undefined for one of a family that we do not use. Throws NetlinkFormatError. */
export function decodeTable(payload: Buffer): NftTable | undefined {
  const { family, attributes } = open(payload)
  if (family === undefined) return undefined
  const name = textOf(attributes, tableAttribute.name, "a table's name")
  return { family, name, flags: optional32(attributes, tableAttribute.flags) ?? 0 }
}

/** A chain from NFT_MSG_NEWCHAIN, and its table's name. Throws NetlinkFormatError. */
export function decodeChain(payload: Buffer): { readonly table: string; readonly chain: NftChain } {
  const { attributes } = open(payload)
  const table = textOf(attributes, chainAttribute.table, "a chain's table")
  const name = textOf(attributes, chainAttribute.name, "a chain's name")
  const hook = attributes.get(chainAttribute.hook)
  if (hook === undefined) return { table, chain: { name } }
  const hooked = readAttributes(hook)
  const number = be32Of(hooked, hookAttribute.number, "a hook's number")
  const priority = be32Of(hooked, hookAttribute.priority, "a hook's priority") | 0
  const type = textOf(attributes, chainAttribute.type, "a base chain's type")
  const isDrop = optional32(attributes, chainAttribute.policy) === policyNumber.drop
  return { table, chain: { name, hook: { number, priority, type, policy: isDrop ? 'drop' : 'accept' } } }
}

/** A rule from NFT_MSG_NEWRULE, and its table's name. Throws NetlinkFormatError. */
export function decodeRule(payload: Buffer): { readonly table: string; readonly rule: NftRule } {
  const { attributes } = open(payload)
  const table = textOf(attributes, ruleAttribute.table, "a rule's table")
  const chain = textOf(attributes, ruleAttribute.chain, "a rule's chain")
  const handle = optional64(attributes, ruleAttribute.handle)
  const userdata = optionalCopy(attributes, ruleAttribute.userdata)
  const expressions: NftExpression[] = []
  const list = attributes.get(ruleAttribute.expressions)
  if (list !== undefined) {
    eachAttribute(list, 0, list.length, (_, from, to) => expressions.push(decodeExpression(list.subarray(from, to))))
  }
  return {
    table,
    rule: {
      chain,
      expressions,
      ...(handle !== undefined && { handle }),
      ...(userdata !== undefined && { userdata }),
    },
  }
}

/**
 * A set or map from NFT_MSG_NEWSET, and its table's name. Of a map of verdicts the kernel says a data length of 16, its
 * own record's, whatever was written. Throws NetlinkFormatError.
 */
export function decodeSet(payload: Buffer): { readonly table: string; readonly set: NftSet } {
  const { attributes } = open(payload)
  const table = textOf(attributes, setAttribute.table, "a set's table")
  const dataType = optional32(attributes, setAttribute.dataType)
  const dataLength = optional32(attributes, setAttribute.dataLength)
  const id = optional32(attributes, setAttribute.id)
  const timeoutMs = optional64(attributes, setAttribute.timeout)
  const userdata = optionalCopy(attributes, setAttribute.userdata)
  const description = attributes.get(setAttribute.description)
  const set: NftSet = {
    name: textOf(attributes, setAttribute.name, "a set's name"),
    flags: optional32(attributes, setAttribute.flags) ?? 0,
    keyType: optional32(attributes, setAttribute.keyType) ?? 0,
    keyLength: be32Of(attributes, setAttribute.keyLength, "the length of a set's keys"),
    ...(dataType !== undefined && { dataType }),
    ...(dataLength !== undefined && { dataLength }),
    ...(id !== undefined && { id }),
    ...(timeoutMs !== undefined && { timeoutMs }),
    ...(description !== undefined && decodeDescription(description)),
    ...(userdata !== undefined && { userdata }),
  }
  return { table, set }
}

function decodeDescription(bytes: Buffer): Pick<NftSet, 'size' | 'concatLengths'> {
  const attributes = readAttributes(bytes)
  const size = optional32(attributes, descriptionAttribute.size)
  const list = attributes.get(descriptionAttribute.concat)
  const concatLengths: number[] = []
  if (list !== undefined) {
    eachAttribute(list, 0, list.length, (_, from, to) => {
      const field = readAttributes(list.subarray(from, to))
      concatLengths.push(be32Of(field, fieldLength, "the length of a key's part"))
    })
  }
  return { ...(size !== undefined && { size }), ...(list !== undefined && { concatLengths }) }
}

/**
 * Hands over each element of a NFT_MSG_NEWSETELEM. Keys and data are views of the payload. How long an element still
 * lives, and what it counts, is left out. Throws NetlinkFormatError.
 */
export function decodeElements(payload: Buffer, visit: (element: NftElement) => void): void {
  if (payload.length < nfgenLength) throw new NetlinkFormatError('a netfilter message ends within its header')
  eachAttribute(payload, nfgenLength, payload.length, (type, from, to) => {
    if (type !== elementsAttribute.elements) return
    eachAttribute(payload, from, to, (_, begin, end) => visit(decodeElement(payload, begin, end)))
  })
}

const noKey = Buffer.alloc(0)

function decodeElement(bytes: Buffer, from: number, to: number): NftElement {
  let key: Buffer | undefined
  let keyEnd: Buffer | undefined
  let data: Buffer | NftVerdict | undefined
  let flags = 0
  let userdata: Buffer | undefined
  eachAttribute(bytes, from, to, (type, begin, end) => {
    switch (type) {
      case elementAttribute.key:
        key = decodeValue(bytes, begin, end)
        break
      case elementAttribute.keyEnd:
        keyEnd = decodeValue(bytes, begin, end)
        break
      case elementAttribute.data:
        data = decodeData(bytes, begin, end, 'bytes')
        break
      case elementAttribute.flags:
        if (end - begin !== 4) throw new NetlinkFormatError("an element's flags have a length other than 4")
        flags = bytes.readUInt32BE(begin)
        break
      case elementAttribute.userdata:
        userdata = bytes.subarray(begin, end)
        break
    }
  })
  if (key === undefined) {
    if ((flags & elementFlag.catchall) === 0) throw missing("an element's key")
    key = noKey
  }
  return {
    key,
    ...(keyEnd !== undefined && { keyEnd }),
    ...(data !== undefined && { data }),
    ...(flags !== 0 && { flags }),
    ...(userdata !== undefined && { userdata }),
  }
}
