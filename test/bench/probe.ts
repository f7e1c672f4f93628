// The measuring process inside the namespace: answers at every endpoint, connects, starts the program and watches it. Run
// by `Sandbox.worker`. Times are on the monotonic clock, which all processes of a machine share, in nanoseconds as text.
import { existsSync, readFileSync } from 'node:fs'
import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { answerCalls } from '../support/netns/calls.ts'
import { median } from './numbers.ts'
import { client, ports, rollingEndpoint, rollingIP, servicePort } from './objects.ts'
import { running, type SyncLine, sinceMs, start, stop } from './program.ts'
import { listen, poll, reach, timeConnect, tryConnect } from './reach.ts'
import { threadMs, type Usage, usageOf } from './usage.ts'

export interface Target {
  readonly address: string
  readonly port: number
}

/** How late the event loop was, in milliseconds. */
export interface LoopDelay {
  readonly p99Ms: number
  readonly maxMs: number
}

/** So many connects in a row that end at no endpoint that was replaced: 0.75 to this power is 3e-13. */
const clean = 100
/** Connects under way at once when many Services are looked at one after the other. */
const abreast = 20

async function laggards(targets: readonly Target[]): Promise<Target[]> {
  const found: Target[] = []
  for (let i = 0; i < targets.length; i += abreast) {
    await Promise.all(
      targets.slice(i, i + abreast).map(async target => {
        if ((await reach(target.address))?.port !== target.port) found.push(target)
      }),
    )
  }
  return found
}

let connecting: { isOver: boolean; tried: number; failed: number; ended: Promise<void> } | undefined

