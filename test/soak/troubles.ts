// The makers of trouble, each at work by itself until the round is over: at the API server, in the kernel, with the tools,
// with the process and its configuration.
import { setTimeout as wait } from 'node:timers/promises'
import type { ProxyMode } from '../../src/config/types.ts'
import type { Random } from '../differential/random.ts'
import { nameOfTrouble, randomApiTrouble } from './api-faults.ts'
import { randomDamage } from './damage.ts'
import type { Change, Population } from './population.ts'
import { type Settings, type SoakNode, usualSettings } from './soak-node.ts'
import { randomToolFault } from './tool-faults.ts'

const none = undefined as never

export interface Round {
  readonly soak: SoakNode
  readonly population: Population
  /** A stream of numbers for each maker, so that none depends on the pace of another. */
  readonly random: (of: string) => Random
  /** Milliseconds. */
  readonly durationMs: number
  readonly mode: ProxyMode
  /** The daemon is killed early in the first round; later only now and then, for long lives show what leaks. */
  readonly isFirst: boolean
  /** Frozen streams are left alone: the daemon is to notice by itself, which takes it 100 s. */
  readonly isPatient: boolean
  readonly happened: (what: string) => void
  readonly changed: (count: number) => void
}

/**
 * From this part of a round on nothing happens that makes the daemon begin anew or look at every Service again: no restart,
 * no other configuration, no other node. What a change leaves undone then stays undone, and is found at the end.
 */
const lastPart = 0.5

/** Makes trouble until the round is over. Rejects if the daemon ends by itself. */
export async function makeTrouble(round: Round): Promise<void> {
  const over = new AbortController()
  const timer = setTimeout(() => over.abort(), round.durationMs)
  const { signal } = over
  const makers = [churn, api, damages, tools, processes, configurations, attend]
  try {
    await Promise.all(makers.map(maker => maker(round, signal)))
  } finally {
    clearTimeout(timer)
    over.abort()
  }
}

/** Resolves early, too, when the round is over. */
const sleep = (ms: number, signal: AbortSignal): Promise<void> => wait(ms, undefined, { signal }).catch(() => undefined)

async function churn(round: Round, signal: AbortSignal): Promise<void> {
  const { soak, population, changed, durationMs, random } = round
  const change = async (changes: readonly Change[]): Promise<void> => {
    await soak.api.call('change', { changes })
    changed(changes.length)
  }
  // The population has a stream of its own.
  const gaps = random('gaps')
  const began = performance.now()
  let isLastPart = false
  while (!signal.aborted) {
    if (!isLastPart && performance.now() - began >= durationMs * lastPart) {
      isLastPart = true
      await change(population.settleNode())
    }
    await change(population.step(!isLastPart))
    await sleep(gaps.int(50, 500), signal)
  }
  if (!isLastPart) await change(population.settleNode())
}

async function api({ soak, random, happened, isPatient }: Round, signal: AbortSignal): Promise<void> {
  const numbers = random('api')
  while (!signal.aborted) {
    await sleep(numbers.int(500, 3_000), signal)
    if (signal.aborted) return
    const trouble = randomApiTrouble(numbers)
    happened(nameOfTrouble(trouble))
    if (trouble.kind === 'refuse') await soak.api.call('refuse', none)
    else if (trouble.kind === 'fault') await soak.api.call('fault', { fault: trouble.fault })
    else if (trouble.kind === 'compact') await soak.api.call('compact', none)
    await sleep(numbers.int(300, 4_000), signal)
    const isFrozen = trouble.kind === 'fault' && ['stream-freeze', 'stall'].includes(trouble.fault.kind)
    const drop = isFrozen ? !isPatient || numbers.chance(0.5) : ['compact', 'drop'].includes(trouble.kind)
    await soak.api.call('clear', { drop })
  }
}

async function damages({ soak, random, happened }: Round, signal: AbortSignal): Promise<void> {
  const numbers = random('kernel')
  while (!signal.aborted) {
    await sleep(numbers.int(500, 3_500), signal)
    if (signal.aborted) return
    if (soak.variant === 'legacy' && soak.mode !== 'nftables' && numbers.chance(0.15)) {
      happened('xtables lock held')
      await soak.lock(1_000)
      continue
    }
    const damage = randomDamage(numbers, soak.mode, soak.variant)
    if (await soak.damage(damage)) happened(damage.name)
  }
}

async function tools({ soak, random, happened }: Round, signal: AbortSignal): Promise<void> {
  const numbers = random('tools')
  while (!signal.aborted) {
    await sleep(numbers.int(3_000, 10_000), signal)
    if (signal.aborted) return
    const fault = randomToolFault(numbers, soak.mode, soak.variant)
    happened(fault.name)
    await soak.breakTool(fault)
    await sleep(numbers.int(500, 3_000), signal)
    await soak.mendTools()
  }
}

async function processes(round: Round, signal: AbortSignal): Promise<void> {
  const { soak, random, happened, durationMs, isFirst } = round
  const numbers = random('process')
  const restart = (name: 'SIGTERM' | 'SIGKILL') => {
    happened(name)
    return soak.restart(name, numbers.int(0, 1_500), ms => sleep(ms, signal))
  }
  await sleep(durationMs * 0.1, signal)
  if (isFirst) await restart('SIGKILL')
  else if (numbers.chance(0.1)) await restart(numbers.pick(['SIGTERM', 'SIGKILL']))
  while (!signal.aborted) {
    await sleep(numbers.int(4_000, 15_000), signal)
    if (signal.aborted) return
    happened('SIGSTOP')
    await soak.hold(true)
    await sleep(numbers.int(500, 4_000), signal)
    await soak.hold(false)
  }
}

/** The file changes twice a round: to something else, and back. */
async function configurations(round: Round, signal: AbortSignal): Promise<void> {
  const { soak, random, mode, durationMs, happened } = round
  const numbers = random('configuration')
  await sleep(durationMs * 0.2, signal)
  const other: ProxyMode = mode === 'iptables' ? 'nftables' : 'iptables'
  const settings: Settings = {
    mode: mode !== 'ipvs' && numbers.chance(0.5) ? other : mode,
    masqueradeAll: numbers.chance(0.5),
    detectLocalMode: numbers.pick(['ClusterCIDR', 'NodeCIDR']),
    nodePortAddresses: numbers.pick([[], ['primary'], ['192.168.100.0/24', 'fd00:100::/64']]),
  }
  happened(`configuration: ${JSON.stringify(settings)}`)
  await soak.configure(settings)
  await sleep(durationMs * (lastPart - 0.2), signal)
  await soak.configure(usualSettings(mode))
}

/** Notices at once if the daemon ends by itself. */
async function attend({ soak }: Round, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    await sleep(1_000, signal)
    await soak.mustRun()
  }
}
