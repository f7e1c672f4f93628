// The kinds of value a field or flag can hold: how each is read from a document, parsed from a flag, and written.
import { type CIDR, familyOf, formatAddressPort, formatCIDR, type IP, parseCIDR, parseIP } from '../net/ip.ts'
import { formatDuration, millisecondsOf, parseDuration } from './duration.ts'
import { type ListenAddress, type LogOutput, type NodePortAddress, nodePortKeywords, type VModule } from './types.ts'
import { describe, Mapping } from './yaml.ts'

/** Takes note of a problem at a path. */
export type Report = (path: string, problem: string) => void

export interface FieldType<T> {
  /** What is right, for "expected …". */
  readonly expected: string
  /** What stands for the value in help: `DURATION`. A flag without one is a switch. */
  readonly placeholder?: string
  /** The value at a node of a document; undefined, and reported, if it is not one. */
  readonly read: (node: unknown, path: string, report: Report) => T | undefined
  /** The value of a flag; undefined if it is not one. */
  readonly parse: (text: string) => T | undefined
  /** The value as a document has it. */
  readonly write: (value: T) => unknown
  /** True of a node that v1alpha1 cannot tell from an absent one. */
  readonly isZero: (node: unknown) => boolean
  /** How a flag given again adds to what was given before; without it the last one stands. */
  readonly merge?: (before: T, after: T) => T
}

/** A path one step further down. */
export const under = (path: string, key: string): string => (path === '' ? key : `${path}.${key}`)

const wrong = (expected: string, node: unknown): string => `expected ${expected}, found ${describe(node)}`

/** A value that a document holds as a string. */
export function textType<T>(
  expected: string,
  placeholder: string,
  parse: (text: string) => T | undefined,
  write: (value: T) => unknown,
): FieldType<T> {
  return {
    expected,
    placeholder,
    parse,
    write,
    isZero: node => node === '',
    read(node, path, report) {
      const value = typeof node === 'string' ? parse(node) : undefined
      if (value === undefined) report(path, wrong(expected, node))
      return value
    },
  }
}

/** Any text. */
export const text = (placeholder = 'TEXT', expected = 'a string'): FieldType<string> =>
  textType(
    expected,
    placeholder,
    value => value,
    value => value,
  )

/** One of a few words; in a flag, an empty word stands for the first of them. */
export function oneOf<const W extends string>(words: readonly W[], placeholder = words.join('|')): FieldType<W> {
  const expected = words.length === 1 ? `"${words[0]}"` : `${words.slice(0, -1).join(', ')} or ${words.at(-1)}`
  const parse = (value: string) => (value === '' ? words[0] : words.find(word => word === value))
  return textType(expected, placeholder, parse, word => word)
}

const switchWords: Readonly<Record<string, boolean>> = {
  ...Object.fromEntries(['1', 't', 'T', 'true', 'True', 'TRUE'].map(word => [word, true])),
  ...Object.fromEntries(['0', 'f', 'F', 'false', 'False', 'FALSE'].map(word => [word, false])),
}

/** True or false; flags take the words Go's ParseBool takes. */
export const bool: FieldType<boolean> = {
  expected: 'true or false',
  parse: value => (Object.hasOwn(switchWords, value) ? switchWords[value] : undefined),
  write: value => value,
  isZero: node => node === false,
  read(node, path, report) {
    if (typeof node === 'boolean') return node
    report(path, wrong('true or false', node))
    return undefined
  },
}

/** An integer in a range, both ends included. */
export function integer(from: number, to: number, placeholder = 'N'): FieldType<number> {
  const name =
    from === int32.from && to === int32.to
      ? 'an integer'
      : to === int32.to
        ? `an integer of ${from} or more`
        : `an integer ${from}–${to}`
  const admit = (value: number) => (Number.isInteger(value) && value >= from && value <= to ? value : undefined)
  return {
    expected: name,
    placeholder,
    parse: value => (/^[+-]?(\d+|0[xX][\da-fA-F]+)$/.test(value) ? admit(Number(value)) : undefined),
    write: value => value,
    isZero: node => node === 0,
    read(node, path, report) {
      const value = typeof node === 'number' ? admit(node) : undefined
      if (value === undefined) report(path, wrong(name, node))
      return value
    },
  }
}

/** What an int32 of Go can hold. */
export const int32 = { from: -2147483648, to: 2147483647 }

/** Any finite number. */
export const number: FieldType<number> = {
  expected: 'a number',
  placeholder: 'NUMBER',
  parse: value => (/^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$/.test(value) ? Number(value) : undefined),
  write: value => value,
  isZero: node => node === 0,
  read(node, path, report) {
    if (typeof node === 'number' && Number.isFinite(node)) return node
    report(path, wrong('a number', node))
    return undefined
  },
}

