// An HTTP server that outlives what is in its way: a port taken by another, an address not there yet, clients that mean ill.
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { type HttpAnswer, type HttpHandler, textAnswer } from '../net/http.ts'
import { familyOf, formatAddressPort, type IP } from '../net/ip.ts'
import { Connections } from './connections.ts'

/** Where to listen. */
export interface Binding {
  readonly address: IP
  /** 0: any free one. */
  readonly port: number
  /**
   * An unspecified address (0.0.0.0 or ::) stands for the addresses of both families, as for Go's network "tcp", with
   * which kube-proxy listens for health and metrics: one IPv6 socket that takes IPv4 too. On a machine without IPv6, and
   * for any other address, there is no difference. Left out: the address's own family only, as Go's "tcp4" and "tcp6".
   */
  readonly dualStack?: boolean
}

/** How long what may take, milliseconds. */
export interface Patience {
  /** Between two attempts to listen. kube-proxy's is 5 s (`kube-proxy.md` §10.1). */
  readonly retryMs: number
  /** From the connection, or the first byte of a further request, to the end of its headers. */
  readonly headersMs: number
  /** To the end of the whole request. */
  readonly requestMs: number
  /** An answer that nobody reads, or that takes too long to be made. */
  readonly stallMs: number
  /** Between two requests on one connection: longer than the usual 60 s between scrapes, so that none races its end. */
  readonly idleMs: number
  /**
   * Between two looks for connections that take longer than `headersMs` or `requestMs`. It is a timer of each server: 1,000
   * servers that look every 5 s take 0.18 % of a CPU while nothing happens, every 30 s 0.02 %.
   */
  readonly lookMs: number
}

const usualPatience: Patience = {
  retryMs: 5_000,
  headersMs: 5_000,
  requestMs: 10_000,
  stallMs: 30_000,
  idleMs: 120_000,
  lookMs: 5_000,
}

export interface ListenerOptions {
  readonly binding: Binding
  readonly handle: HttpHandler
  /** Told, as a sentence, why it does not listen; again only when the reason is another. It is retried until it works. */
  readonly onListenFailure: (reason: string) => void
  /** Told each time that it begins to listen. */
  readonly onListening?: (at: { address: string; port: number }) => void
  /** Told of what a handler threw; the client got status 500. */
  readonly onError?: (error: unknown) => void
  /** The first attempt is the last: `start` rejects (`bindAddressHardFail`). */
  readonly hardFail?: boolean
  /** Counted together with the connections of other listeners; left out: 256 of its own. */
  readonly connections?: Connections
  readonly patience?: Partial<Patience>
}

/** The address and port cannot be had, and `hardFail` forbids to wait for them. */
export class ListenError extends Error {
  constructor(reason: string, options: { cause: unknown }) {
    super(reason, options)
    this.name = 'ListenError'
  }
}

const mostConnections = 256
/** Nobody who means well sends requests without waiting for answers: Go's, curl's and the load balancers' clients do not. */
const mostUnanswered = 16
/** Go's own limit is 1 MiB; a scrape's bearer token takes less than 2 KiB. */
const maxHeaderSize = 16_384

/**
 * Serves HTTP at one address and port until closed. Any client may be slow, silent or hostile: beyond the limit of
 * connections the longest idle one gives way to the newest, so that a probe gets through whatever else is open.
 */
export class HttpListener {
  readonly #options: ListenerOptions
  readonly #patience: Patience
  readonly #connections: Connections
  #server: Server | undefined
  #retry: NodeJS.Timeout | undefined
  #reason: string | undefined
  #closed = false

  constructor(options: ListenerOptions) {
    this.#options = options
    this.#patience = { ...usualPatience, ...options.patience }
    this.#connections = options.connections ?? new Connections(mostConnections)
  }

