// The strict iptables behind the interface by which programs are started: both families, both variants.
import type { ExecOptions, ExecResult } from '../../../src/kernel/exec.ts'
import type { Family } from '../../../src/net/ip.ts'
import type { StrictMachine } from '../../conformance/conformance.ts'
import { inputOf } from '../input.ts'
import { StrictIptables, type ToolResult } from './strict-iptables.ts'
import type { SetLookup, Variant } from './tables.ts'

export interface StrictExecOptions {
  /** Which variants are installed. */
  readonly variants?: readonly Variant[]
  /** What plain `iptables` is; the first installed one otherwise. */
  readonly alternative?: Variant
  /** Where rules look for IP sets; without it there are none. */
  readonly sets?: SetLookup
}

/** A call of a program, for tests that look at what was run. */
export interface Call {
  readonly command: string
  readonly args: readonly string[]
  readonly input: string | undefined
}

/** A machine with nothing but iptables on it. Every other command is not found. */
export class StrictExec implements StrictMachine {
  readonly calls: Call[] = []
  readonly #machines = new Map<string, StrictIptables>()
  #alternative: Variant | undefined

  constructor({ variants = ['nft', 'legacy'], alternative, sets = () => undefined }: StrictExecOptions = {}) {
    for (const family of ['IPv4', 'IPv6'] as const) {
      for (const variant of variants)
        this.#machines.set(`${family} ${variant}`, new StrictIptables({ family, variant, sets }))
    }
    this.#alternative = alternative ?? variants[0]
  }

  /** The tables of one family and variant. Throws if that variant is not installed. */
  iptables(family: Family, variant: Variant): StrictIptables {
    const found = this.#machines.get(`${family} ${variant}`)
    if (found === undefined) throw new Error(`iptables of the variant ${variant} is not installed here`)
    return found
  }

  /** True if a rule of either family and variant looks into the IP set of this name. */
  usesSet(name: string): boolean {
    return [...this.#machines.values()].some(machine => machine.usesSet(name))
  }

  /** Restores so far, failed ones included. */
  writes(): number {
    return [...this.#machines.values()].reduce((sum, { counts }) => sum + counts.restores, 0)
  }

  onCommit(listener: ((family: Family, frozen: StrictExec) => void) | undefined): void {
    for (const machine of this.#machines.values()) {
      machine.onCommit(listener && (() => listener(machine.family, this.frozen())))
    }
  }

  /** The same machine as it is now: later writes to either do not show in the other. */
  frozen(sets?: SetLookup): StrictExec {
    const copy = new StrictExec({ variants: [] })
    copy.#alternative = this.#alternative
    for (const [name, machine] of this.#machines) copy.#machines.set(name, machine.copy(sets))
    return copy
  }

  /** What iptables-nft-save adds where the other variant was ever used. */
  #warning({ family, variant }: StrictIptables, program: string, tool: string | undefined): string {
    if (variant !== 'nft' || tool !== 'save' || this.#machines.get(`${family} legacy`)?.isUsed() !== true) return ''
    const legacy = program.replace(/^.*\//, '').replace(/(?:-nft)?-save$/, '-legacy')
    return `# Warning: ${legacy} tables present, use ${legacy}-save to see them\n`
  }

  /** Answers a turn later, as a program would. */
  async run(command: string, args: readonly string[], options: ExecOptions = {}): Promise<ExecResult> {
    const input = await inputOf(options)
    this.calls.push({ command, args, input })
    await new Promise(next => setImmediate(next))
    if (options.signal?.aborted === true) return { exitCode: -1, stdout: '', stderr: '', notFound: false }
    const match = /^(?:\S*\/)?(ip6?tables)(?:-(nft|legacy))?(?:-(restore|save))?$/.exec(command)
    const variant = match?.[2] === 'nft' || match?.[2] === 'legacy' ? match[2] : this.#alternative
    const machine = this.#machines.get(`${match?.[1] === 'ip6tables' ? 'IPv6' : 'IPv4'} ${variant}`)
    if (match === null || machine === undefined) return { exitCode: -1, stdout: '', stderr: '', notFound: true }
    const given = answer(machine, match[0], match[3], args, input ?? '')
    return { ...given, stderr: given.stderr + this.#warning(machine, match[0], match[3]), notFound: false }
  }
}

function answer(
  machine: StrictIptables,
  program: string,
  tool: string | undefined,
  args: readonly string[],
  input: string,
): ToolResult {
  const nft = machine.variant === 'nft'
  const shown = nft ? program : program.replace('-legacy', '')
  if (args.some(word => word === '--version' || word === '-V')) {
    const name = tool === undefined ? program.replace(/-(?:nft|legacy)$/, '') : shown
    return { exitCode: 0, stdout: `${name} v1.8.9 (${nft ? 'nf_tables' : 'legacy'})\n`, stderr: '' }
  }
  if (tool === undefined && args.includes('-S')) return listChain(machine, args)
  const read = readArguments(args, tool)
  if (typeof read === 'string') {
    const stderr = `${program}: unrecognized option '${read}'\nTry \`${shown} -h' for more information.\n`
    return { exitCode: 1, stdout: '', stderr }
  }
  if (tool === 'restore') return machine.restore(input, { noflush: read.noflush, program: shown })
  try {
    return { exitCode: 0, stdout: machine.save(read.table, shown), stderr: '' }
  } catch {
    const stderr = nft
      ? `Table \`${read.table}' does not exist\n`
      : `${shown} v1.8.9 (legacy): Cannot initialize: Table does not exist (do you need to insmod?)\n`
    return { exitCode: 1, stdout: '', stderr }
  }
}

/** `-t TABLE -S CHAIN`: the rules of one chain, as save prints them. */
function listChain(machine: StrictIptables, args: readonly string[]): ToolResult {
  const table = args[args.indexOf('-t') + 1] ?? 'filter'
  const chain = args[args.indexOf('-S') + 1] ?? ''
  const saved = machine.save().split(`*${table}\n`)[1]?.split('COMMIT')[0] ?? ''
  const rules = saved.split('\n').filter(line => line.startsWith(`-A ${chain} `))
  return { exitCode: 0, stdout: rules.map(line => `${line}\n`).join(''), stderr: '' }
}

/** The first argument that is not understood, or what the arguments say. The plain command is only asked its version and one chain. */
function readArguments(
  args: readonly string[],
  tool: string | undefined,
): string | { readonly noflush: boolean; readonly table: string | undefined } {
  let noflush = false
  let table: string | undefined
  for (let index = 0; index < args.length; index++) {
    const word = args[index] ?? ''
    if (tool === 'restore' && (word === '--noflush' || word === '-n')) noflush = true
    else if (tool === 'restore' && (word === '--counters' || word === '-c')) continue
    else if (tool === 'restore' && (word === '-w' || word === '--wait')) {
      if (/^\d+$/.test(args[index + 1] ?? '')) index++
    } else if (tool === 'save' && (word === '-t' || word === '--table')) table = args[++index]
    else return word
  }
  return tool === undefined ? '(a command)' : { noflush, table }
}
