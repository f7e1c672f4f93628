// HTTP/1.1 to the API server under our own keep-alive agents: no total time limits, at most one socket a watch.
import { createHash } from 'node:crypto'
import http, { type IncomingHttpHeaders, type IncomingMessage } from 'node:http'
import https from 'node:https'
import { codeOf, isTLSCode, StreamError, statusError } from './errors.ts'

/** What one request needs to be who we are. */
export interface Identity {
  readonly headers: Readonly<Record<string, string>>
  readonly tls: https.AgentOptions
  /** Given where requests must go through a proxy: used as it is, instead of our own agent. */
  readonly agent?: http.Agent
}

/** Where the server is and how to be known there; read anew when the server says that it does not know us. */
export interface Credentials {
  readonly server: string
  resolve(): Promise<Identity>
}

export interface TransportOptions {
  /** Reads the credentials. Throws when they cannot be read. */
  readonly open: () => Credentials
  readonly userAgent?: string
  /** Milliseconds until TCP must be connected; 4 s, so that a host that comes back is noticed soon. */
  readonly connectTimeoutMs?: number
  /** Milliseconds from connected to the end of the TLS handshake; 10 s, as client-go. */
  readonly handshakeTimeoutMs?: number
  /** Milliseconds for the whole of a `send`; 10 s. */
  readonly sendTimeoutMs?: number
  /** Told of every request once its answer begins, or there is none; for metrics. Must not throw. */
  readonly onRequest?: (facts: RequestFacts) => void
}

/** One request that was sent, as it is counted. */
export interface RequestFacts {
  readonly method: string
  /** As in the server's URL: `10.96.0.1:443`. */
  readonly host: string
  /** HTTP status; 0 when there was no answer. */
  readonly status: number
  /** From asking for a socket to the head of the answer. */
  readonly durationMs: number
  /** The same request was sent before, and got this status; absent for the first attempt. */
  readonly retryOf?: number
}

export interface RequestOptions {
  readonly signal: AbortSignal
  /** Accept header; JSON when it is left out. */
  readonly accept?: string
}

export interface Response {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  /** Must be read to its end or destroyed: a body left alone holds its socket. */
  readonly body: IncomingMessage
}

export type Query = Readonly<Record<string, string | number | boolean>>

/** An API server as one identity sees it. */
export interface Connection {
  /** URL of the server. */
  readonly server: string
  /**
   * One GET. No time limit once it is connected: a watch is as long as it is. A 401 is answered by reading the credentials
   * anew and trying once more; other statuses are handed back as they are.
   * @throws the system's or TLS's error, or the signal's reason.
   */
  request(path: string, query: Query, options: RequestOptions): Promise<Response>
  /**
   * Sends a JSON body and returns the answer's.
   * @throws StatusError for an answer that is no success, or as `request`.
   */
  send(method: 'POST' | 'PUT' | 'PATCH', path: string, body: unknown, signal?: AbortSignal): Promise<unknown>
  /** Closes every socket, those of running requests too. */
  close(): void
}

/**
 * Connects credentials to the network; dials nothing yet.
 * @throws what `options.open` throws.
 */
export function createConnection(options: TransportOptions): Connection {
  return new HttpConnection(options)
}

/** A server that died without a word and came back answers the first probe with a reset: we know within 10 s. */
const keepAliveMs = 10_000
const statusBodyLimit = 64 * 1024

interface Call {
  readonly method: string
  readonly path: string
  readonly query: Query
  readonly accept: string
  readonly body?: string
  readonly signal: AbortSignal
}

class HttpConnection implements Connection {
  readonly server: string
  readonly #options: TransportOptions
  #credentials: Credentials
  /** Counts re-reads, so that requests that failed together cause one. */
  #generation = 0
  #refreshing: Promise<void> | undefined
  #agent: http.Agent | undefined
  #agentFingerprint = ''

