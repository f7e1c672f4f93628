// The measuring process inside the namespace: answers at every endpoint, connects, starts the program and watches it. Run
// by `Sandbox.worker`. Times are on the monotonic clock, which all processes of a machine share.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { answerCalls } from '../support/netns/calls.ts'
import { client, ports, servicePort } from './objects.ts'

/** What `ps` would say of the program, with the children it waited for. */
export interface Usage {
  /** Milliseconds of CPU, user and system. */
  readonly cpuMs: number
  /** Of these, in the children: the programs that write the rules. */
  readonly childCpuMs: number
  readonly rssKiB: number
  readonly peakKiB: number
}

/** One sync, as the program's log tells it. */
export interface SyncLine {
  readonly atMs: number
  readonly msg: string
  readonly family: string
  readonly services: number
  readonly added: number
  readonly changed: number
  readonly removed: number
  readonly durationMs: number
}

interface Program {
  readonly child: ChildProcess
  readonly startedAt: bigint
  readonly lines: string[]
  readonly syncs: SyncLine[]
}

let program: Program | undefined
let onAfter: () => void = () => undefined

const sinceMs = (from: bigint): number => Number(process.hrtime.bigint() - from) / 1e6

function listen(port: number, address: string, seen: () => void): Promise<Server> {
  const server = createServer(socket => {
    seen()
    socket.on('error', () => undefined)
    socket.destroy()
  })
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, address, 4096, () => resolve(server))
  })
}

/** One connect from a pod's address, ended as soon as it stands. False if it was refused. */
function tryConnect(address: string): Promise<boolean> {
  return new Promise(resolve => {
    const socket = connect({ host: address, port: servicePort, localAddress: client })
    socket.once('connect', () => {
      socket.resetAndDestroy()
      resolve(true)
    })
    socket.once('error', () => resolve(false))
  })
}

/**
 * Microseconds of one connect call. On loopback the kernel does the whole handshake within it, through all the rules; the
 * time until the event would mostly be this process's own. Node makes the call in the next tick, so ticks stand around it.
 */
async function timeConnect(address: string): Promise<number> {
  let began = 0n
  let ended = 0n
  process.nextTick(() => {
    began = process.hrtime.bigint()
  })
  const socket: Socket = connect({ host: address, port: servicePort, localAddress: client })
  process.nextTick(() => {
    ended = process.hrtime.bigint()
  })
  await once(socket, 'connect')
  socket.resetAndDestroy()
  return Number(ended - began) / 1e3
}

function running(): Program {
  if (program === undefined) throw new Error('the program was not started')
  const { child, lines } = program
  if (child.exitCode !== null || child.signalCode !== null) {
    throw new Error(`the program ended by itself:\n${lines.slice(-10).join('\n')}`)
  }
  return program
}

function note(target: Program, line: string): void {
  target.lines.push(line)
  if (target.lines.length > 200) target.lines.shift()
  if (!line.includes('"durationMs"')) return
  const sync: Omit<SyncLine, 'atMs'> = JSON.parse(line)
  target.syncs.push({ ...sync, atMs: sinceMs(target.startedAt) })
}

const methods = {
  /** Answers on all local addresses at the endpoints' ports, and at the address that no Service has. */
  serve: async (params: { free: string }): Promise<void> => {
    await listen(ports.before, '0.0.0.0', () => undefined)
    await listen(ports.after, '0.0.0.0', () => onAfter())
    await listen(servicePort, params.free, () => undefined)
  },

  /** Starts the program. Resolves at once. */
  start: async (params: { argv: readonly string[] }): Promise<void> => {
    const [command = '', ...args] = params.argv
    const startedAt = process.hrtime.bigint()
    const child = spawn(command, args, { stdio: ['ignore', 'ignore', 'pipe'] })
    const started: Program = { child, startedAt, lines: [], syncs: [] }
    createInterface({ input: child.stderr }).on('line', line => note(started, line))
    program = started
    await once(child, 'spawn')
  },

  /** Milliseconds from the program's start until a connect to this address succeeds; null if not within the limit. */
  untilAnswers: async (params: { address: string; limitMs: number }): Promise<number | null> => {
    const { startedAt } = running()
    while (sinceMs(startedAt) < params.limitMs) {
      if (await tryConnect(params.address)) return sinceMs(startedAt)
      running()
      await sleep(5)
    }
    return null
  },

  /** Connects every millisecond until one arrives at the port moved to. Returns when, on the monotonic clock; or null. */
  untilMoved: (params: { address: string; limitMs: number }): Promise<{ at: string } | null> =>
    new Promise(resolve => {
      let over = false
      const finish = (at: { at: string } | null): void => {
        over = true
        onAfter = () => undefined
        clearTimeout(limit)
        resolve(at)
      }
      const limit = setTimeout(() => finish(null), params.limitMs)
      onAfter = () => finish({ at: String(process.hrtime.bigint()) })
      const again = (): void => {
        if (over) return
        void tryConnect(params.address)
        setTimeout(again, 1)
      }
      again()
    }),

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

  /** Connects every few milliseconds for so long, to each in turn. Returns how many there were and how many failed. */
  keepConnecting: async (params: {
    addresses: readonly string[]
    forMs: number
  }): Promise<{ tried: number; failed: number }> => {
    const began = process.hrtime.bigint()
    let tried = 0
    let failed = 0
    while (sinceMs(began) < params.forMs) {
      const address = params.addresses[tried++ % params.addresses.length] ?? ''
      if (!(await tryConnect(address))) failed++
      await sleep(5)
    }
    return { tried, failed }
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
    return taken.map(values => values.sort((a, b) => a - b)[values.length >> 1] ?? Number.NaN)
  },

  usage: (): Usage => {
    const { pid } = running().child
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8')
    // The second field is the program's name in parentheses and may hold anything; times are in ticks of 10 ms.
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
    const [user = 0, system = 0, childUser = 0, childSystem = 0] = fields.slice(11, 15).map(Number)
    const status = readFileSync(`/proc/${pid}/status`, 'utf8')
    const kiB = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(status)?.[1])
    return {
      cpuMs: (user + system + childUser + childSystem) * 10,
      childCpuMs: (childUser + childSystem) * 10,
      rssKiB: kiB('VmRSS'),
      peakKiB: kiB('VmHWM'),
    }
  },

  /** Ends the program in order, and kills it if it does not within 10 s. */
  stop: async (): Promise<void> => {
    const { child } = running()
    const ended = once(child, 'exit')
    child.kill('SIGTERM')
    const timer = setTimeout(() => child.kill('SIGKILL'), 10_000)
    await ended
    clearTimeout(timer)
    program = undefined
  },
}
export type ProbeMethods = typeof methods

process.on('SIGINT', () => undefined)
answerCalls(methods)
