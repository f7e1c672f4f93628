// One case from the start of the program to its end. What fails is noted, and the rest goes on.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Means } from '../support/netns/sandbox.ts'
import { spread } from './numbers.ts'
import type { Options, Scenario } from './options.ts'
import { processorTime, stolenPercent, untilQuiet } from './quiet.ts'
import { type Figures, nothing } from './report.ts'
import {
  measureBurst,
  measureChanges,
  measureConnects,
  measureRestart,
  measureRolling,
  measureSliceChanges,
  measureStorm,
  measureThroughput,
} from './scenarios.ts'
import { type Bench, type Case, firstCommand, openBench } from './setup.ts'

/** Services that must answer before a program counts as started, those at both ends and in the middle among them. */
const asked = 21
const stillLimitMs = 60_000
/**
 * The look at the kernel that changes have put off, and the comparison after it, are over by then: it is due within a sync period
 * (30 s). The next one comes after 2,000 times its cost (src/sync/drift.ts), so it adds 0.05 % of a CPU at most to what is
 * measured at rest.
 */
const putOffMs = 35_000

type Say = (line: string) => void

/** What was measured. */
type Parts = Partial<Pick<Figures, keyof typeof nothing>>

/** Measures one case. `say` is told what is being done. Throws an Error only if the sandbox cannot be made. */
export async function measure(means: Means, wanted: Case, options: Options, say: Say): Promise<Figures> {
  const otherwiseBusyPercent = await untilQuiet(options.waitSeconds, say)
  const directory = await mkdtemp(join(tmpdir(), 'penstock-bench-'))
  const problems: string[] = []
  let parts: Parts = {}
  const before = processorTime()
  try {
    const bench = await openBench(means, directory, wanted, options)
    try {
      parts = await measureIn(bench, problems, say)
    } finally {
      await bench.sandbox.close()
    }
  } finally {
    await rm(directory, { recursive: true, force: true })
  }
  const { peer, kind, services, endpoints } = wanted
  const subject = peer?.name ?? 'penstock'
  const context = { otherwiseBusyPercent, stolenPercent: stolenPercent(before, processorTime()) }
  return { subject, kind, services, endpoints, ...context, ...nothing, ...parts, problems }
}

/** What went wrong, without the stacks of the processes that it went through. */
export const messageOf = (error: unknown): string =>
  (error instanceof Error ? error.message : String(error)).replace(/\n {4}at [\s\S]*$/, '').replace(/^(?:Error: )+/, '')

async function measureIn(bench: Bench, problems: string[], say: Say): Promise<Parts> {
  let parts: Parts = {}
  const attempt = async (what: string, act: () => Promise<Parts>): Promise<void> => {
    say(`  ${what} …`)
    try {
      parts = { ...parts, ...(await act()) }
    } catch (error) {
      const said = messageOf(error)
      problems.push(`${what}: ${said}`)
      say(`  ${what}: ${said}`)
    }
  }
  await attempt('start', () => measureStart(bench))
  if (parts.programmedMs === undefined || parts.programmedMs === null) {
    if (problems.length === 0) problems.push(`not programmed after ${bench.options.startLimitSeconds} s`)
    return parts
  }
  for (const { scenario, act } of steps) {
    if (bench.options.scenarios.has(scenario) && applies(scenario, bench)) await attempt(scenario, () => act(bench))
  }
  return parts
}

/** The case of one large Service leaves out what needs many, and a storm has cases of its own. */
function applies(scenario: Scenario, { wanted, options }: Bench): boolean {
  if (scenario === 'storm') return !wanted.isLarge && wanted.services === options.storm.services
  return !(wanted.isLarge && (scenario === 'burst' || scenario === 'throughput'))
}

const steps: readonly { readonly scenario: Scenario; readonly act: (bench: Bench) => Promise<Parts> }[] = [
  { scenario: 'change', act: bench => (bench.wanted.isLarge ? measureSliceChanges(bench) : measureChanges(bench)) },
  {
    scenario: 'idle',
    act: async ({ probe, options }) => {
      await sleep(putOffMs)
      await probe.call('untilStill', { limitMs: stillLimitMs })
      return { idleCpuPercent: await probe.call('idlePercent', { forMs: options.idleSeconds * 1_000 }) }
    },
  },
  {
    scenario: 'memory',
    act: async ({ probe }) => {
      const { rssKiB, peakKiB } = await probe.call('usage', undefined)
      return { rssBytes: rssKiB * 1024, peakBytes: peakKiB * 1024 }
    },
  },
  { scenario: 'connect', act: async bench => ({ connectUs: await measureConnects(bench) }) },
  { scenario: 'throughput', act: async bench => ({ throughput: await measureThroughput(bench) }) },
  { scenario: 'burst', act: async bench => ({ burst: await measureBurst(bench) }) },
  { scenario: 'rolling', act: async bench => ({ rolling: await measureRolling(bench) }) },
  { scenario: 'storm', act: async bench => ({ storm: await measureStorm(bench) }) },
  { scenario: 'restart', act: async bench => ({ restart: await measureRestart(bench) }) },
]

async function measureStart(bench: Bench): Promise<Parts> {
  const { probe, wanted, options, addressOf, delayFile } = bench
  const { services } = wanted
  const indices = [...new Set([0, ...spread(asked - 2, services), services - 1])]
  await probe.call('start', firstCommand(bench))
  const programmedMs = await probe.call('untilAnswers', {
    addresses: indices.map(addressOf),
    limitMs: options.startLimitSeconds * 1_000,
  })
  if (programmedMs === null) return { programmedMs }
  await probe.call('untilStill', { limitMs: stillLimitMs })
  const loopDelay = delayFile === undefined ? null : await probe.call('loopDelay', { file: delayFile })
  // A collector tidies up for some seconds after a start: that is part of it, and not of the first changes.
  await sleep(options.idleSeconds * 1_000)
  const { cpuMs } = await probe.call('usage', undefined)
  return { programmedMs, startCpuMs: cpuMs, loopDelay }
}