  /**
   * Makes the first attempt to listen. Resolves when that is over, whether or not it succeeded: if not, the next follows by
   * itself.
   * @throws ListenError with `hardFail`.
   */
  async start(): Promise<void> {
    const error = await this.#tryOnce()
    if (error !== undefined && this.#options.hardFail === true && !this.#closed) {
      await this.close()
      throw new ListenError(this.#sentence(error), { cause: error })
    }
  }

  /** Tries at once, if it waits for the next attempt; otherwise does nothing. */
  retryNow(): void {
    if (this.#retry !== undefined) void this.#tryOnce()
  }

  /** Where it listens now; undefined while it does not. */
  get listeningAt(): { address: string; port: number } | undefined {
    const at = this.#server?.listening === true ? this.#server.address() : undefined
    return typeof at === 'object' && at !== null ? placeOf(at) : undefined
  }

  /** Gives the port up at once and ends all connections, those that are being answered too. */
  async close(): Promise<void> {
    this.#closed = true
    clearTimeout(this.#retry)
    this.#retry = undefined
    const server = this.#server
    this.#server = undefined
    if (server === undefined) return
    const ended = new Promise<void>(resolve => void server.close(() => resolve()))
    server.closeAllConnections()
    await ended
  }

  async #tryOnce(): Promise<NodeJS.ErrnoException | undefined> {
    clearTimeout(this.#retry)
    this.#retry = undefined
    const error = await this.#listen()
    if (this.#closed) return undefined
    if (error === undefined) {
      this.#reason = undefined
      const at = this.listeningAt
      if (at !== undefined) this.#options.onListening?.(at)
      return undefined
    }
    if (this.#options.hardFail === true) return error
    this.#tell(`${this.#sentence(error)}; it is tried again every ${this.#patience.retryMs / 1000} s`)
    this.#retry = setTimeout(() => void this.#tryOnce(), this.#patience.retryMs).unref()
    return error
  }

  /** Opens the socket, in IPv4 alone where both families are meant and the machine has no IPv6. */
  async #listen(): Promise<NodeJS.ErrnoException | undefined> {
    const { address, port, dualStack } = this.#options.binding
    if (dualStack !== true || !isUnspecified(address)) return this.#open(address, port, true)
    const error = await this.#open('::', port, false)
    return error?.code === 'EAFNOSUPPORT' || error?.code === 'EADDRNOTAVAIL' ? this.#open('0.0.0.0', port, true) : error
  }

  #open(host: string, port: number, ipv6Only: boolean): Promise<NodeJS.ErrnoException | undefined> {
    if (this.#closed) return Promise.resolve(undefined)
    const server = this.#makeServer()
    this.#server = server
    return new Promise(resolve => {
      server.once('error', error => {
        if (this.#server === server && !server.listening) this.#server = undefined
        resolve(error)
      })
      server.once('close', () => resolve(undefined))
      server.listen({ host, port, ipv6Only }, () => {
        // Closed while it was about to listen.
        if (this.#closed) server.close()
        server.removeAllListeners('error')
        // Once it listens, what fails is taking a connection, for want of file descriptors: those that are open go on.
        server.on('error', error => this.#options.onError?.(error))
        resolve(undefined)
      })
    })
  }

  #makeServer(): Server {
    const { headersMs, requestMs, stallMs, idleMs, lookMs } = this.#patience
    const server = createServer(
      {
        headersTimeout: headersMs,
        requestTimeout: requestMs,
        connectionsCheckingInterval: lookMs,
        keepAliveTimeout: idleMs,
        maxHeaderSize,
      },
      (request, response) => this.#serve(request, response),
    )
    server.setTimeout(stallMs)
    server.on('connection', (socket: Socket) => this.#connections.opened(socket))
    return server
  }

  #serve(request: IncomingMessage, response: ServerResponse): void {
    const { socket } = request
    if (socket.destroyed) return
    if (this.#connections.asked(socket) > mostUnanswered) {
      socket.destroy()
      return
    }
    response.once('close', () => this.#connections.answered(socket))
    const { method = '', url = '/' } = request
    void this.#answer(method, pathOf(url)).then(answer => {
      if (!response.destroyed && !this.#closed) this.#send(response, answer)
    })
  }

  #send(response: ServerResponse, { status, headers, body }: HttpAnswer): void {
    try {
      response.writeHead(status, { ...headers, 'Content-Length': Buffer.byteLength(body) })
      // Node leaves the body out where the method is HEAD.
      response.end(body)
    } catch (error) {
      // A header that HTTP does not allow.
      this.#options.onError?.(error)
      response.destroy()
    }
  }

  async #answer(method: string, path: string): Promise<HttpAnswer> {
    try {
      return await this.#options.handle({ method, path })
    } catch (error) {
      this.#options.onError?.(error)
      return textAnswer(500, 'this could not be answered; the log says why\n')
    }
  }

  #tell(reason: string): void {
    if (reason === this.#reason) return
    this.#reason = reason
    this.#options.onListenFailure(reason)
  }

  #sentence(error: NodeJS.ErrnoException): string {
    const { address, port } = this.#options.binding
    return `cannot listen on ${formatAddressPort(address, port)}: ${why(error)}`
  }
}

function why(error: NodeJS.ErrnoException): string {
  switch (error.code) {
    case 'EADDRINUSE':
      return 'another program has this port'
    case 'EADDRNOTAVAIL':
      return 'this machine has no such address'
    case 'EACCES':
      return 'the right to listen on a port below 1024 is missing (CAP_NET_BIND_SERVICE)'
    default:
      return error.message
  }
}

const isUnspecified = (address: IP): boolean => address === (familyOf(address) === 'IPv4' ? '0.0.0.0' : '::')

const placeOf = ({ address, port }: AddressInfo) => ({ address, port })

/** A request's target without its query; of the absolute form, the path. */
function pathOf(url: string): string {
  const [target = ''] = url.split('?', 1)
  const absolute = /^https?:\/\/[^/]*(.*)$/i.exec(target)
  return absolute === null ? target : absolute[1] || '/'
}
