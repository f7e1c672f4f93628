// What the nftables backend puts into the kernel, as values. Text is one rendering of them (`render.ts`).
import type { Protocol } from '../../net/protocol.ts'

/** Parts of a packet that sets and maps are looked up by. `port` is the destination port. */
export type Field = 'saddr' | 'daddr' | 'protocol' | 'port'

/** Addresses from `first` to `last`, both included; hexadecimal as `ipToHex` writes it, so that text order is theirs. */
export interface AddressRange {
  readonly first: string
  readonly last: string
}

/** How a rule or a map element ends the walk of a chain, or leads it elsewhere. */
export type Verdict =
  | { readonly kind: 'accept' | 'drop' | 'return' }
  | { readonly kind: 'goto' | 'jump'; readonly chain: string }

/** A part of a rule: it matches, does something, or decides. In a rule they are carried out in order. */
export type Statement =
  | {
      readonly kind: 'address'
      readonly side: 'saddr' | 'daddr'
      readonly negated: boolean
      readonly ranges: readonly AddressRange[]
    }
  | { readonly kind: 'input-interface'; readonly name: string; readonly prefix: boolean; readonly negated: boolean }
  | { readonly kind: 'protocol'; readonly protocol: Protocol }
  /** The kernel calls the address its own: `fib … type local`. */
  | { readonly kind: 'local'; readonly side: 'saddr' | 'daddr'; readonly negated: boolean }
  /** True with the probability `below`/`of`. */
  | { readonly kind: 'chance'; readonly below: number; readonly of: number }
  | { readonly kind: 'in-set'; readonly fields: readonly Field[]; readonly set: string }
  | { readonly kind: 'mark-set'; readonly mark: number }
  /** Conntrack has a destination NAT for the flow. */
  | { readonly kind: 'translated' }
  /** The pair of one octet of the source and the same octet of the destination is in the set; counted from 0. */
  | { readonly kind: 'octet-pair'; readonly octet: number; readonly set: string }
  | { readonly kind: 'set-mark' | 'clear-mark'; readonly mark: number }
  /** Puts the source address into a dynamic set, or renews its timeout there. */
  | { readonly kind: 'remember'; readonly set: string }
  /** Goes on with the verdict of the element, or with the next rule if there is none. */
  | { readonly kind: 'verdict-map'; readonly fields: readonly Field[]; readonly map: string }
  | { readonly kind: 'dnat'; readonly address: string; readonly port: number }
  /** DNAT to the element of these fields and a random index below `of`; the next rule if there is none. */
  | { readonly kind: 'dnat-map'; readonly fields: readonly Field[]; readonly of: number; readonly map: string }
  | { readonly kind: 'masquerade' }
  /** ICMP or ICMPv6 port unreachable. */
  | { readonly kind: 'reject' }
  | { readonly kind: 'verdict'; readonly verdict: Verdict }

export type Rule = readonly Statement[]

/** Where a base chain is hooked in. All of ours are of type nat: they see the first packet of a flow only. */
export interface Hook {
  readonly hook: 'prerouting' | 'output' | 'postrouting'
  readonly priority: number
}

/** The type of one part of a key, or of the data of a map. */
export type KeyType = 'address' | 'protocol' | 'port' | 'index' | 'octet'

export interface Chain {
  readonly kind: 'chain'
  readonly name: string
  readonly hook?: Hook
  readonly rules: readonly Rule[]
}

export interface SetObject {
  readonly kind: 'set'
  readonly name: string
  readonly key: readonly KeyType[]
  /** The kernel adds elements itself and forgets them after this many seconds. Such elements are nobody's to compare. */
  readonly timeoutSeconds?: number
}

export interface MapObject {
  readonly kind: 'map'
  readonly name: string
  readonly key: readonly KeyType[]
  readonly data: 'verdict' | readonly KeyType[]
}

export interface Element {
  readonly kind: 'element'
  /** Name of the set or map. */
  readonly container: string
  /** Text of each part of the key. */
  readonly key: readonly (string | number)[]
  readonly data?: Verdict | readonly (string | number)[]
  readonly comment?: string
}

/**
 * Elements of one map whose keys differ only in their last part, an index that counts from 0. One object, because they
 * belong together and there are many: each of 10,000 Services has some.
 */
export interface IndexedElements {
  readonly kind: 'indexed'
  readonly container: string
  /** Without the index. */
  readonly key: readonly (string | number)[]
  /** By index. */
  readonly data: readonly (readonly (string | number)[])[]
}

export type NftObject = Chain | SetObject | MapObject | Element | IndexedElements
