// From a delta to nft scripts: in an order the kernel accepts, that reaches nothing before it is whole, and that leaves every
// packet with an endpoint before and after the change an endpoint at each step of it.
import type { Family } from '../../net/ip.ts'
import type { Delta, KernelObject, Program, Step, Transaction } from '../backend.ts'
import { chainKey, containers, elementKey, indexedKey, mapKey, type ParsedKey, parseKey, tableOf } from './names.ts'

interface Change {
  readonly key: string
  readonly parsed: ParsedKey
  readonly from: string | undefined
  readonly to: string | undefined
}

/** Chains that go into one script. Measured: README.md. */
const chunk = 5_000

/** Elements that one command holds; few enough that an error points at something. */
const elementsInCommand = 500

/**
 * Plans a delta. In the usual case one script, committed whole, and a second one if chains or sets are no longer needed:
 * kernels before 6.2 call a chain busy for a moment after the map element that went to it is gone (kubernetes #122604).
 */
export function plan(delta: Delta, program: Program, family: Family): Transaction {
  const changes: Change[] = []
  for (const { key, value } of delta.added) changes.push({ key, parsed: parseKey(key), from: undefined, to: value })
  for (const { key, from, to } of delta.changed) changes.push({ key, parsed: parseKey(key), from, to })
  for (const { key, value } of delta.removed) changes.push({ key, parsed: parseKey(key), from: value, to: undefined })
  if (changes.length === 0) return { steps: [] }

  const total = `${delta.added.length} added, ${delta.changed.length} changed, ${delta.removed.length} removed`
  const scripts =
    changes.some(isRetyped) || isReplaced(changes) || mustRebuild(changes)
      ? [rebuild(program, family)]
      : ordered(changes, family)
  return {
    steps: scripts.map(
      ({ lines, keys }, index): Step => ({
        title: scripts.length === 1 ? total : `${total}: part ${index + 1} of ${scripts.length}`,
        text: `${lines.join('\n')}\n`,
        keys,
      }),
    ),
  }
}

/** True for a step that only deletes what nothing leads to any more. If it cannot be done now, it can be done later. */
export const isSweep = (step: Step): boolean => step.text.startsWith('delete ')

const isElement = ({ kind }: ParsedKey): boolean => kind === 'element' || kind === 'indexed'

interface Script {
  readonly lines: readonly string[]
  readonly keys: readonly string[]
}

/** A set or map of ours has another type in the kernel, or a base chain another hook: somebody else made it. */
function isRetyped({ parsed, from, to }: Change): boolean {
  if (from === undefined || to === undefined) return false
  if (parsed.kind === 'set' || parsed.kind === 'map') return true
  return parsed.kind === 'chain' && hookOf(from) !== hookOf(to)
}

