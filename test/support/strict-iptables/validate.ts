// What the kernel checks of a table as a whole before it takes it: loops, depth, and targets behind hooks they cannot use.
import { type Chain, type Hook, hooks, type Table, type TableName, type Variant } from './tables.ts'

/** nf_tables' NFT_JUMP_STACK_SIZE is 16, and the base chain takes one. Legacy sizes its stack to the table. */
const deepestNft = 15

interface Summary {
  readonly jumps: readonly string[]
  /** Hooks that a rule of the chain allows, for each rule that does not allow all. */
  readonly allowed: readonly (readonly Hook[])[]
}

const summaries = { nft: new WeakMap<Chain, Summary>(), legacy: new WeakMap<Chain, Summary>() }

function summaryOf(chain: Chain, variant: Variant): Summary {
  const known = summaries[variant].get(chain)
  if (known !== undefined) return known
  const jumps = new Set<string>()
  const allowed: (readonly Hook[])[] = []
  for (const { rule } of chain.entries) {
    if (rule.jump !== undefined) jumps.add(rule.jump)
    for (const { hooks: needed } of rule.needs) if (needed !== undefined) allowed.push(needed)
    // Legacy does not look behind a verdict that every packet meets.
    if (variant === 'legacy' && /^-j (?:ACCEPT|DROP|RETURN)$/.test(rule.text)) break
  }
  const summary = { jumps: [...jumps], allowed }
  summaries[variant].set(chain, summary)
  return summary
}

export type TableProblem = 'Too many links' | 'Invalid argument'

/** What is wrong with a table, in errno's words; undefined when nothing is. Chains that no hook reaches are not looked at. */
export function problemOf(table: Table, name: TableName, variant: Variant): TableProblem | undefined {
  const heights = new Map<string, number>()
  for (const hook of hooks[name]) {
    const height = heightOf(hook, table, variant, heights)
    if (height === 'loop' || (variant === 'nft' && height > deepestNft)) return 'Too many links'
  }
  for (const hook of hooks[name]) if (!allowsHook(hook, table, variant)) return 'Invalid argument'
  return undefined
}

/** Jumps on the longest way down from a chain. */
function heightOf(start: string, table: Table, variant: Variant, heights: Map<string, number>): number | 'loop' {
  const open = new Set<string>()
  const visit = (name: string): number | 'loop' => {
    const known = heights.get(name)
    if (known !== undefined) return known
    if (open.has(name)) return 'loop'
    open.add(name)
    let height = 0
    const chain = table.chains.get(name)
    for (const jump of chain === undefined ? [] : summaryOf(chain, variant).jumps) {
      const below = visit(jump)
      if (below === 'loop') return 'loop'
      height = Math.max(height, below + 1)
    }
    open.delete(name)
    heights.set(name, height)
    return height
  }
  return visit(start)
}

function allowsHook(hook: Hook, table: Table, variant: Variant): boolean {
  const seen = new Set<string>([hook])
  for (const name of seen) {
    const chain = table.chains.get(name)
    if (chain === undefined) continue
    const { jumps, allowed } = summaryOf(chain, variant)
    if (allowed.some(list => !list.includes(hook))) return false
    for (const jump of jumps) seen.add(jump)
  }
  return true
}
