// The IPVS backend, put together. See README.md in this folder.
import type { Exec } from '../../kernel/exec.ts'
import type { Family } from '../../net/ip.ts'
import type { Backend, Transaction } from '../backend.ts'
import { isIntact, type Witness } from '../xtables/commit.ts'
import { restoreLimits } from '../xtables/plan.ts'
import { toolChoice, type Variant } from '../xtables/tools.ts'
import { commit, failure, read } from './commit.ts'
import { compileServicePort } from './compile.ts'
import { Drainer } from './drain.ts'
import { ipvsLayout } from './layout.ts'
import { chains, type VirtualServer } from './names.ts'
import { serverOf } from './parse.ts'
import { plan } from './plan.ts'
import { retire, retirement } from './retire.ts'
import { defaultIpvsSettings, type IpvsSettings, settingsFor, timeoutArguments } from './settings.ts'
import { skeleton } from './skeleton.ts'
import { trace } from './trace.ts'

export interface IpvsOptions {
  readonly family: Family
  readonly exec: Exec
  /** Left out: kube-proxy's defaults. */
  readonly settings?: IpvsSettings
  /** Of iptables. Left out: detected when the kernel is first asked. */
  readonly variant?: Variant
}

const witnesses: readonly Witness[] = [
  { table: 'mangle', chain: 'INPUT', target: chains.services },
  { table: 'nat', chain: 'POSTROUTING', target: chains.postrouting },
  { table: 'filter', chain: 'INPUT', target: chains.input },
]

/** One instance an address family. */
export function ipvsBackend({ family, exec, settings = defaultIpvsSettings, variant }: IpvsOptions): Backend {
  const tools = toolChoice(exec, family, variant)
  const drainer = new Drainer({ exec, family })
  let canCompareAddresses = true
  const retired = retirement({ exec, family })
  /** One virtual server that the kernel holds: gone when somebody clears IPVS' table. */
  let witness: VirtualServer | undefined

  const take = (transaction: Transaction): void => {
    for (const { verb, option, where, server, real, weight } of serverCommands(transaction)) {
      if (verb === '-A') witness = `${option} ${where}`
      else if (verb === '-D' && witness === `${option} ${where}`) witness = undefined
      if (server === undefined) continue
      if (verb === '-D') drainer.forget(server)
      else if (real !== undefined && weight === 0) drainer.add(server, real)
      else if (real !== undefined) drainer.forget(server, real)
    }
  }
  /** A real server that is being drained is there already: it gets its weight back, and keeps its connections. */
  const rewrite = (text: string): string =>
    text.replaceAll(/^-a .*$/gm, line => {
      const { server, real } = commandOf(line)
      return server !== undefined && real !== undefined && drainer.has(server, real) ? `-e${line.slice(2)}` : line
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
        const { program, draining } = await read(exec, await tools.find(), options, signal)
        for (const { server, real } of draining) drainer.add(server, real)
        return program
      }),
    isIntact: async signal => {
      if (!(await isIntact(exec, await tools.find(), witnesses, signal))) return false
      if (witness === undefined) return true
      const known = witness
      const result = await exec.run('ipvsadm', ['-Ln', ...known.split(' ')], { signal, timeoutMs: 60_000 })
      return result.exitCode === 0 || !/No such service/i.test(result.stderr) || witness !== known
    },
    commit: (transaction, signal) =>
      drainer.alone(async () => {
        await commit(exec, await tools.find(), transaction, family, rewrite, signal)
        take(transaction)
      }),
    trace,
    prepare: async machine => {
      // Loads the module, without which its settings do not exist.
      const result = await exec.run('ipvsadm', ['-Ln'], { timeoutMs: 60_000 })
      if (result.exitCode !== 0) return [failure('ipvsadm', result).message]
      const complaints: string[] = []
      if (family === 'IPv4') {
        for (const { name, value, without } of settingsFor(settings, machine.release)) {
          await machine.set(name, value).catch((error: Error) => complaints.push(`${error.message}: ${without}`))
        }
        const timeouts = timeoutArguments(settings)
        if (timeouts !== undefined) {
          const set = await exec.run('ipvsadm', timeouts, { timeoutMs: 60_000 })
          if (set.exitCode !== 0) complaints.push(`${failure('ipvsadm', set).message}: the timeouts stay as they are`)
        }
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
      drainer.stop()
      await retire({ exec, family, keepConnections: false }, signal)
    },
  }
}

interface ServerCommand {
  readonly verb: string
  readonly option: string
  readonly where: string
  readonly server: VirtualServer | undefined
  readonly real: string | undefined
  readonly weight: number
}

/** A line of ours for ipvsadm. */
function commandOf(line: string): ServerCommand {
  const words = line.split(' ')
  const [verb = '', option = '', where = ''] = words
  const at = words.indexOf('-r')
  return {
    verb,
    option,
    where: words[3] === '-6' ? `${where} -6` : where,
    server: serverOf(option, where, words[3] === '-6')?.name,
    real: at < 0 ? undefined : words[at + 1],
    weight: Number(words[words.indexOf('-w') + 1]),
  }
}

function* serverCommands({ steps }: Transaction): Iterable<ServerCommand> {
  for (const { tool, text } of steps) {
    if (tool !== 'ipvsadm') continue
    for (const line of text.split('\n')) if (line !== '') yield commandOf(line)
  }
}
