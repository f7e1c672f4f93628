// The few calls of libc that are made here, nearly all of them for netlink, through koffi. It is an optional package; a
// machine without it, or with another byte order, does without netlink.
import { endianness } from 'node:os'

/** A call made off the event loop. Resolves to its result and errno, which is only meaningful when the result is -1. */
export type AsyncCall = (
  fd: number,
  buffer: Buffer,
  length: number,
  flags: number,
) => Promise<{ result: number; errno: number }>

export interface Libc {
  socket(domain: number, type: number, protocol: number): number
  bind(fd: number, address: Buffer, length: number): number
  /** `length` is 4 bytes: the room in `address`, then how long the address is. */
  getsockname(fd: number, address: Buffer, length: Buffer): number
  setsockopt(fd: number, level: number, name: number, value: Buffer, length: number): number
  close(fd: number): number
  prctl(option: number, ...values: readonly [number, number, number, number]): number
  /** On the event loop: 0.6 µs for a call that has nothing to do. */
  send(fd: number, buffer: Buffer, length: number, flags: number): number
  recv(fd: number, buffer: Buffer, length: number, flags: number): number
  /** On a thread of Node's pool: 40 µs, but what the kernel does meanwhile delays nobody. */
  readonly sendAsync: AsyncCall
  readonly recvAsync: AsyncCall
  errno(): number
  /** Calls back each time the descriptor has something to read, by Node's own epoll: idle costs nothing. */
  watch(fd: number, readable: () => void): Watch
}

/** Ends a watch; the descriptor may be closed after it. */
export interface Watch {
  close(): void
}

let loaded: Promise<Libc | string> | undefined

/** The calls, loaded once; or one sentence that says why there are none. */
export function loadLibc(): Promise<Libc | string> {
  loaded ??= load()
  return loaded
}

async function load(): Promise<Libc | string> {
  if (process.platform !== 'linux') return 'netlink is spoken on Linux only'
  if (endianness() !== 'LE') return 'netlink is spoken on little-endian machines only'
  try {
    const { default: koffi } = await import('koffi')
    // The libraries of the running program, libc among them, whichever libc that is.
    const own = koffi.load(null)
    const send = own.func('long send(int, void *, size_t, int)')
    const recv = own.func('long recv(int, void *, size_t, int)')
    const offLoop =
      (call: typeof send): AsyncCall =>
      (fd, buffer, length, flags) =>
        new Promise((resolve, reject) => {
          call.async(fd, buffer, length, flags, (error: unknown, result: number) => {
            // koffi hands errno of the thread over with the result.
            if (error === null || error === undefined) resolve({ result, errno: koffi.errno() })
            else reject(error)
          })
        })
    return {
      socket: own.func('int socket(int, int, int)'),
      bind: own.func('int bind(int, void *, int)'),
      getsockname: own.func('int getsockname(int, void *, void *)'),
      setsockopt: own.func('int setsockopt(int, int, int, void *, int)'),
      close: own.func('int close(int)'),
      prctl: own.func('int prctl(int, ulong, ulong, ulong, ulong)'),
      send,
      recv,
      sendAsync: offLoop(send),
      recvAsync: offLoop(recv),
      errno: () => koffi.errno(),
      watch(fd, readable) {
        const handle = koffi.node.poll(fd, { readable: true }, readable)
        return {
          close() {
            handle.stop()
            handle.close()
          },
        }
      },
    }
  } catch (error) {
    return `the package koffi cannot be loaded: ${error instanceof Error ? error.message : String(error)}`
  }
}
