// A soak: rounds of churn and trouble, after each of which the daemon must be in step and the kernel must hold exactly what
// a fresh compile of the API server's objects puts into an empty one. At the end memory is level and nothing is left over.
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { ProxyMode } from '../../src/config/types.ts'
import { type DaemonStatus, isDaemonStatus } from '../../src/observe/status.ts'
import { KernelNode, type Variant } from '../daemon/kernel-node.ts'
import { Random } from '../differential/random.ts'
import { type Growth, growthOf, mostGrowthBytes, unexplained } from './judge.ts'
import { Population } from './population.ts'
import { countOf, differences, readRules } from './rules.ts'
import type { Holdings, Moment, Reading } from './scraper-worker.ts'
import { SoakNode, usualSettings } from './soak-node.ts'
import { makeTrouble } from './troubles.ts'

export interface SoakOptions {
  /** Of trouble, in all rounds; settling and comparing come on top. */
  readonly seconds: number
  readonly mode: ProxyMode
  readonly variant: Variant
  /** Any word: the same changes and faults in the same order, though not at the same moments. */
  readonly seed: string
  readonly services: number
  /** Of one round; 60 when absent. */
  readonly roundSeconds?: number
  /** How many times slower than usual this machine is, an emulated one for instance: waits and periods grow by it. */
  readonly slowness?: number
  /** The built program. */
  readonly program: string
  readonly say: (line: string) => void
}

export interface SoakReport {
  /** What is wrong; empty if all is well. */
  readonly failures: readonly string[]
  readonly rounds: number
  readonly changes: number
  /** Faults and damages, by what they were. */
  readonly troubles: ReadonlyMap<string, number>
  /** Answers of the daemon's servers that were looked at. */
  readonly answers: number
  readonly growth: readonly Growth[]
  /** Where logs and objects are; undefined when all is well, and nothing was kept. */
  readonly kept: string | undefined
}

/** A round is long enough for everything to happen in it, and short enough to find what went wrong. */
const usualRoundSeconds = 60
/** Streams that are frozen are noticed after 100 s of silence: only long soaks have the time. */
const patientFromSeconds = 240
const noticeFrozenMs = 130_000
/**
 * Everything heals by itself once the faults are over: the daemon's longest waits are 10 s for a first answer of the API
 * server, 8 s between repairs, 5 s of back-off; on a machine with others at work they take several times as long. A change of
 * mode removes the former one's rules with waits of up to 30 s.
 */
const settleMs = 90_000
/** After the end of a fault what it did to health may last that long: a back-off, and a sync on a busy machine. */
const graceMs = 20_000
const sayEveryMs = 5_000
/** Above what was open at rest before: a connection that is about to be closed, a timer that has just fired. */
const fewDescriptors = 2

const none = undefined as never

/** Runs one. Throws an Error only if the machine does not allow it. */
export async function runSoak(options: SoakOptions): Promise<SoakReport> {
  const directory = await mkdtemp(join(tmpdir(), 'penstock-soak-'))
  const { variant, program, slowness = 1 } = options
  const soak = await SoakNode.open({ variant, program, slowness, directory: join(directory, 'node') })
  const run = new Run(options, soak, directory)
  let kept: string | undefined = directory
  try {
    await run.all().catch((error: unknown) => run.fail(error instanceof Error ? error.message : String(error)))
    if (run.failures.length > 0) await run.keep()
    else kept = undefined
  } finally {
    await soak.close()
    if (kept === undefined) await rm(directory, { recursive: true, force: true })
  }
  return { ...run.report(), kept }
}

class Run {
  readonly failures: string[] = []
  readonly #options: SoakOptions
  readonly #soak: SoakNode
  readonly #directory: string
  readonly #population: Population
  readonly #began = performance.now()
  readonly #troubles = new Map<string, number>()
  readonly #readings: Reading[] = []
  #recent: string[] = []
  #rounds = 0
  #changes = 0
  #answers = 0
  #restingDescriptors = 0
  /** What is not in step yet, once the faults are over. */
  #awaited = ''
  #unjudged = nothingSeen()

