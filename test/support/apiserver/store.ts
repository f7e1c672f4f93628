// The state: objects as JSON text serialised once a change, the history of changes, and its compaction.
import { type Entry, encode, sameContent } from './codec.ts'
import type { JsonObject } from './json.ts'
import { expired } from './status.ts'

export interface Change {
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED'
  readonly resourceVersion: number
  /** The new state; of a deletion the last one, under the revision of the deletion, as a real server reports it. */
  readonly entry: Entry
  readonly previous: Entry | undefined
}

export interface StoreOptions {
  /** Changes of one kind of object that are remembered; older ones are compacted. */
  readonly historyLimit: number
  /** The revision before the first change. */
  readonly resourceVersion: number
}

interface Shelf {
  readonly entries: Map<string, Entry>
  readonly listeners: Set<(change: Change) => void>
  /** Oldest first. */
  history: Change[]
  /** The last revision that can no longer be told from its past: watches from before it are refused. */
  compacted: number
  /** Entries in key order; absent while a change has made it stale. */
  sorted: readonly Entry[] | undefined
  /** Past states that paged lists are still reading, newest last. */
  snapshots: Map<number, readonly Entry[]>
}

const keptSnapshots = 4

/** Objects of every kind under one revision counter, as etcd keeps them. */
export class Store {
  readonly #shelves = new Map<string, Shelf>()
  readonly #historyLimit: number
  #resourceVersion: number

  constructor(options: StoreOptions) {
    this.#historyLimit = options.historyLimit
    this.#resourceVersion = options.resourceVersion
  }

  /** The revision of the last change of anything. */
  get resourceVersion(): number {
    return this.#resourceVersion
  }

  /** The present state of an object. */
  get(storage: string, key: string): Entry | undefined {
    return this.#shelf(storage).entries.get(key)
  }

  /** Number of objects of a kind. */
  size(storage: string): number {
    return this.#shelf(storage).entries.size
  }

  /** Stores an object under a new revision. An object that says what is stored already changes nothing, as in a real server. */
  put(storage: string, key: string, object: JsonObject): Change | undefined {
    const shelf = this.#shelf(storage)
    const previous = shelf.entries.get(key)
    const entry = encode(storage, key, object, this.#resourceVersion + 1)
    if (previous !== undefined && sameContent(previous, entry)) return undefined
    this.#resourceVersion++
    shelf.entries.set(key, entry)
    return this.#record(shelf, {
      type: previous === undefined ? 'ADDED' : 'MODIFIED',
      resourceVersion: this.#resourceVersion,
      entry,
      previous,
    })
  }

  /** Removes an object. Undefined if there is none. */
  remove(storage: string, key: string): Change | undefined {
    const shelf = this.#shelf(storage)
    const previous = shelf.entries.get(key)
    if (previous === undefined) return undefined
    this.#resourceVersion++
    shelf.entries.delete(key)
    const entry = { ...previous, resourceVersion: this.#resourceVersion }
    return this.#record(shelf, { type: 'DELETED', resourceVersion: this.#resourceVersion, entry, previous })
  }

  /** The objects of a kind in key order, at the present or a past revision. Throws a 410 ApiError once that is compacted. */
  list(storage: string, at: number = this.#resourceVersion): readonly Entry[] {
    const shelf = this.#shelf(storage)
    const last = shelf.history.at(-1)?.resourceVersion ?? shelf.compacted
    if (at >= last) {
      shelf.sorted ??= inKeyOrder(shelf.entries.values())
      return shelf.sorted
    }
    const known = shelf.snapshots.get(at)
    if (known !== undefined) return known
    const snapshot = rewind(shelf, this.changesSince(storage, at))
    shelf.snapshots.set(at, snapshot)
    for (const old of shelf.snapshots.keys()) {
      if (shelf.snapshots.size <= keptSnapshots) break
      shelf.snapshots.delete(old)
    }
    return snapshot
  }

  /** Changes of a kind after a revision, oldest first. Throws a 410 ApiError if some of them are compacted. */
  changesSince(storage: string, resourceVersion: number): readonly Change[] {
    const shelf = this.#shelf(storage)
    if (resourceVersion < shelf.compacted) throw expired(resourceVersion, shelf.compacted)
    return shelf.history.slice(firstAfter(shelf.history, resourceVersion))
  }

  /** The oldest revision from which changes of a kind can still be told. */
  compactedTo(storage: string): number {
    return this.#shelf(storage).compacted
  }

  /** Calls the listener with every change of a kind, in order, within the write. Returns what ends that. */
  subscribe(storage: string, listener: (change: Change) => void): () => void {
    const { listeners } = this.#shelf(storage)
    listeners.add(listener)
    return () => listeners.delete(listener)
  }

  /** Forgets changes up to and with a revision, of one kind or of all. */
  compact(upTo: number = this.#resourceVersion, storage?: string): void {
    for (const [name, shelf] of this.#shelves) {
      if (storage !== undefined && storage !== name) continue
      shelf.history = shelf.history.slice(firstAfter(shelf.history, upTo))
      shelf.compacted = Math.max(shelf.compacted, upTo)
      shelf.snapshots.clear()
    }
  }

  #record(shelf: Shelf, change: Change): Change {
    shelf.sorted = undefined
    shelf.history.push(change)
    // Trimmed in big steps: one slice of the array for every `historyLimit` changes.
    if (shelf.history.length >= 2 * this.#historyLimit) {
      const cut = shelf.history.length - this.#historyLimit
      shelf.compacted = shelf.history[cut - 1]?.resourceVersion ?? shelf.compacted
      shelf.history = shelf.history.slice(cut)
      shelf.snapshots.clear()
    }
    for (const listener of shelf.listeners) listener(change)
    return change
  }

  #shelf(storage: string): Shelf {
    let shelf = this.#shelves.get(storage)
    if (shelf === undefined) {
      shelf = {
        entries: new Map(),
        listeners: new Set(),
        history: [],
        compacted: 0,
        sorted: undefined,
        snapshots: new Map(),
      }
      this.#shelves.set(storage, shelf)
    }
    return shelf
  }
}

const byKey = (a: Entry, b: Entry): number => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0)

const inKeyOrder = (entries: Iterable<Entry>): readonly Entry[] => [...entries].sort(byKey)

/** Index of the first change after a revision. */
function firstAfter(history: readonly Change[], resourceVersion: number): number {
  let low = 0
  let high = history.length
  while (low < high) {
    const middle = (low + high) >> 1
    if ((history[middle]?.resourceVersion ?? 0) <= resourceVersion) low = middle + 1
    else high = middle
  }
  return low
}

/** The state before these changes, which end at the present. */
function rewind(shelf: Shelf, changes: readonly Change[]): readonly Entry[] {
  const state = new Map(shelf.entries)
  for (const change of changes.toReversed()) {
    if (change.previous === undefined) state.delete(change.entry.key)
    else state.set(change.entry.key, change.previous)
  }
  return inKeyOrder(state.values())
}
