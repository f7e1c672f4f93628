// Numbers of linux/netfilter/nf_tables.h and nfnetlink.h that encoding and decoding share.
import type { NftFamily, NftVerdict } from './nft-objects.ts'

/** NFNL_SUBSYS_NFTABLES. */
export const subsystem = 10
/** NFNL_MSG_BATCH_BEGIN and NFNL_MSG_BATCH_END. */
export const batchMessage = { begin: 0x10, end: 0x11 } as const

/** NFT_MSG_*. */
export const operationType = {
  newTable: 0,
  getTable: 1,
  deleteTable: 2,
  newChain: 3,
  getChain: 4,
  deleteChain: 5,
  newRule: 6,
  getRule: 7,
  deleteRule: 8,
  newSet: 9,
  getSet: 10,
  deleteSet: 11,
  newElements: 12,
  getElements: 13,
  deleteElements: 14,
  newGeneration: 15,
  getGeneration: 16,
} as const

/** NFPROTO_*, which are AF_*. */
export const familyNumber: Readonly<Record<NftFamily, number>> = { ip: 2, ip6: 10 }

/** NFTA_LIST_ELEM. */
export const listElement = 1

/** NFTA_TABLE_*. */
export const tableAttribute = { name: 1, flags: 2, userdata: 6 } as const

/** NFTA_CHAIN_*, and of its hook NFTA_HOOK_*. */
export const chainAttribute = { table: 1, name: 3, hook: 4, policy: 5, type: 7 } as const
export const hookAttribute = { number: 1, priority: 2 } as const

/** NFTA_RULE_*. */
export const ruleAttribute = { table: 1, chain: 2, handle: 3, expressions: 4, userdata: 7 } as const

/** NFTA_SET_*, and of its description NFTA_SET_DESC_* and NFTA_SET_FIELD_*. */
export const setAttribute = {
  table: 1,
  name: 2,
  flags: 3,
  keyType: 4,
  keyLength: 5,
  dataType: 6,
  dataLength: 7,
  description: 9,
  id: 10,
  timeout: 11,
  userdata: 13,
} as const
export const descriptionAttribute = { size: 1, concat: 2 } as const
export const fieldLength = 1

/** NFTA_SET_ELEM_LIST_*, and of an element NFTA_SET_ELEM_*. */
export const elementsAttribute = { table: 1, set: 2, elements: 3, setId: 4 } as const
export const elementAttribute = { key: 1, data: 2, flags: 3, userdata: 6, keyEnd: 10 } as const

/** NFTA_DATA_*, and of a verdict NFTA_VERDICT_*. */
export const dataAttribute = { value: 1, verdict: 2 } as const
export const verdictAttribute = { code: 1, chain: 2 } as const

/** NFTA_GEN_ID. */
export const generationId = 1

/** NF_ACCEPT, NF_DROP and enum nft_verdicts. */
export const verdictCode: Readonly<Record<NftVerdict['kind'], number>> = {
  drop: 0,
  accept: 1,
  continue: -1,
  break: -2,
  jump: -3,
  goto: -4,
  return: -5,
}

/** NF_DROP and NF_ACCEPT. */
export const policyNumber = { drop: 0, accept: 1 } as const

/** NFTA_EXPR_*. */
export const expressionAttribute = { name: 1, data: 2 } as const

/** NFTA_META_*, NFTA_PAYLOAD_* and so on: the attributes of each expression that `NftExpression` has. */
export const meta = { to: 1, key: 2, from: 3 } as const
export const payload = { to: 1, base: 2, offset: 3, length: 4 } as const
export const cmp = { from: 1, op: 2, data: 3 } as const
export const range = { from: 1, op: 2, first: 3, last: 4 } as const
export const bitwise = { from: 1, to: 2, length: 3, mask: 4, xor: 5, op: 6 } as const
export const byteorder = { from: 1, to: 2, op: 3, length: 4, size: 5 } as const
export const lookup = { set: 1, from: 2, to: 3, setId: 4, flags: 5 } as const
export const lookupInverted = 1
export const dynset = { set: 1, setId: 2, op: 3, from: 4, timeout: 6, pad: 8, flags: 9 } as const
export const immediate = { to: 1, data: 2 } as const
export const fib = { to: 1, result: 2, flags: 3 } as const
export const ct = { to: 1, key: 2 } as const
export const numgen = { to: 1, modulus: 2, type: 3, offset: 4 } as const
export const nat = {
  type: 1,
  family: 2,
  addressMin: 3,
  addressMax: 4,
  portMin: 5,
  portMax: 6,
  flags: 7,
} as const
export const masq = { flags: 1 } as const
export const reject = { type: 1, code: 2 } as const
