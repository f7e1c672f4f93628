// What the daemon says of itself at /debug/status, and how `penstock status` prints it. Pure.
import type { Family } from '../net/ip.ts'

/** One address family. */
export interface FamilyStatus {
  readonly family: Family
  /** When the last successful sync ended, RFC 3339; null before the first. */
  readonly lastSync: string | null
  /** Syncs that failed one after another since. */
  readonly failures: number
  /** The last failure, kind and words; null once a sync succeeded. */
  readonly lastError: string | null
  /** Services that changed and are not in the kernel yet. */
  readonly dirty: number
  /** Services that have something to do here. */
  readonly services: number
  /** Objects that the kernel should hold. */
  readonly kernelObjects: number
  /** Times somebody else changed our rules and they were put back. */
  readonly drift: number
  /** Service ports that the kernel refuses. */
  readonly setAside: readonly { readonly servicePort: string; readonly reason: string }[]
  /** Frontends that an older Service holds. */
  readonly conflicts: readonly { readonly service: string; readonly frontend: string; readonly holder: string }[]
}

/** One kind of object that is watched. */
export interface WatchStatus {
  readonly kind: string
  /** `watching`, `listing`, `waiting` and so on; why, where there is something to say. */
  readonly state: string
  /** When the server last sent anything, RFC 3339; null when it never did. */
  readonly lastEvent: string | null
}

/** The whole answer. Times are RFC 3339. */
export interface DaemonStatus {
  readonly version: string
  readonly mode: string
  readonly startedAt: string
  /** The daemon's clock when it answered: ages are counted against it. */
  readonly now: string
  readonly node: {
    readonly name: string
    /** False while the node is going: `healthz` answers 503 then. Null while the Node object is not known. */
    readonly eligible: boolean | null
    readonly addresses: readonly string[]
    readonly podCIDRs: readonly string[]
  }
  readonly families: readonly FamilyStatus[]
  readonly watches: readonly WatchStatus[]
  /** Anything else that keeps the node from being programmed, a sentence each. */
  readonly problems: readonly string[]
}

/** What came of asking a daemon. The sentence says what to do. */
export type DaemonAnswer =
  | { readonly kind: 'status'; readonly status: DaemonStatus }
  /** Nothing listens there. */
  | { readonly kind: 'silent'; readonly why: string }
  /** Something else listens there, or what it says cannot be understood. */
  | { readonly kind: 'other'; readonly why: string }

const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
const isText = (value: unknown): boolean => typeof value === 'string'
const isTime = (value: unknown): boolean => value === null || typeof value === 'string'
const isCount = (value: unknown): boolean => typeof value === 'number'
const isTexts = (value: unknown): boolean => Array.isArray(value) && value.every(isText)

const isFamily = (value: unknown): boolean =>
  isRecord(value) &&
  isText(value.family) &&
  isTime(value.lastSync) &&
  isTime(value.lastError) &&
  [value.failures, value.dirty, value.services, value.kernelObjects, value.drift].every(isCount) &&
  Array.isArray(value.setAside) &&
  value.setAside.every(item => isRecord(item) && isText(item.servicePort) && isText(item.reason)) &&
  Array.isArray(value.conflicts) &&
  value.conflicts.every(item => isRecord(item) && [item.service, item.frontend, item.holder].every(isText))

const isWatch = (value: unknown): boolean =>
  isRecord(value) && isText(value.kind) && isText(value.state) && isTime(value.lastEvent)

/** True if it can be printed: a daemon of another version may know more, and must not know less. */
export const isDaemonStatus = (value: unknown): value is DaemonStatus =>
  isRecord(value) &&
  [value.version, value.mode, value.startedAt, value.now].every(isText) &&
  isRecord(value.node) &&
  isText(value.node.name) &&
  (value.node.eligible === null || typeof value.node.eligible === 'boolean') &&
  isTexts(value.node.addresses) &&
  isTexts(value.node.podCIDRs) &&
  Array.isArray(value.families) &&
  value.families.every(isFamily) &&
  Array.isArray(value.watches) &&
  value.watches.every(isWatch) &&
  isTexts(value.problems)

/** Time between two RFC 3339 times for people, as `3 s`, `5 min` or `2 d`; `unknown` where one cannot be read. */
export function ageText(from: string, to: string): string {
  const seconds = Math.max(0, Math.round((Date.parse(to) - Date.parse(from)) / 1000))
  if (!Number.isFinite(seconds)) return 'unknown'
  if (seconds < 120) return `${seconds} s`
  if (seconds < 7200) return `${Math.floor(seconds / 60)} min`
  if (seconds < 172_800) return `${Math.floor(seconds / 3600)} h`
  return `${Math.floor(seconds / 86_400)} d`
}

/** What a person reads. Most important first: is it programmed, and if not why. */
export function statusText(status: DaemonStatus): string {
  const { node, now } = status
  const failing = status.families.filter(({ failures, lastSync }) => failures > 0 || lastSync === null)
  const verdict =
    failing.length + status.problems.length === 0
      ? 'the kernel holds what the cluster asks for'
      : 'the kernel may not hold what the cluster asks for'
  const standing = node.eligible === null ? 'not known to the API yet' : node.eligible ? 'in service' : 'being removed'
  const lines = [
    `penstock ${status.version}, mode ${status.mode}, up for ${ageText(status.startedAt, now)}: ${verdict}`,
    `node ${node.name}, ${standing}; addresses ${list(node.addresses)}; pods ${list(node.podCIDRs)}`,
    ...status.problems.map(problem => `! ${problem}`),
  ]
  for (const family of status.families) lines.push('', ...familyLines(family, now))
  if (status.watches.length > 0) lines.push('')
  const width = Math.max(...status.watches.map(({ kind }) => kind.length))
  for (const { kind, state, lastEvent } of status.watches) {
    const age = lastEvent === null ? 'nothing received yet' : `last heard of ${ageText(lastEvent, now)} ago`
    lines.push(`${kind.padEnd(width)}  ${state}, ${age}`)
  }
  return `${lines.join('\n')}\n`
}

const list = (items: readonly string[]): string => (items.length === 0 ? 'none' : items.join(', '))

function familyLines(family: FamilyStatus, now: string): string[] {
  const { lastSync, failures, lastError } = family
  const synced = lastSync === null ? 'never synced' : `synced ${ageText(lastSync, now)} ago`
  const lines = [
    `${family.family}: ${synced}; ${family.services} Services, ${family.kernelObjects} kernel objects, ` +
      `${family.dirty} Services waiting, drift repaired ${family.drift} times`,
  ]
  if (failures > 0) lines.push(`  ! ${failures} syncs failed since: ${lastError ?? 'no reason given'}`)
  for (const { servicePort, reason } of family.setAside) {
    lines.push(`  ! ${servicePort} is not programmed, the kernel refuses it: ${reason}`)
  }
  for (const { service, frontend, holder } of family.conflicts) {
    lines.push(`  ! ${service} does not get ${frontend}: ${holder} is older and has it`)
  }
  return lines
}
