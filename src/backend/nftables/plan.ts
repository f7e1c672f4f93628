// From a delta to commands: in an order the kernel accepts, that reaches nothing before it is whole, and that leaves every
// packet with an endpoint before and after the change an endpoint at each step of it.
import type { Family } from '../../net/ip.ts'
import type { Delta, Program, Step, Transaction } from '../backend.ts'
import { type Command, lineOf } from './commands.ts'
import type { ElementText } from './elements.ts'
import { chainKey, mapKey, type ParsedKey, parseKey } from './names.ts'

interface Change {
  readonly key: string
  readonly parsed: ParsedKey
  readonly from: string | undefined
  readonly to: string | undefined
}

/** Chains that go into one script of nft's. Measured: README.md. */
const chunk = 5_000

/** Elements that one command holds; few enough that an error points at something. */
const elementsInCommand = 500

/** Up to so many elements of one set have a command each. */
const fewElements = 100

/** A step of ours. Its commands, and the text of them, are made when somebody asks for them. */
export interface NftStep extends Step {
  /** It only deletes what nothing leads to any more. If it cannot be done now, it can be done later. */
  readonly isSweep: boolean
  /** In their order; with elements one a command where `each` is set. One line of the text each. */
  commands(each?: 'each'): Iterable<Command>
  /** The same in two steps, of which the second leads to what the first makes; undefined for what cannot be halved. */
  halves(): readonly NftStep[] | undefined
}

/** True for steps of `plan`. */
export const isNftStep = (step: Step): step is NftStep => 'commands' in step

/** Who takes a transaction. What nft cannot do in one script the kernel can in one batch. */
export type Taker = 'nft' | 'kernel'

/**
 * Plans a delta. In the usual case one step, committed whole, and a second one if chains or sets are no longer needed:
 * kernels before 6.2 call a chain busy for a moment after the map element that went to it is gone (kubernetes #122604).
 */
export function plan(delta: Delta, program: Program, family: Family, taker: Taker = 'nft'): Transaction {
  const changes: Change[] = []
  for (const { key, value } of delta.added) changes.push({ key, parsed: parseKey(key), from: undefined, to: value })
  for (const { key, from, to } of delta.changed) changes.push({ key, parsed: parseKey(key), from, to })
  for (const { key, value } of delta.removed) changes.push({ key, parsed: parseKey(key), from: value, to: undefined })
  if (changes.length === 0) return { steps: [] }

  const total = `${delta.added.length} added, ${delta.changed.length} changed, ${delta.removed.length} removed`
  const mustBeNew = changes.some(isRetyped) || isReplaced(changes) || (taker === 'nft' && mustRebuild(changes))
  // A table that holds nothing of anybody's is not there, or is as good as not there.
  const isFirst = delta.changed.length + delta.removed.length === 0 && delta.added.length === program.size
  const scripts = mustBeNew
    ? [{ kind: 'anew' as const, changes: changesTo(program) }]
    : ordered(changes, taker === 'nft' ? chunk : Number.POSITIVE_INFINITY, isFirst)
  return {
    steps: scripts.map((script, index) =>
      stepOf(scripts.length === 1 ? total : `${total}: part ${index + 1} of ${scripts.length}`, script, family),
    ),
  }
}

/** Changes that are written together, and what else is done with them. */
interface Script {
  /** `first`: the table is made before; `anew`: it is deleted and made again; `sweep`: what goes is deleted. */
  readonly kind: 'usual' | 'first' | 'anew' | 'sweep'
  readonly changes: readonly Change[]
}

function stepOf(title: string, script: Script, family: Family): NftStep {
  const { kind, changes } = script
  const commands = (each?: 'each'): Iterable<Command> =>
    kind === 'sweep' ? sweep(changes) : mainCommands(script, each === 'each' ? 1 : elementsInCommand)
  return {
    title,
    get keys() {
      return changes.map(({ key }) => key)
    },
    isSweep: kind === 'sweep',
    commands,
    get text() {
      return Array.from(commands(), command => `${lineOf(command, family)}\n`).join('')
    },
    halves: () => {
      if (changes.length < 2) return undefined
      const sorted = kind === 'sweep' ? changes : inPhases(changes)
      const middle = sorted.length >> 1
      return [
        stepOf(`${title}, first half`, { kind, changes: sorted.slice(0, middle) }, family),
        stepOf(
          `${title}, second half`,
          { kind: kind === 'sweep' ? kind : 'usual', changes: sorted.slice(middle) },
          family,
        ),
      ]
    },
  }
}

/**
 * Changes in an order in which they can be written one after the other: what is led to before what leads there, and what
 * goes at the end.
 */
