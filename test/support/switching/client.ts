// The clients of a namespace: long-lived flows and continuous new connections, every failure noted with its time. Run by
// `Sandbox.worker`.
import { setTimeout as sleep } from 'node:timers/promises'
import { answerCalls } from '../netns/calls.ts'
import type { Target } from './cluster.ts'
import { type Flow, type Outcome, openFlow, probeTcp, probeUdp } from './sockets.ts'

/** Milliseconds. */
export interface Patience {
  /** For a handshake or its refusal: below the second after which the kernel sends a lost SYN again and hides the loss. */
  readonly connectMs: number
  /** For an answer of an endpoint that may have to wait for a processor. */
  readonly answerMs: number
  /**
   * For the refusal of TCP over IPv6: one that arrives while the kernel is still inside connect() counts only when the SYN
   * is sent again.
   */
  readonly slowRefusalMs: number
  /** Until an unanswered packet counts as dropped. */
  readonly silenceMs: number
  /** Between two packets of a flow, and between two new connections to a target. */
  readonly pauseMs: number
}

export interface Failure {
  /** When the packet was sent; milliseconds since the epoch. */
  readonly at: number
  readonly what: string
}

export interface Report {
  /** New connections and datagrams, those that are meant to fail included. */
  readonly probes: number
  /** Echoes of all flows. */
  readonly echoes: number
  /** Longest wait for an echo; milliseconds. */
  readonly slowestEcho: number
  readonly failureCount: number
  /** The first of each target. */
  readonly failures: readonly Failure[]
}

/** Something that goes on until the end and is counted. */
interface Lane {
  readonly name: string
  done: number
  /** Each of its probes takes long; `advance` asks for one only. */
  readonly slow: boolean
  /** It will not get any further. */
  dead: boolean
}

/** Failures of one target that are told one by one. */
const mostTold = 3
/** Packets that must be dropped are many at once: each is on its way for an instant and then waited for. */
const silentLanes = 8
const firstPort = 10_000
const lastPort = 29_999

const lanes: Lane[] = []
const failures: Failure[] = []
const failureCounts = new Map<string, number>()
const work: Promise<void>[] = []
let slowestEcho = 0
let stopped = false

function fail(target: Target, at: number, what: string): void {
  const count = (failureCounts.get(target.name) ?? 0) + 1
  failureCounts.set(target.name, count)
  if (count <= mostTold) failures.push({ at, what: `${target.name}: ${what}` })
}

const daemonPorts: readonly number[] = [10_249, 10_256]
const ports = new Map<string, number>()

/** Each connection of a source has a port that none before it had: a flow that conntrack still holds is not met again. */
function freshPort(src: string): number {
  const port = ports.get(src) ?? firstPort
  ports.set(src, port === lastPort ? firstPort : port + 1)
  // The daemon's own servers have these on the node.
  return daemonPorts.includes(port) ? freshPort(src) : port
}

const wayOf = ({ src, dst, port }: Target) => ({ src, dst, port, localPort: freshPort(src) })

const describe = (outcome: Outcome): string => {
  switch (outcome.kind) {
    case 'answered':
      return `answered by ${outcome.by}, which saw ${outcome.seen}`
    case 'error':
      return outcome.message
    default:
      return outcome.kind
  }
}

/** What is wrong with an outcome; undefined if nothing is. */
function complaint({ expect, endpoints, seesClient, src }: Target, outcome: Outcome): string | undefined {
  switch (expect) {
    case 'answer': {
      const met = outcome.kind === 'answered' && endpoints.includes(outcome.by) && (!seesClient || outcome.seen === src)
      return met ? undefined : describe(outcome)
    }
    case 'refusal':
      return outcome.kind === 'refused' ? undefined : describe(outcome)
    case 'silence':
      return outcome.kind === 'silent' ? undefined : describe(outcome)
  }
}