/** Somebody put a set in the place of a map of ours, or the other way round: one name cannot be both in one script. */
function isReplaced(changes: readonly Change[]): boolean {
  const names = changes.flatMap(({ parsed }) => (parsed.kind === 'set' || parsed.kind === 'map' ? [parsed.name] : []))
  return new Set(names).size < names.length
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

/** The whole table anew, at once. */
function rebuild(program: Program, family: Family): Script {
  const table = tableOf(family)
  const all = [...program].map(([key, to]): Change => ({ key, parsed: parseKey(key), from: undefined, to }))
  const { lines, keys } = mainScript(all, table)
  return { lines: [`add table ${table}`, `delete table ${table}`, ...lines], keys }
}

function ordered(changes: readonly Change[], family: Family): Script[] {
  const table = tableOf(family)
  const isNewChain = ({ parsed, from, to }: Change): boolean =>
    parsed.kind === 'chain' && from === undefined && hookOf(to ?? '') === undefined
  const fresh = changes.filter(isNewChain)
  const gone = changes.filter(({ parsed, to }) => !isElement(parsed) && to === undefined)
  const scripts: Script[] = []
  if (fresh.length > chunk) {
    // Nothing leads to a new chain before the last script.
    const isContainer = ({ parsed, to }: Change) => (parsed.kind === 'set' || parsed.kind === 'map') && to !== undefined
    const declared = changes.filter(isContainer)
    const withMaps = fresh.filter(change => dnatMaps(change).length > 0)
    const others = targetsFirst(fresh).filter(change => !withMaps.includes(change))
    for (const [index, part] of parts(others, chunk).entries()) {
      scripts.push(mainScript(index === 0 ? [...declared, ...withMaps, ...part] : part, table))
    }
    const rest = changes.filter(change => !isNewChain(change) && !isContainer(change))
    if (rest.length > 0) scripts.push(mainScript(rest, table))
  } else {
    scripts.push(mainScript(changes, table))
  }
  if (gone.length > 0) scripts.push(sweep(gone, table))
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
function mainScript(changes: readonly Change[], table: string): Script {
  const declared: string[] = []
  const flushed: string[] = []
  const rules: string[] = []
  const deleted = new Groups('delete', table)
  const added = new Groups('add', table)
  const goneContainers = new Set<string>()
  for (const { parsed, to } of changes) {
    if ((parsed.kind === 'set' || parsed.kind === 'map') && to === undefined) goneContainers.add(parsed.name)
  }
  for (const { parsed, from, to } of changes) {
    switch (parsed.kind) {
      case 'set':
      case 'map':
        if (to !== undefined) declared.push(`add ${parsed.kind} ${table} ${parsed.name} { ${to} }`)
        break
      case 'chain': {
        const hook = hookOf(to ?? '')
        // A chain that is new to us may have been left over by a sweep that failed.
        if (to !== undefined)
          declared.push(`add chain ${table} ${parsed.name}${hook === undefined ? '' : ` { ${hook} }`}`)
        flushed.push(`flush chain ${table} ${parsed.name}`)
        for (const rule of rulesOf(to ?? '')) rules.push(`add rule ${table} ${parsed.name} ${rule}`)
        break
      }
      case 'element':
        if (goneContainers.has(parsed.container)) break
        if (from !== undefined) deleted.push(parsed.container, parsed.key)
        if (to !== undefined) added.push(parsed.container, to === '' ? parsed.key : `${parsed.key} ${to}`)
        break
      case 'indexed': {
        if (goneContainers.has(parsed.container)) break
        const [before, after] = [indexed(from), indexed(to)]
        for (const [index, data] of before.entries()) {
          if (data !== '' && data !== after[index]) deleted.push(parsed.container, `${parsed.key} . ${index}`)
        }
        for (const [index, data] of after.entries()) {
          if (data !== '' && data !== before[index]) added.push(parsed.container, `${parsed.key} . ${index} : ${data}`)
        }
      }
    }
  }
  return {
    lines: [`add table ${table}`, ...declared, ...flushed, ...deleted.lines(), ...rules, ...added.lines()],
    keys: changes.map(({ key }) => key),
  }
}

/** The elements of an indexed object; a gap is empty. */
const indexed = (value: string | undefined): readonly string[] => (value === undefined ? [] : value.split('\n'))

/** Element commands: one for each element where there are few, so that an error names it. */
class Groups {
  readonly #verb: string
  readonly #table: string
  readonly #byContainer = new Map<string, string[]>()

  constructor(verb: string, table: string) {
    this.#verb = verb
    this.#table = table
  }

  push(container: string, element: string): void {
    const elements = this.#byContainer.get(container)
    if (elements === undefined) this.#byContainer.set(container, [element])
    else elements.push(element)
  }

  *lines(): Iterable<string> {
    for (const [container, elements] of this.#byContainer) {
      const command = `${this.#verb} element ${this.#table} ${container}`
      if (elements.length <= 100) for (const element of elements) yield `${command} { ${element} }`
      else for (const part of parts(elements, elementsInCommand)) yield `${command} { ${part.join(', ')} }`
    }
  }
}

/** Emptied before, so nothing holds anything and the order does not matter. */
const sweep = (gone: readonly Change[], table: string): Script => ({
  lines: gone.flatMap(({ parsed }) =>
    parsed.kind === 'element' || parsed.kind === 'indexed' ? [] : [`delete ${parsed.kind} ${table} ${parsed.name}`],
  ),
  keys: gone.map(({ key }) => key),
})

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

/** The object that a line of a script writes; undefined if it is none, or several. */
export function objectOfLine(line: string): KernelObject['key'] | undefined {
  const [verb = '', kind = '', , , name = ''] = line.split(' ')
  if (verb !== 'add') return undefined
  switch (kind) {
    case 'rule':
    case 'chain':
      return chainKey(name)
    case 'set':
    case 'map':
      return `${kind} ${name}`
    case 'element': {
      const body = / \{ (.*) \}$/.exec(line)?.[1] ?? ''
      if (body.includes(', ')) return undefined
      const key = /^.*?(?= comment | : |$)/.exec(body)?.[0] ?? ''
      return name === containers.endpoints || name === containers.nodePortEndpoints
        ? indexedKey(name, key.slice(0, key.lastIndexOf(' . ')))
        : elementKey(name, key)
    }
    default:
      return undefined
  }
}