function inPhases(changes: readonly Change[]): readonly Change[] {
  const phases: [Change[], Change[], Change[], Change[], Change[]] = [[], [], [], [], []]
  for (const change of changes) phases[phaseOf(change)].push(change)
  return [...phases[0], ...targetsFirst(phases[1]), ...phases[2], ...phases[3], ...phases[4]]
}

function phaseOf({ parsed, from, to }: Change): 0 | 1 | 2 | 3 | 4 {
  if (to === undefined) return 4
  if (isContainer(parsed)) return 0
  if (parsed.kind === 'chain') return from === undefined && hookOf(to) === undefined ? 1 : 3
  return parsed.kind === 'indexed' ? 2 : 3
}

const isContainer = ({ kind }: ParsedKey): boolean => kind === 'set' || kind === 'map'

const isElement = ({ kind }: ParsedKey): boolean => kind === 'element' || kind === 'indexed'

/** A set or map of ours has another type in the kernel, or a base chain another hook: somebody else made it. */
function isRetyped({ parsed, from, to }: Change): boolean {
  if (parsed.kind === 'table') return true
  if (from === undefined || to === undefined) return false
  if (parsed.kind === 'set' || parsed.kind === 'map') return true
  return parsed.kind === 'chain' && hookOf(from) !== hookOf(to)
}

/** Somebody put a set in the place of a map of ours, or the other way round: one name cannot be both in one script. */
function isReplaced(changes: readonly Change[]): boolean {
  const names = new Set<string>()
  for (const { parsed } of changes) {
    if (parsed.kind !== 'set' && parsed.kind !== 'map') continue
    if (names.has(parsed.name)) return true
    names.add(parsed.name)
  }
  return false
}

/**
 * nft 1.0.6 takes a rule with DNAT through a map only in the script that makes the map: of a map it finds in the kernel it
 * says "conflicting protocols specified: ip vs. th" (with `tcp dport` as the type of its data it would add a match of
 * TCP). Those rules are static: they differ when somebody else has changed them, or with another version of this program.
 */
function mustRebuild(changes: readonly Change[]): boolean {
  const made = new Set(changes.filter(({ from }) => from === undefined).map(({ key }) => key))
  return changes.some(change => changed(change) && !dnatMaps(change).every(map => made.has(mapKey(map))))
}

const changed = ({ parsed, to }: Change): boolean => parsed.kind === 'chain' && to !== undefined

/** Maps that rules of a chain use for DNAT. */
const dnatMaps = ({ to }: Change): string[] =>
  [...(to ?? '').matchAll(/^dnat .* map @(\S+)$/gm)].map(([, map = '']) => map)

/** All of a program as if nothing was there. */
const changesTo = (program: Program): Change[] =>
  [...program].map(([key, to]): Change => ({ key, parsed: parseKey(key), from: undefined, to }))

/** `mostChains`: new chains that one script takes. */
function ordered(changes: readonly Change[], mostChains: number, isFirst: boolean): Script[] {
  const isNewChain = ({ parsed, from, to }: Change): boolean =>
    parsed.kind === 'chain' && from === undefined && hookOf(to ?? '') === undefined
  const fresh = changes.filter(isNewChain)
  const gone = changes.filter(({ parsed, to }) => !isElement(parsed) && to === undefined)
  const first = isFirst ? 'first' : 'usual'
  const scripts: Script[] = []
  if (fresh.length > mostChains) {
    // Nothing leads to a new chain before the last script.
    const isDeclared = ({ parsed, to }: Change) => isContainer(parsed) && to !== undefined
    const declared = changes.filter(isDeclared)
    const withMaps = fresh.filter(change => dnatMaps(change).length > 0)
    const others = targetsFirst(fresh).filter(change => dnatMaps(change).length === 0)
    for (const [index, part] of parts(others, mostChains).entries()) {
      scripts.push(
        index === 0 ? { kind: first, changes: [...declared, ...withMaps, ...part] } : { kind: 'usual', changes: part },
      )
    }
    const rest = changes.filter(change => !isNewChain(change) && !isDeclared(change))
    if (rest.length > 0) scripts.push({ kind: 'usual', changes: rest })
  } else {
    scripts.push({ kind: first, changes })
  }
  if (gone.length > 0) scripts.push({ kind: 'sweep', changes: gone })
  return scripts
}

function parts<T>(items: readonly T[], size: number): T[][] {
  const out: T[][] = []
  for (let i = 0; i < items.length; i += size) out.push(items.slice(i, i + size))
  return out
}

