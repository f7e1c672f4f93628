// A machine of the demo that sends HTTP requests, each over a connection of its own. Run by `Sandbox.worker`.
import { get } from 'node:http'
import { answerCalls } from '../support/netns/calls.ts'
import type { Answers } from './cluster.ts'
import type { PodAnswer } from './pod.ts'

export interface SendParams {
  /** Source address. */
  readonly source: string
  readonly host: string
  readonly port: number
  readonly count: number
  readonly parallel: number
  readonly timeoutMs: number
}

type Outcome =
  | { readonly kind: 'answered'; readonly answer: PodAnswer }
  | { readonly kind: 'refused'; readonly ms: number }
  | { readonly kind: 'silent' }
  | { readonly kind: 'error'; readonly message: string }

/** Below the ports that the kernel hands out by itself, and below node ports. */
const firstPort = 10_000
const lastPort = 29_999
let nextPort = firstPort

/**
 * Each connection has a source port that none before it had. The pods close first, so that the kernel would give a port
 * again within seconds, while conntrack still holds its former flow: a packet of the new one may then be INVALID, which
 * says something of a client with too few ports and nothing of a Service.
 */
function freshPort(): number {
  const port = nextPort
  nextPort = port === lastPort ? firstPort : port + 1
  return port
}

function once({ source, host, port, timeoutMs }: Omit<SendParams, 'count' | 'parallel'>): Promise<Outcome> {
  const began = performance.now()
  return new Promise(resolve => {
    const request = get(
      { host, port, localAddress: source, localPort: freshPort(), agent: false, path: '/' },
      response => {
        let text = ''
        response.setEncoding('utf8')
        response.on('data', (chunk: string) => {
          text += chunk
        })
        response.on('end', () => {
          clearTimeout(timer)
          if (response.statusCode === 200) resolve({ kind: 'answered', answer: JSON.parse(text) })
          else resolve({ kind: 'error', message: `status ${response.statusCode}` })
        })
        response.on('error', fail)
      },
    )
    const fail = (error: NodeJS.ErrnoException): void => {
      clearTimeout(timer)
      if (error.code === 'ECONNREFUSED') resolve({ kind: 'refused', ms: performance.now() - began })
      else resolve({ kind: 'error', message: error.code ?? error.message })
    }
    const timer = setTimeout(() => {
      resolve({ kind: 'silent' })
      request.destroy()
    }, timeoutMs)
    request.on('error', fail)
  })
}

/** Counts as outcomes come. */
class Tally {
  readonly #by = new Map<string, number>()
  readonly #sources = new Set<string>()
  readonly #errors: string[] = []
  #refused = 0
  #silent = 0
  #refusedAfterMs = 0

  add(outcome: Outcome): void {
    switch (outcome.kind) {
      case 'answered': {
        const { pod, client } = outcome.answer
        this.#by.set(pod, (this.#by.get(pod) ?? 0) + 1)
        this.#sources.add(client)
        break
      }
      case 'refused':
        this.#refused++
        this.#refusedAfterMs = Math.max(this.#refusedAfterMs, outcome.ms)
        break
      case 'silent':
        this.#silent++
        break
      case 'error':
        this.#errors.push(outcome.message)
    }
  }

  /** As plain data: a Map does not pass the channel. */
  result(): SentAnswers {
    return {
      by: [...this.#by],
      sources: [...this.#sources],
      refused: this.#refused,
      silent: this.#silent,
      errors: this.#errors,
      refusedAfterMs: this.#refusedAfterMs,
    }
  }
}

export type SentAnswers = Omit<Answers, 'by'> & { readonly by: readonly (readonly [string, number])[] }

async function send(params: SendParams): Promise<SentAnswers> {
  const tally = new Tally()
  let left = params.count
  const lane = async (): Promise<void> => {
    while (left-- > 0) tally.add(await once(params))
  }
  await Promise.all(Array.from({ length: params.parallel }, lane))
  return tally.result()
}

let load: { stopped: boolean; done: Promise<SentAnswers> } | undefined

/** Requests one after the other in each of `parallel` lanes, until `stopLoad`. */
function startLoad(params: Omit<SendParams, 'count'>): void {
  const tally = new Tally()
  const state = { stopped: false, done: Promise.resolve(tally.result()) }
  const lane = async (): Promise<void> => {
    while (!state.stopped) tally.add(await once(params))
  }
  state.done = Promise.all(Array.from({ length: params.parallel }, lane)).then(() => tally.result())
  load = state
}

async function stopLoad(): Promise<SentAnswers> {
  if (load === undefined) throw new Error('no load was started')
  load.stopped = true
  return load.done
}

const methods = { send, startLoad, stopLoad }
export type ClientMethods = typeof methods

process.on('SIGINT', () => undefined)
answerCalls(methods)