function probe(target: Target, patience: Patience): Promise<Outcome> {
  const { connectMs, answerMs, slowRefusalMs, silenceMs } = patience
  const isSlow = target.expect === 'refusal' && target.protocol === 'TCP' && target.src.includes(':')
  const first = target.expect === 'silence' ? silenceMs : isSlow ? slowRefusalMs : connectMs
  return target.protocol === 'TCP'
    ? probeTcp(wayOf(target), first, answerMs)
    : probeUdp(wayOf(target), target.expect === 'answer' ? answerMs : first)
}

async function probing(target: Target, patience: Patience, lane: Lane): Promise<void> {
  const chosen: string[] = []
  while (!stopped) {
    const at = Date.now()
    const outcome = await probe(target, patience)
    const wrong = complaint(target, outcome)
    if (wrong !== undefined) fail(target, at, wrong)
    if (target.sticky && outcome.kind === 'answered' && outcome.by !== chosen.at(-1)) {
      chosen.push(outcome.by)
      // One mode's memory of a client is not the other's: one change is due to the switch.
      if (chosen.length > 2) fail(target, at, `not sticky: ${chosen.join(', then ')}`)
    }
    lane.done++
    await sleep(patience.pauseMs)
  }
}

async function echoing(target: Target, flow: Flow, patience: Patience, lane: Lane): Promise<void> {
  for (let number = 0; !stopped; number++) {
    const at = Date.now()
    const wrong = await flow.echo(number, patience.answerMs)
    slowestEcho = Math.max(slowestEcho, Date.now() - at)
    if (wrong === undefined) {
      lane.done++
    } else {
      fail(target, at, `the established flow: ${wrong}`)
      // What is broken stays broken.
      lane.dead = true
      break
    }
    await sleep(patience.pauseMs)
  }
  flow.close()
}

function addLane(name: string, slow: boolean, run: (lane: Lane) => Promise<void>): void {
  const lane: Lane = { name, done: 0, slow, dead: false }
  lanes.push(lane)
  work.push(run(lane))
}

/** Opens a flow to every target that answers; resolves when each was greeted. */
async function openFlows({ targets, patience }: { targets: readonly Target[]; patience: Patience }): Promise<void> {
  const answering = targets.filter(({ expect }) => expect === 'answer')
  const open = async (target: Target): Promise<void> => {
    const at = Date.now()
    const flow = await openFlow(wayOf(target), target.protocol, patience.answerMs)
    const wrong = complaint(target, flow.greeting)
    if (wrong === undefined) addLane(`flow ${target.name}`, false, lane => echoing(target, flow, patience, lane))
    else fail(target, at, `no flow could be established: ${wrong}`)
  }
  await Promise.all(answering.map(open))
}

/** Starts new connections to every target, each after the other. */
function startProbes({ targets, patience }: { targets: readonly Target[]; patience: Patience }): void {
  for (const target of targets) {
    const count = target.expect === 'silence' ? silentLanes : 1
    const slow = target.expect !== 'answer'
    for (let n = 0; n < count; n++) addLane(target.name, slow, lane => probing(target, patience, lane))
  }
}

/** Resolves when everything that began after the call has come to an end `times` times; once is enough for what is slow. */
async function advance({ times }: { times: number }): Promise<void> {
  // What was under way at the call may end first.
  const goals = lanes.map(lane => ({ lane, goal: lane.done + 1 + (lane.slow ? 1 : times) }))
  while (!goals.every(({ lane, goal }) => lane.dead || lane.done >= goal)) await sleep(10)
}

/** Ends everything and tells how it went. */
async function stop(): Promise<Report> {
  stopped = true
  await Promise.all(work)
  const sum = (isFlow: boolean): number =>
    lanes.filter(({ name }) => name.startsWith('flow ') === isFlow).reduce((total, { done }) => total + done, 0)
  const failureCount = [...failureCounts.values()].reduce((total, count) => total + count, 0)
  return { probes: sum(false), echoes: sum(true), slowestEcho, failureCount, failures }
}

const clientMethods = { openFlows, startProbes, advance, stop }
export type ClientMethods = typeof clientMethods

process.on('SIGINT', () => undefined)
answerCalls(clientMethods)
