// One rule from words to what it prints as: options in any order, extensions in the order they were named.
import { bitsOf, cidrContains, familyOf, formatCIDR, parseCIDR, parseIP } from '../../../src/net/ip.ts'
import { ParameterProblem } from './errors.ts'
import { type Extension, not, type RuleProtocol } from './extension.ts'
import { matchOf } from './matches.ts'
import type { KernelNeeds, Rule, RuleContext } from './tables.ts'
import { targetOf, verdicts } from './targets.ts'

const longNames: Readonly<Record<string, string>> = {
  '--source': '-s',
  '--src': '-s',
  '--destination': '-d',
  '--dst': '-d',
  '--in-interface': '-i',
  '--out-interface': '-o',
  '--protocol': '-p',
  '--proto': '-p',
  '--match': '-m',
  '--jump': '-j',
  '--goto': '-g',
}

/** Numbers with a name in /etc/protocols. */
const protocolNames: Readonly<Record<string, string>> = {
  '1': 'icmp',
  '6': 'tcp',
  '17': 'udp',
  '58': 'ipv6-icmp',
  '132': 'sctp',
}

/** The most characters of a chain's name. */
export const longestChainName = 28

interface Reading {
  readonly words: readonly string[]
  at: number
  negated: boolean
  readonly generic: Map<string, string>
  protocol: RuleProtocol | undefined
  readonly matches: Extension[]
  target: Extension | undefined
  /** `-j X` or `-g X` with X a verdict or chain. */
  plain: { readonly text: string; readonly jump?: string } | undefined
  legacyRefused: boolean
  refused: boolean
}

/**
 * Parses the words of a rule after its chain. Throws ParameterProblem with the tools' own words. A jump to a chain that is
 * missing is refused here with legacy, and at the end of the batch with nft.
 */
export function parseRule(chain: string, words: readonly string[], context: RuleContext): Rule {
  const reading: Reading = {
    words,
    at: 0,
    negated: false,
    generic: new Map(),
    protocol: undefined,
    matches: [],
    target: undefined,
    plain: undefined,
    legacyRefused: false,
    refused: false,
  }
  while (reading.at < words.length) {
    const word = words[reading.at++] ?? ''
    if (word === '!') {
      if (reading.negated) throw new ParameterProblem('multiple consecutive ! not allowed')
      reading.negated = true
      continue
    }
    option(reading, longNames[word] ?? word, context)
    reading.negated = false
  }
  return finish(reading, chain, context)
}

function option(reading: Reading, name: string, context: RuleContext): void {
  switch (name) {
    case '-s':
    case '-d':
      address(reading, name, context)
      return
    case '-i':
    case '-o':
      interfaceName(reading, name)
      return
    case '-p':
      protocol(reading)
      return
    case '-m':
      noNegation(reading, name)
      reading.matches.push(matchOf(argumentOf(reading, name), context))
      return
    case '-j':
    case '-g':
      target(reading, name, context)
      return
    default:
      extensionOption(reading, name, context)
  }
}

function extensionOption(reading: Reading, name: string, context: RuleContext): void {
  if (!name.startsWith('-')) throw new ParameterProblem(`Bad argument \`${name}'`, true)
  const extension = [...reading.matches].reverse().find(match => name in match.options)
  const owner =
    extension ?? (reading.target !== undefined && name in reading.target.options ? reading.target : undefined)
  if (owner === undefined) {
    // `-p tcp --dport` loads the match by itself.
    const implied = reading.protocol?.name ?? ''
    const loaded = reading.matches.some(match => match.name === implied)
    if (!/^--(?:dport|sport|destination-port|source-port)$/.test(name) || !/^(?:tcp|udp|sctp)$/.test(implied) || loaded)
      throw new ParameterProblem(`unknown option "${name}"`)
    reading.matches.push(matchOf(implied, context))
    extensionOption(reading, name, context)
    return
  }
  let value = owner.options[name] === true || owner.options[name] === 'two' ? argumentOf(reading, name) : ''
  if (owner.options[name] === 'two') value += ` ${secondArgumentOf(reading, name)}`
  owner.option(name, value, reading.negated)
}

function secondArgumentOf(reading: Reading, name: string): string {
  const argument = reading.words[reading.at++]
  if (argument === undefined || /^[-!]/.test(argument)) throw new ParameterProblem(`${name} requires two args.`)
  return argument
}

function argumentOf(reading: Reading, name: string): string {
  const argument = reading.words[reading.at++]
  if (argument === undefined) throw new ParameterProblem(`option "${name}" requires an argument`)
  return argument
}

function noNegation(reading: Reading, name: string): void {
  if (reading.negated) throw new ParameterProblem(`cannot have ! before ${name}`)
}

function once(reading: Reading, name: string): void {
  if (reading.generic.has(name)) throw new ParameterProblem(`multiple ${name} flags not allowed`)
}

