// IPVS mode by programs: ipset, ipvsadm and ip. What they print, and what it means when they fail.
import type { Exec, ExecResult } from '../../kernel/exec.ts'
import { bitsOf, type Family, familyOf, type IP } from '../../net/ip.ts'
import { CommitError } from '../backend.ts'
import {
  type Command,
  lineOf,
  linesOf,
  partsOf,
  type RoutingCommand,
  type ServerCommand,
  type SetCommand,
} from './commands.ts'
import type { IpvsKernel, Refused } from './kernel.ts'
import { fingerprint } from './look.ts'
import { device, routeMark, type VirtualServer } from './names.ts'
import {
  type HeldServer,
  type HeldSet,
  type Loads,
  loadOf,
  parseAddresses,
  parseLoads,
  parseLocals,
  parseServers,
  parseSets,
} from './parse.ts'
import { serverArguments } from './servers.ts'

/** Ten thousand Services take seconds, never minutes; longer means that a program hangs. */
const timeoutMs = 120_000
/** Up to that many virtual servers are asked for one by one. */
const singly = 32

/** The kernel by programs. */
export function programs(exec: Exec): IpvsKernel {
  return {
    sets: (family, signal) => readSets(exec, family, signal),
    servers: (family, signal) => readServers(exec, family, signal),
    addresses: (family, signal) => readAddresses(exec, family, signal),
    hasDevice: signal => hasDevice(exec, signal),
    proxyAddresses: (family, signal) => readProxyAddresses(exec, family, signal),
    async isLocal(address, signal) {
      const family = familyOf(address)
      const args = [...showRoutes(family), 'exact', `${address}/${bitsOf(family)}`]
      const result = await exec.run('ip', args, { signal, timeoutMs })
      // A program that was ended says nothing about the route.
      if (result.exitCode !== 0) return result.exitCode < 0 && !result.notFound
      return parseLocals(result.stdout, routeMark.metric).length > 0
    },
    async hasServer(server, family, signal) {
      const args = ['-Ln', ...serverArguments(server, family).split(' ')]
      const result = await exec.run('ipvsadm', args, { signal, timeoutMs })
      return result.exitCode === 0 || !/No such service/i.test(result.stderr)
    },
    loadsPerTurn: Number.POSITIVE_INFINITY,
    loads: (servers, family, signal) => readLoads(exec, servers, family, signal),
    change: (commands, family, signal) => change(exec, commands, family, signal),
    fingerprint: (family, signal) => fingerprint(exec, family, signal),
    load: async () => {
      const result = await exec.run('ipvsadm', ['-Ln'], { timeoutMs })
      if (result.exitCode !== 0) throw failure('ipvsadm', result)
    },
    async changeTimeouts({ tcp, tcpFin, udp }) {
      const result = await exec.run('ipvsadm', ['--set', `${tcp}`, `${tcpFin}`, `${udp}`], { timeoutMs })
      if (result.exitCode !== 0) throw failure('ipvsadm', result)
    },
    close: async () => undefined,
  }
}

/** Our sets. Throws CommitError. */
async function readSets(exec: Exec, family: Family, signal: AbortSignal): Promise<HeldSet[]> {
  const result = await exec.run('ipset', ['save'], { signal, timeoutMs })
  if (result.exitCode !== 0) throw failure('ipset', result)
  return parseSets(result.stdout, family)
}

/** All virtual servers of the family, ours or not. Throws CommitError. */
export async function readServers(exec: Exec, family: Family, signal?: AbortSignal): Promise<HeldServer[]> {
  const result = await exec.run('ipvsadm', ['-Sn'], { ...(signal && { signal }), timeoutMs })
  if (result.exitCode !== 0) throw failure('ipvsadm', result)
  return parseServers(result.stdout, family)
}

/** Arguments of ip that have it list our routes. */
export const showRoutes = (family: Family): readonly string[] => [
  family === 'IPv4' ? '-4' : '-6',
  ...['route', 'show', 'table', 'local', 'proto', `${routeMark.protocol}`],
]

async function readAddresses(exec: Exec, family: Family, signal: AbortSignal): Promise<IP[]> {
  const result = await exec.run('ip', showRoutes(family), { signal, timeoutMs })
  // Without any address there is no table, as long as lo was never up.
  if (result.exitCode !== 0 && !/table does not exist/.test(result.stderr)) throw failure('ip', result)
  return parseLocals(result.stdout, routeMark.metric).filter(ip => familyOf(ip) === family)
}

/** True if the device is there. */
export async function hasDevice(exec: Exec, signal: AbortSignal): Promise<boolean> {
  const result = await exec.run('ip', ['-o', 'link', 'show', 'dev', device], { signal, timeoutMs })
  // A program that was ended says nothing about the device.
  return result.exitCode === 0 || (result.exitCode < 0 && !result.notFound)
}

