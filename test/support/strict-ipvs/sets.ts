// The kernel's IP sets: what it keeps, and what it refuses, in the words of ipset.
import type { Family } from '../../../src/net/ip.ts'

export const setTypes = ['hash:ip', 'hash:ip,port', 'hash:ip,port,net', 'bitmap:port'] as const
export type SetType = (typeof setTypes)[number]

/** A set as it was created. */
export interface SetSpec {
  readonly name: string
  readonly type: SetType
  /** bitmap:port has none. */
  readonly family?: Family
  readonly skbinfo: boolean
  readonly comment: boolean
  /** Elements of a hash, at most. */
  readonly maxelem: number
  /** Buckets of a hash when it was made, a power of two. */
  readonly hashsize: number
  /** First and last port of a bitmap. */
  readonly range: readonly [number, number]
}

/** An element as the kernel is handed it: well formed, but perhaps not acceptable. */
export interface Element {
  /** As it is printed: the same text is the same element. */
  readonly text: string
  /** As it is printed behind `skbmark`; undefined where none was given. */
  readonly mark?: string
  readonly comment?: string
  /** What this type of set cannot hold, in the kernel's answer. */
  readonly problem?: string
  /** The port of an element of a bitmap. */
  readonly port: number
}

interface StoredSet {
  readonly spec: SetSpec
  /** What is printed behind each element. */
  readonly elements: Map<string, string>
  /** The buckets double as the set grows, and never become fewer. */
  hashsize: number
  /** Another kernel's copy holds the same elements: they are copied before they are written. */
  shared: boolean
}

/** The kernel does not do it; the message is ipset's. */
export class SetRefused extends Error {}

const missing = 'The set with the given name does not exist'
const busy = 'Set cannot be destroyed: it is in use by a kernel component'
/** About where a hash with buckets of 12 begins to grow; the real one depends on which elements meet. */
const inOneBucket = 4

/** All sets of a machine. */
export class Sets {
  /** In the order of the kernel's indices: a new set takes the first that is free. */
  readonly #slots: (StoredSet | undefined)[] = []
  readonly #indices = new Map<string, number>()
  readonly #isUsed: (name: string) => boolean
  readonly #changed: (families: readonly Family[]) => void

  /** `isUsed` says if a rule refers to a set, `changed` is told of every change. */
  constructor(isUsed: (name: string) => boolean, changed: (families: readonly Family[]) => void) {
    this.#isUsed = isUsed
    this.#changed = changed
  }

  /** The same sets in another kernel. */
  copyTo(other: Sets): void {
    for (const [index, set] of this.#slots.entries()) {
      if (set === undefined) continue
      set.shared = true
      other.#slots[index] = { ...set }
      other.#indices.set(set.spec.name, index)
    }
  }

  get(name: string): SetSpec | undefined {
    return this.#find(name)?.spec
  }

  /** Elements of a set in no order that means anything, as a hash has it. Throws SetRefused if there is no such set. */
  elements(name: string): readonly string[] {
    return this.#sorted(this.#need(name)).map(([text]) => text)
  }

  /** With `exist`, a set of the same kind that is there already is left as it is. Throws SetRefused. */
  create(spec: SetSpec, exist = false): void {
    const before = this.#find(spec.name)
    if (exist && before !== undefined && isSameKind(before.spec, spec)) return
    if (before !== undefined) throw new SetRefused('Set cannot be created: set with the same name already exists')
    const free = this.#slots.indexOf(undefined)
    const index = free === -1 ? this.#slots.length : free
    this.#slots[index] = { spec, elements: new Map(), hashsize: spec.hashsize, shared: false }
    this.#indices.set(spec.name, index)
    this.#changed(familiesOf(spec))
  }

