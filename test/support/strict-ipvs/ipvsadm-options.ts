// The arguments of ipvsadm 1.31, one command's worth: on its command line, or on a line of `--restore`.
import { familyOf, type IP, parseIP } from '../../../src/net/ip.ts'
import type { Forwarding, ServerId, ServerProtocol } from './virtual-servers.ts'

/** ipvsadm ends, in the middle of an input as well. */
export class ProgramEnds extends Error {
  readonly exitCode: number
  constructor(message: string, exitCode = 2) {
    super(message)
    this.exitCode = exitCode
  }
}

/** An option that ipvsadm does not know: this line does nothing, the next one is read. */
export class LineSkipped extends Error {}

export type Verb =
  | 'add-service'
  | 'edit-service'
  | 'delete-service'
  | 'add-server'
  | 'edit-server'
  | 'delete-server'
  | 'clear'
  | 'list'
  | 'set'
  | 'restore'
  | 'save'
  | 'version'

/** What one line asks for, before it is known if its options go together. */
export interface Command {
  readonly verb: Verb
  /** By the names that ipvsadm gives them in its messages. */
  readonly given: ReadonlySet<string>
  readonly server: ServerId | undefined
  readonly scheduler: string
  readonly persistent: number | undefined
  readonly schedulerFlags: string | undefined
  readonly real: { readonly address: IP; readonly port: number } | undefined
  readonly forwarding: Forwarding
  readonly weight: number
  readonly timeouts: readonly number[]
}

const verbs: Readonly<Record<string, Verb>> = {
  A: 'add-service',
  E: 'edit-service',
  D: 'delete-service',
  a: 'add-server',
  e: 'edit-server',
  d: 'delete-server',
  C: 'clear',
  L: 'list',
  l: 'list',
  R: 'restore',
  S: 'save',
  v: 'version',
  'add-service': 'add-service',
  'edit-service': 'edit-service',
  'delete-service': 'delete-service',
  'add-server': 'add-server',
  'edit-server': 'edit-server',
  'delete-server': 'delete-server',
  clear: 'clear',
  list: 'list',
  set: 'set',
  restore: 'restore',
  save: 'save',
  version: 'version',
}

/** Options by letter or long name: what ipvsadm calls them, and if they take a value. */
const options: Readonly<Record<string, { readonly name: string; readonly value: boolean | 'optional' }>> = {
  t: { name: 'tcp', value: true },
  'tcp-service': { name: 'tcp', value: true },
  u: { name: 'udp', value: true },
  'udp-service': { name: 'udp', value: true },
  'sctp-service': { name: 'sctp', value: true },
  f: { name: 'mark', value: true },
  'fwmark-service': { name: 'mark', value: true },
  s: { name: 'scheduler', value: true },
  scheduler: { name: 'scheduler', value: true },
  p: { name: 'persistent', value: 'optional' },
  persistent: { name: 'persistent', value: 'optional' },
  r: { name: 'real-server', value: true },
  'real-server': { name: 'real-server', value: true },
  m: { name: 'Masq', value: false },
  masquerading: { name: 'Masq', value: false },
  i: { name: 'Tunnel', value: false },
  ipip: { name: 'Tunnel', value: false },
  g: { name: 'Route', value: false },
  gatewaying: { name: 'Route', value: false },
  w: { name: 'weight', value: true },
  weight: { name: 'weight', value: true },
  n: { name: 'numeric', value: false },
  numeric: { name: 'numeric', value: false },
  '6': { name: 'ipv6', value: false },
  ipv6: { name: 'ipv6', value: false },
  o: { name: 'ops', value: false },
  ops: { name: 'ops', value: false },
  b: { name: 'sched-flags', value: true },
  'sched-flags': { name: 'sched-flags', value: true },
  timeout: { name: 'timeout', value: false },
}

interface Token {
  readonly name: string
  readonly shown: string
  readonly value: string | undefined
}

/** What it says where no command can be made out. */
export const tryHelp = (): ProgramEnds =>
  new ProgramEnds("Try `ipvsadm -h' or 'ipvsadm --help' for more information.", 255)

/** Reads the words of one command. Throws ProgramEnds or LineSkipped. */
export function readCommand(words: readonly string[]): Command {
  const { tokens, spare, problem } = tokensOf(words)
  const [first, ...rest] = tokens
  const verb = first === undefined ? undefined : verbs[first.name]
  if (verb === undefined) throw tryHelp()
  const reading = new Reading(verb)
  for (const token of rest) {
    if (verbs[token.name] !== undefined) throw new ProgramEnds(`invalid option \`${token.shown}'`)
    reading.option(token)
  }
  if (problem !== undefined) throw new LineSkipped(problem)
  return reading.finish(spare)
}

