// Reading what iptables-save prints, back into objects: the inverse of `plan.ts`.
import { parseIP } from '../../net/ip.ts'
import type { KernelObject, Program } from '../backend.ts'
import { chainKey, jumpKey, type Table, tableOf } from './names.ts'

/** What is a backend's own in the tables: chains of one prefix, and the jumps to them. */
export interface Scope {
  /** Of all its chains and of no others; no other chain is ever written, flushed or deleted. */
  readonly prefix: string
  readonly tables: readonly Table[]
}

/** Reads a listing in parts, so that whoever hands them on can give others a turn in between. */
export interface SaveReader {
  /** The next part: whole lines. A table's header and its rules may come in different ones. */
  take(text: string): void
  /** What was ours in all that was taken. */
  readonly program: Program
}

/**
 * Our part of the tables, and nothing of others: our chains, and rules of other chains that jump to ours, told by a
 * comment that begins with `penstock `. Tables outside the scope are passed over.
 */
export function saveReader({ prefix, tables }: Scope): SaveReader {
  const program = new Map<string, string>()
  let table: Table | undefined
  const append = (key: string, rules: string): void => {
    const before = program.get(key)
    program.set(key, before === undefined || before === '' ? rules : `${before}\n${rules}`)
  }
  /** Takes the line of the text that begins at `at`, and with it all that follow of the same chain. Returns the end. */
  const takeRules = (text: string, at: number, of: Table): number => {
    const chain = text.slice(at + 3, text.indexOf(' ', at + 3))
    const head = `-A ${chain} `
    let end = lineEnd(text, at)
    while (text.startsWith(head, end + 1)) end = lineEnd(text, end + 1)
    append(chainKey(of, chain), compressed(text.slice(at + head.length, end).replaceAll(`\n${head}`, '\n')))
    return end
  }
  const takeForeignRule = (line: string, of: Table): void => {
    const [, from = '', rule = ''] = /^-A (\S+) (.*)$/.exec(line) ?? []
    // A rule of somebody else that goes to a chain of ours is theirs.
    const target = /--comment "penstock [^"]*" -j (\S+)$/.exec(rule)?.[1]
    // A second jump is one too many: it shows as a difference, and the plan deletes it.
    if (target?.startsWith(prefix) === true) append(jumpKey(of, from, target), compressed(rule))
  }
  const ownRule = `-A ${prefix}`
  const ownChain = `:${prefix}`
  return {
    program,
    take(text) {
      for (let at = 0; at < text.length; ) {
        let end = lineEnd(text, at)
        if (text.startsWith('*', at)) {
          const name = tableOf(text.slice(at + 1, end))
          table = name !== undefined && tables.includes(name) ? name : undefined
        } else if (table !== undefined) {
          if (text.startsWith(ownRule, at)) end = takeRules(text, at, table)
          else if (text.startsWith('-A ', at)) takeForeignRule(text.slice(at, end), table)
          else if (text.startsWith(ownChain, at))
            program.set(chainKey(table, text.slice(at + 1, text.indexOf(' ', at))), '')
        }
        at = end + 1
      }
    },
  }
}

/** What a `saveReader` finds in a listing. */
export function* parseSave(text: string, scope: Scope): Iterable<KernelObject> {
  const reader = saveReader(scope)
  reader.take(text)
  for (const [key, value] of reader.program) yield { key, value }
}

/** A text in parts of whole lines, each a little longer than `size` characters. */
export function* linesInParts(text: string, size: number): Iterable<string> {
  for (let at = 0; at < text.length; ) {
    const end = lineEnd(text, Math.min(at + size, text.length)) + 1
    yield text.slice(at, end)
    at = end
  }
}

/** Where the line ends that holds the character at `at`: its line feed, or the end of the text. */
function lineEnd(text: string, at: number): number {
  const end = text.indexOf('\n', at)
  return end < 0 ? text.length : end
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
