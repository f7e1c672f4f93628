// When to look whether the kernel still holds what was written, and how to say what it does not.
import type { Backend, KernelObject, Look } from '../backend/backend.ts'
import type { DriftReport, Suspicion } from './contract.ts'
import type { Leisure } from './leisure.ts'
import type { Deviant, Deviation } from './program.ts'

/** Somebody who flushes tables writes several times: one repair mends it all. Milliseconds. */
const settleMs = 100
/** At most one repair a second; after some in a row less often, the longer others go on. */
const shortestGapMs = 1_000
const longestGapMs = 8_000
const patience = 5
/** After work on a suspicion that took t, the next one waits for at least this many times t: 5 % of a core at most. */
const restPerWork = 20
/** So long without any, and it begins anew. */
const calmMs = 30_000
/** What repairs are counted over. */
const fightMs = 60_000
/**
 * After a regular look that took t, the next one waits for at least this many times t: 0.05 % of a core. In iptables mode's
 * legacy variant with 10,000 Services of 5 endpoints that is 11 minutes, with 500 about the sync period; what comes or goes
 * there shows within a second by the size of the table. What nf_tables tells of is not looked at; where it cannot be heard
 * (no koffi), 10,000 Services are looked at by the regular comparison.
 */
const restPerLook = 2_000
/** A look that leads to a comparison costs what both cost. */
const looksPerComparison = 2

/** Objects that a report names. */
export const mostExamples = 5
const longestText = 160

/** A look at our jumps, at everything, or a full comparison. */
type Work = 'jumps' | 'everything' | 'comparison'

/** What is due. */
export interface Due {
  readonly work: Work
  /** Of a regular look only: when it fell due, milliseconds. */
  readonly since?: number
}

/**
 * What a look found: the kernel holds what is wanted; whether it does only a comparison can tell; it does not, and that is not
 * our own doing; or a change put the look off, which is due as before.
 */
export type Finding = 'whole' | 'unknown' | 'changed' | 'put off'

const weight: Readonly<Record<Suspicion['kind'], number>> = { hooks: 0, unknown: 1, ours: 2 }
const workFor: Readonly<Record<Suspicion['kind'], Work>> = { hooks: 'jumps', unknown: 'everything', ours: 'comparison' }

/** Knows what is suspected, when to act on it, and what the kernel looked like when it held everything. */
export class DriftGuard {
  readonly #now: () => number
  readonly #leisure: Leisure
  readonly #checkMs: number
  #suspicion: Suspicion['kind'] | undefined
  #suspectedAt = 0
  readonly #by = new Set<string>()
  /** When the next regular look is due. */
  #nextPeriod: number
  /** No suspicion is acted upon before. */
  #notBefore = Number.NEGATIVE_INFINITY
  #lastWork = Number.NEGATIVE_INFINITY
  #inARow = 0
  /** When repairs were made, of the last minute. */
  #repairs: number[] = []
  /** Digest of the kernel while it held exactly what is wanted. */
  #known: string | undefined
  /** Digest that becomes known if the comparison that follows finds no difference. */
  #candidate: string | undefined

  /** Times in milliseconds; `now` never goes back. */
  constructor(now: () => number, leisure: Leisure, checkMs: number = Number.POSITIVE_INFINITY) {
    this.#now = now
    this.#leisure = leisure
    this.#checkMs = checkMs
    this.#nextPeriod = now() + checkMs
  }

