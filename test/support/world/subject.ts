// The program under test as a process inside node-a: fed with a scenario's objects, writing to the real kernel. Run by
// `Sandbox.worker`; it stays, because in an emulated machine a start of Node takes seconds.
import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { CommitError, type Delta } from '../../../src/backend/backend.ts'
import type { FamilyAssembly } from '../../../src/commands/assembly.ts'
import { machineNetlink } from '../../../src/commands/netlink.ts'
import type { ProxyMode } from '../../../src/config/types.ts'
import { type Exec, machineExec } from '../../../src/kernel/exec.ts'
import { ensureSysctl } from '../../../src/kernel/sysctl.ts'
import type { Scenario } from '../../conformance/scenario.ts'
import { eventsOf, type Subject, subjectOf } from '../../conformance/subject.ts'
import { answerCalls } from '../netns/calls.ts'
import { shellExec } from './shells.ts'

let exec: Exec | undefined
let scenario: Scenario | undefined
let subject: Subject | undefined
const { signal } = new AbortController()

export interface Beginning {
  /** The scenario as the mode means it, as JSON: no message has to carry it. */
  readonly file: string
  readonly mode: ProxyMode
  /** Programs are started as the program itself starts them, or by shells, which an emulated machine wants. */
  readonly starts: 'directly' | 'by shells'
}

/** Starts afresh, as after a restart: what the kernel holds of the scenario before is found there by the first sync. */
function begin(params: Beginning): void {
  exec ??= params.starts === 'directly' ? machineExec : shellExec()
  const read: Scenario = JSON.parse(readFileSync(params.file, 'utf8'))
  // Nothing of the run before goes on by itself.
  for (const { backend } of subject?.assembly.families ?? []) backend.stop?.()
  scenario = read
  // Of this namespace, as the programs.
  subject = subjectOf(read, params.mode, exec, machineNetlink())
}

/**
 * Takes a step's changes in and writes them. Returns what went wrong, as sentences. Flows are forgotten: a connection that
 * was not answered before would be met again by one that happens to have its port, and not be translated.
 */
async function step({ index }: { readonly index: number }): Promise<readonly string[]> {
  const running = current()
  const seen = running.complaints.length
  running.take(eventsOf(stepAt(index)))
  const failures = await Promise.all(running.assembly.families.map(syncWithPatience))
  const failed = failures.flatMap(failure => failure ?? [])
  if (failed.length === 0 && running.assembly.families.some(({ network }) => network().localhostNodePorts)) {
    // `penstock run` does this after its first sync.
    await ensureSysctl('net.ipv4.conf.all.route_localnet', '1')
  }
  await exec?.run('conntrack', ['-F'])
  // A failure that passed is none.
  const said = running.complaints.slice(seen).filter(complaint => !/^IPv[46]: (transient|stale): /.test(complaint))
  return [...failed, ...said]
}

/**
 * Compares with the kernel: what differs, as sentences, which is nothing after a sync. Looks once more where something does:
 * IPVS' listing goes on after as many virtual servers as it has told of, counting those of all network namespaces, and passes
 * some over when another world deletes its own meanwhile (net/netfilter/ipvs/ip_vs_ctl.c, ip_vs_genl_dump_services).
 */
async function compare(): Promise<readonly string[]> {
  const found = await compareOnce()
  return found.length === 0 ? found : compareOnce()
}

async function compareOnce(): Promise<readonly string[]> {
  const found = await Promise.all(
    current().assembly.families.map(async ({ family, syncer }) => {
      const differences = describeDelta(await syncer.difference(signal))
      return differences.length === 0 ? [] : [`${family}: the kernel differs after the sync: ${differences.join('; ')}`]
    }),
  )
  return found.flat()
}

/** Failures that pass by themselves get a few more tries, as `penstock run --once` gives them. */
async function syncWithPatience({ family, syncer }: FamilyAssembly): Promise<string | undefined> {
  for (let attempt = 1; ; attempt++) {
    try {
      await syncer.sync(signal)
      return undefined
    } catch (error) {
      if (!(error instanceof CommitError)) throw error
      if (error.kind !== 'transient' || attempt === 5) return `${family}: ${error.kind}: ${error.message}`
      await sleep(attempt * 500)
    }
  }
}

const shown = 5

function describeDelta({ added, changed, removed }: Delta): string[] {
  const all = [
    ...added.map(({ key, value }) => `missing ${key} = ${value}`),
    ...changed.map(({ key, from, to }) => `${key} = ${from} instead of ${to}`),
    ...removed.map(({ key, value }) => `too many: ${key} = ${value}`),
  ]
  return all.length <= shown ? all : [...all.slice(0, shown), `and ${all.length - shown} more`]
}

function current(): Subject {
  if (subject === undefined) throw new Error('no scenario has begun')
  return subject
}

function stepAt(index: number): Scenario['steps'][number] {
  const found = scenario?.steps[index]
  if (found === undefined) throw new Error(`the scenario has no step ${index}`)
  return found
}

const subjectMethods = { begin, step, compare, ready: () => true }
export type SubjectMethods = typeof subjectMethods

if (process.send !== undefined) {
  process.on('SIGINT', () => undefined)
  answerCalls(subjectMethods)
}
