// Which objects the server has, as far as we were told: enough to tell what a fresh list no longer holds.

/** Keys only: the objects themselves are the model's. */
export class KnownKeys {
  #known = new Set<string>()
  /** Keys that a list in progress has shown so far. */
  #listed: Set<string> | undefined

  get size(): number {
    return this.#known.size
  }

  /** A list begins. What it does not show by its end is gone; until then nothing is. */
  beginList(): void {
    this.#listed = new Set()
  }

  add(key: string): void {
    this.#known.add(key)
    this.#listed?.add(key)
  }

  delete(key: string): void {
    this.#known.delete(key)
    this.#listed?.delete(key)
  }

  /** The list is complete: returns the keys that are gone and forgets them. */
  endList(): string[] {
    const listed = this.#listed ?? new Set<string>()
    const gone = [...this.#known].filter(key => !listed.has(key))
    this.#known = listed
    this.#listed = undefined
    return gone
  }

  /** The list failed: nothing it did not show is known to be gone. */
  abandonList(): void {
    this.#listed = undefined
  }
}
