// Numbers that look random and are the same for the same words: a case is replayed from its seed alone.
import { createHash } from 'node:crypto'

export class Random {
  #a: number
  #b: number
  #c: number
  #count = 1

  /** The words tell streams apart: a seed, the number of a cluster, what it is for. */
  constructor(...words: readonly (string | number)[]) {
    const digest = createHash('sha256').update(words.join('/')).digest()
    this.#a = digest.readInt32LE(0)
    this.#b = digest.readInt32LE(4)
    this.#c = digest.readInt32LE(8)
  }

  /** 0 or more, below 2^32: one round of sfc32 (PractRand). */
  next(): number {
    const sum = (((this.#a + this.#b) | 0) + this.#count++) | 0
    this.#a = this.#b ^ (this.#b >>> 9)
    this.#b = (this.#c + (this.#c << 3)) | 0
    this.#c = (((this.#c << 21) | (this.#c >>> 11)) + sum) | 0
    return sum >>> 0
  }

  /** A whole number from `least` to `most`. */
  int(least: number, most: number): number {
    return least + (this.next() % (most - least + 1))
  }

  /** True with this probability. */
  chance(probability: number): boolean {
    return this.next() < probability * 2 ** 32
  }

  /** One of them. Throws if there is none. */
  pick<T>(items: readonly T[]): T {
    if (items.length === 0) throw new Error('nothing to pick from')
    return items[this.int(0, items.length - 1)] as T
  }

  /** Each of them with this probability, in their order. */
  some<T>(items: readonly T[], probability: number): T[] {
    return items.filter(() => this.chance(probability))
  }
}
