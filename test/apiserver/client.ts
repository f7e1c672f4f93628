// A plain HTTPS client for the tests of the API server: requests, and watches read line by line.
import { Agent, type RequestOptions, request } from 'node:https'
import type { ApiServer } from '../support/apiserver/server.ts'

export interface Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
  /** The parsed body; its text if it is not JSON. */
  readonly body: unknown
}

export interface Call {
  readonly method?: string
  readonly body?: unknown
  /** Media type of the body; application/json when absent. */
  readonly type?: string
  /** Bearer token; the server's present one when absent, none when null. */
  readonly token?: string | null
  readonly accept?: string
  /** PEM; the server's present CA when absent. */
  readonly ca?: string
}

function optionsOf(server: ApiServer, path: string, call: Call): RequestOptions {
  const token = call.token === undefined ? server.token : call.token
  return {
    host: '127.0.0.1',
    port: server.port,
    path,
    method: call.method ?? 'GET',
    ca: call.ca ?? server.ca,
    // One connection a request, so that a reset hits nobody else.
    agent: new Agent({ keepAlive: false }),
    headers: {
      ...(token === null ? {} : { authorization: `Bearer ${token}` }),
      ...(call.body === undefined
        ? {}
        : {
            'content-type': call.type ?? 'application/json',
            // Node sends a body of DELETE only under a declared length.
            'content-length': Buffer.byteLength(JSON.stringify(call.body)),
          }),
      ...(call.accept === undefined ? {} : { accept: call.accept }),
    },
  }
}

const parsed = (text: string): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    return text
  }
}

/** Sends a request and reads the whole answer. Rejects if the connection breaks. */
export function call(server: ApiServer, path: string, options: Call = {}): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const sent = request(optionsOf(server, path, options), response => {
      let text = ''
      response.setEncoding('utf8')
      response.on('data', chunk => {
        text += chunk
      })
      response.on('error', reject)
      response.on('end', () =>
        resolve({ status: response.statusCode ?? 0, headers: response.headers, body: parsed(text) }),
      )
    })
    sent.on('error', reject)
    sent.end(options.body === undefined ? undefined : JSON.stringify(options.body))
  })
}

export interface WatchEvent {
  readonly type: string
  readonly object: {
    readonly kind: string
    readonly code?: number
    readonly metadata: {
      readonly name: string
      readonly resourceVersion: string
      readonly labels?: Readonly<Record<string, string>>
      readonly annotations?: Readonly<Record<string, string>>
    }
  }
}

/** A watch as a client sees it. */
export class WatchReader {
  /** Everything that came so far. */
  readonly events: WatchEvent[] = []
  status = 0
  /** What is left after the last whole line. */
  rest = ''
  #waiting: (() => void)[] = []
  #ended: string | undefined
  readonly #abort: () => void

  constructor(server: ApiServer, path: string) {
    const sent = request(optionsOf(server, path, {}), response => {
      this.status = response.statusCode ?? 0
      response.setEncoding('utf8')
      response.on('data', chunk => this.#onData(String(chunk)))
      response.on('error', error => this.#end(error.message))
      response.on('end', () => this.#end('end'))
      this.#wake()
    })
    sent.on('error', error => this.#end(error.message))
    sent.end()
    this.#abort = () => sent.destroy()
  }

  /** Resolves when the answer has begun or the connection is gone. */
  async opened(): Promise<this> {
    await this.#until(() => this.status !== 0)
    return this
  }

  /** The first `count` events. Rejects if the stream ends before. */
  async first(count: number): Promise<WatchEvent[]> {
    await this.#until(() => this.events.length >= count)
    if (this.events.length < count)
      throw new Error(`the watch ended (${this.#ended}) after ${this.events.length} events`)
    return this.events.slice(0, count)
  }

  /** Resolves when the stream is over: `end`, or the message of the error that broke it. */
  async ended(): Promise<string> {
    await this.#until(() => this.#ended !== undefined)
    return this.#ended ?? ''
  }

  get isOpen(): boolean {
    return this.#ended === undefined
  }

  close(): void {
    this.#abort()
  }

  async #until(holds: () => boolean): Promise<void> {
    while (!holds() && this.#ended === undefined) await new Promise<void>(resolve => this.#waiting.push(resolve))
  }

  #onData(chunk: string): void {
    const lines = (this.rest + chunk).split('\n')
    this.rest = lines.pop() ?? ''
    for (const line of lines) this.events.push(JSON.parse(line))
    this.#wake()
  }

  #end(how: string): void {
    this.#ended ??= how
    this.#wake()
  }

  #wake(): void {
    const waiting = this.#waiting
    this.#waiting = []
    for (const resolve of waiting) resolve()
  }
}

/** Opens a watch and resolves once the server has answered. */
export const openWatch = (server: ApiServer, path: string): Promise<WatchReader> =>
  new WatchReader(server, path).opened()

/** A Service with one port, named by its labels. */
export const service = (name: string, labels: Readonly<Record<string, string>> = {}, namespace = 'default') => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name, namespace, labels },
  spec: { ports: [{ port: 80 }] },
})

/** `type name` of events, the way tests read best. */
export const summary = (events: readonly WatchEvent[]): string[] =>
  events.map(event => `${event.type} ${event.object.metadata.name ?? ''}`.trim())

export const services = '/api/v1/namespaces/default/services'
export const allServices = '/api/v1/services'