  constructor(options: TransportOptions) {
    this.#options = options
    this.#credentials = options.open()
    this.server = this.#credentials.server
  }

  request(path: string, query: Query, options: RequestOptions): Promise<Response> {
    const accept = options.accept ?? 'application/json'
    return this.#exchange({ method: 'GET', path, query, accept, signal: options.signal })
  }

  async send(method: 'POST' | 'PUT' | 'PATCH', path: string, body: unknown, signal?: AbortSignal): Promise<unknown> {
    const timeout = AbortSignal.timeout(this.#options.sendTimeoutMs ?? 10_000)
    const response = await this.#exchange({
      method,
      path,
      query: {},
      accept: 'application/json',
      body: JSON.stringify(body),
      signal: signal === undefined ? timeout : AbortSignal.any([signal, timeout]),
    })
    const text = await readAll(response.body)
    if (response.status >= 300) throw statusError(response.status, response.headers['retry-after'], text)
    return text === '' ? undefined : JSON.parse(text)
  }

  close(): void {
    this.#agent?.destroy()
  }

  /** One request, and one more when fresh credentials, or a fresh socket, may turn a failure into an answer. */
  async #exchange(call: Call): Promise<Response> {
    const generation = this.#generation
    let retryOf = 0
    try {
      const response = await this.#once(call)
      if (response.status !== 401) return response
      retryOf = response.status
      response.body.destroy()
    } catch (error) {
      call.signal.throwIfAborted()
      if (error instanceof StaleSocketError) return this.#once(call, retryOf)
      if (!isTLSCode(codeOf(error))) throw error
    }
    await this.#refresh(generation)
    call.signal.throwIfAborted()
    return this.#once(call, retryOf)
  }

  /** Reads kubeconfig, token, certificates anew. What cannot be read leaves the old in force. */
  #refresh(generation: number): Promise<void> {
    if (generation !== this.#generation) return Promise.resolve()
    this.#refreshing ??= Promise.resolve()
      .then(() => {
        this.#credentials = this.#options.open()
      })
      .catch(() => undefined)
      .finally(() => {
        this.#generation += 1
        this.#refreshing = undefined
      })
    return this.#refreshing
  }

  async #once(call: Call, retryOf?: number): Promise<Response> {
    const credentials = this.#credentials
    const auth = await untilAborted(credentials.resolve(), call.signal)
    call.signal.throwIfAborted()
    const url = new URL(credentials.server + call.path)
    for (const [name, value] of Object.entries(call.query)) url.searchParams.set(name, String(value))
    const headers: Record<string, string> = {
      ...auth.headers,
      accept: call.accept,
      'user-agent': this.#options.userAgent ?? 'penstock',
    }
    if (call.body !== undefined) {
      headers['content-type'] = call.method === 'PATCH' ? 'application/merge-patch+json' : 'application/json'
      headers['content-length'] = String(Buffer.byteLength(call.body))
    }
    const agent = auth.agent ?? this.#agentFor(url.protocol, auth.tls)
    return this.#counted(call, retryOf, this.#dispatch(call, url, { method: call.method, headers, agent }))
  }

  async #counted(call: Call, retryOf: number | undefined, answer: Promise<Response>): Promise<Response> {
    const start = performance.now()
    let status = 0
    try {
      const response = await answer
      status = response.status
      return response
    } finally {
      this.#options.onRequest?.({
        method: call.method,
        // Not the URL's: that leaves out the port where it is the scheme's own.
        host: this.server.replace(/^[a-z]+:\/\//, '').replace(/\/.*$/, ''),
        status,
        durationMs: performance.now() - start,
        ...(retryOf === undefined ? {} : { retryOf }),
      })
    }
  }

  #dispatch(call: Call, url: URL, options: https.RequestOptions): Promise<Response> {
    return new Promise((resolve, reject) => {
      const secure = url.protocol === 'https:'
      const request = (secure ? https : http).request(url, options)
      const abort = (): void => {
        request.destroy(asError(call.signal.reason))
      }
      call.signal.addEventListener('abort', abort, { once: true })
      request.once('close', () => call.signal.removeEventListener('abort', abort))
      this.#limitConnecting(request, secure)
      request.once('error', error => {
        const stale = request.reusedSocket && isDropped(codeOf(error))
        reject(stale ? new StaleSocketError('the kept-alive connection was gone', { cause: error }) : error)
      })
      request.once('response', body => resolve({ status: body.statusCode ?? 0, headers: body.headers, body }))
      request.end(call.body)
    })
  }

  /** Limits dialling only; a request that is connected has no limit here. */
  #limitConnecting(request: http.ClientRequest, secure: boolean): void {
    request.once('socket', socket => {
      socket.setKeepAlive(true, keepAliveMs)
      if (!socket.connecting) return
      const give = (what: string, ms: number) =>
        setTimeout(() => request.destroy(new StreamError('unavailable', `no ${what} within ${ms} ms`)), ms)
      let timer = give('connection', this.#options.connectTimeoutMs ?? 4_000)
      socket.once('connect', () => {
        clearTimeout(timer)
        if (secure) timer = give('TLS handshake', this.#options.handshakeTimeoutMs ?? 10_000)
      })
      socket.once('secureConnect', () => clearTimeout(timer))
      request.once('close', () => clearTimeout(timer))
      socket.once('close', () => clearTimeout(timer))
    })
  }

  /** Own agent, replaced when the bytes of CA, certificate or key change (client-node's keeps the old ones). */
  #agentFor(protocol: string, tls: https.AgentOptions): http.Agent {
    const fingerprint = protocol + fingerprintOf(tls)
    if (this.#agent !== undefined && this.#agentFingerprint === fingerprint) return this.#agent
    // Watches still running on the old agent end in their own time; their sockets are then not kept.
    if (this.#agent !== undefined) retire(this.#agent)
    const options = { keepAlive: true, keepAliveMsecs: keepAliveMs, maxFreeSockets: 2, scheduling: 'lifo' as const }
    this.#agent = protocol === 'https:' ? new https.Agent({ ...options, ...tls }) : new http.Agent(options)
    this.#agentFingerprint = fingerprint
    return this.#agent
  }
}

/** The server closed an idle connection just as it was used again: the request was not served. */
class StaleSocketError extends Error {
  override readonly name = 'StaleSocketError'
}

const isDropped = (code: string): boolean => code === 'ECONNRESET' || code === 'EPIPE'

const asError = (reason: unknown): Error => (reason instanceof Error ? reason : new Error('aborted'))

function retire(agent: http.Agent): void {
  agent.maxFreeSockets = 0
  for (const sockets of Object.values(agent.freeSockets)) for (const socket of sockets ?? []) socket.destroy()
}

function fingerprintOf(tls: https.AgentOptions): string {
  const hash = createHash('sha256')
  for (const [name, value] of Object.entries(tls).sort()) {
    hash.update(`\n${name}:`)
    hash.update(Buffer.isBuffer(value) ? value : String(value))
  }
  return hash.digest('hex')
}

/** An exec plugin that hangs must not hang those who have given up waiting. */
function untilAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = (): void => reject(asError(signal.reason))
    if (signal.aborted) return abort()
    signal.addEventListener('abort', abort, { once: true })
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort))
  })
}

/** Reads a short body whole, as far as 64 kB; what comes after is thrown away with its connection. */
export async function readAll(body: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  let bytes = 0
  try {
    for await (const chunk of body) {
      if (!Buffer.isBuffer(chunk)) continue
      chunks.push(chunk)
      bytes += chunk.length
      if (bytes > statusBodyLimit) break
    }
  } finally {
    body.destroy()
  }
  return Buffer.concat(chunks).toString('utf8')
}