const methods = {
  /** Answers on all local addresses at the endpoints' ports, and at the address that no Service has. */
  serve: async (params: { free: string }): Promise<void> => {
    await listen(ports.before, '0.0.0.0')
    await listen(ports.after, '0.0.0.0')
    await listen(servicePort, params.free)
  },

  /** Starts the program, and returns when. Resolves at once. */
  start: async (params: {
    argv: readonly string[]
    env: Readonly<Record<string, string>>
  }): Promise<{ at: string }> => ({ at: String(await start(params.argv, params.env)) }),

  stop: (): Promise<void> => stop(),

  /** Milliseconds from the program's start until all of these have answered once; null if not within the limit. */
  untilAnswers: async (params: { addresses: readonly string[]; limitMs: number }): Promise<number | null> => {
    const { startedAt } = running()
    const waiting = [...params.addresses]
    while (sinceMs(startedAt) < params.limitMs) {
      while (waiting[0] !== undefined && (await tryConnect(waiting[0]))) waiting.shift()
      if (waiting.length === 0) return sinceMs(startedAt)
      running()
      await sleep(2)
    }
    return null
  },

  /** When a connect to the Service first ended at this port; null if not within the limit. */
  untilMoved: async (params: Target & { limitMs: number }): Promise<{ at: string } | null> => {
    let at: bigint | undefined
    await poll(
      () => params.address,
      params.limitMs,
      reached => {
        if (reached?.port === params.port) at = reached.at
        return at !== undefined
      },
    )
    running()
    return at === undefined ? null : { at: String(at) }
  },

  /**
   * When all Services had moved; null if not within the limit. The first `watched` of them are connected to in turn, one
   * every millisecond, until each has moved; then all are looked at. A Service that has not moved by then is connected to
   * until it has, and that is the time.
   */
  untilAllMoved: async (params: {
    targets: readonly Target[]
    watched: number
    limitMs: number
  }): Promise<{ at: string } | null> => {
    const began = process.hrtime.bigint()
    let latest = 0n
    let waiting = params.targets.slice(0, params.watched)
    while (waiting.length > 0) {
      const left = new Map(waiting.map(({ address, port }) => [address, port]))
      const turns = [...left.keys()]
      const next = (): string => {
        const found = turns.findIndex(address => left.has(address))
        const [address = params.targets[0]?.address ?? ''] = turns.splice(Math.max(0, found), 1)
        turns.push(address)
        return address
      }
      const done = await poll(next, params.limitMs - sinceMs(began), (reached, address) => {
        if (reached === undefined || left.get(address) !== reached.port) return left.size === 0
        left.delete(address)
        if (reached.at > latest) latest = reached.at
        return left.size === 0
      })
      running()
      if (!done) return null
      waiting = await laggards(params.targets)
    }
    return { at: String(latest) }
  },

  /**
   * When the Service whose endpoints are replaced had first led to an endpoint of that generation, and when it had last led
   * to another at one of the places `from` up to `to` (null: never again). Null if not within the limit.
   */
  untilReplaced: async (params: {
    endpoints: number
    from: number
    to: number
    generation: number
    limitMs: number
  }): Promise<{ fresh: string; stale: string | null } | null> => {
    let fresh: bigint | undefined
    let stale: bigint | undefined
    let inARow = 0
    const done = await poll(
      () => rollingIP,
      params.limitMs,
      reached => {
        const found = reached === undefined ? undefined : rollingEndpoint(reached.address, params.endpoints)
        if (reached === undefined || found === undefined) return false
        const isMeant = found.place >= params.from && found.place < params.to
        inARow++
        if (isMeant && found.generation === params.generation) fresh ??= reached.at
        else if (isMeant) {
          stale = reached.at
          inARow = 0
        }
        return fresh !== undefined && inARow >= clean
      },
    )
    running()
    if (!done || fresh === undefined) return null
    return { fresh: String(fresh), stale: stale === undefined ? null : String(stale) }
  },

  /** The first sync of the family, once the log has it: what it wrote, and when. Null if not within the limit. */
  firstSync: async (params: { family: string; limitMs: number }): Promise<SyncLine | null> => {
    const { startedAt } = running()
    while (sinceMs(startedAt) < params.limitMs) {
      const found = running().syncs.find(({ family }) => family === params.family)
      if (found !== undefined) return found
      await sleep(5)
    }
    return null
  },

  /** True once a connect to this address succeeds; false if not within the limit. */
  untilConnects: async (params: { address: string; limitMs: number }): Promise<boolean> => {
    const began = process.hrtime.bigint()
    while (sinceMs(began) < params.limitMs) {
      if (await tryConnect(params.address)) return true
      await sleep(2)
    }
    return false
  },

  /** Begins to connect every few milliseconds, to each in turn. Resolves at once. */
  beginConnecting: (params: { addresses: readonly string[] }): void => {
    const state = { isOver: false, tried: 0, failed: 0, ended: Promise.resolve() }
    connecting = state
    const go = async (): Promise<void> => {
      while (!state.isOver) {
        const address = params.addresses[state.tried++ % params.addresses.length] ?? ''
        if (!(await tryConnect(address))) state.failed++
        await sleep(5)
      }
    }
    state.ended = go()
  },

  /** Ends that. Returns how many connects there were and how many failed. */
  endConnecting: async (): Promise<{ tried: number; failed: number }> => {
    if (connecting === undefined) throw new Error('no connects are going on')
    connecting.isOver = true
    await connecting.ended
    return { tried: connecting.tried, failed: connecting.failed }
  },

  /** Median microseconds of a connect call to each address; taken in turns, so that all meet the same weather. */
  connectTimes: async (params: { addresses: readonly string[]; times: number }): Promise<number[]> => {
    const taken = params.addresses.map((): number[] => [])
    for (let round = -50; round < params.times; round++) {
      for (const [place, address] of params.addresses.entries()) {
        const took = await timeConnect(address)
        if (round >= 0) taken[place]?.push(took)
      }
    }
    return taken.map(median)
  },

  /** Bytes a second of one stream to an address, sent for so long. */
  stream: (params: Target & { forMs: number }): Promise<number> =>
    new Promise((resolve, reject) => {
      const socket = connect({ host: params.address, port: params.port, localAddress: client })
      const chunk = Buffer.alloc(256 * 1024)
      let began = 0n
      const more = (): void => {
        const took = began === 0n ? 0 : sinceMs(began)
        if (took < params.forMs) {
          socket.write(chunk, more)
          return
        }
        const rate = (socket.bytesWritten - socket.writableLength) / (took / 1e3)
        socket.destroy()
        resolve(rate)
      }
      socket.once('error', reject)
      socket.once('connect', () => {
        began = process.hrtime.bigint()
        more()
      })
    }),

  usage: (): Usage => usageOf(running().pid),

  /** Percent of one CPU that the process tree takes in so long. */
  idlePercent: async (params: { forMs: number }): Promise<number> => {
    const { pid } = running()
    const sample = () => ({ at: process.hrtime.bigint(), usage: usageOf(pid), threads: threadMs(pid) })
    const before = sample()
    await sleep(params.forMs)
    const after = sample()
    const took = Number(after.at - before.at) / 1e6
    // Threads are counted exactly, and children that have ended in ticks: an idle daemon's whole cost is a tick or two.
    const spent =
      before.threads === undefined || after.threads === undefined
        ? after.usage.cpuMs - before.usage.cpuMs
        : after.threads - before.threads + (after.usage.endedCpuMs - before.usage.endedCpuMs)
    return (100 * spent) / took
  },

  /** Returns once the process tree has taken no more than a tick in 400 ms; false if not within the limit. */
  untilStill: async (params: { limitMs: number }): Promise<boolean> => {
    const began = process.hrtime.bigint()
    for (let before = usageOf(running().pid).cpuMs; sinceMs(began) < params.limitMs; ) {
      await sleep(400)
      const now = usageOf(running().pid).cpuMs
      if (now - before <= 10) return true
      before = now
    }
    return false
  },

  /** Asks the instrument in the program (loop-delay.mjs) for its figures; it measures no further. */
  loopDelay: async (params: { file: string }): Promise<LoopDelay | null> => {
    const { child } = running()
    child.kill('SIGUSR2')
    for (let tries = 0; tries < 500; tries++) {
      if (existsSync(params.file)) return JSON.parse(readFileSync(params.file, 'utf8'))
      await sleep(10)
    }
    return null
  },
}
export type ProbeMethods = typeof methods

process.on('SIGINT', () => undefined)
answerCalls(methods)
