// Targets: those that Service rules use, and no others.
import { bitsOf, familyOf, formatAddressPort, parseIP } from '../../../src/net/ip.ts'
import { ParameterProblem } from './errors.ts'
import { type Extension, optionGuard, required } from './extension.ts'
import { markValue, setArgument } from './matches.ts'
import type { RuleContext } from './tables.ts'
import { hexadecimal, unsigned } from './words.ts'

/** Targets without options. */
export const verdicts = ['ACCEPT', 'DROP', 'RETURN'] as const

/** Makes a target by name; undefined if there is none of that name. */
export function targetOf(name: string, context: RuleContext): Extension | undefined {
  switch (name) {
    case 'REJECT':
      return reject(context)
    case 'MARK':
      return mark()
    case 'MASQUERADE':
      return masquerade()
    case 'DNAT':
      return dnat(context)
    case 'SET':
      return mapSet(context)
    default:
      return undefined
  }
}

const rejectTypes = {
  IPv4: [
    ...['icmp-net-unreachable', 'icmp-host-unreachable', 'icmp-proto-unreachable', 'icmp-port-unreachable'],
    ...['icmp-net-prohibited', 'icmp-host-prohibited', 'icmp-admin-prohibited', 'tcp-reset'],
  ],
  IPv6: [
    ...['icmp6-no-route', 'icmp6-adm-prohibited', 'icmp6-addr-unreachable', 'icmp6-port-unreachable'],
    ...['icmp6-policy-fail', 'icmp6-reject-route', 'tcp-reset'],
  ],
} as const

function reject({ family }: RuleContext): Extension {
  let type: string = family === 'IPv4' ? 'icmp-port-unreachable' : 'icmp6-port-unreachable'
  const guard = optionGuard('REJECT', [])
  return {
    name: 'REJECT',
    options: { '--reject-with': true },
    option(name, argument, negated) {
      guard(name, negated)
      const known: readonly string[] = rejectTypes[family]
      if (!known.includes(argument)) throw new ParameterProblem(`unknown reject type "${argument}"`)
      type = argument
    },
    finish(protocol) {
      const needsTCP = type === 'tcp-reset' && (protocol?.name !== 'tcp' || protocol.negated)
      return {
        text: `-j REJECT --reject-with ${type}`,
        needs: { table: 'filter', hooks: ['INPUT', 'FORWARD', 'OUTPUT'], refused: needsTCP },
      }
    },
  }
}

const markOptions = ['--set-xmark', '--set-mark', '--and-mark', '--or-mark', '--xor-mark']

function mark(): Extension {
  let used: string | undefined
  let text: string | undefined
  return {
    name: 'MARK',
    options: Object.fromEntries(markOptions.map(option => [option, true])),
    option(name, argument, negated) {
      if (negated) throw new ParameterProblem(`MARK: option "${name}" cannot be inverted.\n`)
      if (used !== undefined)
        throw new ParameterProblem(`MARK: option "${used}" cannot be used together with "${name}".\n`)
      used = name
      const { value, mask } = markValue(argument, 'MARK', name)
      if (name === '--set-xmark') text = `${hexadecimal(value)}/${hexadecimal(mask)}`
      else if (name === '--set-mark') text = `${hexadecimal(value)}/${hexadecimal(value | mask)}`
      else if (name === '--or-mark') text = `${hexadecimal(value)}/${hexadecimal(value)}`
      else if (name === '--xor-mark') text = `${hexadecimal(value)}/0x0`
      else text = `0x0/${hexadecimal(~value)}`
    },
    finish() {
      if (text === undefined)
        throw new ParameterProblem('MARK: One of the --set-xmark, --{and,or,xor,set}-mark options is required')
      return { text: `-j MARK --set-xmark ${text}` }
    },
  }
}

const needPorts = 'Need TCP, UDP, SCTP or DCCP with port specification'
const withPorts = ['tcp', 'udp', 'sctp']

