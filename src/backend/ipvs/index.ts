// The IPVS backend, put together. See README.md in this folder.
import type { Exec } from '../../kernel/exec.ts'
import type { Family } from '../../net/ip.ts'
import type { Backend, Transaction } from '../backend.ts'
import { fingerprint as fingerprintOfGlue, isIntact, jumpsIn, type Witness } from '../xtables/commit.ts'
import { restoreLimits } from '../xtables/plan.ts'
import { toolChoice, type Variant, watchedTables } from '../xtables/tools.ts'
import { commandsIn, type ServerCommand } from './commands.ts'
import { commit, failure, glueScope, read } from './commit.ts'
import { compileServicePort } from './compile.ts'
import { Drainer } from './drain.ts'
import { ipvsLayout } from './layout.ts'
import { fingerprint } from './look.ts'
import { chainPrefix, chains, device } from './names.ts'
import { plan } from './plan.ts'
import { retire, retirement } from './retire.ts'
import { serverArguments } from './servers.ts'
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

/** Chains that hold our jumps, by table. */
const hooks = { mangle: ['INPUT', 'OUTPUT'], nat: ['POSTROUTING'], filter: ['INPUT', 'FORWARD'] }

/** One instance an address family. */
export function ipvsBackend({ family, exec, settings = defaultIpvsSettings, variant }: IpvsOptions): Backend {
  const tools = toolChoice(exec, family, variant)
  const drainer = new Drainer({ exec, family })
  let canCompareAddresses = true
  const retired = retirement({ exec, family, excludeCIDRs: settings.excludeCIDRs })
  /** One virtual server that the kernel holds: gone when somebody clears IPVS' table. */
  let witness: string | undefined

  const take = (transaction: Transaction): void => {
    for (const { verb, option, where, server, real, weight } of serverCommands(transaction)) {
      if (verb === '-A') witness = `${option} ${where}`
      else if (verb === '-D' && witness === `${option} ${where}`) witness = undefined
      if (server === undefined) continue
      if (verb === '-D' && option === '-f') drainer.giveUp(server)
      else if (verb === '-D') drainer.forget(server)
      else if (verb === '-A') drainer.takeBack(server)
      else if (real !== undefined && weight === 0) drainer.add(server, real)
      else if (real !== undefined) drainer.forget(server, real)
    }
  }
  /**
   * What is drained is there already: it gets its weight or its options back, and keeps its connections. A virtual server by
   * mark goes when it has none; one by address goes with its address.
   */
  const rewrite = (text: string): string => {
    const lines: string[] = []
    for (const { line, verb, option, server, real } of commandsIn(text)) {
      if (verb === '-D' && option === '-f') continue
      const isThere =
        server !== undefined && (real === undefined ? drainer.isGivenUp(server) : drainer.has(server, real))
      if (verb === '-a' && isThere) lines.push(`-e${line.slice(2)}`)
      else if (verb === '-A' && isThere) lines.push(`-E${line.slice(2)}`)
      else lines.push(line)
    }
    return lines.length === 0 ? '' : `${lines.join('\n')}\n`
  }

  return {
    mode: 'ipvs',
    skeleton: network => skeleton(network, canCompareAddresses),
    compile: (port, network) => compileServicePort(port, network, settings.scheduling),
    layout: ipvsLayout,
    plan: (delta, program) => plan(delta, program, family, restoreLimits(tools.known)),
    read: signal =>
      drainer.alone(async () => {
        const options = { family, excludeCIDRs: settings.excludeCIDRs }
        const { program, draining, givenUp } = await read(exec, await tools.find(), options, signal)
        for (const { server, real } of draining) drainer.add(server, real)
        for (const server of givenUp) drainer.giveUp(server)
        const known = [...program.keys()].find(key => key.startsWith('virtual '))
        witness = known === undefined ? undefined : serverArguments(known.slice('virtual '.length), family)
        return program
      }),
    watched: () => watchedTables(tools.known, family, chainPrefix, hooks),
    fingerprint: async (signal, watched) => {
      const found = await tools.find()
      const look = await fingerprint(exec, family, signal)
      if (watched && found.variant === 'nft') return look
      const glue = await fingerprintOfGlue(exec, found, glueScope, signal)
      return { digest: `${look.digest} ${glue.digest}`, costMs: look.costMs + glue.costMs }
    },
    isIntact: async (signal, objects) => {
      const jumps = objects === undefined ? witnesses : jumpsIn(objects)
      if (!(await isIntact(exec, await tools.find(), jumps, signal))) return false
      const link = await exec.run('ip', ['-o', 'link', 'show', 'dev', device], { signal, timeoutMs: 60_000 })
      if (link.exitCode > 0) return false
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
      await retire({ exec, family, excludeCIDRs: settings.excludeCIDRs, keepConnections: false }, signal)
    },
    stop: () => drainer.stop(),
  }
}

function* serverCommands({ steps }: Transaction): Iterable<ServerCommand> {
  for (const { tool, text } of steps) {
    if (tool !== 'ipvsadm') continue
    yield* commandsIn(text)
  }
}