/** Options in their order, other words, and where it stops being understood. As popt reads them. */
function tokensOf(words: readonly string[]): { tokens: Token[]; spare: string[]; problem: string | undefined } {
  const tokens: Token[] = []
  const spare: string[] = []
  for (let at = 0; at < words.length; at++) {
    const word = words[at] ?? ''
    if (!word.startsWith('-') || word === '-') {
      spare.push(word)
      continue
    }
    const isLong = word.startsWith('--')
    let rest = isLong ? (word.slice(2).split('=')[0] ?? '') : word.slice(1)
    let attached = isLong && word.includes('=') ? word.slice(word.indexOf('=') + 1) : undefined
    while (rest !== '') {
      const name = isLong ? rest : (rest[0] ?? '')
      rest = isLong ? '' : rest.slice(1)
      const shown = isLong ? word : `-${name}`
      const option = options[name]
      if ((isLong && name.length < 2) || (option === undefined && verbs[name] === undefined))
        return { tokens, spare, problem: `${shown}: unknown option` }
      if (option === undefined || option.value === false) {
        tokens.push({ name, shown, value: undefined })
        continue
      }
      if (rest !== '') {
        attached = rest.replace(/^=/, '')
        rest = ''
      }
      const next = words[at + 1]
      if (attached === undefined && next !== undefined && !(option.value === 'optional' && next.startsWith('-'))) {
        attached = next
        at++
      }
      if (attached === undefined && option.value === true)
        return { tokens, spare, problem: `${shown}: missing argument` }
      tokens.push({ name, shown, value: attached })
    }
  }
  return { tokens, spare, problem: undefined }
}

const forwardings: readonly Forwarding[] = ['Masq', 'Route', 'Tunnel']

class Reading {
  readonly #verb: Verb
  readonly #given = new Set<string>()
  #server: ServerId | undefined
  #port = 0
  #scheduler = ''
  #persistent: number | undefined
  #flags: string | undefined
  #real: Command['real']
  #forwarding: Forwarding = 'Route'
  #weight = 1

  constructor(verb: Verb) {
    this.#verb = verb
  }

  option({ name: word, value = '' }: Token): void {
    const name = options[word]?.name ?? ''
    const forwarding = forwardings.find(one => one === name)
    if (forwarding !== undefined) {
      this.#once('forwarding-method')
      this.#forwarding = forwarding
      return
    }
    switch (name) {
      case 'tcp':
      case 'udp':
      case 'sctp':
        this.#once('service-address')
        this.#service(name, value)
        return
      case 'mark':
        this.#once('service-address')
        this.#server = { kind: 'mark', mark: readMark(value), family: 'IPv4' }
        return
      case 'ipv6':
        if (this.#server?.kind !== 'mark') throw new ProgramEnds('-6 used before -f\n')
        this.#server = { ...this.#server, family: 'IPv6' }
        return
      default:
        this.#once(name)
        this.#simple(name, value)
    }
  }

  finish(spare: readonly string[]): Command {
    const [first, second, third, ...more] = spare
    const timeouts: number[] = []
    let unexpected = first
    if (this.#verb === 'set') {
      if (first === undefined || second === undefined || third === undefined)
        throw new ProgramEnds('--set option requires 3 timeout values')
      for (const word of [first, second, third]) timeouts.push(readTimeout(word, 0))
      unexpected = more[0]
    }
    if (unexpected !== undefined) throw new ProgramEnds(`unexpected argument ${unexpected}`)
    return {
      verb: this.#verb,
      given: this.#given,
      server: this.#server,
      scheduler: this.#scheduler,
      persistent: this.#persistent,
      schedulerFlags: this.#flags,
      real: this.#real,
      forwarding: this.#forwarding,
      weight: this.#weight,
      timeouts,
    }
  }

  #once(name: string): void {
    if (this.#given.has(name)) throw new ProgramEnds(`multiple '${name}' options specified`)
    this.#given.add(name)
  }

  #service(protocol: 'tcp' | 'udp' | 'sctp', value: string): void {
    const read = readAddressPort(value)
    if (read === undefined) throw new ProgramEnds('illegal virtual server address[:port] specified')
    const names: Readonly<Record<string, ServerProtocol>> = { tcp: 'TCP', udp: 'UDP', sctp: 'SCTP' }
    this.#port = read.port ?? 0
    this.#server = {
      kind: 'address',
      protocol: names[protocol] ?? 'TCP',
      address: read.address,
      port: this.#port,
    }
  }

  #simple(name: string, value: string): void {
    switch (name) {
      case 'scheduler':
        // IP_VS_SCHEDNAME_MAXLEN is 16 with the end of the text.
        this.#scheduler = value.slice(0, 15)
        return
      case 'persistent':
        // IPVS_SVC_PERSISTENT_TIMEOUT.
        this.#persistent = value === '' ? 360 : readTimeout(value, 1)
        return
      case 'sched-flags':
        this.#flags = value
        return
      case 'real-server': {
        const read = readAddressPort(value)
        if (read === undefined) throw new ProgramEnds('illegal real server address[:port] specified')
        this.#real = { address: read.address, port: read.port ?? this.#port }
        return
      }
      case 'weight':
        this.#weight = readNumber(value, 0, 0x7fffffff) ?? -1
        if (this.#weight < 0) throw new ProgramEnds('illegal weight specified')
    }
  }
}

