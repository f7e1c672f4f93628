// How the planner that the iptables-writing backends share treats the chains of this one.
import { type PlanOptions, restoreLimits } from '../xtables/plan.ts'
import type { Tools } from '../xtables/tools.ts'

/** Options for `plan`: Services are refused in filter. */
export const planOptions = (tools: Pick<Tools, 'variant' | 'version'> | undefined): PlanOptions => ({
  ...restoreLimits(tools),
  refusalsFirst: true,
})
