// Single probes over new connections, and long-lived flows that say something and hear it again, all along.
import { createSocket, type Socket as DatagramSocket } from 'node:dgram'
import { connect, type Socket } from 'node:net'
import type { Target } from './cluster.ts'
import type { Greeting } from './server.ts'

/** What came of a new connection. */
export type Outcome =
  | { readonly kind: 'answered'; readonly by: string; readonly seen: string }
  | { readonly kind: 'refused' | 'silent' }
  | { readonly kind: 'error'; readonly message: string }

/** Where from and where to; `localPort` is one that nobody used before. */
export interface Way extends Pick<Target, 'src' | 'dst' | 'port'> {
  readonly localPort: number
}

function failureOf(error: NodeJS.ErrnoException): Outcome {
  switch (error.code) {
    case 'ECONNREFUSED':
      return { kind: 'refused' }
    case 'ETIMEDOUT':
      return { kind: 'silent' }
    default:
      return { kind: 'error', message: error.code ?? error.message }
  }
}

/**
 * Calls back after so many milliseconds unless cleared. What has arrived by then comes first: in a process that had to
 * wait for a processor, timers are late and would otherwise be heard before the answers.
 */
export function patience(ms: number, over: () => void): { clear(): void } {
  let cleared = false
  const timer = setTimeout(() => {
    setImmediate(() => setImmediate(() => cleared || over()))
  }, ms)
  return {
    clear: () => {
      cleared = true
      clearTimeout(timer)
    },
  }
}

/** One connection until its greeting. The handshake has `connectMs`; the greeting after it waits for a busy endpoint. */
export function probeTcp({ src, dst, port, localPort }: Way, connectMs: number, greetingMs: number): Promise<Outcome> {
  return new Promise(resolve => {
    const socket = connect({ host: dst, port, localAddress: src, localPort, noDelay: true })
    let text = ''
    const finish = (outcome: Outcome): void => {
      timer.clear()
      if (socket.connecting) socket.destroy()
      else socket.resetAndDestroy()
      resolve(outcome)
    }
    let timer = patience(connectMs, () => finish({ kind: 'silent' }))
    socket.setEncoding('utf8')
    socket.on('connect', () => {
      timer.clear()
      timer = patience(greetingMs, () => finish({ kind: 'error', message: 'connected, but not greeted' }))
    })
    socket.on('data', (chunk: string) => {
      text += chunk
      if (!text.endsWith('\n')) return
      const { by, seen }: Greeting = JSON.parse(text)
      finish({ kind: 'answered', by, seen })
    })
    socket.on('end', () => finish({ kind: 'error', message: 'closed before the greeting' }))
    socket.on('error', error => finish(failureOf(error)))
  })
}

/** One datagram and its answer. */
export async function probeUdp(way: Way, answerMs: number): Promise<Outcome> {
  const socket = await openUdp(way)
  try {
    return await askUdp(socket, '?', answerMs)
  } finally {
    socket.close()
  }
}

/** A socket that is bound and connected. */
function openUdp({ src, dst, port, localPort }: Way): Promise<DatagramSocket> {
  return new Promise((resolve, reject) => {
    const socket = createSocket(dst.includes(':') ? 'udp6' : 'udp4')
    socket.once('error', reject)
    socket.bind({ address: src, port: localPort, exclusive: true }, () => {
      socket.connect(port, dst, () => {
        socket.off('error', reject)
        resolve(socket)
      })
    })
  })
}

function askUdp(socket: DatagramSocket, words: string, answerMs: number): Promise<Outcome> {
  return new Promise(resolve => {
    const finish = (outcome: Outcome): void => {
      timer.clear()
      socket.off('message', onMessage)
      socket.off('error', onError)
      resolve(outcome)
    }
    const onMessage = (data: Buffer): void => {
      const { by, seen, said }: Greeting = JSON.parse(data.toString())
      if (said === words) finish({ kind: 'answered', by, seen })
    }
    const onError = (error: NodeJS.ErrnoException): void => {
      // A rule in OUTPUT that drops or rejects makes the send fail at once; an ICMP error, if there is one, follows.
      if (error.code !== 'EPERM') finish(failureOf(error))
    }
    const timer = patience(answerMs, () => finish({ kind: 'silent' }))
    socket.on('message', onMessage)
    socket.on('error', onError)
    socket.send(words, error => error && onError(error))
  })
}

