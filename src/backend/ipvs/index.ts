// The IPVS backend, put together. See README.md in this folder.
import type { Exec } from '../../kernel/exec.ts'
import { type Family, familyOf, type IP, parseIP } from '../../net/ip.ts'
import { type Backend, CommitError, type Program, type Transaction } from '../backend.ts'
import { fingerprint as fingerprintOfGlue, isIntact, jumpsIn, type Witness } from '../xtables/commit.ts'
import { restoreLimits } from '../xtables/plan.ts'
import { toolChoice, type Variant, watchedTables } from '../xtables/tools.ts'
import { type Command, type CommandParts, commandsOf, partsOf } from './commands.ts'
import { commit, glueScope, read } from './commit.ts'
import { compileServicePort } from './compile.ts'
import { Drainer } from './drain.ts'
import type { IpvsKernel } from './kernel.ts'
import { ipvsLayout } from './layout.ts'
import { addressKeyPrefix, chainPrefix, chains, serverKey, type VirtualServer } from './names.ts'
import { type IpvsNetlink, overNetlink } from './netlink.ts'
import { plan } from './plan.ts'
import { programs } from './programs.ts'
import { retire, retirement } from './retire.ts'
import { addressOf } from './servers.ts'
import { defaultIpvsSettings, type IpvsSettings, settingsFor, timeoutsOf } from './settings.ts'
import { skeleton } from './skeleton.ts'
import { trace } from './trace.ts'

export interface IpvsOptions {
  readonly family: Family
  readonly exec: Exec
  /** Left out: kube-proxy's defaults. */
  readonly settings?: IpvsSettings
  /** Of iptables. Left out: detected when the kernel is first asked. */
  readonly variant?: Variant
  /**
   * Opens netlink in the network namespace of `exec`'s programs, when the kernel is first asked; undefined where there is
   * none. Left out, or undefined: programs do it all. Either way rules are iptables-restore's.
   */
  readonly netlink?: () => Promise<IpvsNetlink | undefined>
}

const witnesses: readonly Witness[] = [
  { table: 'mangle', chain: 'INPUT', target: chains.services },
  { table: 'nat', chain: 'POSTROUTING', target: chains.postrouting },
  { table: 'filter', chain: 'INPUT', target: chains.input },
]

/** Chains that hold our jumps, by table. */
const hooks = { mangle: ['INPUT', 'OUTPUT'], nat: ['POSTROUTING'], filter: ['INPUT', 'FORWARD'] }

