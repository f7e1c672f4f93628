// From the desired program to the kernel: commits what differs, and finds the owner at fault when the kernel refuses it.
import { type Backend, CommitError, type Delta, type KernelObject } from '../backend/backend.ts'
import { DesiredProgram, type Deviation } from './program.ts'
import { inSlices } from './slices.ts'

/** Objects that a commit wrote. */
export interface Counts {
  added: number
  changed: number
  removed: number
}

/** Owner of what is needed whatever the Services are. */
const skeletonOwner = '(skeleton)'

/** Told of, and asked for help with, what the kernel refuses. */
export interface RefusalHandler {
  /** The owner's objects are refused: it has its former ones, or none. */
  refused(owner: string, reason: string): void
  /** No owner is at fault but the skeleton: makes it do with less. False if it cannot. */
  giveUp(): boolean
}

interface Wanted {
  readonly owner: string
  readonly objects: readonly KernelObject[]
}

/** The desired program of one address family and what stands between it and the kernel. */
export class Committer {
  readonly program: DesiredProgram
  readonly #backend: Backend
  readonly #handler: RefusalHandler
  /** Objects that owners had before changes that are not committed yet. */
  readonly #uncommitted = new Map<string, readonly KernelObject[]>()
  /** Owners whose wanted objects are refused; they have their former ones instead. */
  readonly #refused = new Set<string>()

  constructor(backend: Backend, handler: RefusalHandler) {
    this.#backend = backend
    this.#handler = handler
    this.program = new DesiredProgram(backend.layout?.())
  }

  /** Makes these the owner's objects; none removes the owner. */
  replace(owner: string, objects: Iterable<KernelObject>): void {
    if (!this.#uncommitted.has(owner)) this.#uncommitted.set(owner, this.program.objectsOf(owner))
    this.#refused.delete(owner)
    this.program.replace(owner, objects)
  }

  /** Makes these the objects that no Service port owns. */
  replaceSkeleton(objects: Iterable<KernelObject>): void {
    this.replace(skeletonOwner, objects)
  }

  /** What no Service port owns. */
  get skeleton(): readonly KernelObject[] {
    return this.program.objectsOf(skeletonOwner)
  }

  /** Takes note of what the kernel really holds. Returns how that differs from what was believed. Throws CommitError. */
  async compare(signal: AbortSignal, mostExamples = 0): Promise<Deviation> {
    const actual = await this.#backend.read(signal)
    return inSlices(this.program.rebaseInSteps(actual, mostExamples))
  }

  /**
   * Commits what is pending. If the kernel refuses objects, finds their owners, puts back what those had, and commits the
   * rest. `compared`: the kernel was just read; else a refusal may only mean that it holds something else than believed.
   * Throws CommitError; nothing that is wanted is forgotten then.
   */
  async commit(compared: boolean, signal: AbortSignal): Promise<Counts> {
    const counts = await (compared ? this.#commitAnyhow(signal) : this.#commitTrusting(signal))
    this.#uncommitted.clear()
    return counts
  }

  async #commitTrusting(signal: AbortSignal): Promise<Counts> {
    try {
      return await this.#commitPending(signal)
    } catch (error) {
      if (!isRefusal(error)) throw error
      await this.compare(signal)
      return this.#commitAnyhow(signal)
    }
  }

  async #commitAnyhow(signal: AbortSignal): Promise<Counts> {
    for (let refusals = 0; ; refusals++) {
      try {
        return await this.#commitNaming([], signal, refusal => this.#isolate(refusal, signal))
      } catch (error) {
        if (!isRefusal(error)) throw error
        // What is given up is lost until the next start: only for a refusal that repeats.
        if (refusals > 0 && !this.#handler.giveUp()) throw error
        await this.compare(signal)
      }
    }
  }

  /** What differs from what the kernel is believed to hold. */
  pending(): Promise<Delta> {
    return inSlices(this.program.pendingInSteps())
  }

  async #commitPending(signal: AbortSignal): Promise<Counts> {
    const delta = await this.pending()
    const counts = { added: delta.added.length, changed: delta.changed.length, removed: delta.removed.length }
    if (counts.added + counts.changed + counts.removed > 0) {
      await this.#backend.commit(this.#backend.plan(delta, this.program.objects), signal)
    }
    this.program.settle()
    return counts
  }

