// The endpoints of a namespace: say who they are and whom they see, then echo. Run by `Sandbox.worker`.
import { createSocket } from 'node:dgram'
import { createServer } from 'node:net'
import { answerCalls } from '../netns/calls.ts'
import type { Listener } from './cluster.ts'

/** The first line of a connection, and the answer to each datagram. */
export interface Greeting {
  readonly by: string
  readonly seen: string
  /** A datagram's own words. */
  readonly said?: string
}

const format = (address: string, port: number): string =>
  address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`

function tcp({ address, port }: Listener): Promise<void> {
  return new Promise((resolve, reject) => {
    const server = createServer({ noDelay: true }, socket => {
      const greeting: Greeting = { by: format(address, port), seen: socket.remoteAddress ?? '' }
      // A client that has what it wants resets the connection.
      socket.on('error', () => undefined)
      socket.write(`${JSON.stringify(greeting)}\n`)
      socket.pipe(socket)
    })
    server.once('error', reject)
    server.listen({ host: address, port, backlog: 4096 }, resolve)
  })
}

function udp({ address, port }: Listener): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = createSocket(address.includes(':') ? 'udp6' : 'udp4', (data, from) => {
      const greeting: Greeting = { by: format(address, port), seen: from.address, said: data.toString() }
      socket.send(JSON.stringify(greeting), from.port, from.address)
    })
    socket.once('error', reject)
    socket.bind({ address, port, exclusive: true }, () => {
      socket.off('error', reject)
      socket.on('error', () => undefined)
      resolve()
    })
  })
}

const serverMethods = {
  /** Throws for an address that cannot be bound. */
  serve: async ({ listeners }: { listeners: readonly Listener[] }): Promise<void> => {
    await Promise.all(listeners.map(listener => (listener.protocol === 'TCP' ? tcp(listener) : udp(listener))))
  },
}
export type ServerMethods = typeof serverMethods

process.on('SIGINT', () => undefined)
answerCalls(serverMethods)
