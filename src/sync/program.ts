// The desired program: which owner wants which kernel objects, and how that differs from what the kernel is believed to
// hold. State without I/O. A change costs what its owner's objects cost.
import type { Delta, KernelObject, Layout, Program } from '../backend/backend.ts'
import { atOnce, type Steps } from './slices.ts'

/** An object that the kernel holds otherwise than believed. */
export interface Deviant {
  readonly key: string
  /** undefined: it should not be there. */
  readonly wanted: string | undefined
  /** undefined: it is not there. */
  readonly held: string | undefined
}

/** How many objects the kernel holds otherwise than believed, and the first few. */
export interface Deviation {
  readonly missing: number
  readonly foreign: number
  readonly changed: number
  readonly examples: readonly Deviant[]
}

/** Objects that are compared in one step: about 0.3 ms. */
const stepObjects = 512

/** Objects by owner, and the difference to the kernel. */
export class DesiredProgram {
  readonly #layout: Layout | undefined
  readonly #objects = new Map<string, string>()
  readonly #byOwner = new Map<string, readonly KernelObject[]>()
  /** Who placed a key last. An address may pass from one owner to another in either order of their changes. */
  readonly #ownerOf = new Map<string, string>()
  /** Owners that want a key which another has placed after them: it is theirs again when that one lets go. */
  readonly #displaced = new Map<string, readonly string[]>()
  /** What the layout wants for keys that an owner has, too: in force once that one lets go. */
  readonly #beneath = new Map<string, string>()
  /** Keys that may differ from the kernel, with the value the kernel holds (undefined: nothing). */
  readonly #kernel = new Map<string, string | undefined>()

  constructor(layout?: Layout) {
    this.#layout = layout
  }

  /** All objects, those of the layout included, as they should be. */
  get objects(): Program {
    this.#settleLayout()
    return this.#objects
  }

  get owners(): number {
    return this.#byOwner.size
  }

  objectsOf(owner: string): readonly KernelObject[] {
    return this.#byOwner.get(owner) ?? []
  }

  /** Makes these the owner's objects; none removes the owner. A key that another has becomes this owner's. */
  replace(owner: string, objects: Iterable<KernelObject>): void {
    this.#replace(owner, objects, false)
  }

  /** Gives the owner objects that it had before. A key that another has got since stays that one's. */
  putBack(owner: string, objects: Iterable<KernelObject>): void {
    this.#replace(owner, objects, true)
  }

  #replace(owner: string, objects: Iterable<KernelObject>, yields: boolean): void {
    const before = this.#byOwner.get(owner) ?? []
    const after = [...objects]
    const kept = new Set<string>()
    for (const { key } of after) kept.add(key)
    for (const { key } of before) if (!kept.has(key)) this.#release(key, owner)
    for (const { key, value } of after) if (this.#take(key, owner, yields)) this.#place(key, value)
    if (after.length === 0) this.#byOwner.delete(owner)
    else this.#byOwner.set(owner, after)
  }

  /** What must change in the kernel. Stays the same until `settle` or `rebase`. */
  pending(): Delta {
    return atOnce(this.pendingInSteps())
  }

  /** `pending`, for many objects. Nothing may be replaced between its steps. */
  *pendingInSteps(): Steps<Delta> {
    this.#settleLayout()
    let count = 0
    const added: KernelObject[] = []
    const changed: { key: string; from: string; to: string }[] = []
    const removed: KernelObject[] = []
    for (const [key, from] of this.#kernel) {
      if (++count % stepObjects === 0) yield
      const to = this.#objects.get(key)
      if (from === to) this.#kernel.delete(key)
      else if (to === undefined) removed.push({ key, value: from ?? '' })
      else if (from === undefined) added.push({ key, value: to })
      else changed.push({ key, from, to })
    }
    return { added, changed, removed }
  }

  /** The kernel now holds everything that was pending. */
  settle(): void {
    this.#kernel.clear()
  }

  /**
   * Takes note of what the kernel really holds. Returns what is neither as it was believed to be nor as it is wanted; that
   * it is as wanted may come of a commit of ours that failed halfway. Walks everything: for start-up, doubtful commits and
   * resyncs.
   */
  rebase(actual: Program, mostExamples = 0): Deviation {
    return atOnce(this.rebaseInSteps(actual, mostExamples))
  }

