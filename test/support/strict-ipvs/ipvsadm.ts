// The program ipvsadm 1.31: what a line makes of the kernel's table, how the table is printed, how an input goes on.
import { familyOf, formatAddressPort } from '../../../src/net/ip.ts'
import type { ToolResult } from '../strict-iptables/strict-iptables.ts'
import { type Command, checkOptions, LineSkipped, ProgramEnds, readCommand, tryHelp } from './ipvsadm-options.ts'
import type { StepGuard } from './steps.ts'
import {
  type Destination,
  familyOfServer,
  type ServerId,
  ServerRefused,
  type ServerSettings,
  sortedReal,
  type VirtualServer,
  type VirtualServers,
} from './virtual-servers.ts'

/** Runs ipvsadm. The table may have changed even if it failed. */
export function ipvsadm(
  words: readonly string[],
  input: string,
  servers: VirtualServers,
  guard: StepGuard,
): ToolResult {
  const said: string[] = []
  const result = (exitCode: number, stdout = ''): ToolResult => ({
    exitCode,
    stdout,
    stderr: said.map(line => `${line}\n`).join(''),
  })
  try {
    const command = readCommand(words)
    if (command.verb === 'version') return result(0, 'ipvsadm v1.31 2019/12/24 (compiled with popt and IPVS v1.2.1)\n')
    checkOptions(command)
    needNumbers(command)
    switch (command.verb) {
      case 'list':
        return result(0, command.given.has('timeout') ? timeouts(servers) : listed(command, servers))
      case 'save':
        return result(0, saved(servers))
      case 'restore':
        return result(restore(input, servers, guard, said))
      default:
        return result(carriedOut(command, servers, guard, said) ? 0 : 255)
    }
  } catch (error) {
    if (!(error instanceof ProgramEnds || error instanceof LineSkipped)) throw error
    said.push(error.message)
    return result(error instanceof ProgramEnds ? error.exitCode : 255)
  }
}

/** Names of hosts and services depend on the machine, so they are never asked for. Throws ProgramEnds. */
function needNumbers({ verb, given }: Command): void {
  if ((verb === 'list' || verb === 'save') && !given.has('numeric') && !given.has('timeout'))
    throw new ProgramEnds('the strict ipvsadm prints numbers only: use -n')
}

/** All lines of an input, whatever the kernel says to them. Returns the exit code: that of the last line. */
function restore(input: string, servers: VirtualServers, guard: StepGuard, said: string[]): number {
  let exitCode = 0
  for (const line of input.split('\n')) {
    const words = line.split(/[ \t\r]+/).filter(word => word !== '' && word !== 'ipvsadm')
    if (words.length === 0) continue
    try {
      const command = readCommand(words)
      checkOptions(command)
      if (command.verb === 'restore') throw tryHelp()
      if (['list', 'save', 'version'].includes(command.verb))
        throw new ProgramEnds(`the strict ipvsadm knows no '${command.verb}' inside an input`)
      exitCode = carriedOut(command, servers, guard, said) ? 0 : 255
    } catch (error) {
      if (!(error instanceof LineSkipped)) throw error
      said.push(error.message)
      exitCode = 255
    }
  }
  return exitCode
}

/** Asks the kernel. False if it refuses, which is said. Throws ProgramEnds for what ipvsadm itself does not accept. */
function carriedOut(command: Command, servers: VirtualServers, guard: StepGuard, said: string[]): boolean {
  const step = stepOf(command, servers)
  try {
    guard(step)
    return true
  } catch (error) {
    if (!(error instanceof ServerRefused)) throw error
    said.push(error.message)
    return false
  }
}

function stepOf(command: Command, servers: VirtualServers): () => void {
  const { verb, server, timeouts: seconds } = command
  if (verb === 'clear') return () => servers.clear()
  if (verb === 'set') {
    const [tcp = 0, tcpFin = 0, udp = 0] = seconds
    return () => servers.setTimeouts({ tcp, tcpFin, udp })
  }
  if (server === undefined) throw new Error(`${verb} without a virtual server`)
  switch (verb) {
    case 'add-service':
      return (
        (settings: ServerSettings) => () =>
          servers.add(server, settings)
      )(settingsOf(command, server))
    case 'edit-service':
      return (
        (settings: ServerSettings) => () =>
          servers.edit(server, settings)
      )(settingsOf(command, server))
    case 'delete-service':
      return () => servers.remove(server)
    case 'add-server':
      return (
        (to: Destination) => () =>
          servers.addDestination(server, to)
      )(destinationOf(command, server))
    case 'edit-server':
      return (
        (to: Destination) => () =>
          servers.editDestination(server, to)
      )(destinationOf(command, server))
    default: {
      const { real } = command
      if (real === undefined) throw new Error(`${verb} without a real server`)
      return () => servers.removeDestination(server, real)
    }
  }
}

function settingsOf(command: Command, server: ServerId): ServerSettings {
  const { scheduler, persistent, schedulerFlags, given } = command
  const name = scheduler === '' ? 'wlc' : scheduler
  const onePacket = given.has('ops')
  const flags = schedulerFlags === undefined ? new Set<1 | 2 | 3>() : flagsOf(schedulerFlags, name)
  if (server.kind === 'address' && server.port === 0 && persistent === undefined)
    throw new ProgramEnds('Zero port specified for non-persistent service')
  if (onePacket && server.kind === 'address' && server.protocol !== 'UDP')
    throw new ProgramEnds('One-Packet Scheduling is only for UDP virtual services')
  return { scheduler: name, persistent, onePacket, flags }
}

