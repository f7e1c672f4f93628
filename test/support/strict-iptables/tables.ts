// What the kernel has before anybody writes: tables, their built-in chains, and hooks; and the state that rules make.
import type { Family } from '../../../src/net/ip.ts'

/** Which of the two iptables: over nf_tables, or the kernel's own ip_tables. */
export type Variant = 'nft' | 'legacy'

export const tableNames = ['filter', 'nat', 'mangle', 'raw', 'security'] as const
export type TableName = (typeof tableNames)[number]

export type Hook = 'PREROUTING' | 'INPUT' | 'FORWARD' | 'OUTPUT' | 'POSTROUTING'

/** Built-in chains of each table, in the order they are saved. */
export const hooks: Readonly<Record<TableName, readonly Hook[]>> = {
  filter: ['INPUT', 'FORWARD', 'OUTPUT'],
  nat: ['PREROUTING', 'INPUT', 'OUTPUT', 'POSTROUTING'],
  mangle: ['PREROUTING', 'INPUT', 'FORWARD', 'OUTPUT', 'POSTROUTING'],
  raw: ['PREROUTING', 'OUTPUT'],
  security: ['INPUT', 'FORWARD', 'OUTPUT'],
}

/** What the kernel looks at before it takes a rule. */
export interface KernelNeeds {
  /** A target that works in this table only. */
  readonly table?: TableName
  /** Hooks that may reach the rule. */
  readonly hooks?: readonly Hook[]
  /** The kernel refuses the rule wherever it stands. */
  readonly refused?: boolean
}

/** A rule after parsing: what it prints as, where it may jump, and what the kernel demands. */
export interface Rule {
  /** As `iptables-save` prints it, without `-A CHAIN `. */
  readonly text: string
  /** The chain that it jumps or goes to. */
  readonly jump?: string
  readonly needs: readonly KernelNeeds[]
  /** Only checked by the legacy variant's kernel side; the nft tool refuses it earlier, or not at all. */
  readonly legacyRefused: boolean
  /** IP sets that the rule looks into: they cannot be destroyed as long as it is there. */
  readonly sets: readonly string[]
}

/** What a rule must know of an IP set; what is not said is not checked. */
export interface SetInfo {
  /** Absent for sets of ports, which both families may match. */
  readonly family?: Family
  /** How many parts an element has. */
  readonly dimension?: number
  /** Its elements may carry marks. */
  readonly skbinfo?: boolean
}

/** The IP set of a name; undefined if there is none. */
export type SetLookup = (name: string) => SetInfo | undefined

/** One rule in its place; two equal rules are two entries. */
export interface Entry {
  readonly rule: Rule
  /** The tool believes it is there, the kernel has refused it: the batch will fail. */
  readonly refused: boolean
}

export interface Chain {
  /** Absent for chains that users made. */
  readonly policy?: 'ACCEPT' | 'DROP'
  readonly entries: readonly Entry[]
}

export interface Table {
  readonly chains: ReadonlyMap<string, Chain>
}

/** A table as it is before anybody writes to it. nft makes built-in chains when they are first needed. */
export const emptyTable = (name: TableName, variant: Variant): Table => ({
  chains: new Map(variant === 'nft' ? [] : hooks[name].map(hook => [hook, { policy: 'ACCEPT', entries: [] }])),
})

/** What a rule is parsed for. */
export interface RuleContext {
  readonly family: Family
  readonly variant: Variant
  readonly table: TableName
  readonly setOf: SetLookup
  /** True if a chain of this name is there, built in or not. */
  readonly hasChain: (name: string) => boolean
}
