// A kernel made of a script: what is sent to it is kept, and answered as a test says. For what a real one does rarely.
import type { Libc } from '../../src/kernel/netlink/libc.ts'
import { control, encodeMessage, flag, type NetlinkMessage, readMessages } from '../../src/kernel/netlink/message.ts'
import { NetlinkSocket } from '../../src/kernel/netlink/socket.ts'

/** A datagram, or the errno of a receive that fails. */
export type Answer = Buffer | number

export const errno = {
  perm: 1,
  noEntry: 2,
  interrupted: 4,
  noMemory: 12,
  invalid: 22,
  tooLong: 90,
  noBuffers: 105,
} as const
const again = 11

export class FakeKernel {
  readonly libc: Libc
  /** Each datagram sent, a copy. */
  readonly sent: Buffer[] = []
  /** How many of them were sent on a thread. */
  sentOffLoop = 0
  /** Nothing can be received, and never will be. */
  isSilent = false
  /** Sends fail with these first. */
  readonly sendErrors: number[] = []
  readonly #answers: Answer[] = []
  #errno = 0

  /** `answer` is called with the messages of each datagram sent. */
  constructor(answer: (messages: readonly NetlinkMessage[]) => readonly Answer[]) {
    const send = (bytes: Buffer): number => {
      const failure = this.sendErrors.shift()
      if (failure !== undefined) return this.#fail(failure)
      const copy = Buffer.from(bytes)
      this.sent.push(copy)
      this.#answers.push(...answer([...readMessages(copy)]))
      return bytes.length
    }
    const recv = (into: Buffer): number => {
      const next = this.#answers.shift()
      if (next === undefined) return this.#fail(again)
      if (typeof next === 'number') return this.#fail(next)
      next.copy(into)
      return next.length
    }
    this.libc = {
      socket: () => 3,
      bind: () => 0,
      getsockname(_, address) {
        address.writeUInt32LE(4711, 4)
        return 0
      },
      setsockopt: () => 0,
      close: () => 0,
      prctl: () => 0,
      send: (_, bytes) => send(bytes),
      recv: (_, into) => recv(into),
      sendAsync: async (_, bytes) => {
        this.sentOffLoop++
        return { result: send(bytes), errno: this.#errno }
      },
      recvAsync: async (_, into) => ({ result: recv(into), errno: this.#errno }),
      errno: () => this.#errno,
      watch: (_, readable) => {
        const handle = this.isSilent ? undefined : setImmediate(readable)
        return { close: () => clearImmediate(handle) }
      },
    }
  }

  socket(): NetlinkSocket {
    return new NetlinkSocket(this.libc, 3, false)
  }

  /** A socket that hears these, whoever did not ask. */
  subscriber(...told: readonly Answer[]): NetlinkSocket {
    this.#answers.push(...told)
    return new NetlinkSocket(this.libc, 3, true)
  }

  #fail(code: number): number {
    this.#errno = code
    return -1
  }
}

/** What the kernel says of a message: errno, 0 for an acknowledgement, and its words. */
export function ack(sequence: number, code = 0, words?: string): Buffer {
  const payload = Buffer.alloc(20)
  payload.writeInt32LE(-code)
  const flags = flag.capped | (words === undefined ? 0 : flag.ackAttributes)
  const attribute = words === undefined ? Buffer.alloc(0) : wordsAttribute(words)
  return encodeMessage({ type: control.error, flags, sequence }, payload, attribute)
}

function wordsAttribute(words: string): Buffer {
  const text = Buffer.from(`${words}\0`)
  const head = Buffer.alloc(4)
  head.writeUInt16LE(4 + text.length, 0)
  head.writeUInt16LE(1, 2)
  return Buffer.concat([head, text])
}

/** The end of a dump. */
export const done = (sequence: number, flags = 0): Buffer =>
  encodeMessage({ type: control.done, flags: flag.multi | flags, sequence }, Buffer.alloc(4))