/** A long-lived flow. */
export interface Flow {
  readonly greeting: Outcome
  /** Says something and waits to hear it; undefined if that went well, else what happened. */
  echo(number: number, echoMs: number): Promise<string | undefined>
  close(): void
}

/** Opens one. `greeting` says if that worked. */
export const openFlow = (way: Way, protocol: Target['protocol'], greetingMs: number): Promise<Flow> =>
  protocol === 'TCP' ? openTcpFlow(way, greetingMs) : openUdpFlow(way, greetingMs)

function openTcpFlow({ src, dst, port, localPort }: Way, greetingMs: number): Promise<Flow> {
  return new Promise(resolve => {
    const socket = connect({ host: dst, port, localAddress: src, localPort, noDelay: true })
    const flow = new TcpFlow(socket)
    const timer = patience(greetingMs, () => resolve(flow.opened({ kind: 'silent' })))
    let text = ''
    const onGreeting = (data: Buffer): void => {
      text += data.toString()
      if (!text.endsWith('\n')) return
      timer.clear()
      socket.off('data', onGreeting)
      const { by, seen }: Greeting = JSON.parse(text)
      resolve(flow.opened({ kind: 'answered', by, seen }))
    }
    socket.on('data', onGreeting)
    socket.once('error', error => {
      timer.clear()
      resolve(flow.opened(failureOf(error)))
    })
  })
}

class TcpFlow implements Flow {
  greeting: Outcome = { kind: 'silent' }
  readonly #socket: Socket
  #ended: string | undefined
  #heard: ((what: string | undefined) => void) | undefined
  #expected = -1

  constructor(socket: Socket) {
    this.#socket = socket
    const end = (why: string): void => {
      this.#ended ??= why
      this.#heard?.(this.#ended)
    }
    socket.on('error', (error: NodeJS.ErrnoException) => end(`broken: ${error.code ?? error.message}`))
    socket.on('close', () => end('closed'))
  }

  opened(greeting: Outcome): Flow {
    this.greeting = greeting
    this.#socket.on('data', (data: Buffer) => {
      const wrong = data.length === 1 && data[0] === this.#expected ? undefined : `heard ${data.toString('hex')}`
      this.#heard?.(wrong)
    })
    return this
  }

  echo(number: number, echoMs: number): Promise<string | undefined> {
    if (this.#ended !== undefined) return Promise.resolve(this.#ended)
    return new Promise(resolve => {
      this.#expected = number % 256
      const finish = (what: string | undefined): void => {
        timer.clear()
        this.#heard = undefined
        resolve(what)
      }
      const timer = patience(echoMs, () => finish(`no echo within ${echoMs / 1000} s`))
      this.#heard = finish
      this.#socket.write(Uint8Array.of(this.#expected))
    })
  }

  close(): void {
    this.#socket.resetAndDestroy()
  }
}

async function openUdpFlow(way: Way, greetingMs: number): Promise<Flow> {
  const socket = await openUdp(way)
  const greeting = await askUdp(socket, 'first', greetingMs)
  // Between two questions an ICMP error may arrive; the next question then goes unanswered or not, which is what counts.
  socket.on('error', () => undefined)
  return {
    greeting,
    echo: async (number, echoMs) => {
      const outcome = await askUdp(socket, String(number), echoMs)
      if (outcome.kind !== 'answered') return outcome.kind === 'error' ? outcome.message : outcome.kind
      if (greeting.kind === 'answered' && outcome.by !== greeting.by)
        return `moved from ${greeting.by} to ${outcome.by}`
      return undefined
    },
    close: () => socket.close(),
  }
}
