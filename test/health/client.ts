// HTTP clients for tests: one request on a connection of its own, and connections that say as little as one likes.
import { Agent, type IncomingHttpHeaders, request } from 'node:http'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { type IP, parseIP } from '../../src/net/ip.ts'

export interface Reply {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly body: string
}

export interface Ask {
  readonly host?: string
  readonly method?: string
  readonly agent?: Agent
  readonly body?: string
}

/** Sends a request; rejects when the connection is refused or ends without an answer. */
export function ask(port: number, path: string, { host = '127.0.0.1', method = 'GET', agent, body }: Ask = {}) {
  return new Promise<Reply>((resolve, reject) => {
    const sent = request({ host, port, path, method, agent: agent ?? new Agent(), timeout: 10_000 }, response => {
      const chunks: Buffer[] = []
      response.on('data', (chunk: Buffer) => chunks.push(chunk))
      response.on('error', reject)
      response.on('end', () => {
        const { statusCode = 0, headers } = response
        resolve({ status: statusCode, headers, body: Buffer.concat(chunks).toString() })
      })
    })
    sent.on('error', reject)
    sent.end(body)
  })
}

/** Resolves to the error code of a request that gets no answer. */
export const refusal = (port: number, path = '/', options: Ask = {}): Promise<string> =>
  ask(port, path, options).then(
    ({ status }) => `status ${status}`,
    (error: NodeJS.ErrnoException) => error.code ?? error.message,
  )

/** A connection that says nothing but `words`. */
export function silent(port: number, words = '', host = '127.0.0.1'): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ port, host })
    socket.on('error', reject)
    socket.once('connect', () => {
      if (words !== '') socket.write(words)
      resolve(socket)
    })
  })
}

/** Resolves to all that the other side sent when it ends the connection. */
export function ended(socket: Socket): Promise<string> {
  return new Promise(resolve => {
    let text = ''
    socket.on('data', (chunk: Buffer) => {
      text += chunk.toString()
    })
    socket.on('error', () => undefined)
    socket.once('close', () => resolve(text))
    socket.resume()
  })
}

/** Takes a port, as another program would; 0 takes a free one. */
export function occupy(port = 0, host = '127.0.0.1'): Promise<{ port: number; free: () => Promise<void> }> {
  const server: Server = createServer(socket => socket.destroy())
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen({ port, host, ipv6Only: true }, () => {
      const at = server.address()
      resolve({
        port: typeof at === 'object' && at !== null ? at.port : 0,
        free: () => new Promise(freed => void server.close(() => freed())),
      })
    })
  })
}

/** A port that nobody has at the moment. */
export async function freePort(host = '127.0.0.1'): Promise<number> {
  const { port, free } = await occupy(0, host)
  await free()
  return port
}

/** Resolves once the condition holds; a test that waits in vain ends by its own time limit. */
export async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await condition())) await sleep(5)
}

/** @throws Error if the text is no address. */
export function ip(text: string): IP {
  const address = parseIP(text)
  if (address === undefined) throw new Error(`"${text}" is no address`)
  return address
}