function masquerade(): Extension {
  const flags = new Set<string>()
  let ports: string | undefined
  const guard = optionGuard('MASQUERADE', [])
  return {
    name: 'MASQUERADE',
    options: { '--random': false, '--random-fully': false, '--to-ports': true },
    option(name, argument, negated) {
      guard(name, negated)
      if (name === '--to-ports') ports = argument
      else flags.add(name)
    },
    finish(protocol) {
      if (ports !== undefined && !withPorts.includes(protocol?.name ?? '')) throw new ParameterProblem(needPorts)
      const words = [
        ports === undefined ? undefined : `--to-ports ${ports}`,
        ...['--random', '--random-fully'].filter(flag => flags.has(flag)),
      ]
      return {
        text: ['-j MASQUERADE', ...words.filter(word => word !== undefined)].join(' '),
        needs: { table: 'nat', hooks: ['POSTROUTING'] },
      }
    },
  }
}

function dnat(context: RuleContext): Extension {
  let destination: { text: string; hasPort: boolean } | undefined
  const flags = new Set<string>()
  const guard = optionGuard('DNAT', [])
  return {
    name: 'DNAT',
    options: { '--to-destination': true, '--random': false, '--persistent': false },
    option(name, argument, negated) {
      guard(name, negated)
      if (name === '--to-destination') destination = toDestination(argument, context)
      else flags.add(name)
    },
    finish(protocol) {
      const { text, hasPort } = required(destination, 'DNAT', '--to-destination')
      if (hasPort && !withPorts.includes(protocol?.name ?? '')) throw new ParameterProblem(needPorts)
      const words = ['--random', '--persistent'].filter(flag => flags.has(flag))
      return {
        text: ['-j DNAT --to-destination', text, ...words].join(' '),
        needs: { table: 'nat', hooks: ['PREROUTING', 'OUTPUT'] },
      }
    },
  }
}

/** SET, as far as it copies an element's mark to the packet. */
function mapSet(context: RuleContext): Extension {
  let found: { readonly text: string; readonly name: string } | undefined
  let copiesMark = false
  return {
    name: 'SET',
    options: { '--map-set': 'two', '--map-mark': false },
    option(name, argument, negated) {
      if (negated) throw new ParameterProblem(`SET: option "${name}" cannot be inverted.\n`)
      if (name === '--map-mark') {
        copiesMark = true
        return
      }
      if (found !== undefined) throw new ParameterProblem('--map-set can be specified only once')
      const set = setArgument(argument, context)
      // The kernel takes the rule, and it never marks a packet.
      if (set.skbinfo === false)
        throw new ParameterProblem(`set ${set.name} was created without skbinfo: it has no marks`)
      found = { text: `--map-set ${argument}`, name: set.name }
    },
    finish() {
      if (found === undefined)
        throw new ParameterProblem("You must specify either `--add-set' or `--del-set' or `--map-set'")
      if (!copiesMark)
        throw new ParameterProblem("You must specify flags `--map-mark' or '--map-prio` or `--map-queue'")
      return { text: `-j SET ${found.text} --map-mark`, needs: { table: 'mangle' }, sets: [found.name] }
    },
  }
}

/** One address, with or without a port. Ranges are not what a Service needs. */
function toDestination(argument: string, { family }: RuleContext): { text: string; hasPort: boolean } {
  const pattern = family === 'IPv4' ? /^([^:]*)(?::(.*))?$/ : /^\[([^\]]*)\](?::(.*))?$/
  const bare = family === 'IPv6' && !argument.startsWith('[') ? [argument, argument, undefined] : undefined
  const match = bare ?? pattern.exec(argument)
  if (match === null || (family === 'IPv4' && argument.startsWith('[')))
    throw new ParameterProblem('Invalid address format')
  const [, addressText = '', portText] = match
  const address = parseIP(addressText)
  if (address === undefined || bitsOf(familyOf(address)) !== bitsOf(family))
    throw new ParameterProblem(`Bad IP address "${addressText}"`)
  if (portText === undefined) return { text: address, hasPort: false }
  const port = unsigned(portText)
  if (port === undefined || port < 1 || port > 65535) throw new ParameterProblem(`Port \`${portText}' not valid`)
  return { text: formatAddressPort(address, port), hasPort: true }
}
