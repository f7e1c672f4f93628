// Real servers that get no new connections and keep those they have: looked at until they have none, then deleted.
import type { Family } from '../../net/ip.ts'
import { CommitError } from '../backend.ts'
import type { ServerCommand } from './commands.ts'
import { type IpvsKernel, refusalOf } from './kernel.ts'
import { protocolOfServer, type VirtualServer } from './names.ts'
import { loadKey, loadOf } from './parse.ts'

/**
 * How long a real server is drained at most, milliseconds. A UDP flow has no end that one could wait for, and its endpoint
 * is gone or going: time for answers under way, then the flow goes to another endpoint.
 */
export const drainLimitMs = (server: VirtualServer): number =>
  protocolOfServer(server) === 'UDP' ? 10_000 : 15 * 60_000

const firstLookMs = 1_000
const longestWaitMs = 5_000
/** More virtual servers than that are asked for no sooner again than so: it costs what there is in IPVS. */
const many = 32
const manyAgainMs = 5_000

export interface DrainerOptions {
  /** Called for each look. */
  readonly kernel: () => Promise<IpvsKernel>
  readonly family: Family
  /** Milliseconds of a clock that never goes back; left out: the machine's. */
  readonly now?: () => number
}

/** The real servers of one address family that are being drained. */
export class Drainer {
  readonly #options: Required<DrainerOptions>
  /** Since when, by virtual server and real server. */
  readonly #since = new Map<VirtualServer, Map<string, number>>()
  /** Virtual servers that go with the last of their real servers. */
  readonly #givenUp = new Set<VirtualServer>()
  #timer: NodeJS.Timeout | undefined
  /** The timer has ended, and what it was for has not. */
  #isLooking = false
  #wait = firstLookMs
  /** When the timer ends. */
  #due = 0
  /** One writer at a time: a commit must not bring back what is being deleted. */
  #turn: Promise<unknown> = Promise.resolve()

  constructor(options: DrainerOptions) {
    this.#options = { now: () => performance.now(), ...options }
  }

