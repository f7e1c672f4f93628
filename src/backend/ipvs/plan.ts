// From a delta to the inputs of ipset, iptables-restore, ipvsadm and ip: in an order that never leaves a packet without the
// endpoint it has before and after.
import type { Family } from '../../net/ip.ts'
import { bitsOf } from '../../net/ip.ts'
import type { Delta, KernelObject, Program, Step, Transaction } from '../backend.ts'
import { plan as planGlue, type RestoreLimits } from '../xtables/plan.ts'
import { device, type ParsedKey, parseKey, type VirtualServer } from './names.ts'
import { addressOf, parseServerValue, serverArguments } from './servers.ts'

/** Programs that steps are for. */
export type Tool = 'ipset' | 'iptables' | 'ipvsadm' | 'link' | 'address'

interface Change {
  readonly key: string
  readonly parsed: ParsedKey
  readonly from: string | undefined
  readonly to: string | undefined
}

/**
 * Plans a delta. What looks into sets comes after the sets, addresses come after their virtual servers, and members go
 * last: a frontend that is new is whole before a packet is taken for it. Real servers are added before others are drained.
 */
export function plan(delta: Delta, program: Program, family: Family, limits: RestoreLimits): Transaction {
  const changes = changesOf(delta)
  const retyped = new Set(
    changes.flatMap(({ parsed, from, to }) =>
      parsed.kind === 'set' && from !== undefined && to !== undefined ? [parsed.name] : [],
    ),
  )
  const glue = glueOf(delta)
  const steps: (Step | undefined)[] = []
  if (retyped.size > 0) {
    // A set of another type is in the place of ours. It cannot be replaced while rules look into it.
    const present = [...glueIn(program)].filter(({ key }) => !glue.added.some(added => added.key === key))
    const removed = [...present, ...glue.changed.map(({ key, from }) => ({ key, value: from })), ...glue.removed]
    const unique = [...new Map(removed.map(object => [object.key, object])).values()]
    steps.push(...glueSteps({ added: [], changed: [], removed: unique }, limits))
    steps.push(
      step(
        'ipset',
        'sets of other types go',
        [...retyped].map(name => `destroy ${name}`),
        [],
      ),
    )
  }
  const members = retyped.size === 0 ? changes : [...changes.filter(isKept(retyped)), ...refilled(program, retyped)]
  steps.push(
    step('ipset', 'sets and members', [...created(changes), ...added(members)], keysOf(members, 'set', 'member')),
    ...glueSteps(retyped.size === 0 ? glue : { added: [...glueIn(program)], changed: [], removed: [] }, limits),
    step('ipvsadm', 'virtual and real servers', serverLines(changes, family), keysOf(changes, 'virtual')),
    // In place, so that no packet misses one, once a mark has its virtual server. A call of its own: ipset holds `-exist` for
    // some lines beside it, too.
    step('ipset', 'members that change', rewritten(members), keysOf(members, 'member')),
    step('link', `the device ${device}`, deviceLines(changes), keysOf(changes, 'device')),
    step('address', `addresses of ${device}`, addressLines(changes, family), keysOf(changes, 'address')),
    step('ipset', 'members and sets that go', [...deleted(changes, retyped), ...destroyed(changes)], []),
    step('ipvsadm', 'virtual servers by mark, once drained', givenUpLines(changes, family), []),
  )
  return { steps: steps.filter(item => item !== undefined) }
}

const step = (tool: Tool, title: string, lines: readonly string[], keys: readonly string[]): Step | undefined =>
  lines.length === 0 ? undefined : { title: `${tool}: ${title}`, tool, text: `${lines.join('\n')}\n`, keys }

function changesOf(delta: Delta): Change[] {
  const changes: Change[] = []
  for (const { key, value } of delta.added) changes.push({ key, parsed: parseKey(key), from: undefined, to: value })
  for (const { key, from, to } of delta.changed) changes.push({ key, parsed: parseKey(key), from, to })
  for (const { key, value } of delta.removed) changes.push({ key, parsed: parseKey(key), from: value, to: undefined })
  return changes
}

const isGlue = ({ key }: { readonly key: string }): boolean => parseKey(key).kind === 'glue'

const glueOf = (delta: Delta): Delta => ({
  added: delta.added.filter(isGlue),
  changed: delta.changed.filter(isGlue),
  removed: delta.removed.filter(isGlue),
})

function* glueIn(program: Program): Iterable<KernelObject> {
  for (const [key, value] of program) if (isGlue({ key })) yield { key, value }
}

function glueSteps(delta: Delta, limits: RestoreLimits): Step[] {
  if (delta.added.length + delta.changed.length + delta.removed.length === 0) return []
  const { steps } = planGlue(delta, { ...limits, isShared: () => true, refusalsFirst: false })
  return steps.map(item => ({ ...item, tool: 'iptables' satisfies Tool, title: `iptables: ${item.title}` }))
}

const keysOf = (changes: readonly Change[], ...kinds: readonly ParsedKey['kind'][]): string[] =>
  changes.filter(({ parsed, to }) => kinds.includes(parsed.kind) && to !== undefined).map(({ key }) => key)

const isKept =
  (retyped: ReadonlySet<string>) =>
  ({ parsed }: Change): boolean =>
    !(parsed.kind === 'member' && retyped.has(parsed.set))

