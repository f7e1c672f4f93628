// A netlink socket: requests, dumps and subscriptions, none of which holds the event loop up.
//
// Measured on Linux 6.18 (2 busy cores): the kernel works in the call that asks. A dump of 200,000 connections that its
// filter passes over is one send of 65 ms; an unfiltered one is 1,185 receives, 0.3 ms each. So a dump's calls are made on
// a thread of Node's pool (40 µs each more). A request's are made here: they answer before send returns, in microseconds.
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
const option = { addMembership: 1, capAck: 10, extAck: 11 } as const
const solSocket = 1
const receiveBufferForce = 33
const dontWait = 0x40
/** recv tells the datagram's whole length, also when the buffer is too small for it. */
const tellLength = 0x20
const errno = { interrupted: 4, again: 11, noBuffers: 105, timedOut: 110 } as const

/** The kernel makes datagrams of at most 32 KiB in a dump, and of a page or two in notifications. */
const bufferLength = 1 << 16
/** Acknowledgements wait in the receive buffer until all of a slice is sent; the default one of 208 KiB holds about 270. */
const sliceLength = 64
/** A flood of notifications is read for so long at a time, in datagrams; each is up to a page. */
const datagramsAtOnce = 64
/** How long an answer may take, milliseconds: the longest of a kernel was a table's whole walk, a tenth of a second. */
const patience = 10_000
/** What subscriptions may have waiting, bytes: a full load of 10,000 Services tells of itself in about 10 MB. */
const subscriberBuffer = 16 << 20

export interface NetlinkOptions {
  /** Multicast groups to join, by number. A socket that joined some is for `subscribe` alone. */
  readonly groups?: readonly number[]
  /** Told in one sentence why there is no socket. */
  readonly explain?: (sentence: string) => void
}

/** A message to send; number and header are the socket's affair. */
export interface NetlinkRequest {
  readonly type: number
  /** Besides `flag.request` and `flag.ack`. */
  readonly flags?: number
  readonly payload: Buffer
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
  const problem = prepare(libc, fd, options.groups ?? [])
  if (problem !== undefined) {
    libc.close(fd)
    options.explain?.(problem)
    return undefined
  }
  return new NetlinkSocket(libc, fd, options.groups !== undefined)
}

function prepare(libc: Libc, fd: number, groups: readonly number[]): string | undefined {
  const set = (level: number, name: number, value: number): boolean => {
    const bytes = Buffer.alloc(4)
    bytes.writeInt32LE(value)
    return libc.setsockopt(fd, level, name, bytes, bytes.length) === 0
  }
  // Kernels since 4.12 and 4.3; without them errors have a number and no words.
  set(solNetlink, option.extAck, 1)
  set(solNetlink, option.capAck, 1)
  const address = Buffer.alloc(12)
  address.writeUInt16LE(domain, 0)
  if (libc.bind(fd, address, address.length) !== 0) {
    return new NetlinkError('a netlink socket cannot be bound', libc.errno()).message
  }
  if (groups.length > 0) set(solSocket, receiveBufferForce, subscriberBuffer)
  for (const group of groups) {
    if (!set(solNetlink, option.addMembership, group)) {
      return new NetlinkError(`netlink group ${group} cannot be joined`, libc.errno()).message
    }
  }
  return undefined
}

export class NetlinkSocket {
  readonly #libc: Libc
  readonly #fd: number
  readonly #subscribes: boolean
  readonly #buffer = Buffer.alloc(bufferLength)
  /** Requests go one after the other: answers are told apart by number, but a dump fills the socket. */
  #last: Promise<unknown> = Promise.resolve()
  #sequence = 0
  #watch: Watch | undefined
  #closed = false

