// The command line of hack/bench, as a record; whatever is wrong with it is said in one sentence.
import { parseArgs } from 'node:util'
import { mostEndpoints, mostServices } from './objects.ts'
import { mostStolenPercent } from './quiet.ts'

/** Modes, and variants of iptables where they differ. */
export const kinds = ['iptables-nft', 'iptables-legacy', 'nftables', 'ipvs'] as const
export type Kind = (typeof kinds)[number]

/** The proxy mode of a kind. */
export const modeOf = (kind: Kind): 'iptables' | 'nftables' | 'ipvs' =>
  kind === 'nftables' || kind === 'ipvs' ? kind : 'iptables'

/** What is measured after the start, which always is. */
export const scenarios = [
  'change',
  'idle',
  'memory',
  'connect',
  'throughput',
  'burst',
  'rolling',
  'storm',
  'restart',
  'large',
] as const
export type Scenario = (typeof scenarios)[number]

/** Another proxy: its command as words, placeholders not yet filled in. */
export interface Peer {
  readonly name: string
  readonly words: readonly string[]
}

export interface Options {
  readonly help: boolean
  /** Micro-benchmarks instead of whole programs. */
  readonly micro: boolean
  readonly services: readonly number[]
  readonly endpoints: number
  /** Undefined: all that this kernel can. */
  readonly kinds: readonly Kind[] | undefined
  readonly changes: number
  readonly scenarios: ReadonlySet<Scenario>
  readonly storm: { readonly services: number; readonly rate: number; readonly seconds: number }
  /** Endpoints of the one Service of the large case. */
  readonly large: number
  readonly idleSeconds: number
  /** For a quiet machine before each case, at most. */
  readonly waitSeconds: number
  /** Of a case from whose machine the host takes too much, at most. */
  readonly tries: number
  readonly startLimitSeconds: number
  /** For the timed changes of one case, at most. */
  readonly budgetSeconds: number
  readonly peer: Peer | undefined
  /** Our program's bundle; undefined: that of this checkout. */
  readonly program: string | undefined
  readonly nodeOptions: readonly string[]
  readonly json: string | undefined
  readonly svg: string | undefined
  readonly compare: string | undefined
}

export const usage = `usage: hack/bench [options]
Measures the program, and on request another one, at scale on this machine; everything happens in namespaces of its own.
  --quick                 1000 Services and short looks: a few minutes in all; other options still hold
  --services N,N          numbers of Services (default 1000,5000,10000,30000)
  --endpoints N           endpoints of each (default 5)
  --kind K,K              of ${kinds.join(', ')} (default: all that this kernel can)
  --scenarios S,S         of ${scenarios.join(', ')}
                          (default: all); the start is always measured
  --changes N             changes of one EndpointSlice that are timed; p99 needs 100 (default 100)
  --budget SECONDS        for the timed changes of one case, at most (default 300); at least three are timed
  --storm N,RATE,SECONDS  a storm of changes: Services, changes a second, how long (default 10000,1000,60); measured in the
                          cases with so many Services, or with the most if none has
  --large N               endpoints of the one Service of the large case (default ${mostEndpoints})
  --idle SECONDS          how long idle CPU is measured (default 20)
  --wait SECONDS          for a quiet machine, before each case, at most (default 60)
  --tries N               measure a case so often at most while the host of this virtual machine takes more than
                          ${mostStolenPercent} % of it; the try of which it took least counts (default 1)
  --start-limit SECONDS   until a program counts as not programmed (default 300)
  --peer "COMMAND"        measure this proxy too, in the same cases. Split into words, without a shell; these are filled in:
                          {kubeconfig} {hostname} {cluster-cidr} {mode}. The API speaks JSON only, so for kube-proxy:
                          "kube-proxy --kubeconfig={kubeconfig} --hostname-override={hostname} --proxy-mode={mode}
                          --cluster-cidr={cluster-cidr} --kube-api-content-type=application/json"
  --peer-name NAME        what to call it (default: its file name)
  --json FILE             write the figures as JSON
  --svg DIR               write plots, cost against number of Services
  --compare FILE          print ratios to an earlier --json FILE
  --micro                 micro-benchmarks of single steps instead (only --json and --compare go with it)
  --program FILE          our program's bundle (default dist/penstock.js)
  --node-options=OPTIONS  for the Node that runs our program, such as --node-options=--cpu-prof`

const strings = {
  services: { type: 'string' },
  endpoints: { type: 'string' },
  kind: { type: 'string' },
  scenarios: { type: 'string' },
  changes: { type: 'string' },
  budget: { type: 'string' },
  storm: { type: 'string' },
  large: { type: 'string' },
  idle: { type: 'string' },
  wait: { type: 'string' },
  tries: { type: 'string' },
  'start-limit': { type: 'string' },
  peer: { type: 'string' },
  'peer-name': { type: 'string' },
  json: { type: 'string' },
  svg: { type: 'string' },
  compare: { type: 'string' },
  program: { type: 'string' },
  'node-options': { type: 'string' },
} as const