/** Addresses on the device; none if there is no such device. Throws CommitError. */
export async function readProxyAddresses(exec: Exec, family: Family, signal: AbortSignal): Promise<IP[]> {
  const args = [family === 'IPv4' ? '-4' : '-6', '-o', 'addr', 'show', 'dev', device]
  const result = await exec.run('ip', args, { signal, timeoutMs })
  if (result.exitCode === 0) return parseAddresses(result.stdout, family)
  if (/does not exist|Cannot find device/.test(result.stderr)) return []
  throw failure('ip', result)
}

/** Those of the virtual servers that have connections. Throws CommitError. */
export async function withConnections(
  exec: Exec,
  family: Family,
  servers: readonly { server: VirtualServer; real: readonly { address: string }[] }[],
  signal: AbortSignal,
): Promise<VirtualServer[]> {
  const loads = await allLoads(exec, signal)
  return servers
    .filter(({ server, real }) =>
      real.some(({ address }) => (loadOf(loads, server, address, family)?.connections ?? 0) > 0),
    )
    .map(({ server }) => server)
}

async function allLoads(exec: Exec, signal?: AbortSignal): Promise<Loads> {
  const result = await exec.run('ipvsadm', ['-Ln'], { ...(signal && { signal }), timeoutMs })
  if (result.exitCode !== 0) throw failure('ipvsadm', result)
  return parseLoads(result.stdout)
}

async function readLoads(
  exec: Exec,
  servers: readonly VirtualServer[],
  family: Family,
  signal?: AbortSignal,
): Promise<Loads> {
  if (servers.length > singly) return allLoads(exec, signal)
  let text = ''
  for (const server of servers) {
    const args = ['-Ln', ...serverArguments(server, family).split(' ')]
    const result = await exec.run('ipvsadm', args, { ...(signal && { signal }), timeoutMs })
    if (result.exitCode === 0) text += result.stdout
    else if (!/No such service/i.test(result.stderr)) throw failure('ipvsadm', result)
  }
  return parseLoads(text)
}

/** Gives a program its lines, if there are any. Throws CommitError. */
export async function write(
  exec: Exec,
  command: string,
  args: readonly string[],
  lines: readonly string[],
  signal: AbortSignal,
): Promise<void> {
  if (lines.length === 0) return
  const result = await exec.run(command, args, { input: `${lines.join('\n')}\n`, signal, timeoutMs })
  if (result.exitCode !== 0) throw failure(command, result)
}

/** Each program takes the commands that are its own, all of them at once. Ends after the first that refuses something. */
async function change(
  exec: Exec,
  commands: readonly Command[],
  family: Family,
  signal?: AbortSignal,
): Promise<readonly Refused[]> {
  const run = async <C extends Command>(
    program: string,
    args: readonly string[],
    own: readonly C[],
    explain: (result: ExecResult, own: readonly C[]) => Promise<readonly Refused<C>[]> | readonly Refused<C>[],
  ): Promise<readonly Refused<C>[]> => {
    if (own.length === 0) return []
    const input = linesOf(own, family)
    return explain(await exec.run(program, args, { input, ...(signal && { signal }), timeoutMs }), own)
  }
  const parts = partsOf(commands)
  const sets = await run('ipset', ['restore'], parts.sets, (result, own) => setsRefused(result, own, family))
  if (sets.length > 0) return sets
  const servers = await run('ipvsadm', ['--restore'], parts.servers, (result, own) =>
    serversRefused(exec, result, own, family, signal),
  )
  if (servers.length > 0) return servers
  const refused: Refused[] = []
  let rest = parts.routing
  while (rest.length > 0) {
    const [one] = await run('ip', ['-batch', '-'], rest, (result, own) => routingRefused(result, own, family))
    if (one === undefined) break
    refused.push(one)
    if (one.why === 'invalid') break
    // What is there already, or gone, is no reason not to do what comes after it.
    rest = rest.slice(rest.indexOf(one.command) + 1)
  }
  return refused
}

/** ipset ends at the first line that the kernel refuses, and says which it is. */
function setsRefused(result: ExecResult, own: readonly SetCommand[], family: Family): readonly Refused<SetCommand>[] {
  if (result.exitCode === 0) return []
  const error = failure('ipset', result)
  const command = own[Number(/Error in line (\d+)/.exec(result.stderr)?.[1]) - 1]
  if (error.kind !== 'refused' || command === undefined) throw error
  const why = /in use/.test(result.stderr)
    ? 'busy'
    : /already (?:added|exists)/.test(result.stderr)
      ? 'exists'
      : /does not exist|not added/.test(result.stderr)
        ? 'missing'
        : 'invalid'
  return [{ command, why, message: `${error.message} (${lineOf(command, family)})` }]
}