/** A decimal number within bounds; undefined for anything else. */
const readNumber = (text: string, least: number, most: number): number | undefined =>
  /^-?\d+$/.test(text) && Number(text) >= least && Number(text) <= most ? Number(text) : undefined

/** Seconds, 31 days at most. */
function readTimeout(text: string, least: number): number {
  const seconds = readNumber(text, least, 86400 * 31)
  if (seconds === undefined) throw new ProgramEnds(`invalid timeout value \`${text}' specified`)
  return seconds
}

function readMark(text: string): number {
  const mark = readNumber(text, 1, 0xffffffff)
  if (mark === undefined) throw new ProgramEnds(`invalid fwmark value \`${text}' specified`)
  return mark
}

/** `1.2.3.4[:80]`, `[fd00::1]:80` or `fd00::1`; names of hosts and services are not looked up. */
function readAddressPort(text: string): { address: IP; port: number | undefined } | undefined {
  const match = /^\[([^\]]*)\]:(.*)$/.exec(text) ?? /^([^:[\]]*)(?::([^:]*))?$/.exec(text)
  const [host, port] = match === null ? [text, undefined] : [match[1] ?? '', match[2]]
  const address = parseIP(host)
  if (address === undefined || (familyOf(address) === 'IPv6') !== host.includes(':')) return undefined
  if (familyOf(address) === 'IPv4' && !/^(?:0|[1-9]\d*)(?:\.(?:0|[1-9]\d*)){3}$/.test(host)) return undefined
  if (port === undefined) return { address, port: undefined }
  const number = readNumber(port, 0, 65535)
  return number === undefined ? undefined : { address, port: number }
}

/** Which options each command needs and which it may have. */
const allowed: Readonly<Record<Verb, { readonly needs: readonly string[]; readonly takes: readonly string[] }>> = {
  'add-service': { needs: ['service-address'], takes: ['scheduler', 'persistent', 'ops', 'sched-flags'] },
  'edit-service': { needs: ['service-address'], takes: ['scheduler', 'persistent', 'ops', 'sched-flags'] },
  'delete-service': { needs: ['service-address'], takes: [] },
  'add-server': { needs: ['service-address', 'real-server'], takes: ['forwarding-method', 'weight'] },
  'edit-server': { needs: ['service-address', 'real-server'], takes: ['forwarding-method', 'weight'] },
  'delete-server': { needs: ['service-address', 'real-server'], takes: [] },
  clear: { needs: [], takes: [] },
  list: { needs: [], takes: ['numeric', 'service-address', 'timeout'] },
  set: { needs: [], takes: [] },
  restore: { needs: [], takes: [] },
  save: { needs: [], takes: ['numeric'] },
  version: { needs: [], takes: ['numeric'] },
}

/** In the order in which ipvsadm looks at them. */
const optionOrder = [
  ...['numeric', 'service-address', 'scheduler', 'persistent', 'real-server', 'forwarding-method', 'weight'],
  ...['timeout', 'ops', 'sched-flags'],
]

/** Throws ProgramEnds if a command lacks an option or has one that means nothing to it. */
export function checkOptions({ verb, given }: Command): void {
  const { needs, takes } = allowed[verb]
  const shown = verb === 'clear' ? 'flush' : verb
  for (const name of optionOrder) {
    if (needs.includes(name) && !given.has(name))
      throw new ProgramEnds(`You need to supply the '${name}' option for the '${shown}' command`)
    if (given.has(name) && !needs.includes(name) && !takes.includes(name))
      throw new ProgramEnds(`Illegal '${name}' option with the '${shown}' command`)
  }
  if (given.has('service-address') && given.has('timeout'))
    throw new ProgramEnds("The option 'timeout' conflicts with the 'service-address' option in the 'list' command")
}
