// One script from text to kernel: read, evaluated, carried out whole or not at all.
import { checkName, Draft } from './draft.ts'
import { Evaluator, type Operation } from './evaluate.ts'
import { EvaluationProblem, KernelProblem, missing, SyntaxProblem, unsupported } from './problems.ts'
import type { Ruleset } from './ruleset.ts'
import { type Command, parseCommand } from './script.ts'

/** What nft prints about one thing that went wrong. */
export interface Complaint {
  /** Counted from 1; absent where nft has lost it. */
  readonly line: number | undefined
  readonly text: string
  /** The kernel refused it; else nft did, and the kernel was not asked. */
  readonly byKernel: boolean
  /** What stands where the line would be. */
  readonly instead?: string
}

export type Outcome =
  | { readonly ok: true; readonly ruleset: Ruleset; readonly tables: readonly string[] }
  | { readonly ok: false; readonly complaints: readonly Complaint[] }

/** True for a line that the kernel shall refuse; for tests of how refusals are handled. */
export type Refuses = (line: string) => boolean

interface Numbered<T> {
  readonly line: number
  readonly item: T
}

/** Like nft, it tells of everything that is wrong, and asks the kernel only if nft itself finds nothing. */
export function runScript(text: string, ruleset: Ruleset, refuses: Refuses): Outcome {
  const lines = text.split('\n').map((item, index) => ({ line: index + 1, item }))
  const complaints: Complaint[] = []
  const commands = each(lines, complaints, line => (/^\s*(?:#|$)/.test(line) ? undefined : parseCommand(line)))
  const operations = evaluated(commands, new Evaluator(ruleset), complaints)
  if (complaints.length > 0) return { ok: false, complaints }
  const refused = new Set(lines.filter(({ item }) => refuses(item)).map(({ line }) => line))
  const batch = new Batch(ruleset, operations, refused)
  // The kernel looks at the whole at the end, and if that is wrong begins anew and looks at it after every addition.
  return batch.run(false) ?? batch.run(true) ?? { ok: false, complaints: [nameless(unsupported)] }
}

/** nft makes one command of elements for one set that follow each other: it tells of the first thing wrong with them. */
function evaluated(
  commands: readonly Numbered<Command>[],
  evaluator: Evaluator,
  complaints: Complaint[],
): Numbered<Operation>[] {
  let run = ''
  let isWrong = false
  return commands.flatMap(command => {
    const { item } = command
    const next = item.kind === 'add elements' ? `${item.table} ${item.name}` : ''
    if (next !== '' && next === run && isWrong) return []
    const operations = each<Command, Operation>([command], complaints, found => evaluator.evaluate(found))
    run = next
    isWrong = operations.length === 0
    return operations
  })
}

function each<T, R>(
  items: readonly Numbered<T>[],
  complaints: Complaint[],
  make: (item: T) => R | undefined,
): Numbered<R>[] {
  return items.flatMap(({ line, item }) => {
    try {
      const made = make(item)
      return made === undefined ? [] : [{ line, item: made }]
    } catch (error) {
      if (error instanceof EvaluationProblem && error.instead !== undefined) {
        complaints.push({ line: undefined, text: error.message, byKernel: false, instead: error.instead })
      } else if (error instanceof EvaluationProblem || error instanceof SyntaxProblem) {
        complaints.push({ line, text: error.message, byKernel: false })
      } else {
        throw error
      }
      return []
    }
  })
}

class Batch {
  readonly #base: Ruleset
  readonly #operations: readonly Numbered<Operation>[]
  readonly #refused: ReadonlySet<number>

  constructor(base: Ruleset, operations: readonly Numbered<Operation>[], refused: ReadonlySet<number>) {
    this.#base = base
    this.#operations = operations
    this.#refused = refused
  }

  /** Goes on after a refusal, so that all of them are told; none of it takes effect then. Undefined: only the whole is wrong. */
  run(lookingEachTime: boolean): Outcome | undefined {
    const drafts = new Map<string, Draft | undefined>()
    const complaints: Complaint[] = []
    for (const { line, item } of this.#operations) {
      try {
        if (this.#refused.has(line)) throw new KernelProblem('Invalid argument')
        this.#carryOut(item, drafts)
        const problem = lookingEachTime && isLookedAt(item) ? drafts.get(item.table)?.problem() : undefined
        if (problem !== undefined) throw new KernelProblem(problem)
      } catch (error) {
        if (!(error instanceof KernelProblem)) throw error
        complaints.push({ line, text: error.message, byKernel: true })
      }
    }
    if (complaints.length > 0) return { ok: false, complaints }
    const wrong = [...drafts.values()].some(draft => draft?.problem() !== undefined)
    if (wrong) return undefined
    if ([...drafts.values()].some(draft => draft?.hasLoop() === true))
      return { ok: false, complaints: [nameless(unreachableLoop)] }
    const ruleset = new Map(this.#base)
    for (const [name, draft] of drafts) {
      if (draft === undefined) ruleset.delete(name)
      else ruleset.set(name, draft.finished())
    }
    return { ok: true, ruleset, tables: [...drafts.keys()] }
  }

  #carryOut(operation: Operation, drafts: Map<string, Draft | undefined>): void {
    const { table } = operation
    const base = this.#base.get(table)
    const before = drafts.has(table) ? drafts.get(table) : base === undefined ? undefined : new Draft(base)
    if (operation.kind === 'add table') {
      checkName(table.slice(table.indexOf(' ') + 1))
      drafts.set(table, before ?? new Draft())
      return
    }
    if (before === undefined) throw new KernelProblem(missing)
    drafts.set(table, operation.kind === 'delete table' ? undefined : before)
    before.carryOut(operation)
  }
}

const isLookedAt = ({ kind }: Operation): boolean => kind === 'add rule' || kind === 'add elements'

/** Kernels before 6.10 refuse a loop even if no hook leads to it. */
export const unreachableLoop = 'Too many levels of symbolic links'

const nameless = (text: string): Complaint => ({ line: undefined, text, byKernel: true })
