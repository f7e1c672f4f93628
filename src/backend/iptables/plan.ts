// How the planner that the iptables-writing backends share treats the chains of this one.
import { type PlanOptions, restoreLimits } from '../xtables/plan.ts'
import type { Tools } from '../xtables/tools.ts'
import { isServiceChain } from './names.ts'

/** Options for `plan`: Services are refused in filter, and only chains of Service ports may change in parts. */
export const planOptions = (tools: Pick<Tools, 'variant' | 'version'> | undefined): PlanOptions => ({
  ...restoreLimits(tools),
  isShared: chain => !isServiceChain(chain),
  refusalsFirst: true,
})
