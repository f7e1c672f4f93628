// Faults on demand: what to break, for whom and how often.

export type Verb = 'get' | 'list' | 'watch' | 'create' | 'update' | 'patch' | 'delete' | 'deletecollection'

/** Whom a fault hits. */
export interface FaultTarget {
  /** Any verb when absent; stream faults strike watches when absent, and lists with `list`. */
  readonly verb?: Verb
  /** Plural of the resource, or the path of a request that is for none (`/version`). Any when absent. */
  readonly resource?: string
  /** How many requests or streams it hits; until removed when absent. */
  readonly count?: number
}

/** Happens when a request arrives. */
export type RequestFault =
  /** TCP RST. */
  | { readonly kind: 'reset' }
  /** Not a byte is answered, ever. */
  | { readonly kind: 'stall' }
  /** A `Status` under this code; `retryAfterSeconds` also sets the Retry-After header. */
  | { readonly kind: 'status'; readonly code: number; readonly retryAfterSeconds?: number; readonly message?: string }
  /** The request is handled only after a while. */
  | { readonly kind: 'delay'; readonly ms: number }
  /** The body of a list comes in small pieces with pauses between them. */
  | { readonly kind: 'drip'; readonly bytes: number; readonly everyMs: number }

/**
 * Happens to the stream of a watch once `after` events have been sent (0 when absent: at once, also on watches that are
 * open), or to a list in the middle of its items.
 */
export type StreamFault = { readonly after?: number } & (
  | { readonly kind: 'stream-reset' }
  /** Nothing more is sent, no bookmark either, and the connection stays open, past `timeoutSeconds` too. */
  | { readonly kind: 'stream-freeze' }
  /** The connection ends in order but early. */
  | { readonly kind: 'stream-close' }
  /** The next line is sent by half, then the connection ends. */
  | { readonly kind: 'stream-half-line' }
  /** An ERROR event with a Status of this code (watches only), then the end. */
  | {
      readonly kind: 'stream-error'
      readonly code: number
      readonly retryAfterSeconds?: number
      readonly message?: string
    }
)

export type Fault = FaultTarget & (RequestFault | StreamFault)

/** Ends a fault. */
export interface FaultHandle {
  /** How often it has struck. */
  readonly hits: number
  remove(): void
}

const isStreamFault = (fault: Fault): fault is FaultTarget & StreamFault => fault.kind.startsWith('stream-')
const isRequestFault = (fault: Fault): fault is FaultTarget & RequestFault => !fault.kind.startsWith('stream-')

/** The faults in force, oldest first; of several that fit, the oldest strikes. */
export class Faults {
  readonly #active = new Map<Fault, { hits: number; handle?: FaultHandle }>()

  /** Puts a fault in force. */
  add(fault: Fault): FaultHandle {
    // A copy, so that the same literal can be in force twice.
    const own = { ...fault }
    const state: { hits: number; handle?: FaultHandle } = { hits: 0 }
    const handle: FaultHandle = {
      get hits() {
        return state.hits
      },
      remove: () => void this.#active.delete(own),
    }
    state.handle = handle
    this.#active.set(own, state)
    return handle
  }

  /** Ends all of them. */
  clear(): void {
    this.#active.clear()
  }

  /** The fault that strikes an arriving request, counted. */
  forRequest(verb: Verb, resource: string): RequestFault | undefined {
    for (const fault of this.#active.keys()) {
      if (isRequestFault(fault) && this.#strikes(fault, verb, resource)) return fault
    }
    return undefined
  }

  /** The fault that strikes a stream, counted; with `only`, that one or none. */
  forStream(verb: Verb, resource: string, only?: FaultHandle): StreamFault | undefined {
    for (const [fault, { handle }] of this.#active) {
      if (only !== undefined && handle !== only) continue
      if (isStreamFault(fault) && this.#strikes(fault, verb, resource)) return fault
    }
    return undefined
  }

  #strikes(fault: Fault, verb: Verb, resource: string): boolean {
    const state = this.#active.get(fault)
    if (state === undefined) return false
    const wanted = fault.verb ?? (isStreamFault(fault) ? 'watch' : verb)
    if (wanted !== verb) return false
    if (fault.resource !== undefined && fault.resource !== resource) return false
    // A fault of lists' bodies means nothing to other verbs.
    if (fault.kind === 'drip' && verb !== 'list') return false
    state.hits++
    if (fault.count !== undefined && state.hits >= fault.count) this.#active.delete(fault)
    return true
  }
}

/** The first half of a text, never all of it. */
export const firstHalf = (text: string): string => text.slice(0, Math.floor(text.length / 2))