function address(reading: Reading, name: '-s' | '-d', { family, variant }: RuleContext): void {
  once(reading, name)
  const text = argumentOf(reading, name)
  const [host = '', mask] = text.split('/')
  const parsed = parseIP(host)
  const plainIPv4 = /^(?:0|[1-9]\d*)(?:\.(?:0|[1-9]\d*)){3}$/
  if (parsed === undefined || familyOf(parsed) !== family || (family === 'IPv4' && !plainIPv4.test(host)))
    throw new ParameterProblem(`host/network \`${host}' not found`)
  const cidr = parseCIDR(`${host}/${mask ?? bitsOf(family)}`)
  if (cidr === undefined || !cidrContains(cidr, parsed)) throw new ParameterProblem(`invalid mask \`${mask}' specified`)
  if (cidr.prefix === 0) {
    // Matches nothing: nft refuses it, legacy keeps it.
    if (reading.negated && variant === 'nft') reading.refused = true
    reading.generic.set(name, reading.negated ? `! ${name} ${formatCIDR(cidr)}` : '')
  } else reading.generic.set(name, `${not(reading.negated)}${name} ${formatCIDR(cidr)}`)
}

function interfaceName(reading: Reading, name: '-i' | '-o'): void {
  once(reading, name)
  const text = argumentOf(reading, name)
  if (text === '') throw new ParameterProblem('Empty interface is likely to be undesired')
  if (text.length > 15) throw new ParameterProblem(`interface name \`${text}' must be shorter than IFNAMSIZ (15)`)
  reading.generic.set(name, text === '+' && !reading.negated ? '' : `${not(reading.negated)}${name} ${text}`)
}

function protocol(reading: Reading): void {
  once(reading, '-p')
  const word = argumentOf(reading, '-p').toLowerCase()
  const name = protocolNames[word] ?? word
  const known = Object.values(protocolNames).includes(name)
  const isNumber = /^\d{1,3}$/.test(name) && Number(name) <= 255
  if (name === 'all' || name === '0') {
    if (reading.negated) throw new ParameterProblem('rule would never match protocol')
    reading.generic.set('-p', '')
    return
  }
  if (!known && !isNumber) throw new ParameterProblem(`unknown protocol "${word}" specified`)
  reading.protocol = { name, negated: reading.negated }
  reading.generic.set('-p', `${not(reading.negated)}-p ${name}`)
}

function target(reading: Reading, name: '-j' | '-g', context: RuleContext): void {
  noNegation(reading, name)
  once(reading, '-j')
  reading.generic.set('-j', '')
  const to = argumentOf(reading, name)
  if (to.length > longestChainName)
    throw new ParameterProblem(`Invalid target name \`${to}' (${longestChainName} chars max)`)
  if (/[\s]/.test(to) || to === '') throw new ParameterProblem(`Invalid target name \`${to}'`)
  const verdict = verdicts.some(known => known === to)
  reading.target = name === '-j' && !verdict ? targetOf(to, context) : undefined
  if (reading.target !== undefined) return
  if (name === '-j' && verdict) {
    reading.plain = { text: `-j ${to}` }
    return
  }
  reading.plain = { text: `${name} ${to}`, jump: to }
}

/** What the tools say to DROP in the nat table, policies included. */
export const noFiltering =
  '\nThe "nat" table is not intended for filtering, the use of DROP is therefore inhibited.\n\n'

function finish(reading: Reading, chain: string, context: RuleContext): Rule {
  const { generic, matches, plain } = reading
  if (reading.negated) throw new ParameterProblem('nothing appropriate following !')
  if (plain?.text === '-j DROP' && context.table === 'nat') throw new ParameterProblem(noFiltering)
  const done = [...matches, ...(reading.target === undefined ? [] : [reading.target])].map(extension =>
    extension.finish(reading.protocol, context),
  )
  if (generic.has('-i') && (chain === 'OUTPUT' || chain === 'POSTROUTING'))
    throw new ParameterProblem(`Can't use -i with ${chain}\n`)
  if (generic.has('-o') && (chain === 'PREROUTING' || chain === 'INPUT'))
    throw new ParameterProblem(`Can't use -o with ${chain}\n`)
  if (plain?.jump !== undefined) needChain(plain, context)
  const needs: KernelNeeds[] = done.flatMap(({ needs: demanded }) => (demanded === undefined ? [] : [demanded]))
  if (reading.refused) needs.push({ refused: true })
  const words = [
    ...['-s', '-d', '-i', '-o', '-p'].map(name => generic.get(name) ?? ''),
    ...done.map(({ text }) => text),
    plain?.text ?? '',
  ]
  return {
    text: words.filter(word => word !== '').join(' '),
    needs,
    legacyRefused: done.some(({ legacyRefused }) => legacyRefused === true),
    sets: done.flatMap(({ sets = [] }) => sets),
    ...(plain?.jump === undefined ? {} : { jump: plain.jump }),
  }
}

/** Legacy looks for the chain once the rule is read. */
function needChain({ text, jump = '' }: { readonly text: string; readonly jump?: string }, context: RuleContext): void {
  if (context.variant !== 'legacy' || context.hasChain(jump)) return
  throw new ParameterProblem(
    text.startsWith('-g')
      ? `goto '${jump}' is not a chain`
      : `Couldn't load target \`${jump}':No such file or directory\n`,
  )
}
