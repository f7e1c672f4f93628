// The iptables backend, put together. See README.md in this folder.
import type { Exec } from '../../kernel/exec.ts'
import type { Family } from '../../net/ip.ts'
import type { Backend } from '../backend.ts'
import { cleanup, commit, fingerprint, isIntact, jumpsIn, read, type Witness } from '../xtables/commit.ts'
import { plan } from '../xtables/plan.ts'
import type { Scope } from '../xtables/save.ts'
import { toolChoice, type Variant, watchedTables } from '../xtables/tools.ts'
import { compileServicePort } from './compile.ts'
import { chainPrefix, chains, trees } from './names.ts'
import { planOptions } from './plan.ts'
import { skeleton } from './skeleton.ts'
import { trace } from './trace.ts'
import { treeLayout } from './tree.ts'

export interface IptablesOptions {
  readonly family: Family
  readonly exec: Exec
  /** Left out: detected when the kernel is first asked. */
  readonly variant?: Variant
}

const scope: Scope = { prefix: chainPrefix, tables: ['filter', 'nat'] }

const witnesses: readonly Witness[] = [
  { table: 'nat', chain: 'PREROUTING', target: chains.services },
  { table: 'filter', chain: 'FORWARD', target: chains.forward },
]

/** Chains that hold our jumps, by table. */
const hooks = { filter: ['INPUT', 'FORWARD', 'OUTPUT'], nat: ['PREROUTING', 'OUTPUT', 'POSTROUTING'] }

/** One instance an address family. */
export function iptablesBackend(options: IptablesOptions): Backend {
  const { family, exec } = options
  const tools = toolChoice(exec, family, options.variant)
  let canCompareAddresses = true
  return {
    mode: 'iptables',
    skeleton: network => skeleton(network, canCompareAddresses),
    compile: compileServicePort,
    layout: () =>
      treeLayout(family === 'IPv4' ? 8 : 32, [
        { table: 'nat', root: trees.address, byAddress: true },
        { table: 'nat', root: trees.nodePort, byAddress: false },
        { table: 'filter', root: trees.address, byAddress: true },
        { table: 'filter', root: trees.nodePort, byAddress: false },
        { table: 'filter', root: trees.health, byAddress: false },
      ]),
    plan: delta => plan(delta, planOptions(tools.known)),
    read: async signal => read(exec, await tools.find(), scope, signal),
    isIntact: async (signal, objects) =>
      isIntact(exec, await tools.find(), objects === undefined ? witnesses : jumpsIn(objects), signal),
    watched: () => watchedTables(tools.known, family, chainPrefix, hooks),
    fingerprint: async (signal, watched) => {
      const found = await tools.find()
      return watched && found.variant === 'nft' ? undefined : fingerprint(exec, found, scope, signal)
    },
    commit: async (transaction, signal) => commit(exec, await tools.find(), transaction, signal),
    trace,
    giveUp: () => {
      if (!canCompareAddresses) return undefined
      canCompareAddresses = false
      return 'this kernel has no xt_bpf (CONFIG_NETFILTER_XT_MATCH_BPF): a pod that reaches itself through a Service gets no answer'
    },
    sweep: async signal => {
      const { variant } = await tools.find()
      const other = variant === 'nft' ? 'legacy' : 'nft'
      const cleaned = await cleanup(exec, family, [other], scope, planOptions, signal)
      return cleaned.length === 0 ? undefined : `rules that an earlier run had left in the ${other} variant of iptables`
    },
    cleanup: async signal => {
      await cleanup(exec, family, ['nft', 'legacy'], scope, planOptions, signal)
    },
  }
}
