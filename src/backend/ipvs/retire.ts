// Another mode has taken over: what IPVS mode left gives way. Connections that live in IPVS go on until they end.
import type { Exec } from '../../kernel/exec.ts'
import type { CIDR, Family, IP } from '../../net/ip.ts'
import { cleanup as cleanupGlue } from '../xtables/commit.ts'
import { restoreLimits } from '../xtables/plan.ts'
import type { Command } from './commands.ts'
import { glueScope, ownership } from './commit.ts'
import { type IpvsKernel, refusalOf } from './kernel.ts'
import type { VirtualServer } from './names.ts'
import { type HeldServer, type HeldSet, loadOf } from './parse.ts'
import { addressOf } from './servers.ts'

export interface RetireOptions {
  /** For the rules. */
  readonly exec: Exec
  /** For all else. */
  readonly kernel: IpvsKernel
  readonly family: Family
  /** As in `read`. */
  readonly excludeCIDRs: readonly CIDR[]
  /** Virtual servers that have connections stay, at weight 0, with their addresses. Otherwise everything goes at once. */
  readonly keepConnections: boolean
}

/**
 * Removes what is ours: at once what only new connections need, and virtual servers as they run out of connections. Returns
 * how many of those are left; 0: nothing of ours is left. A machine without IPVS, or without the programs, holds nothing.
 * Throws CommitError.
 */
export async function retire(options: RetireOptions, signal: AbortSignal): Promise<number> {
  const { exec, kernel, family } = options
  const glue = await cleanupGlue(
    exec,
    family,
    ['nft', 'legacy'],
    glueScope,
    tools => ({ ...restoreLimits(tools), refusalsFirst: false }),
    signal,
  )
  // Asking for virtual servers or sets would load their modules: nothing of ours is there without the device or our chains.
  if (!(await kernel.hasDevice(signal)) && glue.length === 0) return 0
  const sets = await kernel.sets(family, signal)
  const addresses = await kernel.addresses(family, signal)
  // The device has kube-proxy's name; without our sets and routes it is kube-proxy's.
  if (sets.length + addresses.length > 0) {
    const busy = await giveServersUp(options, sets, addresses, signal)
    if (busy > 0) return busy
    const gone = sets.map(({ name }): Command => ({ kind: 'destroy-set', set: name }))
    await change(options, gone, signal)
  }
  await removeDevice(options, signal)
  return 0
}

/** Returns how many virtual servers are left for the connections they have. */
async function giveServersUp(
  options: RetireOptions,
  sets: readonly HeldSet[],
  addresses: readonly IP[],
  signal: AbortSignal,
): Promise<number> {
  const { kernel, family } = options
  const servers = (await kernel.servers(family, signal)).filter(ownership(sets, addresses))
  const busy = options.keepConnections ? await busyOf(options, servers, signal) : []
  const commands = servers.flatMap(({ server, real }): Command[] => {
    if (!busy.includes(server)) return [{ kind: 'delete-server', server }]
    return real
      .filter(({ weight }) => weight > 0)
      .map(({ address }) => ({ kind: 'edit-real', server, real: address, weight: 0 }))
  })
  await change(options, commands, signal)
  const needed = addressesOf(busy, sets)
  const unneeded = addresses.filter(ip => !needed.has(ip))
  await change(
    options,
    unneeded.map(address => ({ kind: 'delete-address', address })),
    signal,
  )
  return busy.length
}

/** Those of the virtual servers that have connections. */
async function busyOf(
  { kernel, family }: RetireOptions,
  servers: readonly HeldServer[],
  signal: AbortSignal,
): Promise<VirtualServer[]> {
  const names = servers.map(({ server }) => server)
  const loads = await kernel.loads(names, family, signal)
  return servers
    .filter(({ server, real }) =>
      real.some(({ address }) => (loadOf(loads, server, address, family)?.connections ?? 0) > 0),
    )
    .map(({ server }) => server)
}

/** Throws CommitError. */
async function change(
  { kernel, family }: RetireOptions,
  commands: readonly Command[],
  signal: AbortSignal,
): Promise<void> {
  const refusal = refusalOf(await kernel.change(commands, family, signal))
  if (refusal !== undefined) throw refusal
}

/** The other address family may still need it, or kube-proxy. */
async function removeDevice({ kernel, family }: RetireOptions, signal: AbortSignal): Promise<void> {
  const other: Family = family === 'IPv4' ? 'IPv6' : 'IPv4'
  if ((await kernel.sets(other, signal)).length > 0) return
  for (const each of ['IPv4', 'IPv6'] as const) {
    if ((await kernel.proxyAddresses(each, signal)).length > 0) return
  }
  // Whether it went or not: with nothing on it, it is nobody's harm.
  await kernel.change([{ kind: 'delete-device' }], family, signal)
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
  options: Omit<RetireOptions, 'keepConnections' | 'kernel'>,
  kernel: () => Promise<IpvsKernel>,
): (signal: AbortSignal) => Promise<number | undefined> {
  let since: number | undefined
  return async signal => {
    since ??= performance.now()
    const keepConnections = performance.now() - since < limitMs
    const left = await retire({ ...options, kernel: await kernel(), keepConnections }, signal)
    return left === 0 ? undefined : lookEveryMs
  }
}