/** All members of sets that are made anew. */
function refilled(program: Program, sets: ReadonlySet<string>): Change[] {
  const members: Change[] = []
  for (const [key, to] of program) {
    const parsed = parseKey(key)
    if (parsed.kind === 'member' && sets.has(parsed.set)) members.push({ key, parsed, from: undefined, to })
  }
  return members
}

/** Sets that refuse come after those that make exceptions, so that nobody permitted is shut out on the way. */
const refusing = /(?:RANGED|DROP)$/
const last = (lines: readonly (readonly [set: string, line: string])[]): string[] => [
  ...lines.filter(([set]) => !refusing.test(set)).map(([, line]) => line),
  ...lines.filter(([set]) => refusing.test(set)).map(([, line]) => line),
]

const created = (changes: readonly Change[]): string[] =>
  changes.flatMap(({ parsed, to }) =>
    parsed.kind === 'set' && to !== undefined ? [`create ${parsed.name} ${to}`] : [],
  )

const memberLine = ({ parsed, to }: Change): string =>
  parsed.kind === 'member' ? `add ${parsed.set} ${parsed.element}${to === '' ? '' : ` ${to}`}` : ''

function added(changes: readonly Change[]): string[] {
  const fresh: [string, string][] = []
  for (const change of changes) {
    const { parsed, from, to } = change
    if (parsed.kind === 'member' && from === undefined && to !== undefined) fresh.push([parsed.set, memberLine(change)])
  }
  return last(fresh)
}

const rewritten = (changes: readonly Change[]): string[] =>
  changes
    .filter(({ parsed, from, to }) => parsed.kind === 'member' && from !== undefined && to !== undefined)
    .map(change => `${memberLine(change)} -exist`)

function deleted(changes: readonly Change[], retyped: ReadonlySet<string>): string[] {
  const gone = new Set(
    changes.flatMap(({ parsed, to }) => (parsed.kind === 'set' && to === undefined ? [parsed.name] : [])),
  )
  const lines: [string, string][] = []
  for (const { parsed, to } of changes) {
    if (parsed.kind !== 'member' || to !== undefined || gone.has(parsed.set) || retyped.has(parsed.set)) continue
    lines.push([parsed.set, `del ${parsed.set} ${parsed.element}`])
  }
  const ordered = last(lines)
  const refusals = lines.filter(([set]) => refusing.test(set)).length
  return [...ordered.slice(ordered.length - refusals), ...ordered.slice(0, ordered.length - refusals)]
}

const destroyed = (changes: readonly Change[]): string[] =>
  changes.flatMap(({ parsed, to }) => (parsed.kind === 'set' && to === undefined ? [`destroy ${parsed.name}`] : []))

function serverLines(changes: readonly Change[], family: Family): string[] {
  const filled: string[] = []
  const drained: string[] = []
  const gone: string[] = []
  for (const { parsed, from, to } of changes) {
    if (parsed.kind !== 'virtual') continue
    if (to !== undefined) changeServer(parsed.server, from, to, family, filled, drained)
    else if (addressOf(parsed.server) !== undefined) gone.push(`-D ${serverArguments(parsed.server, family)}`)
  }
  return [...filled, ...drained, ...gone]
}

/** No packet is sent to them any more. Connections live in them: they go when these have ended (`drain.ts`). */
function givenUpLines(changes: readonly Change[], family: Family): string[] {
  return changes.flatMap(({ parsed, from, to }) => {
    if (parsed.kind !== 'virtual' || to !== undefined || addressOf(parsed.server) !== undefined) return []
    const where = serverArguments(parsed.server, family)
    const drained = parseServerValue(from ?? '').real.map(line => `-e ${where} -r ${realOf(line)} -m -w 0`)
    return [...drained, `-D ${where}`]
  })
}

function changeServer(
  server: VirtualServer,
  from: string | undefined,
  to: string,
  family: Family,
  filled: string[],
  drained: string[],
): void {
  const where = serverArguments(server, family)
  const wanted = parseServerValue(to)
  const held = from === undefined ? undefined : parseServerValue(from)
  if (held?.options !== wanted.options) filled.push(`${held === undefined ? '-A' : '-E'} ${where} ${wanted.options}`)
  const before = new Set((held?.real ?? []).map(realOf))
  const unchanged = new Set(held?.real ?? [])
  const after = new Set(wanted.real.map(realOf))
  for (const line of wanted.real) {
    if (unchanged.has(line)) continue
    const real = realOf(line)
    filled.push(`${before.has(real) ? '-e' : '-a'} ${where} -r ${real} -m -w 1`)
  }
  // It keeps its connections and gets no new ones; it is deleted once it has none (`drain.ts`).
  for (const real of before) if (!after.has(real)) drained.push(`-e ${where} -r ${real} -m -w 0`)
}

const realOf = (line: string): string => line.split(' ', 1)[0] ?? ''

function deviceLines(changes: readonly Change[]): string[] {
  return changes.flatMap(({ parsed, to }) => {
    if (parsed.kind !== 'device') return []
    return [to === undefined ? `link del ${device}` : `link add ${device} type dummy`]
  })
}

function addressLines(changes: readonly Change[], family: Family): string[] {
  return changes.flatMap(({ parsed, to }) => {
    if (parsed.kind !== 'address') return []
    const address = `${parsed.address}/${bitsOf(family)} dev ${device}`
    if (to === undefined) return [`addr del ${address}`]
    // Deprecated: else the kernel may choose it as source, of masqueraded packets too, for being near a pod's address.
    return [`addr add ${address}${family === 'IPv6' ? ' preferred_lft 0' : ''}`]
  })
}