  constructor(libc: Libc, fd: number, subscribes: boolean) {
    this.#libc = libc
    this.#fd = fd
    this.#subscribes = subscribes
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
      await this.#sendOff(bytes)
      return await this.#readDump(sequence, visit, signal)
    })
  }

  /** Dumps copies of the payloads; an interrupted dump is made again, `attempts` times in all, then thrown as EINTR. */
  async collect(request: NetlinkRequest, signal?: AbortSignal, attempts = 5): Promise<Buffer[]> {
    for (let attempt = 0; attempt < attempts; attempt++) {
      const found: Buffer[] = []
      const { interrupted } = await this.dump(request, message => found.push(Buffer.from(message.payload)), signal)
      if (!interrupted) return found
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
    this.#watch = this.#libc.watch(this.#fd, () => this.#readNotifications(notify, lost))
  }

  /** Waits for what is under way and closes. Further requests are refused. */
  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    this.#watch?.close()
    await this.#last
    this.#libc.close(this.#fd)
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
    this.#send(Buffer.concat(bytes))
    const acks: Ack[] = requests.map(() => ({ errno: 0 }))
    while (waiting.size > 0) {
      for (const message of readMessages(this.#receive() ?? (await this.#waitAndReceive()))) {
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

  async #readDump(
    sequence: number,
    visit: (message: NetlinkMessage) => void,
    signal: AbortSignal | undefined,
  ): Promise<{ interrupted: boolean }> {
    let interrupted = false
    let failure: { readonly error: unknown } | undefined
    for (;;) {
      const bytes = await this.#receiveOff()
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
        const bytes = this.#receive()
        if (bytes === undefined) return
        for (const message of readMessages(bytes)) notify(message)
      } catch (error) {
        if (!(error instanceof NetlinkError) && !(error instanceof NetlinkFormatError)) throw error
        lost()
      }
    }
  }

  #send(bytes: Buffer): void {
    for (;;) {
      if (this.#libc.send(this.#fd, bytes, bytes.length, 0) >= 0) return
      const code = this.#libc.errno()
      if (code !== errno.interrupted) throw new NetlinkError('sending to the kernel failed', code)
    }
  }

  async #sendOff(bytes: Buffer): Promise<void> {
    for (;;) {
      const { result, errno: code } = await this.#libc.sendAsync(this.#fd, bytes, bytes.length, 0)
      if (result >= 0) return
      if (code !== errno.interrupted) throw new NetlinkError('sending to the kernel failed', code)
    }
  }

  /** The next datagram, or undefined when there is none yet. */
  #receive(): Buffer | undefined {
    for (;;) {
      const length = this.#libc.recv(this.#fd, this.#buffer, this.#buffer.length, dontWait | tellLength)
      if (length >= 0) return this.#whole(length)
      const code = this.#libc.errno()
      if (code === errno.again) return undefined
      if (code !== errno.interrupted) throw new NetlinkError('receiving from the kernel failed', code)
    }
  }

  /**
   * The same on a thread: in a dump, receiving one datagram makes the kernel fill the next. Undefined when a datagram got
   * lost for want of room; the dump goes on.
   */
  async #receiveOff(): Promise<Buffer | undefined> {
    for (;;) {
      const { result, errno: code } = await this.#libc.recvAsync(
        this.#fd,
        this.#buffer,
        this.#buffer.length,
        dontWait | tellLength,
      )
      if (result >= 0) return this.#whole(result)
      if (code === errno.again) return await this.#waitAndReceive()
      if (code === errno.noBuffers) return undefined
      if (code !== errno.interrupted) throw new NetlinkError('receiving from the kernel failed', code)
    }
  }

  #whole(length: number): Buffer {
    if (length > this.#buffer.length) throw new NetlinkFormatError(`a netlink datagram of ${length} bytes was cut off`)
    return this.#buffer.subarray(0, length)
  }

  /** Kernels answer within send; one that does not is waited for, ten seconds each time. */
  async #waitAndReceive(): Promise<Buffer> {
    for (;;) {
      await this.#readable()
      const bytes = this.#receive()
      if (bytes !== undefined) return bytes
    }
  }

  #readable(): Promise<void> {
    return new Promise((resolve, reject) => {
      const finish = (then: () => void): void => {
        watch.close()
        clearTimeout(timer)
        then()
      }
      const late = (): void => reject(new NetlinkError('the kernel does not answer', errno.timedOut))
      const timer = setTimeout(() => finish(late), patience)
      const watch = this.#libc.watch(this.#fd, () => finish(resolve))
    })
  }
}