/** Go durations, held in milliseconds, of 0 or more, or above 0. `nanoseconds`: a bare number is one of those. */
export function duration(least: 'zero' | 'above zero', bareNumber?: 'nanoseconds'): FieldType<number> {
  const expected = least === 'zero' ? 'a duration of 0 or more, such as "30s"' : 'a duration above 0, such as "30s"'
  const admit = (value: number | undefined) =>
    value === undefined || value < 0 || (value === 0 && least === 'above zero') ? undefined : value
  const lengthOf = (node: unknown) => {
    if (typeof node === 'string') return parseDuration(node)
    if (node === 0) return 0
    return bareNumber !== undefined && typeof node === 'number' && Number.isSafeInteger(node)
      ? millisecondsOf(BigInt(node))
      : undefined
  }
  return {
    expected,
    placeholder: 'DURATION',
    parse: value => admit(parseDuration(value)),
    write: formatDuration,
    isZero: node => lengthOf(node) === 0,
    read(node, path, report) {
      const value = admit(lengthOf(node))
      if (value === undefined) report(path, wrong(expected, node))
      return value
    },
  }
}

/** An IP address. */
export const ip: FieldType<IP> = textType('an IP address', 'IP', parseIP, address => address)

/**
 * `address:port`, or an address alone, which gets the default port. Port 0 disables, as it does in kube-proxy's
 * deprecated port flags: an empty value in a file means the default, so v1alpha1 has no other word for it.
 */
export function listenAddress(defaultPort: number): FieldType<ListenAddress> {
  return textType('an IP address and port, such as "0.0.0.0:10256" (port 0 disables)', 'IP:PORT', parse, write)

  function parse(value: string): ListenAddress | undefined {
    if (value === '') return 'disabled'
    const alone = parseIP(value)
    if (alone !== undefined) return { address: alone, port: defaultPort }
    const match = /^(?:\[([^\]]*)\]|([^:]*)):(\d{1,5})$/.exec(value)
    if (match === null) return undefined
    const address = parseIP(match[1] ?? match[2] ?? '')
    const port = Number(match[3])
    if (address === undefined || port > 65535) return undefined
    return port === 0 ? 'disabled' : { address, port }
  }

  function write(value: ListenAddress): string {
    return value === 'disabled' ? '127.0.0.1:0' : formatAddressPort(value.address, value.port)
  }
}

function listOf<T>(item: FieldType<T>, plural: string, placeholder: string): FieldType<readonly T[]> {
  return {
    expected: `a list of ${plural}`,
    placeholder,
    parse(value) {
      if (value === '') return []
      const items: T[] = []
      for (const part of value.split(',')) {
        const parsed = item.parse(part.trim())
        if (parsed === undefined) return undefined
        items.push(parsed)
      }
      return items
    },
    write: items => items.map(item.write),
    isZero: node => Array.isArray(node) && node.length === 0,
    merge: (before, after) => [...before, ...after],
    read(node, path, report) {
      if (!Array.isArray(node)) {
        report(path, wrong(`a list of ${plural}`, node))
        return undefined
      }
      const items: T[] = []
      for (const [index, element] of node.entries()) {
        const value = item.read(element, `${path}[${index}]`, report)
        if (value !== undefined) items.push(value)
      }
      return items
    },
  }
}

const cidr: FieldType<CIDR> = textType('a CIDR, such as "10.0.0.0/8"', 'CIDR', parseCIDR, formatCIDR)

/** A list of texts. */
export const texts = (placeholder: string): FieldType<readonly string[]> => ({
  ...listOf(text(placeholder), 'strings', placeholder),
  parse: value => [value],
})

/** A list of addresses. */
export const ips: FieldType<readonly IP[]> = listOf(ip, 'IP addresses', 'IP')

/** A list of CIDRs. */
export const cidrs: FieldType<readonly CIDR[]> = listOf(cidr, 'CIDRs', 'CIDR,...')

/** CIDRs in one string, divided by commas, as clusterCIDR has them. */
export const cidrText: FieldType<readonly CIDR[]> = textType(
  'a CIDR, or an IPv4 and an IPv6 CIDR divided by a comma',
  'CIDR[,CIDR]',
  cidrs.parse,
  list => list.map(formatCIDR).join(','),
)

/** The entries of nodePortAddresses. Keywords and CIDRs can be mixed, as from v1.37. */
export const nodePortAddresses: FieldType<readonly NodePortAddress[]> = listOf(
  textType<NodePortAddress>(
    `a CIDR, such as "10.0.0.0/8", or ${nodePortKeywords.slice(0, -1).join(', ')} or ${nodePortKeywords.at(-1)}`,
    'CIDR',
    value => nodePortKeywords.find(word => word === value) ?? parseCIDR(value),
    entry => (typeof entry === 'string' ? entry : formatCIDR(entry)),
  ),
  'CIDRs and the words primary, localhost and all',
  'CIDR|primary|localhost|all,...',
)

