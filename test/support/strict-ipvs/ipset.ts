// The program ipset: lines of `ipset restore` into what the kernel is asked for, in its messages and its order.
import type { ToolResult } from '../strict-iptables/strict-iptables.ts'
import { type Extras, type ReadElement, readElement, SyntaxProblem } from './elements.ts'
import { SetRefused, type SetSpec, type Sets, setTypes } from './sets.ts'
import type { StepGuard } from './steps.ts'

/** A word is missing or too many: exit code 2. */
class UsageProblem extends Error {}

/** The kernel refuses an element that was read some lines ago. */
class RefusedAt extends Error {
  readonly line: number
  constructor(line: number, message: string) {
    super(message)
    this.line = line
  }
}

interface Pending {
  readonly verb: 'add' | 'del'
  readonly set: string
  /** Whether `-exist` was said before the first of them: it holds for all, and for no more. */
  readonly exist: boolean
  readonly items: { readonly line: number; readonly read: ReadElement }[]
  bytes: number
}

/** The most a message to the kernel holds: a page. */
const messageBytes = 4096

/**
 * As `ipset restore` does it: stops at the first line that fails, what came before it stays. But elements
 * of one set travel to the kernel together: a line that ipset does not understand takes those with it that still wait.
 */
export function restoreSets(input: string, sets: Sets, guard: StepGuard): ToolResult {
  const run = new Restore(sets, guard)
  const lines = input.split('\n')
  if (lines.at(-1) === '') lines.pop()
  let at = 0
  try {
    for (const text of lines) {
      at++
      run.line(at, text.trim())
    }
    run.send()
    return { exitCode: 0, stdout: '', stderr: '' }
  } catch (error) {
    return describe(error, at)
  }
}

/** `ipset save [NAME]`. */
export function saveSets(sets: Sets, name: string | undefined): ToolResult {
  try {
    return { exitCode: 0, stdout: sets.save(name), stderr: '' }
  } catch (error) {
    return describe(error, undefined)
  }
}

/** What ipset says to arguments that are not known here. */
export const unknownCommand = (word: string): ToolResult =>
  describe(new UsageProblem(`No command specified: unknown argument ${word}`), undefined)

function describe(error: unknown, line: number | undefined): ToolResult {
  const failed = (exitCode: number, text: string): ToolResult => ({
    exitCode,
    stdout: '',
    stderr: `ipset v7.17: ${text}\n`,
  })
  if (error instanceof UsageProblem) return failed(2, `${error.message}\nTry \`ipset help' for more information.`)
  if (error instanceof SyntaxProblem && error.bare) return failed(1, error.message)
  if (error instanceof RefusedAt) return failed(1, `Error in line ${error.line}: ${error.message}`)
  if (error instanceof SyntaxProblem || error instanceof SetRefused)
    return failed(1, `${line === undefined ? '' : `Error in line ${line}: `}${error.message}`)
  throw error
}

class Restore {
  readonly #sets: Sets
  readonly #guard: StepGuard
  #pending: Pending | undefined
  /** `-exist` on one line holds for all that follow. */
  #exist = false

  constructor(sets: Sets, guard: StepGuard) {
    this.#sets = sets
    this.#guard = guard
  }

  line(line: number, text: string): void {
    if (text === '' || text.startsWith('#')) return
    if (text === 'COMMIT') {
      this.send()
      return
    }
    const words = wordsOf(text)
    if (words.includes('-exist')) this.#exist = true
    const [verb = '', ...rest] = words.filter(word => word !== '-exist')
    switch (verb) {
      case 'add':
      case 'del':
        this.#element(line, verb, rest)
        return
      case 'create':
        this.#create(line, rest)
        return
      case 'flush':
      case 'destroy': {
        const [name, spare] = rest
        if (name !== undefined) checkName(name)
        if (spare !== undefined) throw new UsageProblem(`Unknown argument ${spare}`)
        this.send()
        this.#kernel(line, () => (verb === 'flush' ? this.#sets.flush(name) : this.#sets.destroy(name, this.#exist)))
        return
      }
      default:
        throw new UsageProblem(`No command specified: unknown argument ${verb}`)
    }
  }

  /** Hands the kernel what waits. */
  send(): void {
    const pending = this.#pending
    this.#pending = undefined
    if (pending === undefined) return
    const { verb, set, items, exist } = pending
    for (const { line, read } of items) {
      this.#kernel(line, () =>
        verb === 'add' ? this.#sets.add(set, read.element, exist) : this.#sets.remove(set, read.element, exist),
      )
    }
  }

  #element(line: number, verb: 'add' | 'del', words: readonly string[]): void {
    const [name, text, ...options] = words
    needTwo(verb, name, text)
    checkName(name ?? '')
    const spec = this.#sets.get(name ?? '')
    if (spec === undefined) throw new SetRefused('The set with the given name does not exist')
    // The element is read before its options are looked at.
    readElement(text ?? '', spec, {})
    const read = readElement(text ?? '', spec, extrasOf(options, verb))
    if (this.#pending?.verb !== verb || this.#pending.set !== name) this.send()
    if (this.#pending !== undefined && this.#pending.bytes + read.room > messageBytes) this.send()
    this.#pending ??= {
      verb,
      set: spec.name,
      exist: this.#exist,
      items: [],
      bytes: 40 + 4 * Math.ceil((spec.name.length + 5) / 4),
    }
    this.#pending.items.push({ line, read })
    this.#pending.bytes += read.bytes
  }

  #create(line: number, words: readonly string[]): void {
    const [name, type, ...options] = words
    needTwo('create', name, type)
    checkName(name ?? '')
    const known = setTypes.find(one => one === type)
    if (known === undefined) throw new SyntaxProblem(`Syntax error: typename '${type}' is unknown`)
    const spec = readSpec(name ?? '', known, options)
    this.send()
    this.#kernel(line, () => this.#sets.create(spec, this.#exist))
  }

  #kernel(line: number, step: () => void): void {
    try {
      this.#guard(step)
    } catch (error) {
      throw error instanceof SetRefused ? new RefusedAt(line, error.message) : error
    }
  }
}