  /** Runs alone: no look at what is drained, and no other call, happens meanwhile. */
  alone<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#turn.then(work, work)
    this.#turn = turn.catch(() => undefined)
    return turn
  }

  has(server: VirtualServer, real: string): boolean {
    return this.#since.get(server)?.has(real) === true
  }

  get size(): number {
    let count = 0
    for (const reals of this.#since.values()) count += reals.size
    return count
  }

  /** The kernel holds it with weight 0. */
  add(server: VirtualServer, real: string): void {
    const reals = this.#since.get(server) ?? new Map<string, number>()
    if (reals.has(real)) return
    reals.set(real, this.#options.now())
    this.#since.set(server, reals)
    this.#wait = this.#since.size > many ? manyAgainMs : firstLookMs
    this.#arm()
  }

  /**
   * The kernel was read: it drains these, and no others. What a commit that failed on the way has done to others is not known
   * here. How long each has been drained stays known.
   */
  found(
    draining: readonly { readonly server: VirtualServer; readonly real: string }[],
    givenUp: readonly VirtualServer[],
  ): void {
    const before = new Map(this.#since)
    this.#since.clear()
    this.#givenUp.clear()
    for (const { server, real } of draining) this.add(server, real)
    for (const server of givenUp) this.giveUp(server)
    for (const [server, reals] of this.#since) {
      for (const real of reals.keys()) {
        const since = before.get(server)?.get(real)
        if (since !== undefined) reals.set(real, since)
      }
    }
  }

  /** It is wanted again. */
  takeBack(server: VirtualServer): void {
    this.#givenUp.delete(server)
    if (this.#since.get(server)?.size === 0) this.#since.delete(server)
  }

  /** Gives a virtual server up: its real servers are drained, and it goes with the last of them. */
  giveUp(server: VirtualServer): void {
    this.#givenUp.add(server)
    if (!this.#since.has(server)) this.#since.set(server, new Map())
    this.#arm()
  }

  /** True while a virtual server is there only for the connections it has. */
  isGivenUp(server: VirtualServer): boolean {
    return this.#givenUp.has(server)
  }

  /** It has come back, or is gone. Without `real`: all of the virtual server. */
  forget(server: VirtualServer, real?: string): void {
    const reals = this.#since.get(server)
    if (real !== undefined) reals?.delete(real)
    else this.#givenUp.delete(server)
    if (real === undefined || (reals?.size === 0 && !this.#givenUp.has(server))) this.#since.delete(server)
  }

  /** Ends the looks; what is drained stays as it is. */
  stop(): void {
    this.#since.clear()
    this.#givenUp.clear()
    clearTimeout(this.#timer)
    this.#timer = undefined
  }

  /**
   * One look: deletes what has no connections, or has had its time. A kernel that does not answer is asked next time. It takes
   * turns with commits (`alone`), some virtual servers at a time where the kernel can be asked so: they do not wait long.
   */
  async look(): Promise<void> {
    try {
      let left = [...this.#since.keys()]
      while (left.length > 0 && this.#since.size > 0) {
        const { loadsPerTurn } = await this.#options.kernel()
        const part = left.slice(0, loadsPerTurn)
        left = left.slice(part.length)
        await this.alone(() => this.#look(part))
        // Small dumps are answered at once: somebody else gets a turn now and then.
        if (left.length > 0) await new Promise(next => setImmediate(next))
      }
    } catch (error) {
      if (!(error instanceof CommitError)) throw error
    }
  }

  async #look(servers: readonly VirtualServer[]): Promise<void> {
    const { family, now } = this.#options
    const drained = servers.filter(server => this.#since.has(server))
    if (drained.length === 0) return
    const kernel = await this.#options.kernel()
    const over: { server: VirtualServer; real: string }[] = []
    const loads = await kernel.loads(drained, family)
    for (const server of drained) {
      const held = [...(loads.get(loadKey(server, family))?.values() ?? [])]
      // With an endpoint that takes connections it is in use again.
      if (held.some(({ weight }) => weight > 0)) this.#givenUp.delete(server)
      for (const [real, since] of this.#since.get(server) ?? []) {
        const load = loadOf(loads, server, real, family)
        // Gone, or it has its weight back.
        if (load === undefined || load.weight > 0) this.forget(server, real)
        else if (load.connections === 0 || now() - since >= drainLimitMs(server)) over.push({ server, real })
      }
    }
    const left = (server: VirtualServer): boolean =>
      [...(this.#since.get(server)?.keys() ?? [])].some(
        real => !over.some(item => item.server === server && item.real === real),
      )
    const ended = drained.filter(server => this.#givenUp.has(server) && !left(server))
    if (over.length + ended.length === 0) return
    const commands: ServerCommand[] = [
      ...over.map(({ server, real }): ServerCommand => ({ kind: 'delete-real', server, real })),
      ...ended.map((server): ServerCommand => ({ kind: 'delete-server', server })),
    ]
    const refusal = refusalOf(await kernel.change(commands, family))
    if (refusal !== undefined) throw refusal
    for (const { server, real } of over) this.forget(server, real)
    for (const server of ended) this.forget(server)
  }

  /** Sets the next look, or brings it forward. */
  #arm(): void {
    // A look that goes on sets the next one at its end.
    if (this.#since.size === 0 || this.#isLooking) return
    const due = this.#options.now() + this.#wait
    if (this.#timer !== undefined && this.#due <= due) return
    clearTimeout(this.#timer)
    this.#due = due
    this.#timer = setTimeout(() => {
      this.#timer = undefined
      this.#wait = Math.min(this.#wait * 1.5, longestWaitMs)
      this.#isLooking = true
      void this.look().finally(() => {
        this.#isLooking = false
        this.#arm()
      })
    }, this.#wait)
    // A daemon that ends leaves them at weight 0; the next one finds them there.
    this.#timer.unref()
  }
}
