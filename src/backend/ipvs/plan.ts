// From a delta to commands for sets, virtual servers and addresses, and the input of iptables-restore: in an order that never
// leaves a packet without the endpoint it has before and after.
import { type Family, parseIP } from '../../net/ip.ts'
import type { Delta, KernelObject, Program, Step, Transaction } from '../backend.ts'
import { plan as planGlue, type RestoreLimits } from '../xtables/plan.ts'
import { type Command, commandStep, type SetCommand, type Tool } from './commands.ts'
import { device, isGlue, type ParsedKey, parseKey, type VirtualServer } from './names.ts'
import { addressOf, parseServerValue } from './servers.ts'

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
  const glue = glueOf(changes)
  const steps: Step[] = []
  const step = (
    tool: Exclude<Tool, 'iptables'>,
    title: string,
    commands: readonly Command[],
    keys: readonly string[],
  ): void => {
    if (commands.length > 0) steps.push(commandStep(tool, title, commands, family, keys))
  }
  if (retyped.size > 0) {
    // A set of another type is in the place of ours. It cannot be replaced while rules look into it.
    const present = [...glueIn(program)].filter(({ key }) => !glue.added.some(added => added.key === key))
    const removed = [...present, ...glue.changed.map(({ key, from }) => ({ key, value: from })), ...glue.removed]
    const unique = [...new Map(removed.map(object => [object.key, object])).values()]
    steps.push(...glueSteps({ added: [], changed: [], removed: unique }, limits))
    const gone = [...retyped].map((set): Command => ({ kind: 'destroy-set', set }))
    step('ipset', 'sets of other types go', gone, [])
  }
  const members = retyped.size === 0 ? changes : [...changes.filter(isKept(retyped)), ...refilled(program, retyped)]
  step('ipset', 'sets and members', [...created(changes), ...added(members)], keysOf(members, 'set', 'member'))
  steps.push(
    ...glueSteps(retyped.size === 0 ? glue : { added: [...glueIn(program)], changed: [], removed: [] }, limits),
  )
  step('ipvsadm', 'virtual and real servers', serverCommands(changes), keysOf(changes, 'virtual'))
  // In place, so that no packet misses one, once a mark has its virtual server. A call of its own: ipset holds `-exist` for
  // some lines beside it, too.
  step('ipset', 'members that change', rewritten(members), keysOf(members, 'member'))
  step('link', `the device ${device}`, deviceCommands(changes), keysOf(changes, 'device'))
  step('route', 'addresses of Services', addressCommands(changes), keysOf(changes, 'address'))
  step('ipset', 'members and sets that go', [...deleted(changes, retyped), ...destroyed(changes)], [])
  step('ipvsadm', 'virtual servers by mark, once drained', givenUpCommands(changes), [])
  return { steps }
}

function changesOf(delta: Delta): Change[] {
  const changes: Change[] = []
  for (const { key, value } of delta.added) changes.push({ key, parsed: parseKey(key), from: undefined, to: value })
  for (const { key, from, to } of delta.changed) changes.push({ key, parsed: parseKey(key), from, to })
  for (const { key, value } of delta.removed) changes.push({ key, parsed: parseKey(key), from: value, to: undefined })
  return changes
}

function glueOf(changes: readonly Change[]): Delta {
  const added: KernelObject[] = []
  const changed: { key: string; from: string; to: string }[] = []
  const removed: KernelObject[] = []
  for (const { key, parsed, from, to } of changes) {
    if (parsed.kind !== 'glue') continue
    if (from === undefined) added.push({ key, value: to ?? '' })
    else if (to === undefined) removed.push({ key, value: from })
    else changed.push({ key, from, to })
  }
  return { added, changed, removed }
}

function* glueIn(program: Program): Iterable<KernelObject> {
  for (const [key, value] of program) if (isGlue(key)) yield { key, value }
}

