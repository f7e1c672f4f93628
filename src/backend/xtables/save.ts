// Reading what iptables-save prints, back into objects: the inverse of `plan.ts`.
import { parseIP } from '../../net/ip.ts'
import type { KernelObject } from '../backend.ts'
import { chainKey, jumpKey, type Table, tableOf } from './names.ts'

/** What is a backend's own in the tables: chains of one prefix, and the jumps to them. */
export interface Scope {
  /** Of all its chains and of no others; no other chain is ever written, flushed or deleted. */
  readonly prefix: string
  readonly tables: readonly Table[]
}

/**
 * Our part of the tables, and nothing of others: our chains, and rules of other chains that jump to ours, told by a
 * comment that begins with `penstock `. Tables outside the scope are passed over.
 */
export function* parseSave(text: string, scope: Scope): Iterable<KernelObject> {
  let table: Table | undefined
  const bodies = new Map<string, string[]>()
  const jumps = new Map<string, string[]>()
  for (const line of lines(text)) {
    if (line.startsWith('*')) {
      const name = tableOf(line.slice(1))
      table = name !== undefined && scope.tables.includes(name) ? name : undefined
      continue
    }
    if (table === undefined) continue
    if (line.startsWith(`:${scope.prefix}`)) {
      bodies.set(chainKey(table, line.slice(1, line.indexOf(' '))), [])
    } else if (line.startsWith('-A ')) {
      const space = line.indexOf(' ', 3)
      const chain = line.slice(3, space)
      const rule = compressed(line.slice(space + 1))
      if (chain.startsWith(scope.prefix)) {
        const key = chainKey(table, chain)
        const body = bodies.get(key)
        if (body === undefined) bodies.set(key, [rule])
        else body.push(rule)
      } else {
        // A rule of somebody else that goes to a chain of ours is theirs.
        const target = /--comment "penstock [^"]*" -j (\S+)$/.exec(rule)?.[1]
        if (target?.startsWith(scope.prefix) !== true) continue
        const key = jumpKey(table, chain, target)
        const body = jumps.get(key)
        if (body === undefined) jumps.set(key, [rule])
        // A second jump is one too many: it shows as a difference, and the plan deletes it.
        else body.push(rule)
      }
    }
  }
  for (const [key, body] of bodies) yield { key, value: body.join('\n') }
  for (const [key, body] of jumps) yield { key, value: body.join('\n') }
}

/** The lines of a table that say something of ours, in as few pieces as they come in. No line is taken apart. */
export function* ownParts(text: string, prefix: string): Iterable<string> {
  const declared = `:${prefix}`
  const appended = `-A ${prefix}`
  const jump = ` -j ${prefix}`
  let start = -1
  for (let at = 0; at < text.length; ) {
    const end = text.indexOf('\n', at)
    const next = end < 0 ? text.length : end + 1
    const isOwn = text.startsWith(appended, at) || text.startsWith(declared, at) || text.slice(at, next).includes(jump)
    if (isOwn && start < 0) start = at
    if (!isOwn && start >= 0) {
      yield text.slice(start, at)
      start = -1
    }
    at = next
  }
  if (start >= 0) yield text.slice(start)
}

/** glibc prints addresses of ::/96 with an IPv4 tail, `::0.1.0.2`; RFC 5952 and our rules say `::1:2`. */
const compressed = (rule: string): string =>
  rule.includes('::') ? rule.replace(/::\d+\.\d+\.\d+\.\d+/g, text => parseIP(text) ?? text) : rule

function* lines(text: string): Iterable<string> {
  let start = 0
  while (start < text.length) {
    const end = text.indexOf('\n', start)
    const stop = end < 0 ? text.length : end
    const line = text.slice(start, stop)
    start = stop + 1
    if (line !== '' && !line.startsWith('#')) yield line
  }
}
