// The command line, by Go's conventions, to a subcommand, its options and the fields it sets.
import type { FieldType } from './field-types.ts'
import { type FieldPath, fields, Settings } from './fields.ts'
import {
  type Command,
  commands,
  type Flag,
  flagNamed,
  flagOfLetter,
  flags,
  isCommand,
  type OptionName,
  type OptionValues,
  optionTypes,
  placeholderOf,
  spelling,
} from './flag-table.ts'
import { nearest } from './nearest.ts'
import { UsageError } from './types.ts'
import { describe } from './yaml.ts'

type Mutable<T> = { -readonly [K in keyof T]?: T[K] }

export interface CommandLine {
  /** What to do: `--help`, `--version` and `--cleanup` are subcommands too. */
  readonly command: Command
  /** For `help`: which subcommand to explain; absent: the program. */
  readonly topic?: Command
  /** The options that were given. */
  readonly options: Readonly<Partial<OptionValues>>
  /** The fields that flags set. */
  readonly settings: Settings
  /** The flags that were given and the text each had last, in the order of their first appearance. */
  readonly given: ReadonlyMap<Flag, string>
}

interface Parsing {
  readonly options: Mutable<OptionValues>
  readonly settings: Settings
  readonly given: Map<Flag, string>
  readonly problems: string[]
  readonly words: string[]
}

/**
 * Parses the arguments after the program's name. `--flag=value` and `--flag value`; switches stand alone or take
 * `=false`; single dashes only before -v, -o and -h; a flag given again replaces what it said, or adds to it if it is a
 * list. Without a subcommand it is kube-proxy's own command line: `run`.
 * @throws UsageError naming every problem.
 */
export function parseCommandLine(argv: readonly string[]): CommandLine {
  const [first, ...others] = argv
  const named = first !== undefined && !first.startsWith('-')
  const parsing: Parsing = { options: {}, settings: new Settings(), given: new Map(), problems: [], words: [] }
  const word = named ? first : 'run'
  if (named && !isCommand(word)) throw new UsageError([unknownCommand(word)])
  const command = isCommand(word) ? word : 'run'
  parseFlags(named ? others : argv, parsing)
  const { options, settings, given, problems } = parsing
  const rest = { options, settings, given }
  if (options.help === true && command !== 'help') {
    return named ? { command: 'help', topic: command, ...rest } : { command: 'help', ...rest }
  }
  if (command === 'help') return { ...helpFor(parsing), ...rest }
  if (options.version === 'plain' || options.version === 'raw') return { command: 'version', ...rest }
  for (const extra of parsing.words) problems.push(`unexpected argument ${describe(extra)}: flags only`)
  for (const flag of given.keys()) {
    if (flag.commands?.includes(command) === false) {
      problems.push(`${spelling(flag)}: a flag of ${flag.commands.join(', ')}, not of ${command}`)
    }
  }
  if (command === 'trace') problems.push(...tracing(options))
  if (problems.length > 0) throw new UsageError(problems)
  return { command: options.cleanup === true ? 'cleanup' : command, ...rest }
}

function parseFlags(argv: readonly string[], parsing: Parsing): void {
  for (let index = 0; index < argv.length; index++) {
    const argument = argv[index] ?? ''
    if (argument === '--') {
      parsing.words.push(...argv.slice(index + 1))
      return
    }
    if (!argument.startsWith('-') || argument === '-') {
      parsing.words.push(argument)
      continue
    }
    const { flag, name, value } = split(argument)
    if (flag === undefined) {
      parsing.problems.push(unknownFlag(name))
      // What follows is most likely its value: one mistake, one problem.
      if (value === undefined && argv[index + 1]?.startsWith('-') === false) index++
      continue
    }
    if (value !== undefined) accept(flag, value, parsing)
    else if (placeholderOf(flag) === undefined) accept(flag, 'true', parsing)
    else {
      const next = argv[++index]
      if (next === undefined) parsing.problems.push(`${spelling(flag)}: needs a value, ${placeholderOf(flag)}`)
      else accept(flag, next, parsing)
    }
  }
}

function split(argument: string): { flag: Flag | undefined; name: string; value?: string } {
  const equals = argument.indexOf('=')
  const name = equals < 0 ? argument : argument.slice(0, equals)
  const value = equals < 0 ? {} : { value: argument.slice(equals + 1) }
  if (argument.startsWith('--')) return { flag: flagNamed(name.slice(2)), name, ...value }
  // `-v=2`, `-v 2` and `-v2`.
  const flag = flagOfLetter(argument[1] ?? '')
  if (name.length <= 2) return { flag, name, ...value }
  const joined = flag !== undefined && placeholderOf(flag) !== undefined && !isMisspeltFlag(name)
  return joined ? { flag, name, value: argument.slice(2) } : { flag: undefined, name, ...value }
}

/** `-vmodule=…` is a long flag with a dash too few, not -v with the value `module=…`. */
const isMisspeltFlag = (name: string): boolean => flagNamed(name.slice(1)) !== undefined

function accept(flag: Flag, value: string, parsing: Parsing): void {
  parsing.given.set(flag, value)
  if ('field' in flag) acceptField(flag, flag.field, value, parsing)
  else acceptOption(flag, flag.option, value, parsing)
}

function acceptField<P extends FieldPath>(flag: Flag, path: P, value: string, parsing: Parsing): void {
  const parsed = parse(fields[path].type, flag, value, parsing.settings.get(path), parsing.problems)
  if (parsed !== undefined) parsing.settings.set(path, parsed, spelling(flag))
}

function acceptOption<N extends OptionName>(flag: Flag, name: N, value: string, parsing: Parsing): void {
  const parsed = parse<OptionValues[N]>(optionTypes[name], flag, value, parsing.options[name], parsing.problems)
  if (parsed !== undefined) parsing.options[name] = parsed
}

function parse<T>(
  type: FieldType<T>,
  flag: Flag,
  value: string,
  before: T | undefined,
  problems: string[],
): T | undefined {
  const parsed = type.parse(value)
  if (parsed === undefined) {
    problems.push(`${spelling(flag)}: expected ${type.expected}, found ${describe(value)}`)
    return undefined
  }
  return before === undefined || type.merge === undefined ? parsed : type.merge(before, parsed)
}

function helpFor({ words }: Parsing): { command: 'help'; topic?: Command } {
  const [word] = words
  if (word === undefined) return { command: 'help' }
  if (!isCommand(word)) throw new UsageError([unknownCommand(word)])
  return { command: 'help', topic: word }
}

function tracing(options: Readonly<Partial<OptionValues>>): string[] {
  const single = (['src', 'dst', 'port'] as const).filter(name => options[name] === undefined)
  if (options.packets !== undefined) {
    const both = single.length < 3 || options.protocol !== undefined
    return both ? ['--packets: takes the place of --src, --dst, --port and --protocol; give one or the other'] : []
  }
  return single.length === 0
    ? []
    : [`trace needs ${single.map(name => `--${name}`).join(', ')}, or --packets with a file of packets`]
}

function unknownCommand(word: string): string {
  const close = nearest(word, Object.keys(commands))
  const hint = close === undefined ? `they are ${Object.keys(commands).join(', ')}` : `did you mean ${close}?`
  return `${describe(word)}: unknown subcommand; ${hint}`
}

function unknownFlag(name: string): string {
  const close = nearest(
    name.replace(/^-+/, '').replaceAll('_', '-'),
    flags.map(flag => flag.name),
  )
  const flag = close === undefined ? undefined : flagNamed(close)
  return flag === undefined ? `${name}: unknown flag` : `${name}: unknown flag; did you mean ${spelling(flag)}?`
}