function needTwo(verb: string, first: string | undefined, second: string | undefined): void {
  if (first === undefined) throw new UsageProblem(`Missing mandatory argument to command ${verb}`)
  if (second === undefined) throw new UsageProblem(`Missing second mandatory argument to command ${verb}`)
}

/** IPSET_MAXNAMELEN is 32 with the end of the text. */
export const longestSetName = 31

function checkName(name: string): void {
  if (name.length > longestSetName)
    throw new SyntaxProblem(`Syntax error: setname '${name}' is longer than ${longestSetName} characters`)
}

/** Blanks separate words but inside quotes; a word whose quotes are not closed, or with nothing in it, is none. */
function wordsOf(text: string): string[] {
  const words: string[] = []
  let word = ''
  let isQuoted = false
  for (const character of `${text} `) {
    if (character === '"') isQuoted = !isQuoted
    else if (isQuoted || (character !== ' ' && character !== '\t')) word += character
    else {
      if (word !== '') words.push(word)
      word = ''
    }
  }
  return words
}

function extrasOf(options: readonly string[], verb: 'add' | 'del'): Extras {
  const extras: { mark?: string; comment?: string } = {}
  for (let at = 0; at < options.length; at += 2) {
    const [word = '', value] = options.slice(at, at + 2)
    if ((word !== 'skbmark' && word !== 'comment') || verb === 'del')
      throw new UsageProblem(`Unknown argument: \`${word}'`)
    if (value === undefined) throw new UsageProblem(`Missing mandatory argument of option \`${word}'`)
    const name = word === 'skbmark' ? 'mark' : 'comment'
    if (extras[name] !== undefined) throw new SyntaxProblem(`Syntax error: ${word} already specified`)
    extras[name] = value
  }
  return extras
}

/** The options of `create`; those that only a listing names, bucketsize and initval, are read and forgotten. */
function readSpec(name: string, type: SetSpec['type'], options: readonly string[]): SetSpec {
  const isBitmap = type === 'bitmap:port'
  const withValue = isBitmap ? ['range'] : ['family', 'hashsize', 'maxelem', 'bucketsize', 'initval']
  const values = new Map<string, string>()
  let skbinfo = false
  let comment = false
  for (let index = 0; index < options.length; index++) {
    const word = options[index] ?? ''
    if (word === 'skbinfo') skbinfo = true
    else if (word === 'comment') comment = true
    else if (withValue.includes(word)) {
      const value = options[++index]
      if (value === undefined) throw new UsageProblem(`Missing mandatory argument of option \`${word}'`)
      values.set(word, value)
    } else throw new UsageProblem(`Unknown argument: \`${word}'`)
  }
  if (isBitmap) return { name, type, skbinfo, comment, maxelem: 0, hashsize: 0, range: readRange(values.get('range')) }
  const family = values.get('family') ?? 'inet'
  if (family !== 'inet' && family !== 'inet6') throw new SyntaxProblem(`Syntax error: unknown inet family ${family}`)
  const buckets = readNumber(values.get('hashsize') ?? '1024')
  return {
    name,
    type,
    family: family === 'inet' ? 'IPv4' : 'IPv6',
    skbinfo,
    comment,
    maxelem: readNumber(values.get('maxelem') ?? '65536'),
    hashsize: Math.max(64, 2 ** Math.ceil(Math.log2(Math.max(1, buckets)))),
    range: [0, 0],
  }
}

function readNumber(text: string): number {
  const number = /^-?\d+$/.test(text) ? Number(text) : Number.NaN
  if (Number.isNaN(number)) throw new SyntaxProblem(`Syntax error: '${text}' is invalid as number`)
  if (number < 0 || number > 0xffffffff) throw new SyntaxProblem(`Syntax error: '${text}' is out of range 0-4294967295`)
  return number
}

function readRange(text: string | undefined): readonly [number, number] {
  if (text === undefined) throw new UsageProblem("Mandatory option `range' is missing")
  const [first, last] = text.split('-').map(Number)
  if (first === undefined || last === undefined || !(first >= 0 && first <= last && last <= 65535 && last > 0))
    throw new SyntaxProblem(`Syntax error: the range ${text} is not FROM-TO, two ports, the first not above the last`)
  return [first, last]
}