/** Chains after the chains they go to, so that they can be written in parts. */
function targetsFirst(changes: readonly Change[]): Change[] {
  const byKey = new Map(changes.map(change => [change.key, change]))
  const done = new Set<string>()
  const out: Change[] = []
  const visit = (change: Change): void => {
    if (done.has(change.key)) return
    done.add(change.key)
    for (const [, target = ''] of (change.to ?? '').matchAll(/(?:goto|jump) (\S+)$/gm)) {
      const next = byKey.get(chainKey(target))
      if (next !== undefined) visit(next)
    }
    out.push(change)
  }
  for (const change of changes) visit(change)
  return out
}

/** Everything but the deletion of chains and sets. */
function* mainCommands({ kind, changes }: Script, together: number): Iterable<Command> {
  if (kind === 'anew') yield { kind: 'delete-table' }
  if (kind !== 'usual') yield { kind: 'add-table' }
  const goneContainers = new Set<string>()
  for (const { parsed, to } of changes) {
    if ((parsed.kind === 'set' || parsed.kind === 'map') && to === undefined) goneContainers.add(parsed.name)
    // Containers and chains in any order: nothing leads anywhere yet. A chain that is new to us may have been left over
    // by a sweep that failed.
    if (to === undefined) continue
    if (parsed.kind === 'chain') yield { kind: 'add-chain', name: parsed.name, hook: hookOf(to) }
    else if (parsed.kind === 'set' || parsed.kind === 'map') {
      yield { kind: 'add-container', of: parsed.kind, name: parsed.name, value: to }
    }
  }
  for (const { parsed } of changes) if (parsed.kind === 'chain') yield { kind: 'flush-chain', name: parsed.name }
  const isGone = (container: string): boolean => goneContainers.has(container)
  yield* inGroups('delete-elements', changes, isGone, together)
  for (const { parsed, to } of changes) {
    if (parsed.kind !== 'chain' || to === undefined) continue
    for (const rule of rulesOf(to)) yield { kind: 'add-rule', chain: parsed.name, rule }
  }
  yield* inGroups('add-elements', changes, isGone, together)
}

type ElementsKind = 'add-elements' | 'delete-elements'

/** Elements that come, or go. Where they are few, one command for each, so that an error names it. */
function* inGroups(
  kind: ElementsKind,
  changes: readonly Change[],
  isGone: (container: string) => boolean,
  together: number,
): Iterable<Command> {
  const groups = new Map<string, { elements: ElementText[]; isLarge: boolean }>()
  for (const change of changes) {
    const { parsed } = change
    if ((parsed.kind !== 'element' && parsed.kind !== 'indexed') || isGone(parsed.container)) continue
    const { container } = parsed
    let group = groups.get(container)
    if (group === undefined) {
      group = { elements: [], isLarge: false }
      groups.set(container, group)
    }
    putElements(kind, change, parsed.key, group.elements)
    if (group.elements.length < elementsInCommand) continue
    yield* elementCommands(kind, container, group.elements, together)
    group.elements = []
    group.isLarge = true
  }
  for (const [container, { elements, isLarge }] of groups) {
    const isFew = !isLarge && elements.length <= fewElements
    yield* elementCommands(kind, container, elements, isFew ? 1 : together)
  }
}

function* elementCommands(
  kind: ElementsKind,
  container: string,
  elements: readonly ElementText[],
  together: number,
): Iterable<Command> {
  for (let at = 0; at < elements.length; at += together) {
    yield { kind, container, elements: elements.slice(at, at + together) }
  }
}

/** What of a change comes, or goes. */
function putElements(kind: ElementsKind, { parsed, from, to }: Change, key: string, elements: ElementText[]): void {
  const [before, after] = kind === 'add-elements' ? [from, to] : [to, from]
  if (after === undefined) return
  if (parsed.kind === 'element') {
    elements.push({ key, value: after })
    return
  }
  const others = indexed(before)
  for (const [index, data] of indexed(after).entries()) {
    if (data !== '' && data !== others[index]) elements.push({ key, index, value: `: ${data}` })
  }
}

/** The elements of an indexed object; a gap is empty. */
const indexed = (value: string | undefined): readonly string[] => (value === undefined ? [] : value.split('\n'))

/** Emptied before, so nothing holds anything and the order does not matter. */
function* sweep(gone: readonly Change[]): Iterable<Command> {
  for (const { parsed } of gone) {
    // A table with flags of others is made anew before it comes to this.
    if (parsed.kind === 'element' || parsed.kind === 'indexed' || parsed.kind === 'table') continue
    yield { kind: 'delete', of: parsed.kind, name: parsed.name }
  }
}

/** The line of a base chain's hook; undefined for any other chain. */
function hookOf(value: string): string | undefined {
  const [line = ''] = value.split('\n', 1)
  return line.startsWith('type ') ? line : undefined
}

/** A chain's rules. */
export function rulesOf(value: string): string[] {
  if (value === '') return []
  const lines = value.split('\n')
  return hookOf(value) === undefined ? lines : lines.slice(1)
}
