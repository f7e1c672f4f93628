// How many clients may be connected at once, over one or several servers, and who gives way.
import type { Socket } from 'node:net'

/**
 * Connections in the order of their last request. Refusing the newest when there are too many, as Node's `maxConnections`
 * does, lets a few hundred silent connections keep every probe out; here the longest idle one gives way.
 */
export class Connections {
  readonly #limit: number
  /** Requests without an answer yet, by connection. The longest idle connection comes first. */
  readonly #unanswered = new Map<Socket, number>()

  constructor(limit: number) {
    this.#limit = limit
  }

  get size(): number {
    return this.#unanswered.size
  }

  /**
   * Takes a connection in. If there are too many, the longest idle one ends; if all wait for answers, the one that has
   * waited longest: it is the likeliest not to read its answer.
   */
  opened(socket: Socket): void {
    if (this.#unanswered.size >= this.#limit) {
      const leaving = this.#longestIdle() ?? this.#unanswered.keys().next().value
      if (leaving !== undefined) {
        this.#unanswered.delete(leaving)
        leaving.destroy()
      }
    }
    this.#unanswered.set(socket, 0)
    socket.once('close', () => this.#unanswered.delete(socket))
  }

  /** Notes a request; returns how many of this connection have no answer yet. */
  asked(socket: Socket): number {
    const unanswered = (this.#unanswered.get(socket) ?? 0) + 1
    this.#set(socket, unanswered)
    return unanswered
  }

  /** Notes that a request has its answer, or never gets one. */
  answered(socket: Socket): void {
    this.#set(socket, Math.max(0, (this.#unanswered.get(socket) ?? 0) - 1))
  }

  #set(socket: Socket, unanswered: number): void {
    if (!this.#unanswered.delete(socket)) return
    this.#unanswered.set(socket, unanswered)
  }

  #longestIdle(): Socket | undefined {
    for (const [socket, unanswered] of this.#unanswered) if (unanswered === 0) return socket
    return undefined
  }
}
