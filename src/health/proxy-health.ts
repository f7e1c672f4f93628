// Whether this node's rules are being programmed, and if not, what is wrong, in words. Pure: the clocks are handed in.
import type { Family } from '../net/ip.ts'

export interface ProxyHealthOptions {
  /** The families this node is to program: none of them is healthy before its first sync. */
  readonly families: readonly Family[]
  /** How long a change may wait to be programmed, milliseconds; kube-proxy's is twice syncPeriod (`kube-proxy.md` §8.1). */
  readonly timeoutMs: number
  /** Milliseconds of a clock that never goes back: it measures. */
  readonly now: () => number
  /** Milliseconds since the epoch: shown to people. */
  readonly date: () => number
}

export interface FamilyStatus {
  readonly lastUpdated: string
  readonly healthy: boolean
}

/** The body of an answer: kube-proxy's keys in kube-proxy's order, and `problems` after them. Times are RFC 3339. */
export interface HealthReport {
  /** The current time when all is well, as kube-proxy has it; otherwise the end of the last good sync of any family. */
  readonly lastUpdated: string
  readonly currentTime: string
  /** Only of readiness: KEP-3836 keeps it from restarting the proxy of a node that is being deleted. */
  readonly nodeEligible?: boolean
  /** Whatever the node's eligibility. */
  readonly healthy: boolean
  readonly status: Readonly<Partial<Record<Family, FamilyStatus>>>
  /**
   * What is wrong, a sentence each. A failure that has not lasted long enough to count is here too, so that the list may
   * hold something while `healthy` is true.
   */
  readonly problems: readonly string[]
}

export interface Verdict {
  readonly ok: boolean
  readonly report: HealthReport
}

interface FamilyState {
  isExpected: boolean
  /** `date` of the end of the last good sync. */
  lastUpdated: number | undefined
  /** `now` of the oldest change that is not programmed. */
  oldestPending: number | undefined
  failure: { readonly sentence: string; readonly lasting: boolean } | undefined
}

/** What Go prints for a time that was never set; kube-proxy's answers hold it where there was no sync yet. */
const never = '0001-01-01T00:00:00Z'

/**
 * The health of the proxy. Two questions are told apart (KEP-3836):
 * - *ready* (/healthz): may a load balancer send traffic here? Not before every family has synced once: kube-proxy answers
 *   200 from the start, and nodes get traffic before they have rules (issue 134648). Not while a change waits longer than
 *   the timeout, the kernel lastingly refuses, or something else is wrong; and not when the node is leaving.
 * - *live* (/livez): would a restart help? As in kube-proxy, only a change that waits longer than the timeout says so: an
 *   API server that is away at the start, or a node that is being deleted, is no reason to restart the proxy.
 */
export class ProxyHealth {
  readonly #options: ProxyHealthOptions
  readonly #families: Map<Family, FamilyState>
  readonly #problems = new Map<string, string>()
  #nodeEligible: boolean | undefined
  #timeoutMs: number

  constructor(options: ProxyHealthOptions) {
    this.#options = options
    this.#timeoutMs = options.timeoutMs
    this.#families = new Map([...options.families].sort().map(family => [family, unreported()]))
  }

  /** A change is to be programmed. The time runs from the first one that waits. */
  queued(family: Family): void {
    const state = this.#families.get(family)
    if (state !== undefined) state.oldestPending ??= this.#options.now()
  }

  /**
   * The kernel holds what was to be programmed. `stillDirty`: changes came meanwhile and wait for the next sync; their
   * time runs from now. kube-proxy forgets them until another change comes.
   */
  synced(family: Family, stillDirty = false): void {
    const state = this.#families.get(family)
    if (state === undefined) return
    state.isExpected = true
    state.lastUpdated = this.#options.date()
    state.oldestPending = stillDirty ? this.#options.now() : undefined
    state.failure = undefined
  }

