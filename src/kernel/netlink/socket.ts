// A netlink socket: requests, dumps and subscriptions, none of which holds the event loop up.
//
// Measured on Linux 6.18 (2 busy cores): the kernel works in the call that asks. A dump of 200,000 connections that its
// filter passes over is one send of 65 ms; an unfiltered one is 1,185 receives, 0.3 ms each. So a dump's calls are made on
// a thread of Node's pool (40 µs each more). A request's are made here: they answer before send returns, in microseconds.
import { addressLength, Datagrams } from './datagrams.ts'
import { type Libc, loadLibc, type Watch } from './libc.ts'
import {
  type Ack,
  control,
  encodeMessage,
  flag,
  NetlinkError,
  NetlinkFormatError,
  type NetlinkMessage,
  readDone,
  readError,
  readMessages,
} from './message.ts'

/** Numbers of linux/netlink.h. */
export const protocols = { route: 0, netfilter: 12, generic: 16 } as const
export type NetlinkProtocol = keyof typeof protocols

const domain = 16
const rawCloseOnExec = 3 | 0o2000000
const solNetlink = 270
const option = { addMembership: 1, capAck: 10, extAck: 11, strict: 12 } as const
const solSocket = 1
const buffers = { send: 7, sendForce: 32, receiveForce: 33 } as const
const errno = { interrupted: 4, noBuffers: 105 } as const

/** Acknowledgements wait in the receive buffer until all of a slice is sent; the default one of 208 KiB holds about 270. */
const sliceLength = 64
/** A flood of notifications is read for so long at a time, in datagrams; each is up to a page. */
const datagramsAtOnce = 64
/**
 * Batches of up to so many bytes are sent on the event loop: 16 KiB of map elements keep the kernel for 0.8 ms, and a
 * thread costs 0.04 ms.
 */
const sendAtOnce = 1 << 14
/** What subscriptions may have waiting, bytes: a full load of 10,000 Services tells of itself in about 10 MB. */
const subscriberBuffer = 16 << 20

export interface NetlinkOptions {
  /** Multicast groups to join, by number. A socket that joined some is for `subscribe` alone. */
  readonly groups?: readonly number[]
  /** How long a message may be, bytes; without the right to go past net.core.wmem_max, that. Linux allows 208 KiB unasked. */
  readonly sendBuffer?: number
  /** Dumps tell only of what the request's header names; kernels before 4.20 tell of everything all the same. */
  readonly strict?: boolean
  /** Told in one sentence why there is no socket. */
  readonly explain?: (sentence: string) => void
}

/** A message to send; number and header are the socket's affair. */
export interface NetlinkRequest {
  readonly type: number
  /** Besides `flag.request` and `flag.ack`. */
  readonly flags?: number
  readonly payload: Buffer
  /**
   * Of a dump: the answer fits a datagram or two, so that it is had on the event loop. Measured: 18 µs, where a thread
   * takes 70 to 120.
   */
  readonly small?: boolean
}

/**
 * Opens a socket in this process's network namespace. Undefined where koffi is missing, the kernel lacks the protocol, or
 * the right (CAP_NET_ADMIN, where the protocol or a group asks for it) is missing.
 */
export async function openNetlink(
  protocol: NetlinkProtocol,
  options: NetlinkOptions = {},
): Promise<NetlinkSocket | undefined> {
  const libc = await loadLibc()
  if (typeof libc === 'string') {
    options.explain?.(libc)
    return undefined
  }
  const fd = libc.socket(domain, rawCloseOnExec, protocols[protocol])
  if (fd < 0) {
    options.explain?.(new NetlinkError(`a netlink socket (${protocol}) cannot be opened`, libc.errno()).message)
    return undefined
  }
  const problem = prepare(libc, fd, options)
  if (problem !== undefined) {
    libc.close(fd)
    options.explain?.(problem)
    return undefined
  }
  return new NetlinkSocket(libc, fd, options.groups !== undefined)
}

