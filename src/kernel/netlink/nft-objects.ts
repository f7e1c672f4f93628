// What nf_tables is made of, as values with the kernel's own shapes: batches are encoded from them, dumps are read into them.
// Numbers and names are those of linux/netfilter/nf_tables.h. No bytes here but keys, data and what is opaque to the kernel.

/** The families we use. */
export type NftFamily = 'ip' | 'ip6'

/** NFT_TABLE_F_*. `owner`: only the socket that made it may change it (5.12); `persist`: it outlives that socket (6.9). */
export const tableFlag = { dormant: 0x1, owner: 0x2, persist: 0x4 } as const

/** NFT_SET_*. */
export const setFlag = {
  anonymous: 0x1,
  constant: 0x2,
  interval: 0x4,
  map: 0x8,
  timeout: 0x10,
  dynamic: 0x20,
  object: 0x40,
  concat: 0x80,
} as const

/** NFT_SET_ELEM_*. `intervalEnd`: the first value past an interval; `catchall`: the element for what no other matches. */
export const elementFlag = { intervalEnd: 0x1, catchall: 0x2 } as const

export type NftVerdict =
  | { readonly kind: 'accept' | 'drop' | 'continue' | 'break' | 'return' }
  | { readonly kind: 'jump' | 'goto'; readonly chain: string }

/** Registers as numbers of enum nft_registers: 0 is the verdict, 1 to 4 have 16 bytes, 8 to 23 have 4. */
export type Register = number

/** One expression of a rule, in the order of its evaluation. Numbers that name something are the kernel's. */
export type NftExpression =
  | { readonly kind: 'meta'; readonly key: number; readonly to: Register }
  | { readonly kind: 'meta-set'; readonly key: number; readonly from: Register }
  | {
      readonly kind: 'payload'
      readonly base: number
      readonly offset: number
      readonly length: number
      readonly to: Register
    }
  | { readonly kind: 'cmp'; readonly from: Register; readonly op: number; readonly data: Buffer }
  | {
      readonly kind: 'range'
      readonly from: Register
      readonly op: number
      readonly first: Buffer
      readonly last: Buffer
    }
  /** `op` 0: and with the mask, then exclusive or. */
  | {
      readonly kind: 'bitwise'
      readonly from: Register
      readonly to: Register
      readonly length: number
      readonly op: number
      readonly mask: Buffer
      readonly xor: Buffer
    }
  | {
      readonly kind: 'byteorder'
      readonly from: Register
      readonly to: Register
      readonly op: number
      readonly length: number
      readonly size: number
    }
  /** `set` by name; `setId` too for one made in the same batch. `to` for maps: 0 is the verdict. */
  | {
      readonly kind: 'lookup'
      readonly set: string
      readonly setId?: number
      readonly from: Register
      readonly to?: Register
      readonly inverted: boolean
    }
  | {
      readonly kind: 'dynset'
      readonly set: string
      readonly setId?: number
      readonly op: number
      readonly from: Register
    }
  | { readonly kind: 'immediate'; readonly to: Register; readonly data: Buffer | NftVerdict }
  | { readonly kind: 'fib'; readonly result: number; readonly flags: number; readonly to: Register }
  | { readonly kind: 'ct'; readonly key: number; readonly to: Register }
  | {
      readonly kind: 'numgen'
      readonly type: number
      readonly modulus: number
      readonly offset: number
      readonly to: Register
    }
  | {
      readonly kind: 'nat'
      /** 0 source, 1 destination. */
      readonly type: number
      /** NFPROTO_*. */
      readonly family: number
      readonly addressMin?: Register
      readonly addressMax?: Register
      readonly portMin?: Register
      readonly portMax?: Register
      /** NF_NAT_RANGE_*. */
      readonly flags: number
    }
  | { readonly kind: 'masq'; readonly flags: number }
  | { readonly kind: 'reject'; readonly type: number; readonly code: number }
  /** Not one of ours. */
  | { readonly kind: 'unknown'; readonly name: string; readonly attributes: Buffer }

export interface NftTable {
  readonly family: NftFamily
  readonly name: string
  readonly flags: number
}

export interface NftChain {
  readonly name: string
  /** For base chains. */
  readonly hook?: {
    readonly number: number
    readonly priority: number
    readonly type: string
    readonly policy: 'accept' | 'drop'
  }
}

export interface NftRule {
  readonly chain: string
  readonly expressions: readonly NftExpression[]
  /** Given by the kernel; absent in rules to be written. */
  readonly handle?: bigint
  /** What nft keeps beside a rule, such as a comment. */
  readonly userdata?: Buffer
}

export interface NftSet {
  readonly name: string
  /** For references within a batch; a number of the sender's choice, not 0. Absent in what is read. */
  readonly id?: number
  readonly flags: number
  /** nft's number for the type, opaque to the kernel; of a concatenation, 6 bits for each part. */
  readonly keyType: number
  /** Bytes. */
  readonly keyLength: number
  /** Of a map: nft's type, or 0xffffff00 for verdicts. */
  readonly dataType?: number
  readonly dataLength?: number
  readonly timeoutMs?: bigint
  readonly size?: number
  /** Of the parts of a concatenation with intervals; bytes each. */
  readonly concatLengths?: readonly number[]
  /** What nft keeps beside a set: byte orders, and `typeof`. */
  readonly userdata?: Buffer
}

export interface NftElement {
  readonly key: Buffer
  readonly keyEnd?: Buffer
  readonly data?: Buffer | NftVerdict
  readonly flags?: number
  /** What nft keeps beside an element, such as a comment. */
  readonly userdata?: Buffer
}

/** One command of a batch, on one table. A batch is taken whole or not at all. */
export type NftOperation =
  | { readonly kind: 'add-table'; readonly flags: number; readonly userdata?: Buffer }
  /** Refused with ENOENT if there is none. */
  | { readonly kind: 'delete-table' }
  | { readonly kind: 'add-chain'; readonly chain: NftChain }
  | { readonly kind: 'delete-chain'; readonly name: string }
  /** Deletes a chain's rules. */
  | { readonly kind: 'flush-chain'; readonly name: string }
  /** Appends. */
  | { readonly kind: 'add-rule'; readonly rule: NftRule }
  | { readonly kind: 'add-set'; readonly set: NftSet }
  | { readonly kind: 'delete-set'; readonly name: string }
  /** More than a message holds go in several. An element that is there already is no error. */
  | {
      readonly kind: 'add-elements'
      readonly set: string
      readonly setId?: number
      readonly elements: readonly NftElement[]
    }
  | { readonly kind: 'delete-elements'; readonly set: string; readonly elements: readonly NftElement[] }

/** A whole table as dumped, all of one generation. */
export interface NftContents {
  readonly table: NftTable
  readonly chains: readonly NftChain[]
  /** In the order of each chain. */
  readonly rules: readonly NftRule[]
  readonly sets: readonly NftSet[]
}
