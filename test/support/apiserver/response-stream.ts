// A response body written in pieces, as fast as the client reads and no faster.
import type { ServerResponse } from 'node:http'

/** Pieces are joined up to this many characters: fewer, larger TLS records and chunks. */
const batchLength = 65_536

/** Ordered writes to one response. Nothing is written from within the caller's turn, so that bulk changes share batches. */
export class ResponseStream {
  readonly #response: ServerResponse
  #pending: string[] = []
  #next = 0
  #blocked = false
  #scheduled = false
  #ending = false
  #frozen = false

  constructor(response: ServerResponse) {
    this.#response = response
    response.on('drain', () => {
      this.#blocked = false
      this.#flush()
    })
  }

  /** Queues a piece. */
  write(piece: string): void {
    if (this.#frozen || this.#ending) return
    this.#pending.push(piece)
    this.#schedule()
  }

  /** Ends the response after what is queued. */
  end(): void {
    if (this.#frozen) return
    this.#ending = true
    this.#schedule()
  }

  /** From now on nothing is sent, and the connection is left open. */
  freeze(): void {
    this.#frozen = true
    this.#pending = []
    this.#next = 0
  }

  /** Resolves when the queue is short enough for more, or the client is gone. */
  async ready(): Promise<void> {
    this.#flush()
    if (!this.#blocked || this.#response.destroyed) return
    await new Promise<void>(resolve => {
      const done = (): void => {
        this.#response.off('drain', done)
        this.#response.off('close', done)
        resolve()
      }
      this.#response.on('drain', done)
      this.#response.on('close', done)
    })
  }

  #schedule(): void {
    if (this.#scheduled || this.#blocked) return
    this.#scheduled = true
    queueMicrotask(() => {
      this.#scheduled = false
      this.#flush()
    })
  }

  #flush(): void {
    if (this.#response.destroyed) {
      this.freeze()
      return
    }
    while (!this.#blocked && !this.#frozen && this.#next < this.#pending.length) {
      let batch = ''
      while (this.#next < this.#pending.length && batch.length < batchLength) batch += this.#pending[this.#next++]
      this.#blocked = !this.#response.write(batch)
    }
    if (this.#next < this.#pending.length) return
    this.#pending = []
    this.#next = 0
    if (this.#ending && !this.#frozen && !this.#response.writableEnded) this.#response.end()
  }
}