/** Feature gates: a mapping of names to true or false; in a flag `Name=true,Other=false`. */
export const gates: FieldType<Readonly<Record<string, boolean>>> = {
  expected: 'feature gates as NAME=true or NAME=false',
  placeholder: 'NAME=BOOL,...',
  parse(value) {
    const found = new Map<string, boolean>()
    for (const part of value === '' ? [] : value.split(',')) {
      const [name = '', word] = part.trim().split('=', 2)
      const on = word === undefined ? undefined : bool.parse(word.trim())
      if (name === '' || on === undefined) return undefined
      found.set(name.trim(), on)
    }
    return Object.fromEntries(found)
  },
  write: value => value,
  isZero: node => node instanceof Mapping && node.entries.size === 0,
  merge: (before, after) => ({ ...before, ...after }),
  read(node, path, report) {
    if (!(node instanceof Mapping)) {
      report(path, wrong('a mapping of feature names to true or false', node))
      return undefined
    }
    const found = new Map<string, boolean>()
    for (const name of node.repeated) report(under(path, name), 'given more than once')
    for (const [name, element] of node.entries) {
      const value = bool.read(element, under(path, name), report)
      if (value !== undefined) found.set(name, value)
    }
    return Object.fromEntries(found)
  },
}

/** Level of verbosity. */
export const verbosity = integer(0, int32.to)

/** Verbosity by source file: a list of `{filePattern, verbosity}`; in a flag `pattern=N,...`. */
export const vmodule: FieldType<readonly VModule[]> = {
  ...listOf(
    {
      ...textType<VModule>('PATTERN=N', 'PATTERN=N', parseVModule, item => ({ ...item })),
      read: readVModule,
    },
    'filePattern and verbosity pairs',
    'PATTERN=N,...',
  ),
  expected: 'PATTERN=N, several divided by commas',
}

function parseVModule(value: string): VModule | undefined {
  const [filePattern = '', level = ''] = value.split('=', 2)
  const parsed = verbosity.parse(level)
  return filePattern === '' || parsed === undefined ? undefined : { filePattern, verbosity: parsed }
}

function readVModule(node: unknown, path: string, report: Report): VModule | undefined {
  if (!(node instanceof Mapping)) {
    report(path, wrong('filePattern and verbosity', node))
    return undefined
  }
  for (const name of node.repeated) report(under(path, name), 'given more than once')
  for (const name of node.entries.keys()) {
    if (name !== 'filePattern' && name !== 'verbosity') report(under(path, name), 'unknown field')
  }
  const pattern = node.entries.get('filePattern')
  const level = verbosity.read(node.entries.get('verbosity') ?? 0, under(path, 'verbosity'), report)
  if (typeof pattern !== 'string' || pattern === '' || /[=,]/.test(pattern)) {
    report(under(path, 'filePattern'), wrong('a file pattern without "=" and ","', pattern ?? ''))
    return undefined
  }
  return level === undefined ? undefined : { filePattern: pattern, verbosity: level }
}

const multiples: Readonly<Record<string, number>> = {
  ...Object.fromEntries(['', 'k', 'M', 'G', 'T', 'P', 'E'].map((suffix, index) => [suffix, 1000 ** index])),
  ...Object.fromEntries(['Ki', 'Mi', 'Gi', 'Ti', 'Pi', 'Ei'].map((suffix, index) => [suffix, 1024 ** (index + 1)])),
  K: 1000,
}

function parseBytes(value: string): number | undefined {
  const match = /^\+?(\d+(?:\.\d*)?|\.\d+)([eE]\d{1,2}|[kKMGTPE]|[KMGTPE]i)?$/.exec(value)
  if (match === null) return undefined
  const [, digits = '', suffix = ''] = match
  const factor = /^[eE]\d/.test(suffix) ? 10 ** Number(suffix.slice(1)) : (multiples[suffix] ?? 1)
  const bytes = Math.ceil(Number(digits) * factor)
  return Number.isSafeInteger(bytes) ? bytes : undefined
}

/** A number of bytes, as Kubernetes writes quantities: `512`, `"4Ki"`. */
export const bytes: FieldType<LogOutput['infoBufferSize']> = {
  ...textType('a number of bytes, such as "512" or "4Ki"', 'BYTES', parseBytes, String),
  isZero: node => node === 0 || node === '0' || node === '',
  read(node, path, report) {
    const value = typeof node === 'string' || typeof node === 'number' ? parseBytes(String(node)) : undefined
    if (value === undefined) report(path, wrong(bytes.expected, node))
    return value
  },
}

/** True if two CIDRs are of different families. */
export const isDualStackPair = (first: CIDR, second: CIDR): boolean =>
  familyOf(first.address) !== familyOf(second.address)