function prepare(
  libc: Libc,
  fd: number,
  { groups = [], sendBuffer, strict = false }: NetlinkOptions,
): string | undefined {
  const set = (level: number, name: number, value: number): boolean => {
    const bytes = Buffer.alloc(4)
    bytes.writeInt32LE(value)
    return libc.setsockopt(fd, level, name, bytes, bytes.length) === 0
  }
  // Kernels since 4.12 and 4.3; without them errors have a number and no words.
  set(solNetlink, option.extAck, 1)
  set(solNetlink, option.capAck, 1)
  if (strict) set(solNetlink, option.strict, 1)
  // Going past net.core.wmem_max takes CAP_NET_ADMIN.
  if (sendBuffer !== undefined && !set(solSocket, buffers.sendForce, sendBuffer)) {
    set(solSocket, buffers.send, sendBuffer)
  }
  const address = Buffer.alloc(addressLength)
  address.writeUInt16LE(domain, 0)
  if (libc.bind(fd, address, address.length) !== 0) {
    return new NetlinkError('a netlink socket cannot be bound', libc.errno()).message
  }
  if (groups.length > 0) set(solSocket, buffers.receiveForce, subscriberBuffer)
  for (const group of groups) {
    if (!set(solNetlink, option.addMembership, group)) {
      return new NetlinkError(`netlink group ${group} cannot be joined`, libc.errno()).message
    }
  }
  return undefined
}

export class NetlinkSocket {
  readonly #datagrams: Datagrams
  readonly #subscribes: boolean
  /** Requests go one after the other: answers are told apart by number, but a dump fills the socket. */
  #last: Promise<unknown> = Promise.resolve()
  #sequence = 0
  #watch: Watch | undefined
  #closed = false

  constructor(libc: Libc, fd: number, subscribes: boolean) {
    this.#datagrams = new Datagrams(libc, fd)
    this.#subscribes = subscribes
  }

  /** The number the kernel has for this socket in its network namespace. Throws NetlinkError. */
  get port(): number {
    return this.#datagrams.port()
  }