  /**
   * All sets without a name; then none is destroyed if one of them is in use. With `exist`, one that is not there is no
   * error. Throws SetRefused.
   */
  destroy(name?: string, exist = false): void {
    if (exist && name !== undefined && !this.#indices.has(name)) return
    const sets = name === undefined ? this.#all() : [this.#need(name)]
    if (sets.some(({ spec }) => this.#isUsed(spec.name))) throw new SetRefused(busy)
    for (const { spec } of sets) {
      this.#slots[this.#indices.get(spec.name) ?? -1] = undefined
      this.#indices.delete(spec.name)
      this.#changed(familiesOf(spec))
    }
  }

  /** All sets without a name. Throws SetRefused. */
  flush(name?: string): void {
    for (const set of name === undefined ? this.#all() : [this.#need(name)]) {
      this.#writable(set).elements.clear()
      this.#changed(familiesOf(set.spec))
    }
  }

  /** With `exist`, an element that is there gets the new mark and comment, or loses those it has. Throws SetRefused. */
  add(name: string, element: Element, exist = false): void {
    const set = this.#accepting(name, element)
    const isThere = set.elements.has(element.text)
    if (isThere && !exist) throw new SetRefused("Element cannot be added to the set: it's already added")
    if (!isThere && set.spec.type !== 'bitmap:port' && set.elements.size >= set.spec.maxelem)
      throw new SetRefused('Hash is full, cannot add more elements')
    const written = this.#writable(set)
    written.elements.set(element.text, extrasOf(element))
    while (set.spec.type !== 'bitmap:port' && written.elements.size > written.hashsize * inOneBucket)
      written.hashsize *= 2
    this.#changed(familiesOf(set.spec))
  }

  /** With `exist`, an element that is not there is no error. Throws SetRefused. */
  remove(name: string, element: Element, exist = false): void {
    const set = this.#accepting(name, element)
    if (exist && !set.elements.has(element.text)) return
    if (!set.elements.has(element.text)) throw new SetRefused("Element cannot be deleted from the set: it's not added")
    this.#writable(set).elements.delete(element.text)
    this.#changed(familiesOf(set.spec))
  }

  /** As `ipset save` prints it. Throws SetRefused if there is no set of the name. */
  save(name?: string): string {
    const sets = name === undefined ? this.#all() : [this.#need(name)]
    return sets.map(set => this.#print(set)).join('')
  }

  #accepting(name: string, element: Element): StoredSet {
    const set = this.#need(name)
    const { type, skbinfo, comment, range } = set.spec
    const isOutside = type === 'bitmap:port' && (element.port < range[0] || element.port > range[1])
    if (isOutside) throw new SetRefused('Element is out of the range of the set')
    if (element.comment !== undefined && !comment)
      throw new SetRefused('Comment cannot be used: set was created without comment support')
    if (element.mark !== undefined && !skbinfo)
      throw new SetRefused('Skbinfo mapping cannot be used: set was created without skbinfo support')
    if (element.problem !== undefined) throw new SetRefused(element.problem)
    return set
  }

  #print(set: StoredSet): string {
    const { name, type, family, maxelem, skbinfo, comment, range } = set.spec
    const flag = `${comment ? ' comment' : ''}${skbinfo ? ' skbinfo' : ''}`
    const header =
      type === 'bitmap:port'
        ? `range ${range[0]}-${range[1]}${flag}`
        : `family ${family === 'IPv6' ? 'inet6' : 'inet'} hashsize ${set.hashsize} maxelem ${maxelem}${flag}` +
          ` bucketsize 12 initval 0x${hashOf(name).toString(16).padStart(8, '0')}`
    const lines = this.#sorted(set).map(([text, extras]) => `add ${name} ${text}${extras}`)
    return [`create ${name} ${type} ${header}`, ...lines].map(line => `${line}\n`).join('')
  }

  /** A bitmap is read by number; a hash in an order that has nothing to do with how it was filled. */
  #sorted({ spec, elements }: StoredSet): [string, string][] {
    const keyed = [...elements].map(entry => ({ entry, key: spec.range[1] > 0 ? Number(entry[0]) : hashOf(entry[0]) }))
    return keyed.sort((a, b) => a.key - b.key || (a.entry[0] < b.entry[0] ? -1 : 1)).map(({ entry }) => entry)
  }

  #writable(set: StoredSet): StoredSet {
    if (!set.shared) return set
    const own = { ...set, elements: new Map(set.elements), shared: false }
    this.#slots[this.#indices.get(set.spec.name) ?? -1] = own
    return own
  }

  #all(): StoredSet[] {
    return this.#slots.filter(set => set !== undefined)
  }

  #find(name: string): StoredSet | undefined {
    return this.#slots[this.#indices.get(name) ?? -1]
  }

  #need(name: string): StoredSet {
    const found = this.#find(name)
    if (found === undefined) throw new SetRefused(missing)
    return found
  }
}

/** A comment is never empty, and no mark is printed of which value and mask are zero. */
const extrasOf = ({ comment, mark = '' }: Element): string =>
  `${comment === undefined ? '' : ` comment "${comment}"`}${mark === '' ? '' : ` skbmark ${mark}`}`

/** The kernel does not look at the family; a caller that mixes them up has made a mistake. */
const isSameKind = (a: SetSpec, b: SetSpec): boolean =>
  a.type === b.type &&
  a.family === b.family &&
  a.maxelem === b.maxelem &&
  a.skbinfo === b.skbinfo &&
  a.comment === b.comment &&
  a.range.join() === b.range.join()

const familiesOf = ({ family }: SetSpec): readonly Family[] => (family === undefined ? ['IPv4', 'IPv6'] : [family])

/** FNV-1a. */
function hashOf(text: string): number {
  let hash = 0x811c9dc5
  for (const character of text) hash = Math.imul(hash ^ (character.codePointAt(0) ?? 0), 0x01000193) >>> 0
  return hash
}
