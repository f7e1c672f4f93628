// Match extensions: those that Service rules use, and no others.
import { ParameterProblem } from './errors.ts'
import { type Extension, not, optionGuard, required } from './extension.ts'
import type { RuleContext, SetInfo } from './tables.ts'
import { hexadecimal, quote, unsigned } from './words.ts'

/** Makes a match by name. Throws ParameterProblem for one that is not known. */
export function matchOf(name: string, context: RuleContext): Extension {
  switch (name) {
    case 'tcp':
    case 'udp':
    case 'sctp':
      return ports(name)
    case 'comment':
      return comment()
    case 'conntrack':
      return conntrack()
    case 'addrtype':
      return addrtype()
    case 'statistic':
      return statistic()
    case 'recent':
      return recent(context)
    case 'mark':
      return mark()
    case 'bpf':
      return bpf()
    case 'ipvs':
      return ipvs()
    case 'set':
      return set(context)
    default:
      throw new ParameterProblem(`Couldn't load match \`${name}':No such file or directory\n`)
  }
}

function ports(name: 'tcp' | 'udp' | 'sctp'): Extension {
  const found = new Map<string, string>()
  return {
    name,
    options: { '--dport': true, '--sport': true, '--destination-port': true, '--source-port': true },
    option(option, argument, negated) {
      const side = option === '--dport' || option === '--destination-port' ? '--dport' : '--sport'
      if (found.has(side)) {
        const long = side === '--dport' ? 'destination' : 'source'
        throw new ParameterProblem(
          name === 'sctp' ? `${option} can only be used once` : `Only one \`--${long}-port' allowed`,
        )
      }
      found.set(side, portRange(argument, side, negated))
    },
    finish(protocol, { variant }) {
      const right = protocol?.name === name
      // The nft tool compares the protocol and forgets the negation; both kernels' xt_tcpudp see it.
      if (!right && variant === 'nft' && name !== 'sctp') {
        const upper = name.toUpperCase()
        throw new ParameterProblem(`${upper} match requires '-p ${name}'`)
      }
      const text = ['--sport', '--dport'].map(side => found.get(side) ?? '').join('')
      const refused = !right || protocol?.negated === true
      return {
        text: `-m ${name}${text}`,
        legacyRefused: refused,
        ...(refused && name === 'sctp' ? { needs: { refused } } : {}),
      }
    },
  }
}

function portRange(argument: string, side: string, negated: boolean): string {
  const [first = '', second] = argument.split(':')
  const low = first === '' && second !== undefined ? 0 : port(first)
  const high = second === undefined ? low : second === '' ? 65535 : port(second)
  if (low > high) throw new ParameterProblem('invalid portrange (min > max)')
  if (low === 0 && high === 65535 && !negated) return ''
  return ` ${not(negated)}${side} ${low === high ? low : `${low}:${high}`}`
}

function port(text: string): number {
  const value = unsigned(text)
  // Service names are not looked up: rules that depend on /etc/services are wrong.
  if (value === undefined || value > 65535) throw new ParameterProblem(`invalid port/service \`${text}' specified`)
  return value
}

function comment(): Extension {
  let text: string | undefined
  const guard = optionGuard('comment', [])
  return {
    name: 'comment',
    options: { '--comment': true },
    option(name, argument, negated) {
      guard(name, negated)
      text = argument
    },
    finish() {
      // Longer ones are cut without a word.
      return { text: `-m comment --comment ${quote(required(text, 'comment', '--comment').slice(0, 255))}` }
    },
  }
}

const states = ['INVALID', 'NEW', 'RELATED', 'ESTABLISHED', 'UNTRACKED', 'SNAT', 'DNAT']

function conntrack(): Extension {
  let text: string | undefined
  const guard = optionGuard('conntrack', ['--ctstate'])
  return {
    name: 'conntrack',
    options: { '--ctstate': true },
    option(name, argument, negated) {
      guard(name, negated)
      text = ` ${not(negated)}${name} ${inOrder(argument, states, word => `Bad ctstate "${word}"`)}`
    },
    finish() {
      if (text === undefined) throw new ParameterProblem('conntrack: At least one option is required')
      return { text: `-m conntrack${text}` }
    },
  }
}

const addressTypes = [
  ...['UNSPEC', 'UNICAST', 'LOCAL', 'BROADCAST', 'ANYCAST', 'MULTICAST', 'BLACKHOLE', 'UNREACHABLE', 'PROHIBIT'],
  ...['THROW', 'NAT', 'XRESOLVE'],
]

function addrtype(): Extension {
  const found = new Map<string, string>()
  const guard = optionGuard('addrtype', ['--src-type', '--dst-type'])
  return {
    name: 'addrtype',
    options: { '--src-type': true, '--dst-type': true },
    option(name, argument, negated) {
      guard(name, negated)
      const types = inOrder(argument, addressTypes, word => `addrtype: bad type "${word}"`)
      found.set(name, ` ${not(negated)}${name} ${types}`)
    },
    finish() {
      if (found.size === 0) throw new ParameterProblem('addrtype: you must specify --src-type or --dst-type')
      return { text: `-m addrtype${found.get('--src-type') ?? ''}${found.get('--dst-type') ?? ''}` }
    },
  }
}

