// Another mode has taken over: what IPVS mode left gives way. Connections that live in IPVS go on until they end.
import type { Exec } from '../../kernel/exec.ts'
import { bitsOf, type Family } from '../../net/ip.ts'
import { cleanup as cleanupGlue } from '../xtables/commit.ts'
import { restoreLimits } from '../xtables/plan.ts'
import { toolsOf } from '../xtables/tools.ts'
import { failure, glueScope, read, readAddresses, readServers, readSets } from './commit.ts'
import { device, serverKey, type VirtualServer } from './names.ts'
import { type HeldSet, loadOf, parseLoads } from './parse.ts'
import { addressOf, serverArguments } from './servers.ts'

export interface RetireOptions {
  readonly exec: Exec
  readonly family: Family
  /** Virtual servers that have connections stay, at weight 0, with their addresses. Otherwise everything goes at once. */
  readonly keepConnections: boolean
}

const timeoutMs = 120_000

/**
 * Removes what is ours: at once what only new connections need, and virtual servers as they run out of connections. Returns
 * how many of those are left; 0: nothing of ours is left. A machine without IPVS, or without the programs, holds nothing.
 * Throws CommitError.
 */
export async function retire(options: RetireOptions, signal: AbortSignal): Promise<number> {
  const { exec, family } = options
  // Asking ipvsadm or ipset would load their modules: nothing of ours is there without the device.
  const probe = await exec.run('ip', ['-o', 'link', 'show', 'dev', device], { signal, timeoutMs })
  if (probe.exitCode !== 0) return 0
  const servers = await ownServers(exec, family, signal)
  const busy = options.keepConnections ? await withConnections(exec, family, servers, signal) : []
  await cleanupGlue(
    exec,
    family,
    ['nft', 'legacy'],
    glueScope,
    tools => ({ ...restoreLimits(tools), isShared: () => true, refusalsFirst: false }),
    signal,
  )
  const lines = servers.flatMap(({ server, real }) => {
    const where = serverArguments(server, family)
    if (!busy.includes(server)) return [`-D ${where}`]
    return real.filter(({ weight }) => weight > 0).map(({ address }) => `-e ${where} -r ${address} -m -w 0`)
  })
  await write(exec, 'ipvsadm', ['--restore'], lines, signal)

  const needed = addressesOf(busy, await readSets(exec, family, signal))
  const addresses = (await readAddresses(exec, family, signal)) ?? []
  const unneeded = addresses.filter(ip => !needed.has(ip))
  const removals = unneeded.map(ip => `addr del ${ip}/${bitsOf(family)} dev ${device}`)
  await write(exec, 'ip', ['-batch', '-'], removals, signal)
  if (busy.length > 0) return busy.length

  const sets = await readSets(exec, family, signal)
  await write(
    exec,
    'ipset',
    ['restore'],
    sets.map(({ name }) => `destroy ${name}`),
    signal,
  )
  // The other address family may still need the device.
  const other = family === 'IPv4' ? 'IPv6' : 'IPv4'
  if (((await readAddresses(exec, other, signal)) ?? []).length === 0) {
    await exec.run('ip', ['link', 'del', device], { signal, timeoutMs })
  }
  return 0
}

/** Where packets of these virtual servers arrive: for those by mark, at the frontends that the set MARK names. */
function addressesOf(servers: readonly VirtualServer[], sets: readonly HeldSet[]): ReadonlySet<string> {
  const needed = new Set<string>()
  const marks = new Set<string>()
  for (const server of servers) {
    const address = addressOf(server)
    if (address === undefined) marks.add(`skbmark ${server.split(' ')[1]}`)
    else needed.add(address)
  }
  for (const { role, members } of sets) {
    if (role !== 'MARK') continue
    for (const [element, mark] of members) if (marks.has(mark)) needed.add(element.split(',')[0] ?? '')
  }
  return needed
}

/** How often it is looked whether connections have ended, milliseconds; and for how long at most. */
const lookEveryMs = 5_000
const limitMs = 15 * 60_000

/**
 * A retirement that takes its time: each call removes what it can and returns the milliseconds to the next; undefined when
 * nothing is left. Connections have a quarter of an hour.
 */
export function retirement(
  options: Omit<RetireOptions, 'keepConnections'>,
): (signal: AbortSignal) => Promise<number | undefined> {
  let since: number | undefined
  return async signal => {
    since ??= performance.now()
    const keepConnections = performance.now() - since < limitMs
    return (await retire({ ...options, keepConnections }, signal)) === 0 ? undefined : lookEveryMs
  }
}

async function ownServers(exec: Exec, family: Family, signal: AbortSignal) {
  const all = await readServers(exec, family, signal)
  const tools = (await toolsOf(exec, family, 'nft')) ?? (await toolsOf(exec, family, 'legacy'))
  if (tools === undefined) return []
  const { program } = await read(exec, tools, { family, excludeCIDRs: [] }, signal)
  return all.filter(({ server }) => program.has(serverKey(server)))
}

async function withConnections(
  exec: Exec,
  family: Family,
  servers: readonly { server: VirtualServer; real: readonly { address: string }[] }[],
  signal: AbortSignal,
): Promise<VirtualServer[]> {
  const result = await exec.run('ipvsadm', ['-Ln'], { signal, timeoutMs })
  if (result.exitCode !== 0) throw failure('ipvsadm', result)
  const loads = parseLoads(result.stdout)
  return servers
    .filter(({ server, real }) =>
      real.some(({ address }) => (loadOf(loads, server, address, family)?.connections ?? 0) > 0),
    )
    .map(({ server }) => server)
}

/** Gives a program its lines, if there are any. Throws CommitError. */
async function write(
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
