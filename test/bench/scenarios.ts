// What is measured once a program has been started: one function each, in no need of another.
import { setTimeout as sleep } from 'node:timers/promises'
import { median, percentile, spread } from './numbers.ts'
import { freeIP, ports, rollingIP, servicePort, sinkEndpoint, sinkIP, sliceSize } from './objects.ts'
import type { Target } from './probe.ts'
import type { Figures, Storm } from './report.ts'
import { type Bench, openSink } from './setup.ts'

/** A change that is not in the kernel by then never will be; kube-proxy's nftables mode takes 7.8 s at 10,000 Services. */
const changeLimitMs = 120_000
const connectRounds = 1_500
const streamMs = 1_000
const streamRounds = 3
const burstSize = 500
const rollingEndpoints = 1_000
const rollingSteps = 4
/** Of a burst or a storm: so many Services are watched while it goes on, a connect each in turn every millisecond. */
const watched = 8

const sinceMs = (from: string, to: string): number => Number(BigInt(to) - BigInt(from)) / 1e6

/** Milliseconds that the case's clock has passed since `from` (monotonic, from `process.hrtime`), for budgets only. */
const spentMs = (from: bigint): number => Number(process.hrtime.bigint() - from) / 1e6

/** Where connects to these Services should end now. */
async function targetsOf({ api, addressOf }: Bench, indices: readonly number[]): Promise<Target[]> {
  const now = await api.call('portsOf', { indices })
  return indices.map((index, place) => ({ address: addressOf(index), port: now[place] ?? 0 }))
}

const otherPort = (port: number): number => (port === ports.before ? ports.after : ports.before)

/** Moves one Service, and returns how long that took to get into the kernel. Throws an Error after the limit. */
async function timeMove(bench: Bench, index: number): Promise<{ tookMs: number; at: string }> {
  const [target] = await targetsOf(bench, [index])
  if (target === undefined) throw new Error(`there is no Service ${index}`)
  const seen = bench.probe.call('untilMoved', {
    address: target.address,
    port: otherPort(target.port),
    limitMs: changeLimitMs,
  })
  // What fails below has its own error; this one must not go unheard.
  seen.catch(() => undefined)
  const { at } = await bench.api.call('flip', { indices: [index] })
  const found = await seen
  if (found === null) throw new Error(`a change was not in the kernel after ${changeLimitMs / 1000} s`)
  return { tookMs: sinceMs(at, found.at), at }
}

type Changes = Pick<Figures, 'change' | 'cpuPerChangeMs' | 'toolsPerChangeMs'>

/** Each change moves one Service's endpoints, a Service that was not touched before, when the one before is digested. */
export async function measureChanges(bench: Bench): Promise<Changes> {
  const { probe, wanted, options } = bench
  const times: number[] = []
  const began = process.hrtime.bigint()
  const before = await probe.call('usage', undefined)
  for (const index of spread(options.changes, wanted.services)) {
    if (times.length >= 3 && spentMs(began) > options.budgetSeconds * 1_000) break
    const { tookMs } = await timeMove(bench, index)
    times.push(tookMs)
    await sleep(Math.max(200, 1.5 * tookMs))
  }
  const after = await probe.call('usage', undefined)
  return {
    change: {
      timed: times.length,
      p50Ms: percentile(times, 0.5),
      p90Ms: percentile(times, 0.9),
      p99Ms: percentile(times, 0.99),
    },
    cpuPerChangeMs: (after.cpuMs - before.cpuMs) / times.length,
    toolsPerChangeMs: (after.childCpuMs - before.childCpuMs) / times.length,
  }
}

/**
 * The CPU of changes of one slice of a large Service. When each is in the kernel cannot be told to the millisecond by
 * connects, of which one in a hundred ends at a changed endpoint, so it is not.
 */
export async function measureSliceChanges(bench: Bench): Promise<Changes> {
  const { api, probe, wanted, options } = bench
  const slices = Math.ceil(wanted.endpoints / sliceSize)
  const began = process.hrtime.bigint()
  const before = await probe.call('usage', undefined)
  let made = 0
  for (const part of spread(Math.min(options.changes, 20), slices)) {
    if (made >= 3 && spentMs(began) > options.budgetSeconds * 1_000) break
    const to = Math.min(wanted.endpoints, (part + 1) * sliceSize)
    await api.call('replace', { from: part * sliceSize, to, generation: 1 })
    made++
    // A daemon that has not yet begun looks still.
    await sleep(300)
    await probe.call('untilStill', { limitMs: changeLimitMs })
  }
  const after = await probe.call('usage', undefined)
  return {
    change: null,
    cpuPerChangeMs: (after.cpuMs - before.cpuMs) / made,
    toolsPerChangeMs: (after.childCpuMs - before.childCpuMs) / made,
  }
}

