// The contract between the syncer and a backend. A backend turns Service ports into kernel objects and writes differences.
import type { Family } from '../net/ip.ts'
import type { Packet } from '../net/packet.ts'
import type { Network } from '../policy/network.ts'
import type { ServicePort, ServicePortName } from '../policy/service-port.ts'

/** A piece of kernel state under a stable key. Same key and value ⇔ same kernel state. */
export interface KernelObject {
  readonly key: string
  readonly value: string
}

/** Objects by key. */
export type Program = ReadonlyMap<string, string>

/** What separates two programs. */
export interface Delta {
  readonly added: readonly KernelObject[]
  readonly changed: readonly { readonly key: string; readonly from: string; readonly to: string }[]
  readonly removed: readonly KernelObject[]
}

/**
 * Places entries of many Service ports in objects they share, such as a tree of chains. Incremental, and a deterministic
 * function of the set of entries: whatever the order of changes, the same set yields the same objects.
 */
export interface Layout {
  /** True for keys of entries, which are not kernel objects themselves. */
  isEntry(key: string): boolean
  set(entry: KernelObject): void
  delete(key: string): void
  /** True if the entry has a part in the shared object of that key. Left out: told by a rule's text alone. */
  concerns?(entry: KernelObject, key: string): boolean
  /** True if the program holds what the entry stands for. Left out: it does when it holds the entry's text as a rule. */
  isHeld?(entry: KernelObject, program: Program): boolean
  /** The shared objects that changed since the last call; a value of undefined means the object is gone. */
  drain(): Iterable<{ readonly key: string; readonly value: string | undefined }>
}

/** One step of a transaction: committed whole where the kernel can. The text is what a person reads in `plan`. */
export interface Step {
  readonly title: string
  /** The program that takes the text, where a backend uses several. */
  readonly tool?: string
  readonly text: string
  /** Keys of the objects that this step writes, for naming the culprit when the kernel refuses it. */
  readonly keys: readonly string[]
}

/** Steps in an order the kernel accepts and that never leaves a packet without the endpoint it has before and after. */
export interface Transaction {
  readonly steps: readonly Step[]
}

/** Why a commit failed; says what the syncer does next (`design.md` §3). */
export class CommitError extends Error {
  readonly kind: 'stale' | 'transient' | 'denied' | 'unsupported' | 'refused'
  /** With `refused`: keys of the objects the kernel objected to, as narrowly as the backend could tell. */
  readonly keys: readonly string[]
  /** With `transient`: what is in the way passes by itself and is no trouble; tried again this often, milliseconds. */
  readonly patienceMs: number | undefined
  constructor(
    kind: CommitError['kind'],
    message: string,
    options: { cause?: unknown; keys?: readonly string[]; patienceMs?: number } = {},
  ) {
    super(message, { cause: options.cause })
    this.name = 'CommitError'
    this.kind = kind
    this.keys = options.keys ?? []
    this.patienceMs = options.patienceMs
  }
}

export interface TracedEndpoint {
  /** `10.0.1.2:8080`; IPv6 in brackets. */
  readonly address: string
  readonly probability: number
  /** This endpoint would see the node's address as source. */
  readonly masquerade: boolean
}

export interface TracedRule {
  readonly table: string
  /** Chain or map. */
  readonly chain: string
  readonly rule: string
}

/** What becomes of a packet, found by walking rules. */
export interface Outcome {
  readonly verdict: 'dnat' | 'reject' | 'drop' | 'none'
  readonly endpoints: readonly TracedEndpoint[]
  /** True if an endpoint that can be chosen would be masqueraded. */
  readonly masquerade: boolean
  readonly servicePort: ServicePortName | null
  readonly path: readonly TracedRule[]
}

/** What a backend may ask of the machine before it starts. */
export interface Machine {
  /** The kernel's, `6.1.0-13-amd64`. */
  readonly release: string
  /** Sets a value under /proc/sys by its name with dots. Throws an Error that names it. */
  set(name: string, value: string): Promise<void>
}

/** Where netfilter holds what is ours, so that what others write beside it can be told apart. */
export interface WatchedTable {
  /** nf_tables tells of each change; of the legacy tables the kernel tells the size when asked. */
  readonly kind: 'nf_tables' | 'legacy'
  readonly family: Family
  readonly table: string
  /** Chains, sets and maps whose names begin so are ours; empty: the whole table is. */
  readonly prefix: string
  /** Chains of others that hold our jumps. */
  readonly hooks: readonly string[]
}

/** What a cheap look at the kernel gave. */
export interface Look {
  /** The same as long as the kernel holds the same of ours. */
  readonly digest: string
  /** About how much processor time one took, beyond starting programs; milliseconds. */
  readonly costMs: number
}

export interface Backend {
  readonly mode: 'iptables' | 'nftables' | 'ipvs'
  /**
   * Makes the machine ready, before anything is written. Returns what could not be done and what that means, as sentences:
   * nothing here stops the rest.
   */
  prepare?(machine: Machine): Promise<readonly string[]>
  /** What is needed whatever the Services are. Pure. */
  skeleton(network: Network): Iterable<KernelObject>
  /** What one Service port needs. Same input, same output. Pure. */
  compile(port: ServicePort, network: Network): Iterable<KernelObject>
  /** A fresh layout, where the backend needs one. */
  layout?(): Layout
  /** An order the kernel accepts. Pure. */
  plan(delta: Delta, program: Program): Transaction
  /** What we own in the kernel now. Throws CommitError when the kernel cannot be asked. */
  read(signal: AbortSignal): Promise<Program>
  /**
   * A cheap look at what all rules hang on; false if somebody took it away, as a flush does. With the skeleton, every jump
   * in it is looked for. Left out: only a full comparison tells. Throws CommitError.
   */
  isIntact?(signal: AbortSignal, skeleton?: readonly KernelObject[]): Promise<boolean>
  /** What the kernel can tell changes of; more may come once the tools have been found. */
  watched?(): readonly WatchedTable[]
  /**
   * A digest of all that is ours in the kernel, without making sense of it; `watched` leaves out what `watched()` names in
   * nf_tables. Undefined when nothing is left then. Two that are equal mean that nobody wrote in between. Throws CommitError.
   */
  fingerprint?(signal: AbortSignal, watched: boolean): Promise<Look | undefined>
  /** Writes a transaction. Throws CommitError; what it wrote by then is unknown unless the kind is `refused`. */
  commit(transaction: Transaction, signal: AbortSignal): Promise<void>
  /** Walks the rules of a program, not the model. Pure. */
  trace(program: Program, packet: Packet, network: Network): Outcome
  /**
   * The kernel refuses what is needed whatever the Services are: makes `skeleton` do without something that can be done
   * without, and returns what is lost, as a sentence; undefined when there is nothing left to give up.
   */
  giveUp?(): string | undefined
  /**
   * Removes what an earlier run left in the kernel by other tools than those in use now. Called once the rules are in.
   * Returns what was removed, as a sentence; undefined if there was nothing.
   */
  sweep?(signal: AbortSignal): Promise<string | undefined>
  /**
   * Another mode has taken over: takes no new connections any more and removes what no connection lives in. Returns after
   * how many milliseconds to call it again; undefined when nothing of ours is left. Left out: `cleanup` does, since
   * connections do not depend on the rules.
   */
  retire?(signal: AbortSignal): Promise<number | undefined>
  /** Ends what goes on by itself after a commit; the kernel stays as it is. */
  stop?(): void
  /** Removes everything of ours, in every variant of the tools, whatever depends on it. */
  cleanup(signal: AbortSignal): Promise<void>
}
