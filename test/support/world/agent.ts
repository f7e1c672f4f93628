// A process inside a namespace of the world: answers on the endpoints' addresses and sends probes. Run by `Sandbox.worker`.
import { createSocket, type Socket as DatagramSocket } from 'node:dgram'
import { connect, createServer, type Server } from 'node:net'
import { answerCalls } from '../netns/calls.ts'

export interface Listener {
  readonly address: string
  readonly port: number
  readonly protocol: 'TCP' | 'UDP'
}

export interface Probe {
  readonly src: string
  readonly dst: string
  readonly port: number
  readonly protocol: 'TCP' | 'UDP'
  /** Milliseconds without an answer after which the probe is called silent. */
  readonly timeoutMs: number
}

/** What came of one probe. `refused` is a reset or a port-unreachable; `unreachable` any other ICMP error. */
export type ProbeResult =
  | { readonly kind: 'answered'; readonly by: string; readonly seen: string }
  | { readonly kind: 'refused' | 'silent' | 'unreachable' }

export interface Spread {
  readonly probe: Probe
  /** Stop once all of these have answered … */
  readonly expected: readonly string[]
  /** … and this many have been sent, so that something unexpected has had its chance. */
  readonly atLeast: number
  /** Give up after this many. */
  readonly attempts: number
  /** Probes under way at once; 1 where an earlier answer decides the next. */
  readonly parallel: number
}

/** What a responder says: its own address and port, and the client's address as it saw it. */
interface Reply {
  readonly by: string
  readonly seen: string
}

const listeners = new Map<string, Server | DatagramSocket>()

const keyOf = (l: Listener): string => `${l.protocol} ${l.address} ${l.port}`
const format = (address: string, port: number): string =>
  address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`

/** Listens on exactly these from now on. Throws if an address cannot be bound. */
async function serve(params: { listeners: readonly Listener[] }): Promise<void> {
  const wanted = new Map(params.listeners.map(l => [keyOf(l), l]))
  for (const [key, open] of listeners) {
    if (wanted.has(key)) continue
    listeners.delete(key)
    await new Promise<void>(resolve => open.close(() => resolve()))
  }
  const missing = [...wanted.values()].filter(l => !listeners.has(keyOf(l)))
  await Promise.all(missing.map(async l => listeners.set(keyOf(l), await (l.protocol === 'TCP' ? tcp(l) : udp(l)))))
}

function tcp({ address, port }: Listener): Promise<Server> {
  return new Promise((resolve, reject) => {
    const server = createServer({ noDelay: true }, socket => {
      const reply: Reply = { by: format(address, port), seen: socket.remoteAddress ?? '' }
      // A prober that has what it wants resets the connection.
      socket.on('error', () => undefined)
      socket.end(`${JSON.stringify(reply)}\n`)
    })
    server.once('error', reject)
    server.listen({ host: address, port, backlog: 4096 }, () => resolve(server))
  })
}

function udp({ address, port }: Listener): Promise<DatagramSocket> {
  return new Promise((resolve, reject) => {
    const socket = createSocket(address.includes(':') ? 'udp6' : 'udp4', (_data, from) => {
      const reply: Reply = { by: format(address, port), seen: from.address }
      socket.send(JSON.stringify(reply), from.port, from.address)
    })
    socket.once('error', reject)
    socket.bind({ address, port, exclusive: true }, () => {
      socket.off('error', reject)
      socket.on('error', () => undefined)
      resolve(socket)
    })
  })
}

function probe(params: Probe): Promise<ProbeResult> {
  return params.protocol === 'TCP' ? probeTcp(params) : probeUdp(params)
}

const answered = (text: string): ProbeResult => {
  const reply: Reply = JSON.parse(text)
  return { kind: 'answered', by: reply.by, seen: reply.seen }
}

function failed(error: NodeJS.ErrnoException): ProbeResult {
  switch (error.code) {
    case 'ECONNREFUSED':
    case 'ECONNRESET':
      return { kind: 'refused' }
    case 'ETIMEDOUT':
      return { kind: 'silent' }
    case 'ENETUNREACH':
    case 'EHOSTUNREACH':
    case 'EACCES':
      return { kind: 'unreachable' }
    default:
      throw error
  }
}

function probeTcp({ src, dst, port, timeoutMs }: Probe): Promise<ProbeResult> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: dst, port, localAddress: src })
    let text = ''
    const timer = setTimeout(() => finish(() => ({ kind: 'silent' })), timeoutMs)
    const finish = (result: () => ProbeResult): void => {
      clearTimeout(timer)
      // Without a reset thousands of probes would leave as many ports in TIME_WAIT.
      if (socket.connecting) socket.destroy()
      else socket.resetAndDestroy()
      try {
        resolve(result())
      } catch (error) {
        reject(error)
      }
    }
    socket.setEncoding('utf8')
    socket.on('data', (chunk: string) => {
      text += chunk
      if (text.endsWith('\n')) finish(() => answered(text))
    })
    socket.on('error', error => finish(() => failed(error)))
  })
}

function probeUdp({ src, dst, port, timeoutMs }: Probe): Promise<ProbeResult> {
  return new Promise((resolve, reject) => {
    const socket = createSocket(dst.includes(':') ? 'udp6' : 'udp4')
    let over = false
    const finish = (result: () => ProbeResult): void => {
      if (over) return
      over = true
      clearTimeout(timer)
      socket.close()
      try {
        resolve(result())
      } catch (error) {
        reject(error)
      }
    }
    const timer = setTimeout(() => finish(() => ({ kind: 'silent' })), timeoutMs)
    const onError = (error: NodeJS.ErrnoException): void => {
      // A rule in OUTPUT that drops or rejects makes the send fail at once; an ICMP error, if there is one, follows.
      if (error.code !== 'EPERM') finish(() => failed(error))
    }
    socket.on('error', onError)
    socket.on('message', data => finish(() => answered(data.toString())))
    socket.bind({ address: src, port: 0, exclusive: true }, () => {
      socket.connect(port, dst, (error?: Error) => {
        if (error !== undefined && error !== null) onError(error)
        else socket.send('?', sendError => sendError && onError(sendError))
      })
    })
  })
}

/** Probes until every expected endpoint has answered, or something else came, or the attempts are used up. */
async function spread(params: Spread): Promise<readonly ProbeResult[]> {
  const results: ProbeResult[] = []
  const missing = new Set(params.expected)
  while (results.length < params.attempts && (missing.size > 0 || results.length < params.atLeast)) {
    const count = Math.min(params.parallel, params.attempts - results.length)
    const round = await Promise.all(Array.from({ length: count }, () => probe(params.probe)))
    results.push(...round)
    for (const result of round) if (result.kind === 'answered') missing.delete(result.by)
    if (round.some(result => result.kind !== 'answered' || !params.expected.includes(result.by))) break
  }
  return results
}

const agentMethods = { serve, probe, spread, ready: () => true }
export type AgentMethods = typeof agentMethods

if (process.send !== undefined) {
  process.on('SIGINT', () => undefined)
  answerCalls(agentMethods)
}