  /** Cheap. True if this makes something due sooner than before. */
  suspect({ kind, by }: Suspicion): boolean {
    if (by !== undefined && this.#by.size < mostExamples) this.#by.add(by)
    const isFirst = this.#suspicion === undefined
    if (isFirst) this.#suspectedAt = this.#now()
    if (this.#suspicion === undefined || weight[kind] > weight[this.#suspicion]) this.#suspicion = kind
    return isFirst
  }

  /** When there is something to do, on the clock of `now`. */
  get dueAt(): number {
    return Math.min(this.#leisure.from(this.#nextPeriod), this.#suspicionDueAt)
  }

  get #suspicionDueAt(): number {
    if (this.#suspicion === undefined) return Number.POSITIVE_INFINITY
    return Math.max(this.#suspectedAt + settleMs, this.#notBefore)
  }

  /** What is due now, which then is so no longer; undefined if nothing is. */
  take(): Due | undefined {
    const now = this.#now()
    if (this.#suspicion !== undefined && this.#suspicionDueAt <= now) {
      const work = workFor[this.#suspicion]
      this.#suspicion = undefined
      return { work }
    }
    const since = this.#nextPeriod
    if (this.#leisure.from(since) > now) return undefined
    this.#nextPeriod = now + this.#checkMs
    return { work: 'everything', since }
  }

  /**
   * Looks as cheaply as the backend can. `watched`: the kernel tells of what the backend's `watched` names. Throws CommitError.
   */
  async look(
    { work, since }: Due,
    backend: Backend,
    watched: boolean,
    skeleton: readonly KernelObject[],
    signal: AbortSignal,
  ): Promise<Finding> {
    if (work === 'comparison') return 'changed'
    const look = async (until: AbortSignal): Promise<Finding> => {
      if (work === 'everything' && backend.fingerprint !== undefined) {
        const found = await backend.fingerprint(until, watched)
        // What the kernel tells of needs no look.
        return found === undefined ? 'whole' : this.#judge(found)
      }
      return (await backend.isIntact?.(until, skeleton)) === false ? 'changed' : 'whole'
    }
    if (since === undefined) return look(signal)
    const looked = await this.#leisure.run(since, signal, look)
    if (looked === undefined) this.#nextPeriod = since
    return looked?.value ?? 'put off'
  }

  #judge({ digest, costMs }: Look): Finding {
    const known = this.#known
    const isSame = digest === known
    const cost = costMs * (isSame ? 1 : looksPerComparison)
    this.#nextPeriod = this.#now() + Math.max(this.#checkMs, cost * restPerLook)
    this.#candidate = isSame ? undefined : digest
    if (isSame) return 'whole'
    return known === undefined ? 'unknown' : 'changed'
  }

  /** What a suspicion led to has ended. It may have been for nothing, and is rarer next time then, too. */
  worked(startedAt: number): void {
    const now = this.#now()
    this.#inARow = now - this.#lastWork > calmMs ? 1 : this.#inARow + 1
    this.#lastWork = now
    const gap = Math.min(shortestGapMs * 2 ** Math.max(0, this.#inARow - patience), longestGapMs)
    this.#notBefore = now + Math.max(gap, (now - startedAt) * restPerWork)
    if (this.#suspicion === undefined) this.#by.clear()
  }

  /** A comparison has found these deviations, which are repaired next. `ownersOf` names the Service ports of a key. */
  repairing(found: Deviation, ownersOf: (key: string) => readonly string[]): DriftReport {
    const now = this.#now()
    this.#repairs = [...this.#repairs.filter(time => now - time < fightMs), now]
    const { missing, foreign, changed, examples } = found
    return {
      missing,
      foreign,
      changed,
      examples: examples.map(deviant => describe(deviant, ownersOf(deviant.key))),
      by: [...this.#by],
      repeats: this.#repairs.length,
    }
  }

  /** A sync has succeeded: without writing anything after a comparison, or by writing. */
  synced({ compared, wrote }: { compared: boolean; wrote: boolean }): void {
    if (wrote) this.#known = undefined
    else if (compared && this.#candidate !== undefined) this.#known = this.#candidate
    if (wrote || compared) this.#candidate = undefined
  }
}

/** In words: the key, whom it belongs to, and what is wrong with it. */
export function describe({ key, wanted, held }: Deviant, owners: readonly string[]): string {
  const [named] = owners.filter(owner => !owner.startsWith('('))
  const what = named === undefined ? key : `${key} (${named})`
  if (wanted === undefined) return `${what} is not ours`
  if (held === undefined) return `${what} is gone`
  const lacking = without(wanted, held)
  if (lacking !== undefined) return `${what} lacks: ${lacking}`
  const extra = without(held, wanted)
  return extra === undefined ? `${what} is in another order` : `${what} has: ${extra}`
}

/** The first line of a text that another lacks, shortened. */
function without(text: string, other: string): string | undefined {
  const lines = other.split('\n')
  const line = text.split('\n').find(candidate => candidate !== '' && !lines.includes(candidate))
  return line === undefined || line.length <= longestText ? line : `${line.slice(0, longestText - 1)}…`
}
