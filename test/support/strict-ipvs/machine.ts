// A machine in memory with what the IPVS backend runs on it: iptables, ipset, ipvsadm and ip over one kernel.
import type { IpvsNetlink } from '../../../src/backend/ipvs/netlink.ts'
import type { Exec, ExecOptions, ExecResult } from '../../../src/kernel/exec.ts'
import type { Family } from '../../../src/net/ip.ts'
import type { StrictMachine } from '../../conformance/conformance.ts'
import { inputOf } from '../input.ts'
import { type Call, StrictExec } from '../strict-iptables/exec.ts'
import type { ToolResult } from '../strict-iptables/strict-iptables.ts'
import type { SetLookup, Variant } from '../strict-iptables/tables.ts'
import { Devices } from './devices.ts'
import { dimensionOf } from './elements.ts'
import { ip } from './ip.ts'
import { restoreSets, saveSets, unknownCommand } from './ipset.ts'
import { ipvsadm } from './ipvsadm.ts'
import { type StrictNetlinkOptions, strictNetlink } from './netlink.ts'
import { LocalRoutes } from './routes.ts'
import { Sets } from './sets.ts'
import { Killed, stepGuard } from './steps.ts'
import { debianSchedulers, VirtualServers } from './virtual-servers.ts'

export type Program = 'ipset' | 'ipvsadm' | 'ip'

export interface StrictIpvsOptions {
  /** Which variants of iptables are installed. */
  readonly variants?: readonly Variant[]
  /** What plain `iptables` is; the first installed one otherwise. */
  readonly alternative?: Variant
  /** Schedulers that the kernel has; those of Debian's otherwise. */
  readonly schedulers?: readonly string[]
  /** Programs that are not installed. */
  readonly missing?: readonly Program[]
  /**
   * How often `onCommit` listeners are told: after a call that changed something, or after every change inside one, which
   * is what packets meet.
   */
  readonly commits?: 'calls' | 'changes'
}

/** A failure of one call of ipset, ipvsadm or ip that a test asks for; those of iptables are asked of `iptables()`. */
export type ProgramFailure =
  /** The caller lacks the right: nothing changes. */
  | { readonly kind: 'permission' }
  /** It is ended by a signal when it has asked the kernel for so many changes. */
  | { readonly kind: 'killed'; readonly afterChanges: number }
  | { readonly kind: 'other'; readonly exitCode: number; readonly stderr: string }

type Listener = (family: Family, frozen: Exec) => void

/** One kernel, both families. */
export class StrictIpvs implements StrictMachine {
  readonly calls: Call[] = []
  readonly #options: StrictIpvsOptions
  readonly #tables: StrictExec
  readonly sets: Sets
  readonly servers: VirtualServers
  readonly devices: Devices
  readonly routes: LocalRoutes
  readonly #failures = new Map<Program, ProgramFailure[]>()
  readonly #changed = new Set<Family>()
  #listener: Listener | undefined
  #writes = 0

