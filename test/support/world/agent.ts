// A process inside a namespace of the world: answers on the endpoints' addresses and sends probes, all those of a step at one
// call, because a message between two processes costs more than a connection, in an emulated machine above all. Run by
// `Sandbox.worker`.
import { createSocket, type Socket as DatagramSocket } from 'node:dgram'
import { connect, createServer, type Server } from 'node:net'
import { answerCalls } from '../netns/calls.ts'
import { eachLimited } from './limited.ts'

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

const listeners = new Map<string, Server | DatagramSocket>()

const keyOf = (l: Listener): string => `${l.protocol} ${l.address} ${l.port}`
const format = (address: string, port: number): string =>
  address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`

/** Listens on exactly these from now on. Throws if an address cannot be bound. */
async function serve(params: { readonly listeners: readonly Listener[] }): Promise<void> {
  const wanted = new Map(params.listeners.map(l => [keyOf(l), l]))
  for (const [key, open] of listeners) {
    if (wanted.has(key)) continue
    listeners.delete(key)
    await new Promise<void>(resolve => open.close(() => resolve()))
  }
  const missing = [...wanted].filter(([key]) => !listeners.has(key))
  await Promise.all(missing.map(async ([key, l]) => listeners.set(key, await (l.protocol === 'TCP' ? tcp(l) : udp(l)))))
}

// A reply is two words: the responder's own address and port, and the client's address as it saw it.

function tcp({ address, port }: Listener): Promise<Server> {
  const own = format(address, port)
  return new Promise((resolve, reject) => {
    const server = createServer({ noDelay: true }, socket => {
      // A prober that has what it wants resets the connection.
      socket.on('error', () => undefined)
      socket.end(`${own} ${socket.remoteAddress ?? ''}\n`)
    })
    server.once('error', reject)
    server.listen({ host: address, port, backlog: 4096 }, () => resolve(server))
  })
}

function udp({ address, port }: Listener): Promise<DatagramSocket> {
  const own = format(address, port)
  return new Promise((resolve, reject) => {
    const socket = createSocket(address.includes(':') ? 'udp6' : 'udp4', (_data, from) => {
      socket.send(`${own} ${from.address}\n`, from.port, from.address)
    })
    socket.once('error', reject)
    socket.bind({ address, port, exclusive: true }, () => {
      socket.off('error', reject)
      socket.on('error', () => undefined)
      resolve(socket)
    })
  })
}

const answered = (text: string): ProbeResult => {
  const [by = '', seen = ''] = text.trimEnd().split(' ')
  return { kind: 'answered', by, seen }
}

/** What an error says of the packet; undefined for one that says nothing of it. */
function failed(error: NodeJS.ErrnoException): ProbeResult | undefined {
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
      return undefined
  }
}

function probe(params: Probe): Promise<ProbeResult> {
  const { promise, resolve, reject } = Promise.withResolvers<ProbeResult>()
  const close = (params.protocol === 'TCP' ? probeTcp : probeUdp)(params, resolve, error => {
    const result = failed(error)
    if (result === undefined) reject(error)
    else resolve(result)
  })
  const timer = setTimeout(() => resolve({ kind: 'silent' }), params.timeoutMs)
  return promise.finally(() => {
    clearTimeout(timer)
    close()
  })
}

type Attempt = (
  params: Probe,
  resolve: (result: ProbeResult) => void,
  fail: (error: NodeJS.ErrnoException) => void,
) => () => void

const probeTcp: Attempt = ({ src, dst, port }, resolve, fail) => {
  const socket = connect({ host: dst, port, localAddress: src })
  let text = ''
  socket.on('data', chunk => {
    text += chunk.toString()
    if (text.endsWith('\n')) resolve(answered(text))
  })
  socket.on('error', fail)
  // Without a reset thousands of probes would leave as many ports in TIME_WAIT.
  return () => (socket.connecting ? socket.destroy() : socket.resetAndDestroy())
}

const probeUdp: Attempt = ({ src, dst, port }, resolve, fail) => {
  const socket = createSocket(dst.includes(':') ? 'udp6' : 'udp4')
  let open = true
  const onError = (error: NodeJS.ErrnoException): void => {
    // A rule in OUTPUT that drops or rejects makes the send fail at once; an ICMP error, if there is one, follows.
    if (error.code !== 'EPERM') fail(error)
  }
  socket.on('error', onError)
  socket.on('message', data => resolve(answered(data.toString())))
  socket.bind({ address: src, port: 0, exclusive: true }, () => {
    if (!open) return
    socket.connect(port, dst, (error?: Error) => {
      if (!open) return
      if (error !== undefined && error !== null) onError(error)
      else socket.send('?', sendError => sendError && onError(sendError))
    })
  })
  return () => {
    open = false
    socket.close()
  }
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

/** Sends all of these, some at once; results in their order. */
const ask = (params: { readonly questions: readonly Spread[]; readonly parallel: number }) =>
  eachLimited(params.questions, params.parallel, spread)

const agentMethods = { serve, ask }
export type AgentMethods = typeof agentMethods

if (process.send !== undefined) {
  process.on('SIGINT', () => undefined)
  answerCalls(agentMethods)
}
