// Looks at the daemon from inside its namespaces, all the time: what health and metrics answer, and what the process holds.
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { get } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { isDaemonStatus } from '../../src/observe/status.ts'
import { parseMetrics } from '../observe/metrics-parse.ts'
import { answerCalls } from '../support/netns/calls.ts'

/** Something seen at a moment; milliseconds since the epoch. */
export interface Moment {
  readonly at: number
  readonly what: string
}

/** One reading of the daemon's own metrics. */
export interface Reading {
  readonly at: number
  /** When the process began: which life this belongs to. Seconds since the epoch. */
  readonly life: number
  readonly residentBytes: number
}

/** Since the last time it was asked for. */
export interface Seen {
  readonly answers: number
  /** Answers that are not as they must be. */
  readonly wrong: readonly Moment[]
  /** Questions without an answer, and answers that broke off. */
  readonly silent: readonly Moment[]
  /** 503 of /livez, with its problems. */
  readonly notLive: readonly Moment[]
  readonly readings: readonly Reading[]
}

export interface Process {
  readonly pid: number
  readonly parent: number
  /** One letter, as in /proc: Z is a zombie. */
  readonly state: string
  readonly name: string
}

/** What a process holds. */
export interface Holdings {
  /** Open descriptors that are not sockets somebody can connect to. */
  readonly descriptors: readonly string[]
  readonly listening: readonly number[]
  /** Everything in the sandbox but this process. */
  readonly processes: readonly Process[]
}

let patienceMs = 8_000
const everyMs = 300
/** Metrics and the rest, every so many rounds. */
const fullEvery = 4

const fresh = () => {
  const wrong: Moment[] = []
  const silent: Moment[] = []
  const notLive: Moment[] = []
  const readings: Reading[] = []
  return { answers: 0, wrong, silent, notLive, readings }
}
let seen = fresh()

interface Answer {
  readonly code: number
  readonly body: string
}

function ask(url: string): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const request = get(url, { agent: false, timeout: patienceMs }, response => {
      let body = ''
      response.setEncoding('utf8').on('data', (text: string) => {
        body += text
      })
      response.once('error', reject)
      response.once('close', () => {
        if (response.complete) resolve({ code: response.statusCode ?? 0, body })
        else reject(new Error('the answer breaks off'))
      })
    })
    request.once('timeout', () => request.destroy(new Error(`no answer within ${patienceMs / 1000} s`)))
    request.once('error', reject)
  })
}

const health = (name: string) => (answer: Answer) => {
  if (answer.code !== 200 && answer.code !== 503) throw new Error(`status ${answer.code}`)
  const body: Readonly<Record<string, unknown>> = JSON.parse(answer.body)
  const { lastUpdated, currentTime, healthy, status, problems } = body
  const isSound =
    [lastUpdated, currentTime].every(time => typeof time === 'string' && !Number.isNaN(Date.parse(time))) &&
    typeof healthy === 'boolean' &&
    typeof status === 'object' &&
    Array.isArray(problems)
  if (!isSound) throw new Error(`not a health report: ${answer.body}`)
  if (name === 'livez' && answer.code === 503) seen.notLive.push({ at: Date.now(), what: JSON.stringify(problems) })
  if (answer.code === 503 && Array.isArray(problems) && problems.length === 0) throw new Error('503 without a problem')
}

function metrics({ code, body }: Answer): void {
  if (code !== 200) throw new Error(`status ${code}`)
  const families = parseMetrics(body)
  const value = (name: string): number => {
    const found = families.get(name)?.samples[0]?.value
    if (found === undefined) throw new Error(`${name} is missing`)
    return found
  }
  const life = value('process_start_time_seconds')
  seen.readings.push({ at: Date.now(), life, residentBytes: value('process_resident_memory_bytes') })
}

function status({ code, body }: Answer): void {
  if (code !== 200) throw new Error(`status ${code}`)
  if (!isDaemonStatus(JSON.parse(body))) throw new Error(`not a status: ${body}`)
}

const often: readonly (readonly [string, (answer: Answer) => void])[] = [
  ['http://127.0.0.1:10256/livez', health('livez')],
  ['http://127.0.0.1:10256/healthz', health('healthz')],
]
const seldom: typeof often = [
  ['http://127.0.0.1:10249/metrics', metrics],
  ['http://127.0.0.1:10249/debug/status', status],
]

async function look(url: string, check: (answer: Answer) => void): Promise<void> {
  let answer: Answer
  try {
    answer = await ask(url)
  } catch (error) {
    seen.silent.push({ at: Date.now(), what: `${url}: ${error instanceof Error ? error.message : String(error)}` })
    return
  }
  seen.answers++
  try {
    check(answer)
  } catch (error) {
    seen.wrong.push({ at: Date.now(), what: `${url}: ${error instanceof Error ? error.message : String(error)}` })
  }
}

async function forEver(): Promise<never> {
  for (let round = 0; ; round++) {
    for (const [url, check] of round % fullEvery === 0 ? [...often, ...seldom] : often) await look(url, check)
    await sleep(everyMs)
  }
}

/** Of one process; undefined if it is gone meanwhile. */
function processOf(pid: number): Process | undefined {
  try {
    // The name is in parentheses and may hold anything.
    const [, name = '', state = '', parent = ''] =
      /^\d+ \((.*)\) (\S) (\d+) /s.exec(readFileSync(`/proc/${pid}/stat`, 'utf8')) ?? []
    return { pid, parent: Number(parent), state, name }
  } catch {
    return undefined
  }
}

/** Inode to port of the sockets that listen in the process's network namespace. */
function listeners(pid: number): Map<string, number> {
  const found = new Map<string, number>()
  for (const file of ['tcp', 'tcp6']) {
    for (const line of readFileSync(`/proc/${pid}/net/${file}`, 'utf8').split('\n').slice(1)) {
      const [, local = '', , state, , , , , , inode = ''] = line.trim().split(/\s+/)
      if (state === '0A') found.set(inode, Number.parseInt(local.split(':')[1] ?? '', 16))
    }
  }
  return found
}

function holdings({ pid }: { pid: number }): Holdings {
  const listening = listeners(pid)
  const descriptors: string[] = []
  const ports: number[] = []
  for (const fd of readdirSync(`/proc/${pid}/fd`)) {
    let target: string
    try {
      target = readlinkSync(`/proc/${pid}/fd/${fd}`)
    } catch {
      continue
    }
    const port = listening.get(/^socket:\[(\d+)\]$/.exec(target)?.[1] ?? '')
    if (port === undefined) descriptors.push(`${fd} ${target}`)
    else ports.push(port)
  }
  const pids = readdirSync('/proc').filter(name => /^\d+$/.test(name))
  const processes = pids.flatMap(name => (Number(name) === process.pid ? [] : (processOf(Number(name)) ?? [])))
  return { descriptors, listening: ports.sort((a, b) => a - b), processes }
}

const methods = {
  begin: ({ slowness }: { slowness: number }): void => {
    patienceMs *= slowness
    void forEver()
  },
  take: (): Seen => {
    const taken = seen
    seen = fresh()
    return taken
  },
  status: async (): Promise<unknown> => {
    const { code, body } = await ask('http://127.0.0.1:10249/debug/status')
    return code === 200 ? JSON.parse(body) : undefined
  },
  holdings,
}
export type ScraperMethods = typeof methods

process.on('SIGINT', () => undefined)
answerCalls(methods)