  /**
   * Sends one message and waits for its acknowledgement. Returns copies of what the kernel answered before it.
   * Throws NetlinkError when the kernel refuses.
   */
  request(request: NetlinkRequest): Promise<Buffer[]> {
    return this.#inTurn(async () => {
      const answers: Buffer[] = []
      const [ack] = await this.#slice([request], message => answers.push(Buffer.from(message.payload)))
      if (ack !== undefined && ack.errno !== 0) throw new NetlinkError('the kernel refused', ack.errno, ack.words)
      return answers
    })
  }

  /**
   * Sends many messages, each acknowledged by itself. Returns what the kernel said of each, in order; a refused one does
   * not stop the others. Between slices of 64 other work gets its turn.
   */
  batch(requests: readonly NetlinkRequest[]): Promise<Ack[]> {
    return this.#inTurn(async () => {
      const acks: Ack[] = []
      for (let at = 0; at < requests.length; at += sliceLength) {
        if (at > 0) await new Promise(resolve => setImmediate(resolve))
        acks.push(...(await this.#slice(requests.slice(at, at + sliceLength), () => undefined)))
      }
      return acks
    })
  }

  /**
   * Sends a batch of netfilter in one datagram, so that the kernel takes it whole or not at all. `encode` is told the first
   * sequence number and returns the bytes (undefined when there is nothing to send), and the number of the one message that asks for an acknowledgement: the last
   * but the batch's end (nfnetlink answers for the end itself since Linux 6.10). Returns the errors, by number, in order:
   * the kernel tells of them unasked, after the whole batch; none when it was taken.
   *
   * More errors than fit the receive buffer get lost; one is enough to know that nothing was taken. Throws NetlinkError:
   * ENOBUFS when neither an error nor the acknowledgement arrived, so that the outcome is unknown; EMSGSIZE when the
   * batch does not fit the send buffer.
   */
  transaction(
    encode: (firstSequence: number) => Promise<{ readonly bytes: Buffer; readonly lastSequence: number } | undefined>,
  ): Promise<{ readonly sequence: number; readonly ack: Ack }[]> {
    return this.#inTurn(async () => {
      // Numbers of a batch do not wrap around.
      if (this.#sequence > 0x7fffffff) this.#sequence = 0
      const first = this.#next()
      const batch = await encode(first)
      if (batch === undefined) return []
      const { bytes, lastSequence } = batch
      // The end's number, which follows, is not given away again.
      this.#sequence = lastSequence + 1
      if (bytes.length > sendAtOnce) await this.#datagrams.sendOff(bytes)
      else this.#datagrams.send(bytes)
      return this.#readErrors(first, lastSequence)
    })
  }

  /**
   * Dumps: `visit` is called with each object's message, whose payload is only valid within the call. `interrupted` when
   * the kernel said that the objects changed meanwhile (NLM_F_DUMP_INTR, or EINTR at the end): some may be missing.
   * An abort, or what `visit` throws, is thrown after the kernel's dump has been read to its end; the socket stays good.
   * Throws NetlinkError when the kernel refuses.
   */
  dump(
    request: NetlinkRequest,
    visit: (message: NetlinkMessage) => void,
    signal?: AbortSignal,
  ): Promise<{ interrupted: boolean }> {
    return this.#inTurn(async () => {
      signal?.throwIfAborted()
      const sequence = this.#next()
      const flags = flag.request | flag.dump | (request.flags ?? 0)
      const bytes = encodeMessage({ type: request.type, flags, sequence }, request.payload)
      if (request.small === true) this.#datagrams.send(bytes)
      else await this.#datagrams.sendOff(bytes)
      const next = request.small === true ? () => this.#nextDatagram() : () => this.#datagrams.receiveOff()
      return await this.#readDump(sequence, next, visit, signal)
    })
  }

  /**
   * Dumps copies of the payloads; an interrupted dump is made again, `attempts` times in all, then thrown as EINTR, or with
   * `takesLast` taken as it is.
   */
  async collect(request: NetlinkRequest, signal?: AbortSignal, attempts = 5, takesLast = false): Promise<Buffer[]> {
    for (let attempt = 0; attempt < attempts; attempt++) {
      const found: Buffer[] = []
      const { interrupted } = await this.dump(request, message => found.push(Buffer.from(message.payload)), signal)
      if (!interrupted || (takesLast && attempt === attempts - 1)) return found
    }
    throw new NetlinkError(`what is dumped changed each time, ${attempts} times`, errno.interrupted)
  }

  /**
   * Hands over each notification of the joined groups as it comes; its payload is only valid within the call. `lost` is
   * called when some never arrived (they came faster than they were read) or were not well formed: look for oneself then.
   * Keeps the process alive until `close`.
   */
  subscribe(notify: (message: NetlinkMessage) => void, lost: () => void): void {
    if (!this.#subscribes) throw new Error('a netlink socket that joined no group hears of nothing')
    if (this.#closed || this.#watch !== undefined) throw new Error('a netlink socket is subscribed to once')
    this.#watch = this.#datagrams.watch(() => this.#readNotifications(notify, lost))
  }

  /** Waits for what is under way and closes. Further requests are refused. */
  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    this.#watch?.close()
    await this.#last
    this.#datagrams.close()
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    if (this.#closed) return Promise.reject(new Error('the netlink socket is closed'))
    if (this.#subscribes) return Promise.reject(new Error('a netlink socket that joined groups takes no requests'))
    const turn = this.#last.then(work)
    this.#last = turn.catch(() => undefined)
    return turn
  }

  #next(): number {
    this.#sequence = (this.#sequence + 1) >>> 0 || 1
    return this.#sequence
  }

  async #slice(requests: readonly NetlinkRequest[], answer: (message: NetlinkMessage) => void): Promise<Ack[]> {
    const waiting = new Map<number, number>()
    const bytes = requests.map(({ type, flags = 0, payload }, index) => {
      const sequence = this.#next()
      waiting.set(sequence, index)
      return encodeMessage({ type, flags: flag.request | flag.ack | flags, sequence }, payload)
    })
    this.#datagrams.send(Buffer.concat(bytes))
    const acks: Ack[] = requests.map(() => ({ errno: 0 }))
    while (waiting.size > 0) {
      for (const message of readMessages(this.#datagrams.receive() ?? (await this.#datagrams.waitAndReceive()))) {
        const index = waiting.get(message.sequence)
        if (index === undefined) continue
        if (message.type === control.error) {
          acks[index] = readError(message)
          waiting.delete(message.sequence)
        } else {
          answer(message)
        }
      }
    }
    return acks
  }

  /** The kernel has answered by the time that send returns: what is not there then will not come. */
  #readErrors(first: number, last: number): { readonly sequence: number; readonly ack: Ack }[] {
    const errors: { readonly sequence: number; readonly ack: Ack }[] = []
    for (;;) {
      const bytes = this.#receiveOrLoss()
      // The error that stands for lost ones comes first, what did arrive after it.
      if (bytes === 'loss') continue
      if (bytes === undefined) {
        if (errors.length > 0) return errors
        throw new NetlinkError('the kernel did not say what became of a batch', errno.noBuffers)
      }
      for (const message of readMessages(bytes)) {
        const { type, sequence } = message
        if (type !== control.error || sequence < first || sequence > last) continue
        const ack = readError(message)
        if (ack.errno !== 0) errors.push({ sequence, ack })
        if (sequence === last) return errors
      }
    }
  }

  #receiveOrLoss(): Buffer | 'loss' | undefined {
    try {
      return this.#datagrams.receive()
    } catch (error) {
      if (error instanceof NetlinkError && error.errno === errno.noBuffers) return 'loss'
      throw error
    }
  }

  /** Undefined when a datagram got lost for want of room; the dump goes on. */
  async #nextDatagram(): Promise<Buffer | undefined> {
    const bytes = this.#receiveOrLoss()
    if (bytes === 'loss') return undefined
    return bytes ?? (await this.#datagrams.waitAndReceive())
  }

  async #readDump(
    sequence: number,
    next: () => Promise<Buffer | undefined>,
    visit: (message: NetlinkMessage) => void,
    signal: AbortSignal | undefined,
  ): Promise<{ interrupted: boolean }> {
    let interrupted = false
    let failure: { readonly error: unknown } | undefined
    for (;;) {
      const bytes = await next()
      if (bytes === undefined) {
        interrupted = true
        continue
      }
      for (const message of readMessages(bytes)) {
        if (message.sequence !== sequence) continue
        if ((message.flags & flag.dumpInterrupted) !== 0) interrupted = true
        if (message.type === control.done || message.type === control.error) {
          if (failure !== undefined) throw failure.error
          const { errno: code, words } = message.type === control.done ? readDone(message) : readError(message)
          if (code === errno.interrupted) return { interrupted: true }
          if (code !== 0) throw new NetlinkError('the kernel refused a dump', code, words)
          return { interrupted }
        }
        if (failure !== undefined) continue
        try {
          signal?.throwIfAborted()
          visit(message)
        } catch (error) {
          failure = { error }
        }
      }
    }
  }

  #readNotifications(notify: (message: NetlinkMessage) => void, lost: () => void): void {
    // Whatever is left calls again at once: epoll tells of it as long as there is some.
    for (let count = 0; count < datagramsAtOnce && !this.#closed; count++) {
      try {
        const bytes = this.#datagrams.receive()
        if (bytes === undefined) return
        for (const message of readMessages(bytes)) notify(message)
      } catch (error) {
        if (!(error instanceof NetlinkError) && !(error instanceof NetlinkFormatError)) throw error
        lost()
        // What is no loss of some may fail again at once: not in this turn.
        if (error instanceof NetlinkError && error.errno !== errno.noBuffers) return
      }
    }
  }
}