/** A list of words, each known, printed once and in the order the kernel numbers them. */
function inOrder(argument: string, known: readonly string[], problem: (word: string) => string): string {
  const words = new Set<string>()
  for (const word of argument.split(',')) {
    if (!known.includes(word.toUpperCase())) throw new ParameterProblem(problem(word))
    words.add(word.toUpperCase())
  }
  return known.filter(word => words.has(word)).join(',')
}

function statistic(): Extension {
  let mode: string | undefined
  let probability: number | undefined
  const guard = optionGuard('statistic', ['--probability'])
  let inverted = false
  return {
    name: 'statistic',
    options: { '--mode': true, '--probability': true },
    option(name, argument, negated) {
      guard(name, negated)
      if (name === '--mode') {
        if (argument !== 'random') throw new ParameterProblem(`Bad mode "${argument}"`)
        mode = argument
        return
      }
      const value = /^\d*\.?\d+(?:e-?\d+)?$/.test(argument) ? Number(argument) : Number.NaN
      if (!(value >= 0 && value <= 1))
        throw new ParameterProblem('statistic: bad value for option "--probability", or out of range (0-1).\n')
      // The kernel compares 31 random bits.
      probability = Math.round(value * 0x80000000) / 0x80000000
      inverted = negated
    },
    finish() {
      required(mode, 'statistic', '--mode')
      if (probability === undefined)
        throw new ParameterProblem('--probability must be specified when using random mode')
      return { text: `-m statistic --mode random ${not(inverted)}--probability ${probability.toFixed(11)}` }
    },
  }
}

const recentActions = ['--set', '--rcheck', '--update', '--remove']