const namedFlags: Readonly<Record<string, { readonly bit: 1 | 2 | 3; readonly scheduler?: string }>> = {
  'flag-1': { bit: 1 },
  'flag-2': { bit: 2 },
  'flag-3': { bit: 3 },
  'sh-fallback': { bit: 1, scheduler: 'sh' },
  'sh-port': { bit: 2, scheduler: 'sh' },
  'mh-fallback': { bit: 1, scheduler: 'mh' },
  'mh-port': { bit: 2, scheduler: 'mh' },
}

function flagsOf(text: string, scheduler: string): Set<1 | 2 | 3> {
  const flags = new Set<1 | 2 | 3>()
  for (const word of text.split(',').filter(one => one !== '')) {
    const known = namedFlags[word]
    if (known === undefined) throw new ProgramEnds(`invalid scheduler flag \`${word}'`)
    if (known.scheduler !== undefined && known.scheduler !== scheduler)
      throw new ProgramEnds(`incompatible scheduler flag \`${word}'`)
    flags.add(known.bit)
  }
  return flags
}

function destinationOf({ real, forwarding, weight, verb }: Command, server: ServerId): Destination {
  if (real === undefined) throw new Error(`${verb} without a real server`)
  // Only masquerading can change the port.
  const port = server.kind === 'address' && forwarding !== 'Masq' ? server.port : real.port
  if (familyOf(real.address) !== familyOfServer(server) && forwarding !== 'Tunnel')
    throw new ProgramEnds('Different address family is allowed only for tunneling servers')
  return { address: real.address, port, forwarding, weight }
}

const protocolOptions = { TCP: '-t', UDP: '-u', SCTP: '--sctp-service' } as const

/** `-t 10.96.0.1:80` or `-f 5 -6`, as it is printed by `ipvsadm -Sn`. */
export function serverText(id: ServerId): string {
  if (id.kind === 'address') return `${protocolOptions[id.protocol]} ${formatAddressPort(id.address, id.port)}`
  // Printed as a signed number.
  return `-f ${id.mark | 0}${id.family === 'IPv6' ? ' -6' : ''}`
}

const methods = { Masq: '-m', Route: '-g', Tunnel: '-i' } as const

function saved(servers: VirtualServers): string {
  const lines = servers.list().flatMap(server => {
    const text = serverText(server.id)
    const { scheduler, persistent, onePacket, flags } = server
    const words = [
      `-A ${text} -s ${scheduler}`,
      ...(persistent === undefined ? [] : [`-p ${persistent}`]),
      ...(onePacket ? ['-o'] : []),
      ...(flags.size === 0 ? [] : [`-b ${flagText(server)}`]),
    ]
    const real = sortedReal(server).map(
      ({ address, port, forwarding, weight }) =>
        `-a ${text} -r ${formatAddressPort(address, port)} ${methods[forwarding]} -w ${weight}` +
        (forwarding === 'Tunnel' ? ' --tun-type ipip' : ''),
    )
    return [words.join(' '), ...real]
  })
  return lines.map(line => `${line}\n`).join('')
}

function flagText({ scheduler, flags }: VirtualServer): string {
  const own = scheduler === 'sh' || scheduler === 'mh'
  const names = own ? [`${scheduler}-fallback`, `${scheduler}-port`] : ['flag-1', 'flag-2', 'flag-3']
  return names.filter((_, index) => [...flags].some(flag => flag === index + 1)).join(',')
}

const version = 'IP Virtual Server version 1.2.1 (size=4096)\n'
const title =
  'Prot LocalAddress:Port Scheduler Flags\n' + '  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn\n'

/** All virtual servers, or one. Throws ProgramEnds if that is not there. */
function listed({ server: id }: Command, servers: VirtualServers): string {
  if (id === undefined) return version + listing(servers.list())
  const server = servers.get(id)
  if (server === undefined) throw new ProgramEnds('No such service', 1)
  return listing([server])
}

function listing(servers: readonly VirtualServer[]): string {
  const lines = servers.flatMap(server => {
    const { id, scheduler, persistent, onePacket, flags } = server
    const words = [
      id.kind === 'mark'
        ? `FWM  ${id.mark | 0}${id.family === 'IPv6' ? ' IPv6' : ''}`
        : `${id.protocol.padEnd(4)} ${formatAddressPort(id.address, id.port)}`,
      scheduler,
      ...(flags.size === 0 ? [] : [`(${flagText(server)})`]),
      ...(persistent === undefined ? [] : [`persistent ${persistent}`]),
      ...(onePacket ? ['ops'] : []),
    ]
    const real = sortedReal(server).map(({ address, port, forwarding, weight, active, inactive }) => {
      const to = formatAddressPort(address, port).padEnd(28)
      return `  -> ${to} ${forwarding.padEnd(7)} ${`${weight}`.padEnd(6)} ${`${active}`.padEnd(10)} ${`${inactive}`.padEnd(10)}`
    })
    return [words.join(' '), ...real]
  })
  return title + lines.map(line => `${line}\n`).join('')
}

const timeouts = ({ timeouts: { tcp, tcpFin, udp } }: VirtualServers): string =>
  `Timeout (tcp tcpfin udp): ${tcp} ${tcpFin} ${udp}\n`