  /** Brings these in and commits, setting aside whom the kernel names; `unnamed` is called when it names nobody. */
  async #commitNaming(
    wanted: readonly Wanted[],
    signal: AbortSignal,
    unnamed: (refusal: CommitError) => Promise<Counts>,
  ): Promise<Counts> {
    for (const { owner, objects } of wanted) this.program.replace(owner, objects)
    for (;;) {
      try {
        return await this.#commitPending(signal)
      } catch (error) {
        if (!isRefusal(error)) throw error
        const named = new Set(error.keys.flatMap(key => this.program.ownersOf(key)))
        named.delete(skeletonOwner)
        if (named.size === 0) return unnamed(error)
        for (const owner of named) this.#refuse(owner, error.message)
        await this.compare(signal)
      }
    }
  }

  /**
   * The kernel does not say which object it refuses. Puts back every owner that lacks something in the kernel, so that
   * what is there already stays, and brings them in again by halves.
   */
  async #isolate(refusal: CommitError, signal: AbortSignal): Promise<Counts> {
    const lacking = this.program
      .ownersLacking(await this.#backend.read(signal))
      // Whom the kernel has refused lacks what he gave up to others.
      .filter(owner => owner !== skeletonOwner && !this.#refused.has(owner))
    // What was there before this commit, and nobody has changed, is not at fault; unless the kernel has lost everything.
    const changed = lacking.filter(owner => this.#uncommitted.has(owner))
    const wanted = (changed.length > 0 ? changed : lacking).map(owner => ({
      owner,
      objects: this.program.objectsOf(owner),
    }))
    if (wanted.length === 0) throw refusal
    try {
      for (const { owner } of wanted) this.#putBack(owner)
      await this.compare(signal)
      // If this is refused too, no Service is to blame.
      const counts = await this.#commitPending(signal)
      return sum([counts, await this.#bringIn(wanted, signal)])
    } catch (error) {
      for (const { owner, objects } of wanted) if (!this.#refused.has(owner)) this.program.replace(owner, objects)
      throw error
    }
  }

  #bringIn(wanted: readonly Wanted[], signal: AbortSignal): Promise<Counts> {
    return this.#commitNaming(wanted, signal, async refusal => {
      const left = wanted.filter(({ owner }) => !this.#refused.has(owner))
      const [only] = left
      if (only !== undefined && left.length === 1) {
        this.#refuse(only.owner, refusal.message)
        await this.compare(signal)
        return this.#commitPending(signal)
      }
      if (only === undefined) throw refusal
      for (const { owner } of left) this.#putBack(owner)
      await this.compare(signal)
      const middle = left.length >> 1
      const first = await this.#bringIn(left.slice(0, middle), signal)
      return sum([first, await this.#bringIn(left.slice(middle), signal)])
    })
  }

  /** Gives an owner what it had before; nothing, if the kernel refuses that too. */
  #refuse(owner: string, reason: string): void {
    if (this.#refused.has(owner)) this.program.replace(owner, [])
    else this.#putBack(owner)
    this.#refused.add(owner)
    this.#handler.refused(owner, reason)
  }

  #putBack(owner: string): void {
    this.program.putBack(owner, this.#uncommitted.get(owner) ?? [])
  }
}

const isRefusal = (error: unknown): error is CommitError => error instanceof CommitError && error.kind === 'refused'

const sum = (all: readonly Counts[]): Counts => {
  const total = { added: 0, changed: 0, removed: 0 }
  for (const { added, changed, removed } of all) {
    total.added += added
    total.changed += changed
    total.removed += removed
  }
  return total
}
