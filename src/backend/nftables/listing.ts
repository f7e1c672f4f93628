// Reading what `nft -n list table` prints, back into objects with our own spelling: the inverse of `plan.ts`.
import type { Family } from '../../net/ip.ts'
import type { KernelObject } from '../backend.ts'
import { chainKey, containers, elementKey, indexedKey, tableKey } from './names.ts'
import { parseRule, protocolOf } from './parse.ts'
import { ruleText } from './render.ts'

/** All objects of the table. What we would not have written keeps nft's spelling, and shows as a difference. */
export function* parseListing(text: string, family: Family): Iterable<KernelObject> {
  const lines = new Lines(text)
  for (let line = lines.next(); line !== undefined; line = lines.next()) {
    if (/^\tflags .*\bdormant\b/.test(line)) yield { key: tableKey, value: 'dormant' }
    const opened = /^\t(chain|set|map) (\S+) \{$/.exec(line)
    if (opened === null) continue
    const [, kind, name = ''] = opened
    if (kind === 'chain') yield chainOf(name, lines, family)
    else yield* containerOf(kind === 'map' ? 'map' : 'set', name, lines)
  }
}

/** What a listing says besides the members of dynamic sets, which come and go with the packets. In few pieces. */
export function* withoutDynamic(text: string): Iterable<string> {
  let start = 0
  for (let at = text.indexOf('\tflags dynamic'); at >= 0; at = text.indexOf('\tflags dynamic', at + 1)) {
    const end = text.indexOf('\n\t}', at)
    const members = text.indexOf('\t\telements = {', at)
    if (end < 0 || members < 0 || members > end) continue
    yield text.slice(start, members)
    start = end
  }
  yield text.slice(start)
}

/** Lines one by one, without holding them all. */
class Lines {
  readonly #text: string
  #start = 0

  constructor(text: string) {
    this.#text = text
  }

  next(): string | undefined {
    if (this.#start >= this.#text.length) return undefined
    const end = this.#text.indexOf('\n', this.#start)
    const stop = end < 0 ? this.#text.length : end
    const line = this.#text.slice(this.#start, stop)
    this.#start = stop + 1
    return line
  }

  /** Lines up to the end of the block, without their indentation. */
  *block(): Iterable<string> {
    for (let line = this.next(); line !== undefined && line !== '\t}'; line = this.next()) yield line.trim()
  }
}

function chainOf(name: string, lines: Lines, family: Family): KernelObject {
  const value = [...lines.block()].map(line => (line.startsWith('type ') ? hookLine(line) : ruleLine(line, family)))
  return { key: chainKey(name), value: value.join('\n') }
}

/** Some versions add the device or name the priority. */
function hookLine(line: string): string {
  return line.replace('priority dstnat;', 'priority -100;').replace('priority srcnat;', 'priority 100;')
}

function ruleLine(line: string, family: Family): string {
  try {
    return ruleText(parseRule(line, family), family)
  } catch {
    // Not a rule of ours.
    return line
  }
}

function* containerOf(kind: 'set' | 'map', name: string, lines: Lines): Iterable<KernelObject> {
  const declaration: string[] = []
  let elements: string[] | undefined
  for (const line of lines.block()) {
    if (elements !== undefined) elements.push(line)
    else if (line.startsWith('elements = {')) elements = [line.slice('elements = {'.length)]
    else if (line !== '') declaration.push(`${declarationPart(line)};`)
  }
  yield { key: `${kind} ${name}`, value: declaration.join(' ') }
  // The kernel's own entries come and go by themselves.
  if (elements === undefined || declaration.some(part => part.startsWith('flags ') && part.includes('dynamic'))) return
  const all = elements
    .join(' ')
    .replace(/\}\s*$/, '')
    .split(',')
    .map(text => elementOf(name, text.trim()))
  if (declaration.some(part => part.includes('numgen'))) yield* indexedOf(name, all)
  else for (const { key, data } of all) yield { key: elementKey(name, key), value: data }
}

interface ListedElement {
  readonly key: string
  /** What follows the key. */
  readonly data: string
}

/** No set of ours has as many elements; a greater index was made by somebody else. */
export const greatestIndex = 1_000

/** Elements whose keys end in an index, put together. */
function* indexedOf(container: string, elements: readonly ListedElement[]): Iterable<KernelObject> {
  const byKey = new Map<string, string[]>()
  for (const { key, data } of elements) {
    const end = key.lastIndexOf(' . ')
    const base = key.slice(0, end)
    const index = Number(key.slice(end + 3))
    if (!(index <= greatestIndex)) {
      yield { key: elementKey(container, key), value: data }
      continue
    }
    const list = byKey.get(base) ?? []
    byKey.set(base, list)
    list[index] = data.replace(/^: /, '')
  }
  for (const [base, list] of byKey) {
    yield { key: indexedKey(container, base), value: Array.from(list, data => data ?? '').join('\n') }
  }
}

function declarationPart(line: string): string {
  if (line.startsWith('timeout ')) return `timeout ${secondsOf(line.slice('timeout '.length))}s`
  return line.replace(/\b(?:tcp|udp|sctp) dport\b/g, 'th dport').replace(/;$/, '')
}

/** `93784s`, or `1d2h3m4s`. */
function secondsOf(text: string): number {
  const units: Readonly<Record<string, number>> = { d: 86_400, h: 3_600, m: 60, s: 1 }
  let seconds = 0
  for (const [, count, unit = ''] of text.matchAll(/(\d+)([dhms])(?!s)/g)) seconds += Number(count) * (units[unit] ?? 0)
  return seconds
}

function elementOf(container: string, text: string): ListedElement {
  const end = text.search(/ comment | : /)
  const key = end < 0 ? text : text.slice(0, end)
  return { key: container === containers.octets ? key : protocolNames(key), data: end < 0 ? '' : text.slice(end + 1) }
}

/** Protocols are listed as numbers where that is asked for, or where the names are not known. */
function protocolNames(key: string): string {
  const parts = key.split(' . ')
  return parts.length < 2
    ? key
    : parts.map((part, i) => (i <= 1 ? (protocolOf(part)?.toLowerCase() ?? part) : part)).join(' . ')
}