/** One instance an address family. */
export function ipvsBackend({ family, exec, settings = defaultIpvsSettings, variant, netlink }: IpvsOptions): Backend {
  const tools = toolChoice(exec, family, variant)
  const byPrograms = programs(exec)
  let opened: Promise<IpvsKernel> | undefined
  const open = async (): Promise<IpvsKernel> => {
    const found = await netlink?.()
    return found === undefined ? byPrograms : overNetlink(found, byPrograms.load)
  }
  const kernel = (): Promise<IpvsKernel> => {
    opened ??= open()
    return opened
  }
  const stop = (): void => {
    drainer.stop()
    // What comes after this opens it again.
    void opened?.then(one => one.close())
    opened = undefined
  }
  const drainer = new Drainer({ kernel, family })
  let canCompareAddresses = true
  const retired = retirement({ exec, family, excludeCIDRs: settings.excludeCIDRs }, kernel)
  /** One virtual server that the kernel holds: gone when somebody clears IPVS' table. And one address with a route of ours. */
  let witness: VirtualServer | undefined
  let address: IP | undefined

  const take = (transaction: Transaction): void => {
    for (const command of commandsIn(transaction, 'routing')) {
      if (command.kind === 'add-address') address = command.address
      else if (command.kind === 'delete-address' && address === command.address) address = undefined
    }
    for (const command of commandsIn(transaction, 'servers')) {
      const { kind, server } = command
      const isByMark = addressOf(server) === undefined
      switch (kind) {
        case 'add-server':
          witness = server
          drainer.takeBack(server)
          break
        case 'edit-server':
          break
        case 'delete-server':
          if (witness === server) witness = undefined
          if (isByMark) drainer.giveUp(server)
          else drainer.forget(server)
          break
        case 'delete-real':
          drainer.forget(server, command.real)
          break
        default:
          if (command.weight === 0) drainer.add(server, command.real)
          else drainer.forget(server, command.real)
      }
    }
  }
  /**
   * What is drained is there already: it gets its weight or its options back, and keeps its connections. A virtual server by
   * mark goes when it has none; one by address goes with its address.
   */
  const rewrite = (commands: readonly Command[]): readonly Command[] =>
    commands
      .filter(command => command.kind !== 'delete-server' || addressOf(command.server) !== undefined)
      .map(command => {
        if (command.kind === 'add-server' && drainer.isGivenUp(command.server)) {
          return { ...command, kind: 'edit-server' }
        }
        if (command.kind === 'add-real' && drainer.has(command.server, command.real)) {
          return { ...command, kind: 'edit-real' }
        }
        return command
      })

  return {
    mode: 'ipvs',
    skeleton: network => skeleton(network, canCompareAddresses),
    compile: (port, network) => compileServicePort(port, network, settings.scheduling),
    layout: ipvsLayout,
    plan: (delta, program) => plan(delta, program, family, restoreLimits(tools.known)),
    read: signal =>
      drainer.alone(async () => {
        const options = { family, excludeCIDRs: settings.excludeCIDRs }
        const { program, draining, givenUp } = await read(await kernel(), exec, await tools.find(), options, signal)
        drainer.found(draining, givenUp)
        witness = firstOf(program, serverKey(''))
        address = parseIP(firstOf(program, addressKeyPrefix) ?? '')
        return program
      }),
    watched: () => watchedTables(tools.known, family, chainPrefix, hooks),
    fingerprint: async (signal, watched) => {
      const found = await tools.find()
      const look = await (await kernel()).fingerprint(family, signal)
      if (watched && found.variant === 'nft') return look
      const glue = await fingerprintOfGlue(exec, found, glueScope, signal)
      return { digest: `${look.digest} ${glue.digest}`, costMs: look.costMs + glue.costMs }
    },
    isIntact: async (signal, objects) => {
      const jumps = objects === undefined ? witnesses : jumpsIn(objects)
      if (!(await isIntact(exec, await tools.find(), jumps, signal))) return false
      const asked = await kernel()
      if (!(await asked.hasDevice(signal))) return false
      const route = address
      if (route !== undefined && !(await arrives(asked, route, signal)) && address === route) return false
      const known = witness
      return known === undefined || (await asked.hasServer(known, family, signal)) || witness !== known
    },
    commit: (transaction, signal) =>
      drainer.alone(async () => {
        await commit(await kernel(), exec, await tools.find(), transaction, family, rewrite, signal)
        take(transaction)
      }),
    trace,
    prepare: async machine => {
      const asked = await kernel()
      // Without the module its settings do not exist.
      const missing = await messageOf(asked.load())
      if (missing !== undefined) return [missing]
      const complaints: string[] = []
      if (family === 'IPv4') {
        for (const { name, value, without } of settingsFor(settings, machine.release)) {
          await machine.set(name, value).catch((error: Error) => complaints.push(`${error.message}: ${without}`))
        }
        const timeouts = timeoutsOf(settings)
        const kept = timeouts && (await messageOf(asked.changeTimeouts(timeouts)))
        if (kept !== undefined) complaints.push(`${kept}: the timeouts stay as they are`)
      }
      return complaints
    },
    giveUp: () => {
      if (!canCompareAddresses) return undefined
      canCompareAddresses = false
      return 'this kernel has no xt_bpf or no xt_ipvs (CONFIG_NETFILTER_XT_MATCH_BPF, CONFIG_NETFILTER_XT_MATCH_IPVS): a pod that reaches itself through a Service gets no answer'
    },
    retire: retired,
    cleanup: async signal => {
      stop()
      const options = { exec, family, kernel: await kernel(), excludeCIDRs: settings.excludeCIDRs }
      await retire({ ...options, keepConnections: false }, signal)
    },
    stop,
  }
}

/** A broadcast or multicast address is none to the kernel's routing, though there is a route. */
const arrives = async (kernel: IpvsKernel, address: IP, signal: AbortSignal): Promise<boolean> =>
  (await kernel.isLocal(address, signal)) || (await kernel.addresses(familyOf(address), signal)).includes(address)

/** What went wrong, as a sentence; undefined when nothing did. */
async function messageOf(work: Promise<void>): Promise<string | undefined> {
  try {
    await work
    return undefined
  } catch (error) {
    if (error instanceof CommitError) return error.message
    throw error
  }
}

function* commandsIn<P extends keyof CommandParts>({ steps }: Transaction, part: P): Iterable<CommandParts[P][number]> {
  for (const step of steps) yield* partsOf(commandsOf(step) ?? [])[part]
}

/** What follows the beginning in the first key that has it. */
function firstOf(program: Program, beginning: string): string | undefined {
  for (const key of program.keys()) if (key.startsWith(beginning)) return key.slice(beginning.length)
  return undefined
}
