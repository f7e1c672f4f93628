// Structured logs on stderr: JSON, or text for people. One line a sync, never one an object at info.
import { Writable } from 'node:stream'
import pino, { type Logger } from 'pino'

export type { Logger } from 'pino'

export interface LogOptions {
  readonly format: 'text' | 'json'
  /** kube-proxy's `-v`: 0 to 2 log what an operator needs, 4 and above every step. */
  readonly verbosity: number
  /** Where lines go; stderr by default. */
  readonly destination?: NodeJS.WritableStream
}

/** The level of kube-proxy's `-v`. */
export const levelOf = (verbosity: number): 'trace' | 'debug' | 'info' =>
  verbosity >= 6 ? 'trace' : verbosity >= 4 ? 'debug' : 'info'

/** A logger. Level debug from verbosity 4 on. */
export function makeLogger(options: LogOptions): Logger {
  const out = options.destination ?? process.stderr
  const level = levelOf(options.verbosity)
  const destination = options.format === 'json' ? out : textStream(out)
  return pino(
    { level, base: null, timestamp: pino.stdTimeFunctions.isoTime, formatters: { level: label => ({ level: label }) } },
    destination,
  )
}

/** Turns pino's lines into `time LEVEL message key=value`. No worker thread: pino's transports cost 16 MB each. */
function textStream(out: NodeJS.WritableStream): Writable {
  return new Writable({
    decodeStrings: false,
    write(chunk: string, _encoding, done) {
      const { level, time, msg, ...fields } = JSON.parse(chunk) as Record<string, unknown>
      const words = Object.entries(fields).map(
        ([key, value]) => `${key}=${typeof value === 'string' ? quote(value) : JSON.stringify(value)}`,
      )
      out.write(`${[time, String(level).toUpperCase(), msg, ...words].filter(word => word !== undefined).join(' ')}\n`)
      done()
    },
  })
}

const quote = (text: string): string => (/^[\w./:[\]-]+$/.test(text) ? text : JSON.stringify(text))

/** How long something said is not said again, milliseconds: long enough not to fill a log, short enough to be found. */
const memoryMs = 3_600_000
const mostRemembered = 10_000

/** Lets something be said once an hour for each key, as problems of objects that are delivered again and again. */
export class Once {
  readonly #said = new Map<string, { readonly text: string; readonly at: number }>()
  readonly #now: () => number

  constructor(now: () => number = Date.now) {
    this.#now = now
  }

  /** True if this text was not the last said for the key, or that is long ago. */
  first(key: string, text: string): boolean {
    const before = this.#said.get(key)
    const now = this.#now()
    if (before?.text === text && now - before.at < memoryMs) return false
    if (this.#said.size >= mostRemembered) this.#said.clear()
    this.#said.set(key, { text, at: now })
    return true
  }

  forget(key: string): void {
    this.#said.delete(key)
  }
}