function glueSteps(delta: Delta, limits: RestoreLimits): Step[] {
  if (delta.added.length + delta.changed.length + delta.removed.length === 0) return []
  const { steps } = planGlue(delta, { ...limits, refusalsFirst: false })
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
const isRefusing = ({ set }: SetCommand): boolean => /(?:RANGED|DROP)$/.test(set)
const refusingLast = (commands: readonly SetCommand[]): SetCommand[] => [
  ...commands.filter(command => !isRefusing(command)),
  ...commands.filter(isRefusing),
]
const refusingFirst = (commands: readonly SetCommand[]): SetCommand[] => [
  ...commands.filter(isRefusing),
  ...commands.filter(command => !isRefusing(command)),
]

const created = (changes: readonly Change[]): Command[] =>
  changes.flatMap(({ parsed, to }) =>
    parsed.kind === 'set' && to !== undefined ? [{ kind: 'create-set', set: parsed.name, type: to }] : [],
  )

function added(changes: readonly Change[]): Command[] {
  const fresh: SetCommand[] = []
  for (const { parsed, from, to } of changes) {
    if (parsed.kind !== 'member' || from !== undefined || to === undefined) continue
    fresh.push({ kind: 'add-member', set: parsed.set, element: parsed.element, value: to, replace: false })
  }
  return refusingLast(fresh)
}

const rewritten = (changes: readonly Change[]): Command[] =>
  changes.flatMap(({ parsed, from, to }) =>
    parsed.kind === 'member' && from !== undefined && to !== undefined
      ? [{ kind: 'add-member', set: parsed.set, element: parsed.element, value: to, replace: true }]
      : [],
  )

function deleted(changes: readonly Change[], retyped: ReadonlySet<string>): Command[] {
  const gone = new Set(
    changes.flatMap(({ parsed, to }) => (parsed.kind === 'set' && to === undefined ? [parsed.name] : [])),
  )
  const commands: SetCommand[] = []
  for (const { parsed, to } of changes) {
    if (parsed.kind !== 'member' || to !== undefined || gone.has(parsed.set) || retyped.has(parsed.set)) continue
    commands.push({ kind: 'delete-member', set: parsed.set, element: parsed.element })
  }
  return refusingFirst(commands)
}

const destroyed = (changes: readonly Change[]): Command[] =>
  changes.flatMap(({ parsed, to }) =>
    parsed.kind === 'set' && to === undefined ? [{ kind: 'destroy-set', set: parsed.name }] : [],
  )

function serverCommands(changes: readonly Change[]): Command[] {
  const filled: Command[] = []
  const drained: Command[] = []
  const gone: Command[] = []
  for (const { parsed, from, to } of changes) {
    if (parsed.kind !== 'virtual') continue
    const { server } = parsed
    if (to !== undefined) changeServer(server, from, to, filled, drained)
    else if (addressOf(server) !== undefined) gone.push({ kind: 'delete-server', server })
  }
  return [...filled, ...drained, ...gone]
}

/** No packet is sent to them any more. Connections live in them: they go when these have ended (`drain.ts`). */
function givenUpCommands(changes: readonly Change[]): Command[] {
  return changes.flatMap(({ parsed, from, to }) => {
    if (parsed.kind !== 'virtual' || to !== undefined || addressOf(parsed.server) !== undefined) return []
    const { server } = parsed
    const drained = parseServerValue(from ?? '').real.map(line => drain(server, realOf(line)))
    return [...drained, { kind: 'delete-server', server }]
  })
}

const drain = (server: VirtualServer, real: string): Command => ({ kind: 'edit-real', server, real, weight: 0 })

function changeServer(
  server: VirtualServer,
  from: string | undefined,
  to: string,
  filled: Command[],
  drained: Command[],
): void {
  const wanted = parseServerValue(to)
  if (from === undefined) {
    filled.push({ kind: 'add-server', server, options: wanted.options })
    for (const line of wanted.real) filled.push({ kind: 'add-real', server, real: realOf(line), weight: 1 })
    return
  }
  const held = parseServerValue(from)
  if (held.options !== wanted.options) filled.push({ kind: 'edit-server', server, options: wanted.options })
  const before = new Set(held.real.map(realOf))
  const unchanged = new Set(held.real)
  const after = new Set(wanted.real.map(realOf))
  for (const line of wanted.real) {
    if (unchanged.has(line)) continue
    const real = realOf(line)
    filled.push({ kind: before.has(real) ? 'edit-real' : 'add-real', server, real, weight: 1 })
  }
  // It keeps its connections and gets no new ones; it is deleted once it has none (`drain.ts`).
  for (const real of before) if (!after.has(real)) drained.push(drain(server, real))
}

const realOf = (line: string): string => line.split(' ', 1)[0] ?? ''

function deviceCommands(changes: readonly Change[]): Command[] {
  return changes.flatMap(({ parsed, to }) =>
    parsed.kind === 'device' ? [{ kind: to === undefined ? 'delete-device' : 'add-device' }] : [],
  )
}

function addressCommands(changes: readonly Change[]): Command[] {
  return changes.flatMap(({ parsed, to }) => {
    const address = parsed.kind === 'address' ? parseIP(parsed.address) : undefined
    return address === undefined ? [] : [{ kind: to === undefined ? 'delete-address' : 'add-address', address }]
  })
}