function recent(context: RuleContext): Extension {
  let action: { name: string; negated: boolean } | undefined
  let side = '--rsource'
  const values = new Map<string, string>([
    ['--name', 'DEFAULT'],
    ['--mask', context.family === 'IPv4' ? '255.255.255.255' : 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff'],
  ])
  const guard = optionGuard('recent', recentActions)
  return {
    name: 'recent',
    options: {
      ...Object.fromEntries([...recentActions, '--reap', '--rsource', '--rdest'].map(name => [name, false])),
      ...Object.fromEntries(['--seconds', '--hitcount', '--name', '--mask'].map(name => [name, true])),
    },
    option(name, argument, negated) {
      guard(name, negated)
      if (recentActions.includes(name)) {
        if (action !== undefined)
          throw new ParameterProblem(`recent: option "${name}" cannot be used together with "${action.name}".\n`)
        action = { name, negated }
      } else if (name === '--rsource' || name === '--rdest') side = name
      else if (name === '--seconds' || name === '--hitcount') {
        if ((unsigned(argument) ?? 0) < 1) {
          throw new ParameterProblem(`recent: bad value for option "${name}", or out of range (1-4294967295).\n`)
        }
        values.set(name, argument)
      } else values.set(name, argument)
    },
    finish() {
      if (action === undefined)
        throw new ParameterProblem("recent: you must specify one of `--set', `--rcheck' `--update' or `--remove'")
      if (values.has('--reap') && !values.has('--seconds'))
        throw new ParameterProblem('recent: option "--reap" also requires "--seconds".\n')
      const name = values.get('--name') ?? ''
      const limits = ['--seconds', '--reap', '--hitcount'].flatMap(option => {
        const value = values.get(option)
        return value === undefined ? [] : [option === '--reap' ? option : `${option} ${value}`]
      })
      return {
        text: [
          '-m recent',
          `${not(action.negated)}${action.name}`,
          ...limits,
          `--name ${name}`,
          `--mask ${values.get('--mask')}`,
          side,
        ].join(' '),
        // It becomes a file in /proc/net/xt_recent.
        needs: { refused: name.includes('/') || name === '.' || name === '..' || name === '' },
      }
    },
  }
}

function mark(): Extension {
  let text: string | undefined
  const guard = optionGuard('mark', ['--mark'])
  return {
    name: 'mark',
    options: { '--mark': true },
    option(name, argument, negated) {
      guard(name, negated)
      const { value, mask } = markValue(argument, 'mark', name)
      text = `${not(negated)}--mark ${hexadecimal(value)}${mask === 0xffffffff ? '' : `/${hexadecimal(mask)}`}`
    },
    finish: () => ({ text: `-m mark ${required(text, 'mark', '--mark')}` }),
  }
}

/** Parses `value[/mask]`. */
export function markValue(argument: string, extension: string, option: string): { value: number; mask: number } {
  const [first = '', second] = argument.split('/')
  const value = unsigned(first)
  const mask = second === undefined ? 0xffffffff : unsigned(second)
  if (value === undefined || mask === undefined)
    throw new ParameterProblem(`${extension}: bad integer value for option "${option}", or out of range.\n`)
  return { value, mask }
}

function bpf(): Extension {
  let program: readonly (readonly number[])[] | undefined
  const guard = optionGuard('bpf', [])
  return {
    name: 'bpf',
    options: { '--bytecode': true },
    option(name, argument, negated) {
      guard(name, negated)
      program = bytecode(argument)
    },
    finish() {
      if (program === undefined) throw new ParameterProblem('bpf: one of --bytecode or --pinned is required')
      const text = [program.length, ...program.map(instruction => instruction.join(' '))].join(',')
      return { text: `-m bpf --bytecode "${text}"`, needs: { refused: !isRunnable(program) } }
    },
  }
}

function bytecode(argument: string): number[][] {
  const [length = '', ...rest] = argument.split(',')
  const count = unsigned(length)
  if (count === undefined || rest.length === 0) throw new ParameterProblem('bpf: error parsing program length')
  if (count === 0 || count > 64) throw new ParameterProblem('bpf: number of instructions exceeds maximum')
  if (rest.length > count) throw new ParameterProblem('bpf: real program length exceeds the encoded length parameter')
  const program = rest.map((text, index) => {
    const fields = text.trim().split(/\s+/).map(Number)
    const [code = -1, jt = -1, jf = -1, k = -1] = fields
    const fits =
      code >= 0 && code <= 0xffff && jt >= 0 && jt <= 255 && jf >= 0 && jf <= 255 && k >= 0 && k <= 0xffffffff
    if (fields.length !== 4 || !fields.every(Number.isInteger) || !fits)
      throw new ParameterProblem(`bpf: error at instr ${index}`)
    return fields
  })
  if (rest.length < count) throw new ParameterProblem('bpf: program length does not match')
  return program
}

/** As the kernel's check of classic BPF: jumps stay inside, and the last instruction returns. */
function isRunnable(program: readonly (readonly number[])[]): boolean {
  const jumpsInside = program.every(([code = 0, jt = 0, jf = 0, k = 0], index) => {
    if ((code & 7) !== 5) return true
    const furthest = code === 5 ? k : Math.max(jt, jf)
    return index + 1 + furthest < program.length
  })
  return jumpsInside && ((program.at(-1)?.[0] ?? 0) & 7) === 6
}

/** Only whether a packet belongs to a connection of IPVS, not to which. */
function ipvs(): Extension {
  let text: string | undefined
  const guard = optionGuard('ipvs', ['--ipvs'])
  return {
    name: 'ipvs',
    options: { '--ipvs': false },
    option(name, _, negated) {
      guard(name, negated)
      text = `-m ipvs ${not(negated)}--ipvs`
    },
    finish() {
      if (text === undefined) throw new ParameterProblem('IPVS: At least one option is required')
      return { text }
    },
  }
}

function set(context: RuleContext): Extension {
  let found: { readonly text: string; readonly name: string } | undefined
  return {
    name: 'set',
    options: { '--match-set': 'two' },
    option(name, argument, negated) {
      if (found !== undefined) throw new ParameterProblem('--match-set can be specified only once')
      const matched = setArgument(argument, context)
      found = { text: `${not(negated)}${name} ${argument}`, name: matched.name }
    },
    finish() {
      if (found === undefined) throw new ParameterProblem("You must specify `--match-set' with proper arguments")
      return { text: `-m set ${found.text}`, sets: [found.name] }
    },
  }
}

/** IPSET_MAXNAMELEN is 32 with the end of the text. */
const longestSetName = 31

/**
 * Reads `NAME src,dst`. Stricter than the tools where a rule would be taken and never match: the directions are as many as
 * the parts of an element. Throws ParameterProblem.
 */
export function setArgument(argument: string, context: RuleContext): SetInfo & { readonly name: string } {
  const [name = '', directions = ''] = argument.split(' ')
  if (name.length > longestSetName)
    throw new ParameterProblem(`setname \`${name}' too long, max ${longestSetName} characters.`)
  const found = context.setOf(name)
  if (found === undefined) throw new ParameterProblem(`Set ${name} doesn't exist.\n`)
  if (found.family !== undefined && found.family !== context.family)
    throw new ParameterProblem(`The protocol family of set ${name} is ${found.family}, which is not applicable.\n`)
  if (!/^(?:src|dst)(?:,(?:src|dst)){0,5}$/.test(directions))
    throw new ParameterProblem("You must spefify (the comma separated list of) 'src' or 'dst'.")
  const count = directions.split(',').length
  if (found.dimension !== undefined && found.dimension !== count)
    throw new ParameterProblem(
      `set ${name} has elements of ${found.dimension} parts, not ${count}: it would never match`,
    )
  return { ...found, name }
}
