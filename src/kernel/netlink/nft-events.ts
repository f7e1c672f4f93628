// Who else writes to nf_tables, and where: the kernel's notifications of each transaction, sorted into what concerns our
// rules and what does not. `nft` and the nft variant of iptables both write there; the legacy variant does not.
import type { Family } from '../../net/ip.ts'
import { eachAttribute, type NetlinkMessage, nfgenLength, readText } from './message.ts'
import { openNetlink } from './socket.ts'

/** NFNLGRP_NFTABLES. */
const group = 7
const subsystem = 10
const operation = { deleteTable: 2, newChain: 3, deleteChain: 5, newRule: 6, deleteRule: 8, newGeneration: 15 } as const
const families: Readonly<Record<number, Family>> = { 2: 'IPv4', 10: 'IPv6' }
/** Every object names its table first. A chain has its own name third, all others have their name or chain second. */
const tableAttribute = 1
const nameAttribute = 2
const chainNameAttribute = 3
const ruleExpressions = 4
const generationProcessName = 3

/** Where something of ours is kept. */
export interface Place {
  readonly kind: 'nf_tables' | 'legacy'
  readonly family: Family
  readonly table: string
  /** Chains, sets and maps whose names begin so are ours; empty: the whole table is. */
  readonly prefix: string
  /** Chains of others that hold our jumps. */
  readonly hooks: readonly string[]
}

/**
 * What somebody else wrote: something of ours; or `hooks`, a deletion in a chain with our jumps that may have been one of
 * them; or `unknown`, something in a table where ours is.
 */
export interface Finding {
  readonly kind: 'ours' | 'hooks' | 'unknown'
  /** The program's name, at most 15 characters; left out where the kernel did not say. */
  readonly by?: string
}

export interface Listener {
  /** Asked for each notification: more may come once the tools are known. */
  readonly places: () => readonly Place[]
  readonly found: (finding: Finding) => void
}

export interface NftEvents {
  /** Begins to tell. */
  start(listeners: readonly Listener[]): void
  close(): Promise<void>
}

/**
 * Joins the notifications of nf_tables in this network namespace. Undefined where koffi, nf_tables or CAP_NET_ADMIN is
 * missing; `explain` is told in one sentence why.
 */
export async function openNftEvents(
  isOwn: (port: number) => boolean,
  explain: (sentence: string) => void,
): Promise<NftEvents | undefined> {
  const socket = await openNetlink('netfilter', { groups: [group], explain })
  if (socket === undefined) return undefined
  return {
    start(listeners) {
      const sorter = new Sorter(listeners, isOwn)
      socket.subscribe(
        message => sorter.take(message),
        () => sorter.lost(),
      )
    },
    close: () => socket.close(),
  }
}

/** Tells listeners of each transaction that concerns them, once. No I/O. */
export class Sorter {
  readonly #listeners: readonly Listener[]
  readonly #isOwn: (port: number) => boolean
  /** Of the transaction whose notifications come in: its end names the writer. */
  readonly #found = new Map<Listener, Finding['kind']>()

  constructor(listeners: readonly Listener[], isOwn: (port: number) => boolean) {
    this.#listeners = listeners
    this.#isOwn = isOwn
  }

  take(message: NetlinkMessage): void {
    const { type, port } = message
    if (type >> 8 !== subsystem || this.#isOwn(port)) return
    if ((type & 0xff) === operation.newGeneration) this.#tell(processName(message))
    else this.#sort(message)
  }

  /** Some notifications did not arrive: whoever has places here must look for himself. */
  lost(): void {
    for (const listener of this.#listeners) if (listener.places().some(isNft)) this.#found.set(listener, 'ours')
    this.#tell(undefined)
  }

  #tell(by: string | undefined): void {
    const found = [...this.#found]
    this.#found.clear()
    for (const [listener, kind] of found) listener.found(by === undefined ? { kind } : { kind, by })
  }

  #sort(message: NetlinkMessage): void {
    let change: Change | undefined
    for (const listener of this.#listeners) {
      if (this.#found.get(listener) === 'ours') continue
      for (const place of listener.places().filter(isNft)) {
        change ??= readChange(message)
        const kind = concern(change, place)
        if (kind !== undefined && this.#found.get(listener) !== 'ours') this.#found.set(listener, kind)
      }
    }
  }
}

const isNft = ({ kind }: Place): boolean => kind === 'nf_tables'

interface Change {
  readonly operation: number
  readonly family: Family | undefined
  readonly table: string
  /** Of the chain, set or map, or of the rule's chain; empty for a table. */
  readonly name: string
  /** What a rule does; a kernel may leave it out of the notification that one is gone. */
  readonly expressions: Buffer | undefined
}

function readChange({ type, payload }: NetlinkMessage): Change {
  const texts = new Map<number, string>()
  let expressions: Buffer | undefined
  const kind = type & 0xff
  const isRule = kind === operation.newRule || kind === operation.deleteRule
  eachAttribute(payload, nfgenLength, payload.length, (attribute, from, to) => {
    if (attribute <= chainNameAttribute) texts.set(attribute, readText(payload.subarray(from, to)))
    else if (isRule && attribute === ruleExpressions) expressions = payload.subarray(from, to)
  })
  const isChain = kind === operation.newChain || kind === operation.deleteChain
  return {
    operation: kind,
    family: families[payload[0] ?? 0],
    table: texts.get(tableAttribute) ?? '',
    name: kind <= operation.deleteTable ? '' : (texts.get(isChain ? chainNameAttribute : nameAttribute) ?? ''),
    expressions,
  }
}

function concern(change: Change, place: Place): Finding['kind'] | undefined {
  if (change.family !== place.family || change.table !== place.table) return undefined
  const { operation: done, name, expressions } = change
  if (place.prefix === '' || done === operation.deleteTable || name.startsWith(place.prefix)) return 'ours'
  if (!place.hooks.includes(name)) return undefined
  const isRule = done === operation.newRule || done === operation.deleteRule
  if (isRule && expressions?.includes(place.prefix) === true) return 'ours'
  // A deletion that says no more than where may have been that of our jump.
  return done === operation.deleteRule && expressions === undefined ? 'hooks' : undefined
}

/** The name of the program that made a generation. */
function processName({ payload }: NetlinkMessage): string | undefined {
  let name: string | undefined
  eachAttribute(payload, nfgenLength, payload.length, (attribute, from, to) => {
    if (attribute === generationProcessName) name = readText(payload.subarray(from, to))
  })
  return name === '' ? undefined : name
}