  /** Another configuration takes over, and queues everything anew: what waited under the one before waits no longer. */
  restarted(timeoutMs = this.#timeoutMs): void {
    this.#timeoutMs = timeoutMs
    for (const state of this.#families.values()) state.oldestPending = undefined
  }

  /**
   * A sync failed, for the reason the sentence says. `lasting`: trying again will not help (the kernel denies it or cannot
   * do it); then the node is not ready at once, otherwise when the timeout is over.
   */
  failed(family: Family, sentence: string, lasting = false): void {
    const state = this.#families.get(family)
    if (state === undefined) return
    state.failure = { sentence, lasting }
    this.queued(family)
  }

  /**
   * Whether the family counts: not while this node cannot program it and no Service asks for it. A sync of it that succeeds
   * makes it count again.
   */
  expect(family: Family, isExpected: boolean): void {
    const state = this.#families.get(family)
    if (state === undefined || state.isExpected === isExpected) return
    this.#families.set(family, { ...unreported(), isExpected })
  }

  /** Whether the Node may take traffic (`NodeRecord.eligible`); undefined while there is no Node object. */
  nodeEligible(eligible: boolean | undefined): void {
    this.#nodeEligible = eligible
  }

  /**
   * Anything else for which this node is not ready, as a sentence; undefined when it is over. It says nothing about
   * liveness.
   */
  problem(key: string, sentence: string | undefined): void {
    if (sentence === undefined) this.#problems.delete(key)
    else this.#problems.set(key, sentence)
  }

  /** True if what is programmed can be relied on, whatever the node's eligibility: what a per-Service check asks. */
  isHealthy(): boolean {
    return this.#problems.size === 0 && this.#expected().every(([, state]) => this.#isReady(state))
  }

  /** The answer of /healthz. */
  ready(): Verdict {
    const eligible = this.#nodeEligible === true
    const healthy = this.isHealthy()
    const problems = [...this.#familyProblems(), ...this.#problems.values(), ...this.#nodeProblems()]
    const report = this.#report(healthy && eligible, healthy, state => this.#isReady(state), problems)
    const { lastUpdated, currentTime, ...rest } = report
    return { ok: healthy && eligible, report: { lastUpdated, currentTime, nodeEligible: eligible, ...rest } }
  }

  /** The answer of /livez. */
  live(): Verdict {
    const ok = this.#expected().every(([, state]) => !this.#isLate(state))
    const problems = [...this.#familyProblems(), ...this.#problems.values()]
    return { ok, report: this.#report(ok, ok, state => !this.#isLate(state), problems) }
  }

  #expected(): [Family, FamilyState][] {
    return [...this.#families].filter(([, { isExpected }]) => isExpected)
  }

  #isLate({ oldestPending }: FamilyState): boolean {
    return oldestPending !== undefined && this.#options.now() - oldestPending >= this.#timeoutMs
  }

  #isReady(state: FamilyState): boolean {
    return state.lastUpdated !== undefined && state.failure?.lasting !== true && !this.#isLate(state)
  }

  #report(
    ok: boolean,
    healthy: boolean,
    isFamilyHealthy: (state: FamilyState) => boolean,
    problems: readonly string[],
  ): HealthReport {
    const currentTime = timestamp(this.#options.date())
    const updates = this.#expected().flatMap(([, { lastUpdated }]) => lastUpdated ?? [])
    const status: Partial<Record<Family, FamilyStatus>> = {}
    for (const [family, state] of this.#expected()) {
      status[family] = { lastUpdated: timestamp(state.lastUpdated), healthy: isFamilyHealthy(state) }
    }
    const latest = updates.length === 0 ? undefined : Math.max(...updates)
    return { lastUpdated: ok ? currentTime : timestamp(latest), currentTime, healthy, status, problems }
  }

  *#familyProblems(): Iterable<string> {
    for (const [family, state] of this.#expected()) {
      const { failure } = state
      if (failure !== undefined) yield `${family}: rules cannot be programmed: ${failure.sentence}`
      if (state.lastUpdated === undefined) yield `${family}: no rules have been programmed yet since the start`
      if (this.#isLate(state)) yield `${family}: a change has been waiting for ${this.#secondsPending(state)} s`
    }
  }

  #secondsPending({ oldestPending = 0 }: FamilyState): number {
    return Math.floor((this.#options.now() - oldestPending) / 1000)
  }

  *#nodeProblems(): Iterable<string> {
    if (this.#nodeEligible === undefined) yield 'the Node object of this node is not known'
    if (this.#nodeEligible === false) {
      yield 'the node takes no new traffic: it is being deleted, or has the taint ToBeDeletedByClusterAutoscaler'
    }
  }
}

const unreported = (): FamilyState => ({
  isExpected: true,
  lastUpdated: undefined,
  oldestPending: undefined,
  failure: undefined,
})

const timestamp = (date: number | undefined): string => (date === undefined ? never : new Date(date).toISOString())
