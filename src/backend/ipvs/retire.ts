// Another mode has taken over: what IPVS mode left gives way. Connections that live in IPVS go on until they end.
import type { Exec } from '../../kernel/exec.ts'
import { bitsOf, type CIDR, type Family } from '../../net/ip.ts'
import { cleanup as cleanupGlue } from '../xtables/commit.ts'
import { restoreLimits } from '../xtables/plan.ts'
import { failure, glueScope, ownership, readAddresses, readServers, readSets } from './commit.ts'
import { device, type VirtualServer } from './names.ts'
import { type HeldSet, loadOf, parseLoads } from './parse.ts'
import { addressOf, serverArguments } from './servers.ts'

export interface RetireOptions {
  readonly exec: Exec
  readonly family: Family
  /** As in `read`. */
  readonly excludeCIDRs: readonly CIDR[]
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
  const glue = await cleanupGlue(
    exec,
    family,
    ['nft', 'legacy'],
    glueScope,
    tools => ({ ...restoreLimits(tools), isShared: () => true, refusalsFirst: false }),
    signal,
  )
  // Asking ipvsadm or ipset would load their modules: nothing of ours is there without the device or our chains.
  const link = await exec.run('ip', ['-o', 'link', 'show', 'dev', device], { signal, timeoutMs })
  if (link.exitCode !== 0 && glue.length === 0) return 0
  const sets = await readSets(exec, family, signal)
  // The device has kube-proxy's name; without our sets it is kube-proxy's.
  if (sets.length > 0) {
    const busy = await giveServersUp(options, sets, signal)
    if (busy > 0) return busy
    await write(
      exec,
      'ipset',
      ['restore'],
      sets.map(({ name }) => `destroy ${name}`),
      signal,
    )
  }
  await removeDevice(options, signal)
  return 0
}

/** Returns how many virtual servers are left for the connections they have. */
async function giveServersUp(options: RetireOptions, sets: readonly HeldSet[], signal: AbortSignal): Promise<number> {
  const { exec, family } = options
  const named = sets.find(({ role }) => role === 'ADDRESS')?.members
  const held = (await readAddresses(exec, family, signal)) ?? []
  const addresses = held.filter(ip => named?.has(ip) === true)
  const servers = (await readServers(exec, family, signal)).filter(ownership(sets, addresses))
  const busy = options.keepConnections ? await withConnections(exec, family, servers, signal) : []
  const lines = servers.flatMap(({ server, real }) => {
    const where = serverArguments(server, family)
    if (!busy.includes(server)) return [`-D ${where}`]
    return real.filter(({ weight }) => weight > 0).map(({ address }) => `-e ${where} -r ${address} -m -w 0`)
  })
  await write(exec, 'ipvsadm', ['--restore'], lines, signal)
  const needed = addressesOf(busy, sets)
  const unneeded = addresses.filter(ip => !needed.has(ip))
  const removals = unneeded.map(ip => `addr del ${ip}/${bitsOf(family)} dev ${device}`)
  await write(exec, 'ip', ['-batch', '-'], removals, signal)
  return busy.length
}

/** The other address family may still need it, or somebody may have put other addresses there. */
async function removeDevice({ exec, family }: RetireOptions, signal: AbortSignal): Promise<void> {
  const other: Family = family === 'IPv4' ? 'IPv6' : 'IPv4'
  if ((await readSets(exec, other, signal)).length > 0) return
  for (const each of ['IPv4', 'IPv6'] as const) {
    if (((await readAddresses(exec, each, signal)) ?? []).length > 0) return
  }
  await exec.run('ip', ['link', 'del', device], { signal, timeoutMs })
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

/** Those of the virtual servers that have connections. Throws CommitError. */
export async function withConnections(
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