  constructor(options: SoakOptions, soak: SoakNode, directory: string) {
    this.#options = options
    this.#soak = soak
    this.#directory = directory
    this.#population = new Population(new Random(options.seed, 'churn'), options.services)
  }

  get #isPatient(): boolean {
    return this.#options.seconds >= patientFromSeconds
  }

  get #settleMs(): number {
    return settleMs * this.#soak.slowness
  }

  fail(what: string): void {
    this.failures.push(what)
    this.#say(`WRONG: ${what}`)
  }

  report(): Omit<SoakReport, 'kept'> {
    return {
      failures: this.failures,
      rounds: this.#rounds,
      changes: this.#changes,
      troubles: this.#troubles,
      answers: this.#answers,
      growth: growthOf(this.#readings),
    }
  }

  async all(): Promise<void> {
    const soak = this.#soak
    const { seconds, mode, roundSeconds = usualRoundSeconds } = this.#options
    const roundMs = roundSeconds * 1000
    await soak.configure(usualSettings(mode))
    await this.#change(this.#population.begin())
    await soak.start()
    await soak.scraper.call('begin', { slowness: soak.slowness })
    await this.#untilInStep()
    this.#restingDescriptors = (await this.#atRest()).descriptors.length
    const ticking = setInterval(() => void this.#progress().catch(() => undefined), sayEveryMs)
    try {
      for (let left = seconds * 1000; left > 0 && this.failures.length === 0; left -= roundMs) {
        // A short remainder is no round of its own.
        await this.#round(left < roundMs * 1.5 ? left : roundMs)
        if (left < roundMs * 1.5) break
      }
    } finally {
      clearInterval(ticking)
    }
    await this.#end()
  }

  async #round(durationMs: number): Promise<void> {
    const { seed, mode } = this.#options
    const number = ++this.#rounds
    await makeTrouble({
      soak: this.#soak,
      population: this.#population,
      random: of => new Random(seed, of, number),
      durationMs,
      mode,
      isFirst: number === 1,
      isPatient: this.#isPatient,
      happened: what => {
        const kind = what.startsWith('configuration') ? 'configuration' : what
        this.#troubles.set(kind, (this.#troubles.get(kind) ?? 0) + 1)
        this.#recent.push(what)
      },
      changed: count => {
        this.#changes += count
      },
    })
    await this.#settle()
    if (this.failures.length > 0) return
    this.#say(`round ${number} is over: in step, and the kernel holds what a fresh compile puts into an empty one`)
  }

  /** Faults end; then the daemon catches up by itself. */
  async #settle(): Promise<void> {
    const soak = this.#soak
    await soak.tidy()
    await soak.api.call('clear', { drop: !this.#isPatient })
    await this.#change(this.#population.heal())
    const isInStep = await this.#untilInStep()
    await this.#compare(isInStep)
    await soak.mustRun()
    await this.#judge()
  }

  async #change(changes: ReturnType<Population['begin']>): Promise<void> {
    await this.#soak.api.call('change', { changes })
    this.#changes += changes.length
  }

  /** Waits until the daemon says that all is well and `plan` has nothing to do. Returns false, and says why, if that takes too long. */
  async #untilInStep(): Promise<boolean> {
    const soak = this.#soak
    const patienceMs = this.#settleMs + (this.#isPatient ? noticeFrozenMs : 0)
    const deadline = performance.now() + patienceMs
    let why = 'it was not asked'
    while (performance.now() < deadline) {
      await soak.mustRun()
      why = await this.#notInStep()
      this.#awaited = why
      if (why === '') return true
      await sleep(1_500)
    }
    this.fail(`not in step ${patienceMs / 1000} s after the last fault: ${why}`)
    return false
  }

  /** Why the daemon is not in step; empty if it is. */
  async #notInStep(): Promise<string> {
    const status = await this.#soak.scraper.call('status', none).catch((error: unknown) => String(error))
    if (!isDaemonStatus(status)) return `no status: ${JSON.stringify(status)}`
    const complaint = complaintOf(status, this.#options.mode)
    if (complaint !== '') return complaint
    const plan = await this.#soak.penstock(['plan'])
    return plan.exitCode === 0
      ? ''
      : `plan ends with status ${plan.exitCode}: ${(plan.stdout || plan.stderr).slice(0, 2_000)}`
  }

  /** The node's kernel against one that was empty, into which a fresh run has put the API server's objects. */
  async #compare(isInStep: boolean): Promise<void> {
    if (!isInStep) return
    const soak = this.#soak
    const { mode, variant, program } = this.#options
    const objects = await soak.api.call('objects', none)
    const manifests = join(this.#directory, 'objects.json')
    await writeFile(manifests, JSON.stringify({ apiVersion: 'v1', kind: 'List', items: objects }))
    const fresh = await KernelNode.open(variant, program, join(this.#directory, 'fresh'))
    try {
      const argv = ['run', '--once', '--nftables-table-owner=false', '--manifests', manifests]
      const once = await soak.penstock(argv, fresh)
      if (once.exitCode !== 0)
        return this.fail(`a fresh run ended with status ${once.exitCode}: ${once.stderr.slice(-2_000)}`)
      const wanted = await readRules(fresh, mode)
      if (countOf(wanted) < this.#population.size) return this.fail(`a fresh run wrote only ${countOf(wanted)} rules`)
      // What another mode has left goes a little later.
      let found: string[] = []
      for (const deadline = performance.now() + this.#settleMs; performance.now() < deadline; await sleep(1_000)) {
        found = differences(await readRules(soak.node, mode), wanted)
        if (found.length === 0) return
      }
      this.fail(`the kernel differs from a fresh compile:\n  ${found.join('\n  ')}`)
    } finally {
      await fresh.close()
    }
  }

  /** What was seen since the last time. */
  async #judge(): Promise<void> {
    const soak = this.#soak
    const seen = await this.#collect()
    const grace = graceMs * soak.slowness
    const name = ({ at, what }: Moment): string => `${new Date(at).toISOString()} ${what}`
    for (const { what } of seen.wrong.slice(0, 5)) this.fail(`an answer is not as it must be: ${what}`)
    const [silent] = unexplained(seen.silent, soak.absences, grace)
    if (silent !== undefined) this.fail(`no answer, and no fault that explains it: ${name(silent)}`)
    const [notLive] = unexplained(seen.notLive, soak.troubles, grace)
    if (notLive !== undefined) this.fail(`/livez answered 503, and no fault explains it: ${name(notLive)}`)
    const [strange] = soak.strange
    if (strange !== undefined) this.fail(`the daemon said something that is no line of its log: ${strange}`)
    this.#unjudged = nothingSeen()
    soak.forget(Date.now() - grace)
  }

  async #collect(): Promise<Unjudged> {
    const seen = await this.#soak.scraper.call('take', none)
    this.#answers += seen.answers
    this.#readings.push(...seen.readings)
    this.#unjudged.wrong.push(...seen.wrong)
    this.#unjudged.silent.push(...seen.silent)
    this.#unjudged.notLive.push(...seen.notLive)
    return this.#unjudged
  }

  async #progress(): Promise<void> {
    await this.#collect()
    const resident = this.#readings.at(-1)?.residentBytes ?? 0
    const troubles = this.#recent.splice(0)
    const faults = [...this.#troubles.values()].reduce((sum, count) => sum + count, 0)
    this.#say(
      `${this.#changes} changes, ${faults} faults, ${this.#population.size} Services, ${megabytes(resident)} MB` +
        (troubles.length === 0 ? '' : `; ${troubles.join(', ')}`) +
        (this.#awaited === '' ? '' : `; awaited: ${this.#awaited.split('\n', 2).join(' ')}`),
    )
  }

  /** The daemon with nothing to do: the least it is ever seen to hold. */
  async #atRest(): Promise<Holdings> {
    const pid = this.#soak.pid
    if (pid === undefined) throw new Error('there is no daemon')
    let least = await this.#soak.scraper.call('holdings', { pid })
    for (let look = 0; look < 40; look++) {
      await sleep(150)
      const now = await this.#soak.scraper.call('holdings', { pid })
      const children = (of: Holdings): number => of.processes.filter(({ parent }) => parent === pid).length
      if (children(now) < children(least)) least = now
      else if (children(now) === children(least) && now.descriptors.length < least.descriptors.length) least = now
    }
    return least
  }

  /** What is left over while the daemon has nothing to do, and after it has ended. */
  async #end(): Promise<void> {
    const soak = this.#soak
    const pid = soak.pid
    if (pid === undefined || this.failures.length > 0) return
    const { descriptors, listening, processes } = await this.#atRest()
    if (descriptors.length > this.#restingDescriptors + fewDescriptors) {
      const before = this.#restingDescriptors
      this.fail(`${descriptors.length} descriptors, ${before} before the soak: ${descriptors.join(', ')}`)
    }
    const wanted = [10_249, 10_256, ...(await this.#healthCheckPorts())]
    // The embedded API server listens, too, but is another process.
    const needless = listening.filter(port => !wanted.includes(port))
    if (needless.length > 0) this.fail(`it still listens on the ports ${needless.join(', ')}, which no Service has`)
    const children = processes.filter(({ parent }) => parent === pid)
    if (children.length > 0) this.fail(`it has children with nothing to do: ${JSON.stringify(children)}`)

    await this.#collect()
    this.#judgeMemory()
    await soak.end('SIGTERM')
    await sleep(500)
    const left = (await soak.scraper.call('holdings', { pid: 1 })).processes
    const known = new Set(processes.map(process => process.pid))
    const orphans = left.filter(process => !known.has(process.pid))
    if (orphans.length > 0) this.fail(`processes are left after its end: ${JSON.stringify(orphans)}`)
  }

  async #healthCheckPorts(): Promise<number[]> {
    const ports = new Set<number>()
    for (const object of await this.#soak.api.call('objects', none)) {
      const port = 'spec' in object ? (object.spec as { healthCheckNodePort?: unknown }).healthCheckNodePort : undefined
      if (typeof port === 'number') ports.add(port)
    }
    return [...ports]
  }

  #judgeMemory(): void {
    for (const { grownBytes, lastedMs } of growthOf(this.#readings)) {
      if (grownBytes === undefined) continue
      const text = `${megabytes(grownBytes)} MB in ${Math.round(lastedMs / 1000)} s after it had warmed up`
      if (grownBytes > mostGrowthBytes(lastedMs)) this.fail(`memory grows: ${text}`)
    }
  }

  /** What helps to find out: objects and rules, beside the logs. */
  async keep(): Promise<void> {
    const rules = await readRules(this.#soak.node, this.#options.mode).catch(() => new Map())
    await writeFile(join(this.#directory, 'rules.json'), JSON.stringify([...rules], null, 1))
    const objects = await this.#soak.api.call('objects', none).catch(() => [])
    await writeFile(join(this.#directory, 'objects.json'), JSON.stringify({ kind: 'List', items: objects }))
  }

  #say(line: string): void {
    this.#options.say(`${String(Math.round((performance.now() - this.#began) / 1000)).padStart(5)} s: ${line}`)
  }
}

interface Unjudged {
  readonly wrong: Moment[]
  readonly silent: Moment[]
  readonly notLive: Moment[]
}

const nothingSeen = (): Unjudged => ({ wrong: [], silent: [], notLive: [] })

const megabytes = (bytes: number): string => (bytes / 1e6).toFixed(1)

/** What in a status says that something is to be done yet; empty if nothing does. */
function complaintOf({ mode, families, watches, problems }: DaemonStatus, wantedMode: string): string {
  if (mode !== wantedMode) return `the mode is ${mode} still`
  if (families.length !== 2) return `${families.length} families`
  for (const { family, lastSync, failures, lastError, dirty, setAside } of families) {
    if (lastSync === null || failures > 0 || dirty > 0) {
      return `${family}: last sync ${lastSync}, ${failures} failures, ${dirty} dirty Services, ${lastError}`
    }
    if (setAside.length > 0)
      return `${family}: ${setAside.length} Service ports set aside: ${JSON.stringify(setAside[0])}`
  }
  const late = watches.find(({ state }) => state !== 'watching')
  if (late !== undefined) return `${late.kind}: ${late.state}`
  return problems.length > 0 ? problems.join('; ') : ''
}
