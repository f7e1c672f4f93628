// What is to be done in the kernel, one change at a time: typed, and as the lines that ipset, ipvsadm and ip are given.
import { bitsOf, type Family, type IP } from '../../net/ip.ts'
import type { Step } from '../backend.ts'
import { device, routeMark, type VirtualServer } from './names.ts'
import { serverArguments } from './servers.ts'

export type SetCommand =
  /** `type` as `setType` writes it. */
  | { readonly kind: 'create-set'; readonly set: string; readonly type: string }
  | { readonly kind: 'destroy-set'; readonly set: string }
  | {
      readonly kind: 'add-member'
      readonly set: string
      readonly element: string
      /** What comes with it, a comment or a mark; empty: nothing. */
      readonly value: string
      /** One that is there gets the new value. */
      readonly replace: boolean
    }
  | { readonly kind: 'delete-member'; readonly set: string; readonly element: string }

export type ServerCommand =
  /** `options` as `optionsOf` writes them. */
  | { readonly kind: 'add-server' | 'edit-server'; readonly server: VirtualServer; readonly options: string }
  | { readonly kind: 'delete-server'; readonly server: VirtualServer }
  | {
      readonly kind: 'add-real' | 'edit-real'
      readonly server: VirtualServer
      /** `10.0.0.1:80`. */
      readonly real: string
      /** 0: it gets no new connections. */
      readonly weight: 0 | 1
    }
  | { readonly kind: 'delete-real'; readonly server: VirtualServer; readonly real: string }

export type RoutingCommand =
  | { readonly kind: 'add-device' | 'delete-device' }
  /** An address that is made the machine's, by a local route, or is no longer. */
  | { readonly kind: 'add-address' | 'delete-address'; readonly address: IP }

export type Command = SetCommand | ServerCommand | RoutingCommand

/** Programs that steps are for, where programs are used. */
export type Tool = 'ipset' | 'iptables' | 'ipvsadm' | 'link' | 'route'

/** Where a step has its commands: no name that `penstock plan -o json` would print. */
const commandList = Symbol('commands')

/** A step of other than iptables. Its text is made when somebody asks for it: a commit by netlink needs none. */
export interface CommandStep extends Step {
  readonly [commandList]: readonly Command[]
}

const isCommandStep = (step: Step): step is CommandStep => commandList in step

/** The commands of a step; undefined for one that is text for iptables. */
export const commandsOf = (step: Step): readonly Command[] | undefined =>
  isCommandStep(step) ? step[commandList] : undefined

/** A step of commands. */
export function commandStep(
  tool: Exclude<Tool, 'iptables'>,
  title: string,
  commands: readonly Command[],
  family: Family,
  keys: readonly string[],
): CommandStep {
  return {
    title: `${tool}: ${title}`,
    tool,
    [commandList]: commands,
    keys,
    get text() {
      return linesOf(commands, family)
    },
  }
}

/** Lines for the program that takes such commands, each ended. */
export const linesOf = (commands: readonly Command[], family: Family): string =>
  commands.map(command => `${lineOf(command, family)}\n`).join('')

/** The line of one command, for ipset, ipvsadm or ip. */
export function lineOf(command: Command, family: Family): string {
  switch (command.kind) {
    case 'create-set':
      return `create ${command.set} ${command.type}`
    case 'destroy-set':
      return `destroy ${command.set}`
    case 'add-member': {
      const { set, element, value, replace } = command
      return `add ${set} ${element}${value === '' ? '' : ` ${value}`}${replace ? ' -exist' : ''}`
    }
    case 'delete-member':
      return `del ${command.set} ${command.element}`
    case 'add-server':
      return `-A ${serverArguments(command.server, family)} ${command.options}`
    case 'edit-server':
      return `-E ${serverArguments(command.server, family)} ${command.options}`
    case 'delete-server':
      return `-D ${serverArguments(command.server, family)}`
    case 'add-real':
      return `-a ${serverArguments(command.server, family)} -r ${command.real} -m -w ${command.weight}`
    case 'edit-real':
      return `-e ${serverArguments(command.server, family)} -r ${command.real} -m -w ${command.weight}`
    case 'delete-real':
      return `-d ${serverArguments(command.server, family)} -r ${command.real}`
    case 'add-device':
      return `link add ${device} type dummy`
    case 'delete-device':
      return `link del ${device}`
    case 'add-address':
      // Beside the kernel's own, if it has one: either comes and goes by itself.
      return `route append ${routeTo(command.address, family)}`
    case 'delete-address':
      return `route del ${routeTo(command.address, family)}`
  }
}

const routeTo = (address: IP, family: Family): string =>
  `local ${address}/${bitsOf(family)} dev lo table local proto ${routeMark.protocol} metric ${routeMark.metric}`

/** Commands by the part of the kernel that takes them, each in their order. */
export interface CommandParts {
  readonly sets: readonly SetCommand[]
  readonly servers: readonly ServerCommand[]
  readonly routing: readonly RoutingCommand[]
}

export function partsOf(commands: readonly Command[]): CommandParts {
  const parts: { sets: SetCommand[]; servers: ServerCommand[]; routing: RoutingCommand[] } = {
    sets: [],
    servers: [],
    routing: [],
  }
  for (const command of commands) {
    if ('set' in command) parts.sets.push(command)
    else if ('server' in command) parts.servers.push(command)
    else parts.routing.push(command)
  }
  return parts
}
