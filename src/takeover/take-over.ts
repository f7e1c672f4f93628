// Taking over from kube-proxy: its leftovers go once our rules are in, and a kube-proxy that still runs is not fought.
import { setTimeout as sleepFor } from 'node:timers/promises'
import { CommitError } from '../backend/backend.ts'
import type { Family } from '../net/ip.ts'
import { type RetireOptions, retireKubeProxy } from './retire.ts'

export interface TakeOverOptions extends Omit<RetireOptions, 'keepConnections'> {
  /** Process ids of kube-proxies in this network namespace, as far as they can be seen. */
  readonly running: () => Promise<readonly number[]>
  /** Do what can be done at once; the rest is left to the next run. */
  readonly once: boolean
  readonly tell: (event: TakeOverEvent) => void
  /** For tests. */
  readonly sleep?: (ms: number, signal: AbortSignal) => Promise<void>
  /** Milliseconds of a clock that never goes back; for tests. */
  readonly now?: () => number
}

/** What happened, as a sentence for the log. */
export interface TakeOverEvent {
  readonly family: Family
  readonly level: 'info' | 'warn'
  readonly text: string
}

/** While a kube-proxy is seen running, it is looked again this often. */
const waitForEndMs = 30_000
/** kube-proxy puts its rules back at its next sync: 30 s in mode ipvs, at the next change otherwise. */
const lookBacksMs = [10_000, 60_000, 600_000]
/** As often as this its rules are removed; after that they are left. */
const maxRounds = 4
/** For virtual servers with connections, as for our own (`backend/ipvs/retire.ts`). */
const drainEveryMs = 5_000
const drainLimitMs = 15 * 60_000
const maxFailures = 20

const stop = 'kubectl -n kube-system delete daemonset kube-proxy'

/**
 * Removes kube-proxy's leftovers of one address family; called once our rules are in. Returns true when nothing of
 * kube-proxy's is left but what must stay. Not before a kube-proxy that still runs has ended, since it would put them back;
 * both sets of rules beside each other do no harm, because they lead to the same endpoints. What fails for good, or comes
 * back for the fourth time, is told once and left. Does not throw.
 */
export async function takeOver(options: TakeOverOptions, signal: AbortSignal): Promise<boolean> {
  const { family, once, tell, now = () => performance.now() } = options
  const say = (level: TakeOverEvent['level'], text: string): void => tell({ family, level, text })
  const sleep = options.sleep ?? ((ms, until) => sleepFor(ms, undefined, { signal: until, ref: false }))
  const rest = (ms: number): Promise<void> => sleep(ms, signal).catch(() => undefined)
  const said = new Set<string>()
  const sayOnce = (level: TakeOverEvent['level'], text: string): void => {
    if (said.has(text)) return
    said.add(text)
    say(level, text)
  }
  let rounds = 0
  let looks = 0
  let failures = 0
  let drainingSince: number | undefined

  while (!signal.aborted) {
    const pids = await options.running()
    if (pids.length > 0) {
      const who = `kube-proxy still runs here (process ${pids.join(', ')})`
      sayOnce('warn', `${who}: its rules stay beside ours, harmlessly, until it ends; stop it with \`${stop}\``)
      if (once) return false
      await rest(waitForEndMs)
      continue
    }
    let retired: Awaited<ReturnType<typeof retireKubeProxy>>
    try {
      const keepConnections = drainingSince === undefined || now() - drainingSince < drainLimitMs
      retired = await retireKubeProxy({ ...options, keepConnections }, signal)
      failures = 0
    } catch (error) {
      if (signal.aborted) return false
      if (!(error instanceof CommitError)) throw error
      const passes = error.kind === 'transient' || error.kind === 'stale'
      if (!passes || ++failures > (once ? 5 : maxFailures)) {
        say('warn', `kube-proxy's rules cannot be removed and stay beside ours: ${error.message}`)
        return false
      }
      await rest(Math.min(failures * 500, 30_000))
      continue
    }
    if (retired.removed.length > 0) {
      for (const sentence of retired.kept) sayOnce('info', `not removed with kube-proxy's rules: ${sentence}`)
      if (retired.wasInCharge) rounds++
      const again = rounds > 1 && retired.wasInCharge ? 'again, because they had come back' : 'with our rules in'
      say(rounds > 1 ? 'warn' : 'info', `removed kube-proxy's leftovers, ${again}: ${retired.removed.join(', ')}`)
      looks = 0
    }
    if (rounds >= maxRounds) {
      say(
        'warn',
        `kube-proxy's rules keep coming back: somewhere it still runs; they are left to it now. Stop it: \`${stop}\``,
      )
      return false
    }
    if (retired.busy > 0) {
      drainingSince ??= now()
      sayOnce(
        'info',
        "connections still live in kube-proxy's virtual servers, which take no new ones and go when those end",
      )
      if (once) return false
      await rest(drainEveryMs)
      continue
    }
    if (once || rounds === 0) return true
    const wait = lookBacksMs[looks++]
    if (wait === undefined) return true
    await rest(wait)
  }
  return false
}
