// An API server in one process, for the demo, tests and benchmarks: HTTPS, tokens, lists, watches, writes, faults.
import { randomBytes } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import { createServer, type Server } from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import { parseCIDR } from '../../../src/net/ip.ts'
import { Allocator } from './allocator.ts'
import { type Authority, makeAuthority, makeServerCertificate, type ServerCertificate } from './certificates.ts'
import { decode } from './codec.ts'
import { type Fault, type FaultHandle, Faults, type Verb } from './faults.ts'
import { type HandlerContext, handle } from './handler.ts'
import { isObject, type JsonObject } from './json.ts'
import { kubeconfigText } from './kubeconfig.ts'
import { Registry } from './registry.ts'
import { RequestLog, type RequestRecord } from './requests.ts'
import { resourceNamed, resourceOf } from './resources.ts'
import { Store } from './store.ts'
import type { Watch, WatchListSupport } from './watch.ts'

export interface ApiServerOptions {
  /** Address to listen on; 127.0.0.1 when absent. */
  readonly address?: string
  /** 0 or absent: any free port. */
  readonly port?: number
  /** Addresses and names the certificate is valid for, besides those of this machine's loopback and `address`. */
  readonly certificateHosts?: readonly string[]
  /** The bearer token clients must send; a random one when absent. */
  readonly token?: string
  /** Where cluster IPs come from, at most one a family; 10.96.0.0/16 and fd00:10:96::/112 when absent. */
  readonly serviceCIDRs?: readonly string[]
  /** How `sendInitialEvents` is met; `served` when absent. */
  readonly watchList?: WatchListSupport
  /** A watch from a compacted revision is told 410 by an ERROR event, as today's servers do, or by the response. */
  readonly gone?: 'event' | 'response'
  /** Milliseconds between the bookmarks of a watch; 60,000 when absent. */
  readonly bookmarkIntervalMs?: number
  /** How long a watch lasts whose client does not say; 1,800 when absent. */
  readonly watchTimeoutSeconds?: number
  /** Changes of a kind that are remembered for watches and paged lists; 100,000 when absent. */
  readonly historyLimit?: number
  /** The revision to begin at; 1 when absent. Lower than a client has seen: a cluster restored from a backup. */
  readonly resourceVersion?: number
}

/** An object by what it is called. */
export interface ObjectReference {
  readonly kind: string
  readonly namespace?: string
  readonly name: string
}

/** Starts a server and resolves once it listens. Rejects if the address is taken or a service CIDR is malformed. */
export async function startApiServer(options: ApiServerOptions = {}): Promise<ApiServer> {
  const address = options.address ?? '127.0.0.1'
  const hosts = ['localhost', 'kubernetes', 'kubernetes.default.svc', '127.0.0.1', '::1', address]
  const allHosts = [...hosts, ...(options.certificateHosts ?? [])].filter(host => host !== '0.0.0.0' && host !== '::')
  const authority = await makeAuthority('embedded CA 1')
  const server = new ApiServer(options, allHosts, authority, await makeServerCertificate(authority, allHosts))
  await server.listen(address, options.port ?? 0)
  return server
}

/** A running server. */
export class ApiServer {
  readonly store: Store
  readonly #registry: Registry
  readonly #faults = new Faults()
  readonly #log = new RequestLog()
  readonly #watches = new Set<Watch>()
  readonly #sockets = new Set<Socket>()
  readonly #server: Server
  readonly #hosts: readonly string[]
  #authority: Authority
  #authorities = 1
  #tokens: Set<string>
  #token: string
  #address = ''
  #port = 0
  #accepted = 0

