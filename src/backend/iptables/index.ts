// The iptables backend, put together. See README.md in this folder.
import type { Exec } from '../../kernel/exec.ts'
import type { Family } from '../../net/ip.ts'
import { type Backend, CommitError } from '../backend.ts'
import { cleanup, commit, isIntact, read } from './commit.ts'
import { compileServicePort } from './compile.ts'
import { trees } from './names.ts'
import { type PlanOptions, plan } from './plan.ts'
import { skeleton } from './skeleton.ts'
import { detectTools, type Tools, toolsOf, type Variant } from './tools.ts'
import { trace } from './trace.ts'
import { treeLayout } from './tree.ts'

export interface IptablesOptions {
  readonly family: Family
  readonly exec: Exec
  /** Left out: detected when the kernel is first asked. */
  readonly variant?: Variant
}

/** Measured: README.md. Before the variant is known, only text for people is planned. */
const planOptions = (tools: Pick<Tools, 'variant' | 'version'> | undefined): PlanOptions => ({
  chunk: tools?.variant === 'nft' ? 2_000 : 1_000_000,
  withoutDeclarations: tools?.variant === 'nft' && tools.version === '1.8.4',
})

async function given(exec: Exec, family: Family, variant: Variant): Promise<Tools> {
  const tools = await toolsOf(exec, family, variant)
  if (tools === undefined) throw new CommitError('unsupported', `the ${variant} variant of iptables is not installed`)
  return tools
}

/** One instance an address family. */
export function iptablesBackend(options: IptablesOptions): Backend {
  const { family, exec } = options
  let tools: Promise<Tools> | undefined
  let known: Tools | undefined
  const detected = (): Promise<Tools> => {
    tools ??= (options.variant === undefined ? detectTools(exec, family) : given(exec, family, options.variant)).then(
      found => {
        known = found
        return found
      },
      (error: unknown) => {
        // Asked again next time: iptables may be installed later.
        tools = undefined
        throw error
      },
    )
    return tools
  }
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
    plan: (delta, program) => plan(delta, program, planOptions(known)),
    read: async signal => read(exec, await detected(), signal),
    isIntact: async signal => isIntact(exec, await detected(), signal),
    commit: async (transaction, signal) => commit(exec, await detected(), transaction, signal),
    trace,
    giveUp: () => {
      if (!canCompareAddresses) return undefined
      canCompareAddresses = false
      return 'this kernel has no xt_bpf (CONFIG_NETFILTER_XT_MATCH_BPF): a pod that reaches itself through a Service gets no answer'
    },
    sweep: async signal => {
      const { variant } = await detected()
      const other = variant === 'nft' ? 'legacy' : 'nft'
      const cleaned = await cleanup(exec, family, [other], planOptions, signal)
      return cleaned.length === 0 ? undefined : `rules that an earlier run had left in the ${other} variant of iptables`
    },
    cleanup: async signal => {
      await cleanup(exec, family, ['nft', 'legacy'], planOptions, signal)
    },
  }
}