  /** `rebase`, for many objects. Nothing may be replaced between its steps. */
  *rebaseInSteps(actual: Program, mostExamples = 0): Steps<Deviation> {
    this.#settleLayout()
    let count = 0
    const believed = new Map(this.#kernel)
    this.#kernel.clear()
    const found = { missing: 0, foreign: 0, changed: 0 }
    const examples: Deviant[] = []
    const note = (key: string, wanted: string | undefined, held: string | undefined): void => {
      this.#kernel.set(key, held)
      if (believed.has(key) && believed.get(key) === held) return
      found[wanted === undefined ? 'foreign' : held === undefined ? 'missing' : 'changed']++
      if (examples.length < mostExamples) examples.push({ key, wanted, held })
    }
    for (const [key, value] of this.#objects) {
      if (++count % stepObjects === 0) yield
      const held = actual.get(key)
      if (held !== value) note(key, value, held)
    }
    for (const [key, held] of actual) {
      if (++count % stepObjects === 0) yield
      if (!this.#objects.has(key)) note(key, undefined, held)
    }
    return { ...found, examples }
  }

  /**
   * Owners of an object that the kernel refused. A refusal may name `key` alone or `key\nrule`; a rule of a shared object
   * belongs to the owner of the entry with that text. Walks everything: only for refusals.
   */
  ownersOf(refused: string): string[] {
    const [key = '', rule] = splitOnce(refused)
    const direct = this.#ownerOf.get(key)
    if (direct !== undefined) return [direct]
    const found: string[] = []
    for (const [owner, objects] of this.#byOwner) {
      const isMeant = (object: KernelObject): boolean =>
        this.#layout?.isEntry(object.key) === true &&
        (object.value === rule || this.#layout.concerns?.(object, key) === true)
      if (objects.some(isMeant)) found.push(owner)
    }
    return found
  }

  /** Owners of whose objects the kernel does not hold all. Walks everything: only for refusals. */
  ownersLacking(actual: Program): string[] {
    const rules = new Set<string>()
    for (const value of actual.values()) for (const rule of value.split('\n')) rules.add(rule)
    const isHeld = (object: KernelObject): boolean => {
      const { key, value } = object
      if (this.#layout?.isEntry(key) !== true) return actual.get(key) === value
      return this.#layout.isHeld?.(object, actual) ?? rules.has(value)
    }
    return [...this.#byOwner].filter(([, objects]) => !objects.every(isHeld)).map(([owner]) => owner)
  }

  /** False if another keeps the key. */
  #take(key: string, owner: string, yields: boolean): boolean {
    const holder = this.#ownerOf.get(key)
    if (holder === owner) return true
    const ofLayout = holder === undefined ? this.#objects.get(key) : undefined
    if (ofLayout !== undefined) this.#beneath.set(key, ofLayout)
    if (holder !== undefined) {
      const others = (this.#displaced.get(key) ?? []).filter(other => other !== owner)
      this.#displaced.set(key, [...others, yields ? owner : holder])
      if (yields) return false
    }
    this.#ownerOf.set(key, owner)
    return true
  }

  #release(key: string, owner: string): void {
    const waiting = (this.#displaced.get(key) ?? []).filter(other => other !== owner)
    const isHolder = this.#ownerOf.get(key) === owner
    const heir = isHolder ? waiting.pop() : undefined
    if (waiting.length === 0) this.#displaced.delete(key)
    else this.#displaced.set(key, waiting)
    if (!isHolder) return
    if (heir === undefined) this.#ownerOf.delete(key)
    else this.#ownerOf.set(key, heir)
    const beneath = this.#beneath.get(key)
    if (heir === undefined) this.#beneath.delete(key)
    this.#place(key, heir === undefined ? beneath : this.objectsOf(heir).find(object => object.key === key)?.value)
  }

  #place(key: string, value: string | undefined): void {
    if (this.#layout?.isEntry(key) === true) {
      if (value === undefined) this.#layout.delete(key)
      else this.#layout.set({ key, value })
      return
    }
    this.#put(key, value)
  }

  #put(key: string, value: string | undefined): void {
    const before = this.#objects.get(key)
    if (before === value) return
    if (!this.#kernel.has(key)) this.#kernel.set(key, before)
    if (value === undefined) this.#objects.delete(key)
    else this.#objects.set(key, value)
  }

  #settleLayout(): void {
    for (const { key, value } of this.#layout?.drain() ?? []) {
      // What an entry stands for, or did, may be an owner's own object by now.
      if (!this.#ownerOf.has(key)) this.#put(key, value)
      else if (value === undefined) this.#beneath.delete(key)
      else this.#beneath.set(key, value)
    }
  }
}

function splitOnce(text: string): [string, string | undefined] {
  const end = text.indexOf('\n')
  return end < 0 ? [text, undefined] : [text.slice(0, end), text.slice(end + 1)]
}