/** Median connect calls. */
export async function measureConnects({ probe, wanted, addressOf }: Bench): Promise<Figures['connectUs']> {
  const { services } = wanted
  const addresses = [0, services >> 1, services - 1].map(addressOf)
  const [first = Number.NaN, middle = Number.NaN, last = Number.NaN, none = Number.NaN] = await probe.call(
    'connectTimes',
    { addresses: [...addresses, freeIP(services)], times: connectRounds },
  )
  return { first, middle, last, none }
}

/** One stream through a Service and one to its endpoint, in turns; medians. */
export async function measureThroughput(bench: Bench): Promise<Figures['throughput']> {
  const { api, probe } = bench
  await (await openSink(bench)).call('serve', undefined)
  await api.call('putSink', undefined)
  const answers = await probe.call('untilConnects', { address: sinkIP, limitMs: changeLimitMs })
  if (!answers) throw new Error('a new Service did not answer')
  const through: number[] = []
  const direct: number[] = []
  for (let round = 0; round < streamRounds; round++) {
    through.push(await probe.call('stream', { address: sinkIP, port: servicePort, forMs: streamMs }))
    direct.push(await probe.call('stream', { address: sinkEndpoint, port: ports.sink, forMs: streamMs }))
  }
  return { serviceBytesPerSecond: median(through), directBytesPerSecond: median(direct) }
}

/** Many Services change at once. */
export async function measureBurst(bench: Bench): Promise<Figures['burst']> {
  const { api, probe, wanted } = bench
  const indices = spread(burstSize, wanted.services)
  const before = await probe.call('usage', undefined)
  const targets = (await targetsOf(bench, indices)).map(({ address, port }) => ({ address, port: otherPort(port) }))
  // The watched ones are spread over the burst, its last change among them.
  const first = spread(watched, targets.length).map(place => targets.length - 1 - place)
  const isFirst = new Set(first)
  const ordered = [
    ...first.flatMap(place => targets[place] ?? []),
    ...targets.filter((_, place) => !isFirst.has(place)),
  ]
  const moved = probe.call('untilAllMoved', { targets: ordered, watched, limitMs: changeLimitMs })
  moved.catch(() => undefined)
  const { at, putMs } = await api.call('flip', { indices })
  const seen = await moved
  if (seen === null) throw new Error(`a burst was not in the kernel after ${changeLimitMs / 1000} s`)
  await probe.call('untilStill', { limitMs: changeLimitMs })
  const after = await probe.call('usage', undefined)
  return { changes: indices.length, ms: sinceMs(at, seen.at), putMs, cpuMs: after.cpuMs - before.cpuMs }
}

/** A Service of 1,000 endpoints comes, its endpoints are replaced in quarters, and it goes. The large one stays as it is. */
export async function measureRolling(bench: Bench): Promise<Figures['rolling']> {
  const { api, probe, wanted } = bench
  const endpoints = wanted.isLarge ? wanted.endpoints : rollingEndpoints
  if (!wanted.isLarge) await api.call('putRolling', { endpoints })
  const answers = await probe.call('untilConnects', { address: rollingIP, limitMs: changeLimitMs })
  if (!answers) throw new Error('a new Service did not answer')
  await probe.call('untilStill', { limitMs: changeLimitMs })
  const stepMs: number[] = []
  const before = await probe.call('usage', undefined)
  for (let step = 0; step < rollingSteps; step++) {
    const from = Math.floor((step * endpoints) / rollingSteps)
    const to = Math.floor(((step + 1) * endpoints) / rollingSteps)
    const replaced = probe.call('untilReplaced', { endpoints, from, to, generation: 2, limitMs: changeLimitMs })
    replaced.catch(() => undefined)
    const { at } = await api.call('replace', { from, to, generation: 2 })
    const seen = await replaced
    if (seen === null) throw new Error(`replaced endpoints were used for ${changeLimitMs / 1000} s more`)
    stepMs.push(Math.max(sinceMs(at, seen.fresh), seen.stale === null ? 0 : sinceMs(at, seen.stale)))
    await probe.call('untilStill', { limitMs: changeLimitMs })
  }
  const after = await probe.call('usage', undefined)
  if (!wanted.isLarge) {
    await api.call('removeRolling', undefined)
    // What is not gone by the time of a restart would be written by that. A daemon that has not yet begun looks still.
    await sleep(300)
    await probe.call('untilStill', { limitMs: changeLimitMs })
  }
  return { endpoints, stepMs, cpuMs: after.cpuMs - before.cpuMs }
}