/** Reads the command line. Throws an Error with one sentence that names the option at fault. */
export function parseOptions(args: readonly string[]): Options {
  const { values } = parseArgs({
    args: [...args],
    options: {
      ...strings,
      quick: { type: 'boolean', default: false },
      micro: { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h', default: false },
    },
  })
  const defaults = values.quick ? quick : whole
  const services = numbers('services', values.services ?? defaults.services, 1, mostServices)
  const [stormServices = 0, rate = 0, seconds = 0] = stormOf(values.storm ?? defaults.storm)
  return {
    help: values.help,
    micro: values.micro,
    services,
    endpoints: number('endpoints', values.endpoints ?? '5', 1, 1_000),
    kinds: values.kind === undefined ? undefined : oneOf('kind', values.kind, kinds),
    changes: number('changes', values.changes ?? defaults.changes, 1, 10_000),
    scenarios: new Set(values.scenarios === undefined ? scenarios : oneOf('scenarios', values.scenarios, scenarios)),
    storm: { services: services.includes(stormServices) ? stormServices : Math.max(...services), rate, seconds },
    large: number('large', values.large ?? defaults.large, 100, mostEndpoints),
    idleSeconds: number('idle', values.idle ?? defaults.idle, 1, 3_600),
    waitSeconds: number('wait', values.wait ?? '60', 0, 3_600),
    tries: number('tries', values.tries ?? '1', 1, 100),
    startLimitSeconds: number('start-limit', values['start-limit'] ?? '300', 1, 3_600),
    budgetSeconds: number('budget', values.budget ?? '300', 1, 36_000),
    peer: peerOf(values.peer, values['peer-name']),
    program: values.program,
    nodeOptions: (values['node-options'] ?? '').split(' ').filter(word => word !== ''),
    json: values.json,
    svg: values.svg,
    compare: values.compare,
  }
}

const whole = {
  services: '1000,5000,10000,30000',
  changes: '100',
  storm: '10000,1000,60',
  large: String(mostEndpoints),
  idle: '20',
}
const quick = { services: '1000', changes: '20', storm: '1000,1000,5', large: '1000', idle: '5' }

function numbers(name: string, text: string, least: number, most: number): number[] {
  return text.split(',').map(word => {
    const value = word === '' ? Number.NaN : Number(word)
    if (!Number.isInteger(value) || value < least || value > most) {
      throw new Error(`--${name} ${text}: expected whole numbers from ${least} to ${most}`)
    }
    return value
  })
}

function number(name: string, text: string, least: number, most: number): number {
  const [value, ...more] = numbers(name, text, least, most)
  if (value === undefined || more.length > 0) throw new Error(`--${name} ${text}: expected one number`)
  return value
}

function stormOf(text: string): number[] {
  const words = text.split(',')
  if (words.length !== 3) throw new Error(`--storm ${text}: expected Services, changes a second, and seconds`)
  const limits = [mostServices, 100_000, 3_600]
  return words.map((word, place) => number('storm', word, 1, limits[place] ?? 1))
}

function oneOf<T extends string>(name: string, text: string, known: readonly T[]): T[] {
  return text.split(',').map(word => {
    const found = known.find(item => item === word)
    if (found === undefined) throw new Error(`--${name} ${text}: expected some of ${known.join(', ')}`)
    return found
  })
}

const placeholders = ['kubeconfig', 'hostname', 'cluster-cidr', 'mode'] as const

function peerOf(command: string | undefined, name: string | undefined): Peer | undefined {
  if (command === undefined) {
    if (name !== undefined) throw new Error('--peer-name: there is no --peer to be called so')
    return undefined
  }
  const words = splitWords(command)
  const [program] = words
  if (program === undefined) throw new Error('--peer: the command is empty')
  for (const [, found = ''] of command.matchAll(/\{([^{}]*)\}/g)) {
    if (!placeholders.some(known => known === found)) {
      throw new Error(`--peer: {${found}} is none of ${placeholders.map(known => `{${known}}`).join(' ')}`)
    }
  }
  const called = name ?? program.slice(program.lastIndexOf('/') + 1)
  if (called === 'penstock') throw new Error('--peer-name: penstock is the name of our own program; choose another')
  return { name: called, words }
}

/** Splits a command at spaces; quotes of either kind hold a word together. Throws an Error for one that is not closed. */
export function splitWords(command: string): string[] {
  const words: string[] = []
  for (const [whole, text] of command.matchAll(/((?:[^\s'"]|'[^']*'|"[^"]*")+)|['"]/g)) {
    if (text === undefined) throw new Error(`--peer: the quote ${whole} is not closed`)
    words.push(text.replaceAll(/'([^']*)'|"([^"]*)"/g, (_, single: string, double: string) => single ?? double))
  }
  return words
}

/** The command of a peer for one case. What is filled in is not looked at again. */
export function fillIn(
  words: readonly string[],
  values: Readonly<Record<(typeof placeholders)[number], string>>,
): string[] {
  const filled = (whole: string, found: string): string => {
    const name = placeholders.find(known => known === found)
    return name === undefined ? whole : values[name]
  }
  return words.map(word => word.replaceAll(/\{([^{}]*)\}/g, filled))
}
