// Connects and where they end: the probe is both the client and every endpoint.
import { once } from 'node:events'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { client, servicePort } from './objects.ts'

/** The endpoint that a connect ended at, and when it was accepted, on the monotonic clock in nanoseconds. */
export interface Reached {
  readonly address: string
  readonly port: number
  readonly at: bigint
}

/** Accepted connections by the client's port, those nobody asks for among them; and clients that asked first. */
const accepted = new Map<number, Reached>()
const asking = new Map<number, (reached: Reached) => void>()
/** A connection that stands was accepted by the kernel: only a machine that stalls takes longer to say so. */
const patienceMs = 2_000

/** Listens on an address, `0.0.0.0` for all, and notes what arrives. Rejects if the port is taken. */
export function listen(port: number, address: string): Promise<Server> {
  const server = createServer(socket => {
    const { localAddress, localPort, remotePort } = socket
    socket.on('error', () => undefined)
    socket.destroy()
    // A client that resets at once may leave a socket without addresses.
    if (localAddress === undefined || localPort === undefined || remotePort === undefined) return
    const reached = { address: localAddress, port: localPort, at: process.hrtime.bigint() }
    const told = asking.get(remotePort)
    if (told === undefined) accepted.set(remotePort, reached)
    else told(reached)
  })
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, address, 4096, () => resolve(server))
  })
}

/** One connect from a pod's address, ended as soon as it stands. False if it was refused. */
export function tryConnect(address: string): Promise<boolean> {
  return new Promise(resolve => {
    const socket = connect({ host: address, port: servicePort, localAddress: client })
    socket.once('connect', () => {
      socket.resetAndDestroy()
      resolve(true)
    })
    socket.once('error', () => resolve(false))
  })
}

/** One connect from a pod's address to a Service: the endpoint it ended at; undefined if it was refused. */
export async function reach(address: string): Promise<Reached | undefined> {
  const began = process.hrtime.bigint()
  const socket = connect({ host: address, port: servicePort, localAddress: client })
  const port = await new Promise<number | undefined>(resolve => {
    socket.once('connect', () => resolve(socket.localPort))
    socket.once('error', () => resolve(undefined))
  })
  if (port === undefined) return undefined
  const found = accepted.get(port)
  // An earlier connection may have had the same port.
  const reached = found !== undefined && found.at >= began ? found : await acceptedAt(port)
  accepted.delete(port)
  socket.resetAndDestroy()
  return reached
}

function acceptedAt(port: number): Promise<Reached | undefined> {
  return new Promise(resolve => {
    const finish = (reached: Reached | undefined): void => {
      asking.delete(port)
      clearTimeout(timer)
      resolve(reached)
    }
    const timer = setTimeout(() => finish(undefined), patienceMs)
    asking.set(port, finish)
  })
}

const sinceMs = (from: bigint): number => Number(process.hrtime.bigint() - from) / 1e6

/**
 * Begins a connect every millisecond, without waiting for the one before, and hands each outcome to `look`, in the order
 * of their ends, until that returns true or the limit passes. Returns false for the limit.
 */
export async function poll(
  addresses: () => string,
  limitMs: number,
  look: (reached: Reached | undefined, address: string) => boolean,
): Promise<boolean> {
  const began = process.hrtime.bigint()
  let isOver = false
  while (!isOver && sinceMs(began) < limitMs) {
    const address = addresses()
    void reach(address).then(reached => {
      isOver = isOver || look(reached, address)
    })
    await sleep(1)
  }
  return isOver
}

/**
 * Microseconds of one connect call. On loopback the kernel does the whole handshake within it, through all the rules; the
 * time until the event would mostly be this process's own. Node makes the call in the next tick, so ticks stand around it.
 */
export async function timeConnect(address: string): Promise<number> {
  let began = 0n
  let ended = 0n
  process.nextTick(() => {
    began = process.hrtime.bigint()
  })
  const socket: Socket = connect({ host: address, port: servicePort, localAddress: client })
  process.nextTick(() => {
    ended = process.hrtime.bigint()
  })
  await once(socket, 'connect')
  socket.resetAndDestroy()
  return Number(ended - began) / 1e3
}