/** So many changes a second. The last fiftieth of the Services is left out of it: their changes, one at a time, are timed. */
export async function measureStorm(bench: Bench): Promise<Storm> {
  const { api, probe, wanted, options } = bench
  const { rate, seconds } = options.storm
  const markers = Math.max(1, Math.floor(wanted.services / 50))
  const services = Math.max(1, wanted.services - markers)
  const before = await probe.call('usage', undefined)
  let isOver = false
  const storm = api
    .call('storm', { rate, seconds, services })
    .finally(() => {
      isOver = true
    })
    .then(async ended => {
      const after = await probe.call('usage', undefined)
      const targets = await targetsOf(bench, [...new Set([...ended.last.reverse(), ...spread(200, services)])])
      const seen = await probe.call('untilAllMoved', { targets, watched, limitMs: changeLimitMs })
      return { ...ended, after, seen }
    })
  // Heard below, unless a change that never arrives is an error before it.
  storm.catch(() => undefined)
  const lags: number[] = []
  for (let turn = 0; !isOver; turn++) {
    const { tookMs } = await timeMove(bench, services + (turn % markers))
    lags.push(tookMs)
    await sleep(50)
  }
  const { endedAt, tookMs, sent, after, seen } = await storm
  await probe.call('untilStill', { limitMs: changeLimitMs })
  const settled = await probe.call('usage', undefined)
  return {
    rate,
    seconds,
    sent,
    lag: {
      seen: lags.length,
      p50Ms: percentile(lags, 0.5),
      p99Ms: percentile(lags, 0.99),
      maxMs: Math.max(...lags),
    },
    tookMs,
    cpuPercent: (100 * (after.cpuMs - before.cpuMs)) / tookMs,
    inStepMs: seen === null ? null : Math.max(0, sinceMs(endedAt, seen.at)),
    rssBytes: settled.rssKiB * 1024,
    peakBytes: settled.peakKiB * 1024,
  }
}

/** Ends the program and starts it again while connects go on: first with nothing changed, then with one change made meanwhile. */
export async function measureRestart(bench: Bench): Promise<Figures['restart']> {
  const { probe, argv, env, wanted, options, addressOf } = bench
  const limitMs = options.startLimitSeconds * 1_000
  await probe.call('beginConnecting', { addresses: [addressOf(0), addressOf(wanted.services - 1)] })
  await probe.call('stop', undefined)
  await probe.call('start', { argv, env })
  // Another program's log says nothing that could be read here: it is done when it is still.
  const sync = wanted.peer === undefined ? await probe.call('firstSync', { family: 'IPv4', limitMs }) : null
  await sleep(1_000)
  await probe.call('untilStill', { limitMs })
  const { tried, failed } = await probe.call('endConnecting', undefined)
  return {
    comparedMs: sync?.atMs ?? null,
    written: sync === null ? null : sync.added + sync.changed + sync.removed,
    caughtUpMs: wanted.isLarge ? null : await measureCatchingUp(bench, limitMs),
    connects: tried,
    failedConnects: failed,
  }
}

/** From the start of the process until a change made while there was none is in the kernel; null if not within the limit. */
async function measureCatchingUp(bench: Bench, limitMs: number): Promise<number | null> {
  const { api, probe, argv, env, wanted } = bench
  await probe.call('stop', undefined)
  const index = wanted.services >> 1
  await api.call('flip', { indices: [index] })
  const [target] = await targetsOf(bench, [index])
  const { at } = await probe.call('start', { argv, env })
  const seen = target === undefined ? null : await probe.call('untilMoved', { ...target, limitMs })
  return seen === null ? null : sinceMs(at, seen.at)
}
