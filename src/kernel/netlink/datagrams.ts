// The datagrams of a netlink socket: signals that interrupt a call, waiting, and what does not fit the buffer.
import type { Libc, Watch } from './libc.ts'
import { NetlinkError, NetlinkFormatError } from './message.ts'

/** Length of `sockaddr_nl`, and where the port is in it. */
export const addressLength = 12
const addressPort = 4
const dontWait = 0x40
/** recv tells the datagram's whole length, also when the buffer is too small for it. */
const tellLength = 0x20
const errno = { interrupted: 4, again: 11, noBuffers: 105, timedOut: 110 } as const
/** The kernel makes datagrams of at most 32 KiB in a dump, and of a page or two in notifications. */
const bufferLength = 1 << 16
/** How long an answer may take, milliseconds: the longest of a kernel was a table's whole walk, a tenth of a second. */
const patience = 10_000

/** An open descriptor and its one receive buffer: a datagram is good until the next is received. */
export class Datagrams {
  readonly #libc: Libc
  readonly #fd: number
  readonly #buffer = Buffer.alloc(bufferLength)

  constructor(libc: Libc, fd: number) {
    this.#libc = libc
    this.#fd = fd
  }

  /** The number the kernel has for the socket. Throws NetlinkError. */
  port(): number {
    const address = Buffer.alloc(addressLength)
    const length = Buffer.alloc(4)
    length.writeUInt32LE(address.length)
    if (this.#libc.getsockname(this.#fd, address, length) !== 0) {
      throw new NetlinkError('a netlink socket has no port', this.#libc.errno())
    }
    return address.readUInt32LE(addressPort)
  }

  /** Calls back each time that there is something to receive. */
  watch(readable: () => void): Watch {
    return this.#libc.watch(this.#fd, readable)
  }

  close(): void {
    this.#libc.close(this.#fd)
  }

  /** On the event loop. Throws NetlinkError. */
  send(bytes: Buffer): void {
    for (;;) {
      if (this.#libc.send(this.#fd, bytes, bytes.length, 0) >= 0) return
      const code = this.#libc.errno()
      if (code !== errno.interrupted) throw new NetlinkError('sending to the kernel failed', code)
    }
  }

  /** The same on a thread. */
  async sendOff(bytes: Buffer): Promise<void> {
    for (;;) {
      const { result, errno: code } = await this.#libc.sendAsync(this.#fd, bytes, bytes.length, 0)
      if (result >= 0) return
      if (code !== errno.interrupted) throw new NetlinkError('sending to the kernel failed', code)
    }
  }

  /** The next datagram, a view of the one buffer, or undefined when there is none yet. Throws NetlinkError, NetlinkFormatError. */
  receive(): Buffer | undefined {
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
  async receiveOff(): Promise<Buffer | undefined> {
    for (;;) {
      const { result, errno: code } = await this.#libc.recvAsync(
        this.#fd,
        this.#buffer,
        this.#buffer.length,
        dontWait | tellLength,
      )
      if (result >= 0) return this.#whole(result)
      if (code === errno.again) return await this.waitAndReceive()
      if (code === errno.noBuffers) return undefined
      if (code !== errno.interrupted) throw new NetlinkError('receiving from the kernel failed', code)
    }
  }

  #whole(length: number): Buffer {
    if (length > this.#buffer.length) throw new NetlinkFormatError(`a netlink datagram of ${length} bytes was cut off`)
    return this.#buffer.subarray(0, length)
  }

  /** Kernels answer within send; one that does not is waited for, ten seconds each time. */
  async waitAndReceive(): Promise<Buffer> {
    for (;;) {
      await this.#readable()
      const bytes = this.receive()
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