/**
 * ipvsadm goes on after most errors, ends with the status of its last line, and does not say which line it means: the kernel
 * is asked. An input that it cannot read ends it there.
 */
async function serversRefused(
  exec: Exec,
  result: ExecResult,
  own: readonly ServerCommand[],
  family: Family,
  signal?: AbortSignal,
): Promise<readonly Refused<ServerCommand>[]> {
  if (result.exitCode === 0 && result.stderr.trim() === '') return []
  const error = failure('ipvsadm', result)
  if (error.kind !== 'refused') throw error
  const missed = unmet(own, await readServers(exec, family, signal))
  const wanted = missed.filter(command => !isForAbsence(command))
  // After a line that cannot be read nothing was tried: only that one is to blame. What is to be gone and is not, is not
  // blamed for what could not be made.
  const blamed = wanted.length === 0 ? missed : result.exitCode === 2 ? wanted.slice(0, 1) : wanted
  return blamed.map(command => ({
    command,
    why: 'invalid',
    message: `${error.message} (${lineOf(command, family)})`,
  }))
}

const isForAbsence = (command: ServerCommand): boolean =>
  command.kind === 'delete-server' ||
  command.kind === 'delete-real' ||
  (command.kind === 'edit-real' && command.weight === 0)

/** Commands that the kernel does not hold to, in their order. */
function unmet(commands: readonly ServerCommand[], held: readonly HeldServer[]): ServerCommand[] {
  const servers = new Map(held.map(item => [item.server, item]))
  return commands.filter(command => !isMet(command, servers.get(command.server)))
}

function isMet(command: ServerCommand, held: HeldServer | undefined): boolean {
  switch (command.kind) {
    case 'add-server':
    case 'edit-server':
      return held?.options === command.options
    case 'delete-server':
      return held === undefined
    case 'delete-real':
      return held?.real.some(({ address }) => address === command.real) !== true
    default: {
      const found = held?.real.find(({ address }) => address === command.real)
      // What is to be drained may be gone.
      return command.weight === 0 ? found === undefined || found.weight === 0 : found?.weight === command.weight
    }
  }
}

/** ip ends at the first line that the kernel refuses, and says which it is. */
function routingRefused(
  result: ExecResult,
  own: readonly RoutingCommand[],
  family: Family,
): readonly Refused<RoutingCommand>[] {
  if (result.exitCode === 0) return []
  const command = own[Number(/Command failed -:(\d+)/.exec(result.stderr)?.[1]) - 1]
  const error = failure('ip', result)
  if (error.kind !== 'refused' || command === undefined) throw error
  const why = /File exists/.test(result.stderr)
    ? 'exists'
    : /No such process|Cannot find device/.test(result.stderr)
      ? 'missing'
      : 'invalid'
  return [{ command, why, message: `${error.message} (${lineOf(command, family)})` }]
}

/** What a failed program means for the syncer (`design.md` §3). */
export function failure(command: string, result: ExecResult): CommitError {
  const lines = result.stderr.trim().split('\n')
  // modprobe speaks first where a module is missing; what follows from it comes after.
  const said = lines.find(line => !line.startsWith('modprobe: ')) ?? lines[0] ?? ''
  const message = `${command}: ${said === '' ? `exit status ${result.exitCode}` : said}`
  const packages: Readonly<Record<string, string>> = { ip: 'iproute2' }
  if (result.notFound) {
    const name = packages[command] ?? command
    return new CommitError('unsupported', `${command} is not installed: install the package ${name}`)
  }
  if (/Operation not permitted|Permission denied|must be root|You need to be root/i.test(said)) {
    return new CommitError('denied', message)
  }
  if (/Can't initialize ipvs|Protocol not available|Operation not supported/i.test(said)) {
    return new CommitError('unsupported', `${message}: ${noIpvs}`)
  }
  if (/Cannot open session to kernel|Kernel support protocol versions/i.test(said)) {
    return new CommitError('unsupported', `${message}: ${noIpset}`)
  }
  if (
    result.exitCode === -1 ||
    /Resource temporarily unavailable|resource busy|Cannot allocate memory|No buffer space|Interrupted|device is not up|disabled on nexthop device/i.test(
      said,
    )
  ) {
    return new CommitError('transient', message)
  }
  return new CommitError('refused', message)
}

/** What a kernel without them lacks. */
export const noIpvs = 'this kernel has no IPVS (CONFIG_IP_VS, module ip_vs)'
export const noIpset = 'this kernel has no ipset (CONFIG_IP_SET, module ip_set)'