  constructor(options: StrictIpvsOptions = {}, before?: StrictIpvs) {
    this.#options = options
    const changed = (families: readonly Family[]) => this.#note(families)
    this.sets = new Sets(name => this.#tables.usesSet(name), changed)
    this.servers = new VirtualServers(options.schedulers ?? debianSchedulers, changed)
    this.devices = new Devices(changed)
    this.routes = new LocalRoutes(changed)
    if (before === undefined) {
      this.#tables = new StrictExec({ ...options, sets: this.#setOf })
      return
    }
    this.#tables = before.#tables.frozen(this.#setOf)
    before.sets.copyTo(this.sets)
    before.servers.copyTo(this.servers)
    before.devices.copyTo(this.devices)
    before.routes.copyTo(this.routes)
  }

  /** The tables of one family and variant of iptables. Throws if that variant is not installed. */
  iptables(family: Family, variant: Variant) {
    return this.#tables.iptables(family, variant)
  }

  /** Calls so far that could change something, failed ones included; `ipvsadm --set` only where it changed a timeout. */
  writes(): number {
    return this.#writes + this.#tables.writes()
  }

  onCommit(listener: Listener | undefined): void {
    this.#listener = listener
    this.#tables.onCommit(listener && (family => listener(family, this.frozen())))
  }

  /** The same machine as it is now: later writes to either do not show in the other. */
  frozen(): StrictIpvs {
    return new StrictIpvs(this.#options, this)
  }

  /** The next calls of a program that could change something fail like this, one each. */
  failNext(program: Program, ...failures: readonly ProgramFailure[]): void {
    this.#failures.set(program, [...(this.#failures.get(program) ?? []), ...failures])
  }

  /** The same kernel without programs; what it changes counts as written, and is told of, one by one. */
  netlink(options?: StrictNetlinkOptions): IpvsNetlink {
    return strictNetlink(this, options)
  }

  /** A change that no program makes. */
  change(work: () => void): void {
    this.#writes++
    try {
      work()
    } finally {
      this.#tell()
    }
  }

  /** Answers a turn later, as a program would. */
  async run(command: string, args: readonly string[], options: ExecOptions = {}): Promise<ExecResult> {
    const input = await inputOf(options)
    this.calls.push({ command, args, input })
    const name = /^(?:\S*\/)?(ipset|ipvsadm|ip)$/.exec(command)?.[1]
    const program = programs.find(one => one === name)
    if (program === undefined)
      return this.#tables.run(command, args, input === undefined ? options : { ...options, input })
    await new Promise(next => setImmediate(next))
    if (options.signal?.aborted === true) return { exitCode: -1, stdout: '', stderr: '', notFound: false }
    if (this.#options.missing?.includes(program) === true)
      return { exitCode: -1, stdout: '', stderr: '', notFound: true }
    return { ...this.#call(program, args, input ?? ''), notFound: false }
  }

  #call(program: Program, args: readonly string[], input: string): ToolResult {
    const couldWrite = writesWith(program, args)
    if (couldWrite) this.#writes++
    const failure = couldWrite ? this.#failures.get(program)?.shift() : undefined
    if (failure !== undefined && failure.kind !== 'killed') return injected(failure, program)
    const guard = stepGuard(failure?.afterChanges)
    const before = JSON.stringify(this.servers.timeouts)
    try {
      if (program === 'ip') return ip(args, input, this, guard)
      if (program === 'ipset') return ipset(args, input, this.sets, guard)
      const result = ipvsadm(args, input, this.servers, guard)
      if (!couldWrite && before !== JSON.stringify(this.servers.timeouts)) this.#writes++
      return result
    } catch (error) {
      if (error instanceof Killed) return { exitCode: -1, stdout: '', stderr: '' }
      throw error
    } finally {
      this.#tell()
    }
  }

  #note(families: readonly Family[]): void {
    for (const family of families) this.#changed.add(family)
    if (this.#options.commits === 'changes') this.#tell()
  }

  #tell(): void {
    const families = (['IPv4', 'IPv6'] as const).filter(family => this.#changed.has(family))
    this.#changed.clear()
    for (const family of families) this.#listener?.(family, this.frozen())
  }

  readonly #setOf: SetLookup = name => {
    const spec = this.sets.get(name)
    if (spec === undefined) return undefined
    const { family, type, skbinfo } = spec
    return { dimension: dimensionOf(type), skbinfo, ...(family === undefined ? {} : { family }) }
  }
}

const programs: readonly Program[] = ['ipset', 'ipvsadm', 'ip']

/** True if such a call is made to change something. */
function writesWith(program: Program, args: readonly string[]): boolean {
  switch (program) {
    case 'ipset':
      return args[0] === 'restore'
    case 'ip':
      return args[0] === '-batch' || ['add', 'append', 'del'].includes(args[1] ?? '')
    case 'ipvsadm':
      return /^(?:-[AEDaedCR]|--(?:add|edit|delete)-|--clear|--restore)/.test(args[0] ?? '')
  }
}

function ipset(args: readonly string[], input: string, sets: Sets, guard: ReturnType<typeof stepGuard>): ToolResult {
  const [verb = '', name, spare] = args
  if (['version', '--version', '-v'].includes(verb))
    return { exitCode: 0, stdout: 'ipset v7.17, protocol version: 7\n', stderr: '' }
  if (verb === 'restore' && name === undefined) return restoreSets(input, sets, guard)
  if (verb === 'save' && spare === undefined) return saveSets(sets, name)
  return unknownCommand(verb)
}

function injected(failure: Exclude<ProgramFailure, { kind: 'killed' }>, program: Program): ToolResult {
  if (failure.kind === 'other') return { exitCode: failure.exitCode, stdout: '', stderr: failure.stderr }
  const said: Readonly<Record<Program, readonly [number, string]>> = {
    ipset: [1, 'ipset v7.17: Error in line 1: Kernel error received: Operation not permitted\n'],
    ipvsadm: [
      2,
      "Can't initialize ipvs: Permission denied (you must be root)\nAre you sure that IP Virtual Server is built in the kernel or as module?\n",
    ],
    ip: [1, 'RTNETLINK answers: Operation not permitted\nCommand failed -:1\n'],
  }
  const [exitCode, stderr] = said[program]
  return { exitCode, stdout: '', stderr }
}