  constructor(
    options: ApiServerOptions,
    hosts: readonly string[],
    authority: Authority,
    certificate: ServerCertificate,
  ) {
    const cidrs = (options.serviceCIDRs ?? ['10.96.0.0/16', 'fd00:10:96::/112']).map(text => {
      const cidr = parseCIDR(text)
      if (cidr === undefined) throw new Error(`service CIDR ${text} is not a CIDR`)
      return cidr
    })
    this.store = new Store({
      historyLimit: options.historyLimit ?? 100_000,
      resourceVersion: options.resourceVersion ?? 1,
    })
    this.#registry = new Registry(this.store, new Allocator(cidrs))
    this.#hosts = hosts
    this.#authority = authority
    this.#token = options.token ?? randomBytes(16).toString('hex')
    this.#tokens = new Set([this.#token])
    const context: HandlerContext = {
      store: this.store,
      registry: this.#registry,
      faults: this.#faults,
      log: this.#log,
      watches: this.#watches,
      watchList: options.watchList ?? 'served',
      gone: options.gone ?? 'event',
      bookmarkIntervalMs: options.bookmarkIntervalMs ?? 60_000,
      watchTimeoutSeconds: options.watchTimeoutSeconds ?? 1800,
      address: () => `${this.#address}:${this.#port}`,
      isAuthorized: header => header?.startsWith('Bearer ') === true && this.#tokens.has(header.slice(7)),
      reset: request => this.#reset(request),
    }
    // Node's own limits would cut what a real API server leaves open: an idle connection for 90 s and more, a slow request.
    this.#server = createServer(
      { ...certificate, keepAliveTimeout: 180_000, requestTimeout: 0 },
      (request, response) => {
        void handle(context, request, response)
      },
    )
    this.#server.on('connection', (socket: Socket) => {
      this.#accepted++
      this.#sockets.add(socket)
      socket.on('close', () => this.#sockets.delete(socket))
    })
    // A client that resets or refuses the certificate concerns nobody else.
    this.#server.on('tlsClientError', (_error, socket) => socket.destroy())
  }

  /** Begins to accept connections. Rejects if the address is taken. */
  async listen(address: string, port: number): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject)
      this.#server.listen(port, address, () => {
        this.#server.off('error', reject)
        resolve()
      })
    })
    this.#address = address
    this.#port = (this.#server.address() as AddressInfo).port
  }

  /** Stops for good: connections are dropped, the port is free when this resolves. */
  async stop(): Promise<void> {
    this.#faults.clear()
    await this.refuseConnections()
  }

  get port(): number {
    return this.#port
  }

  /** `https://127.0.0.1:34567`; the loopback address if it listens on all. */
  get url(): string {
    return this.urlFor(this.#address === '0.0.0.0' ? '127.0.0.1' : this.#address === '::' ? '::1' : this.#address)
  }

  /** The URL under another address or name of the server. */
  urlFor(host: string): string {
    return `https://${host.includes(':') ? `[${host}]` : host}:${this.#port}`
  }

  /** PEM of the authority that signed the present certificate. */
  get ca(): string {
    return this.#authority.cert
  }

  /** The token clients are to send. */
  get token(): string {
    return this.#token
  }

  /** YAML of a kubeconfig for a client that reaches the server under this host (its own address when absent). */
  kubeconfig(host?: string, files: { readonly tokenFile?: string; readonly caFile?: string } = {}): string {
    return kubeconfigText({
      server: host === undefined ? this.url : this.urlFor(host),
      ca: this.ca,
      token: this.#token,
      ...files,
    })
  }

  // ---- objects, from within the process

  /**
   * Creates or replaces objects as they are, status included; the server's defaults are filled in and nothing is refused.
   * Throws an Error for a kind the server does not know and for an object without name.
   */
  put(objects: object | readonly object[]): void {
    for (const object of Array.isArray(objects) ? objects : [objects]) {
      if (!isObject(object)) throw new Error('put takes API objects')
      this.#registry.put(resourceOf(object), object)
    }
  }

  /** Deletes an object, finalizers or not. Throws a 404 ApiError if there is none. */
  delete(reference: ObjectReference): void {
    const resource = resourceNamed(reference.kind)
    this.#registry.delete(resource, keyIn(reference, resource.namespaced), {}, { trusted: true })
  }

  /** The present object, a copy; undefined if there is none. */
  get(reference: ObjectReference): JsonObject | undefined {
    const resource = resourceNamed(reference.kind)
    const entry = this.store.get(resource.storage, keyIn(reference, resource.namespaced))
    return entry === undefined ? undefined : decode(resource, entry)
  }

  /** All objects of a kind in key order, copies. */
  list(kind: string): JsonObject[] {
    const resource = resourceNamed(kind)
    return this.store.list(resource.storage).map(entry => decode(resource, entry))
  }

  /** The revision of the last change. */
  get resourceVersion(): number {
    return this.store.resourceVersion
  }

  /** Forgets the history up to a revision (the present one when absent): older watches and `continue` tokens get 410. */
  compact(upTo?: number): void {
    this.store.compact(upTo)
  }

  /** Sends a bookmark on every open watch that takes them, without waiting for the interval. */
  sendBookmarks(): void {
    for (const watch of this.#watches) watch.bookmark()
  }

  // ---- faults

  /** Puts a fault in force; a stream fault also strikes watches that are open. */
  fault(fault: Fault): FaultHandle {
    const handle = this.#faults.add(fault)
    for (const watch of this.#watches) {
      if (!fault.kind.startsWith('stream-')) break
      const struck = this.#faults.forStream('watch', watch.resource.plural, handle)
      if (struck !== undefined) watch.inject(struck)
    }
    return handle
  }

  /** Ends all faults. What they have done to open connections stays. */
  clearFaults(): void {
    this.#faults.clear()
  }

  /** Stops listening and drops every connection: new ones are refused until `acceptConnections`. */
  async refuseConnections(): Promise<void> {
    const closed = new Promise<void>(resolve => this.#server.close(() => resolve()))
    this.dropConnections()
    await closed
  }

  /** Listens again, on the same address and port. */
  async acceptConnections(): Promise<void> {
    await this.listen(this.#address, this.#port)
  }

  /** Drops every open connection. */
  dropConnections(): void {
    for (const socket of this.#sockets) socket.destroy()
  }

  /** From the next connection on, another certificate; with `newAuthority` one that today's CA does not vouch for. */
  async swapCertificate(options: { readonly newAuthority?: boolean } = {}): Promise<void> {
    if (options.newAuthority === true) this.#authority = await makeAuthority(`embedded CA ${++this.#authorities}`)
    this.#server.setSecureContext(await makeServerCertificate(this.#authority, this.#hosts))
  }

  /** Another token; the old ones are refused from the next request on unless they are kept. Open watches go on. */
  rotateToken(options: { readonly token?: string; readonly keepOld?: boolean } = {}): string {
    this.#token = options.token ?? randomBytes(16).toString('hex')
    this.#tokens = new Set(options.keepOld === true ? [...this.#tokens, this.#token] : [this.#token])
    return this.#token
  }

  // ---- what happened

  /** The requests that came, in order; of this verb and resource (plural, or path) where given. */
  requests(verb?: Verb, resource?: string): readonly RequestRecord[] {
    return this.#log.find(verb, resource)
  }

  /** How many requests came. */
  count(verb?: Verb, resource?: string): number {
    return this.#log.find(verb, resource).length
  }

  /** Begins to count anew. */
  clearRequests(): void {
    this.#log.clear()
  }

  /** Watches open now, of one resource (plural) or all. */
  openWatches(resource?: string): number {
    let open = 0
    for (const watch of this.#watches) if (resource === undefined || watch.resource.plural === resource) open++
    return open
  }

  /** TCP connections open now. */
  get openSockets(): number {
    return this.#sockets.size
  }

  /** TCP connections accepted since the start. */
  get acceptedSockets(): number {
    return this.#accepted
  }

  /** A request's own socket is the TLS one; only the TCP socket beneath it can send RST. */
  #reset(request: IncomingMessage): void {
    const { remotePort, remoteAddress } = request.socket
    for (const socket of this.#sockets) {
      if (socket.remotePort === remotePort && socket.remoteAddress === remoteAddress) socket.resetAndDestroy()
    }
    request.socket.destroy()
  }
}

const keyIn = (reference: ObjectReference, namespaced: boolean): string =>
  namespaced ? `${reference.namespace ?? 'default'}/${reference.name}` : reference.name
