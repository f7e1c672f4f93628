// What kube-proxy's mode ipvs leaves: virtual servers, addresses on a device, sets. Connections in IPVS live on until they end.
import { CommitError } from '../backend/backend.ts'
import { ownership } from '../backend/ipvs/commit.ts'
import { device } from '../backend/ipvs/names.ts'
import { type HeldServer, parseSets } from '../backend/ipvs/parse.ts'
import { failure, readProxyAddresses, readServers, withConnections, write } from '../backend/ipvs/programs.ts'
import { addressOf, elementOf, serverArguments } from '../backend/ipvs/servers.ts'
import type { Exec } from '../kernel/exec.ts'
import { bitsOf, type CIDR, cidrContains, type Family, type IP, parseIP } from '../net/ip.ts'
import { proxySet, proxySets } from './names.ts'

export interface ProxyServersOptions {
  readonly exec: Exec
  readonly family: Family
  /** Virtual servers at these addresses are neither kube-proxy's nor ours (`ipvs.excludeCIDRs`). */
  readonly excludeCIDRs: readonly CIDR[]
  /** Virtual servers that have connections stay, at weight 0, with their addresses. */
  readonly keepConnections: boolean
}

export interface RetiredServers {
  readonly servers: number
  readonly addresses: number
  readonly sets: number
  /** Virtual servers that stay for the connections they have. */
  readonly busy: number
}

const timeoutMs = 120_000
const nothing: RetiredServers = { servers: 0, addresses: 0, sets: 0, busy: 0 }

/**
 * Removes what is kube-proxy's in IPVS, on its device and in ipset; its rules must be gone, since they hold the sets. In our
 * own mode ipvs what has been adopted stays: our sets name it. `hadIpvsRules`: kube-proxy's rules for IPVS were just removed;
 * without them and without the device nothing is asked, because asking loads kernel modules. Throws CommitError.
 */
export async function retireServers(
  options: ProxyServersOptions,
  hadIpvsRules: boolean,
  signal: AbortSignal,
): Promise<RetiredServers> {
  const { exec, family } = options
  const link = await exec.run('ip', ['-o', 'link', 'show', 'dev', device], { signal, timeoutMs })
  const hasDevice = link.exitCode === 0
  if (!hasDevice && !hadIpvsRules) return nothing
  // Servers and addresses first: what the syncer of our own mode adds meanwhile is in its sets before it is in IPVS.
  const held = hasDevice ? await readServers(exec, family, signal) : []
  const onDevice = await readProxyAddresses(exec, family, signal)
  const saved = await exec.run('ipset', ['save'], { signal, timeoutMs })
  if (saved.exitCode !== 0) throw failure('ipset', saved)
  const theirs = parseProxySets(saved.stdout, family)

  const ours = parseSets(saved.stdout, family)
  const named = ours.find(({ role }) => role === 'ADDRESS')?.members
  const isExcluded = (ip: IP): boolean => options.excludeCIDRs.some(cidr => cidrContains(cidr, ip))
  const addresses = onDevice.filter(ip => !isExcluded(ip))
  const isOurs = ownership(
    ours,
    onDevice.filter(ip => named?.has(ip) === true),
  )
  const isTheirs = ownershipOfProxy(family, theirs, addresses)
  const servers = held.filter(item => {
    const ip = parseIP(addressOf(item.server) ?? '')
    return ip !== undefined && !isExcluded(ip) && !isOurs(item) && isTheirs(item)
  })

  const busy = options.keepConnections && servers.length > 0 ? await withConnections(exec, family, servers, signal) : []
  const lines = servers.flatMap(({ server, real }) => {
    const where = serverArguments(server, family)
    if (!busy.includes(server)) return [`-D ${where}`]
    return real.filter(({ weight }) => weight > 0).map(({ address }) => `-e ${where} -r ${address} -m -w 0`)
  })
  await write(exec, 'ipvsadm', ['--restore'], lines, signal)
  const needed = new Set(busy.map(server => addressOf(server)))
  const unneeded = addresses.filter(ip => !needed.has(ip))
  const removals = unneeded.map(ip => `addr del ${ip}/${bitsOf(family)} dev ${device}`)
  await removeAddresses(exec, removals, signal)
  const counts = { servers: servers.length - busy.length, addresses: unneeded.length, busy: busy.length }
  // The sets say which virtual servers at node ports are kube-proxy's: they go when those have gone.
  if (busy.length > 0) return { ...counts, sets: 0 }
  const destroyed = [...theirs.keys()].map(name => `destroy ${name}`)
  await write(exec, 'ipset', ['restore'], destroyed, signal)
  if (hasDevice && ours.length === 0) await removeDevice(exec, saved.stdout, signal)
  return { ...counts, sets: theirs.size }
}

/** Elements of kube-proxy's sets, by name. */
function parseProxySets(text: string, family: Family): Map<string, Set<string>> {
  const names = proxySets(family)
  const found = new Map<string, Set<string>>()
  for (const line of text.split('\n')) {
    const [verb, name = '', element = ''] = line.split(' ')
    if (verb === 'create' && names.has(name)) found.set(name, new Set())
    else if (verb === 'add') found.get(name)?.add(element)
  }
  return found
}

/**
 * Tells kube-proxy's virtual servers: those at addresses on the device, and at the node ports of its sets. It has none by
 * mark.
 */
function ownershipOfProxy(
  family: Family,
  sets: ReadonlyMap<string, ReadonlySet<string>>,
  addresses: readonly IP[],
): (held: HeldServer) => boolean {
  const bound = new Set<string>(addresses)
  const has = (role: string, element: string): boolean => sets.get(proxySet(family, role))?.has(element) === true
  return ({ server }) => {
    const element = elementOf(server)
    if (element === undefined) return false
    const address = parseIP(addressOf(server) ?? '') ?? ''
    if (bound.has(address)) return true
    const port = server.slice(server.lastIndexOf(':') + 1)
    switch (server.split(' ')[0]) {
      case 'tcp':
        return has('NODE-PORT-TCP', port)
      case 'udp':
        return has('NODE-PORT-UDP', port)
      default:
        return has('NODE-PORT-SCTP-HASH', `${address},sctp:${port}`)
    }
  }
}

/** Throws CommitError `stale` when one of them is gone: the syncer of our own mode ipvs removes what no Service has, too. */
async function removeAddresses(exec: Exec, lines: readonly string[], signal: AbortSignal): Promise<void> {
  try {
    await write(exec, 'ip', ['-batch', '-'], lines, signal)
  } catch (error) {
    if (!(error instanceof CommitError) || error.kind !== 'refused') throw error
    throw new CommitError('stale', error.message, { cause: error })
  }
}

/** The other address family, or our own mode ipvs there, may still need it. */
async function removeDevice(exec: Exec, sets: string, signal: AbortSignal): Promise<void> {
  if ((['IPv4', 'IPv6'] as const).some(family => parseSets(sets, family).length > 0)) return
  for (const family of ['IPv4', 'IPv6'] as const) {
    if ((await readProxyAddresses(exec, family, signal)).length > 0) return
  }
  await exec.run('ip', ['link', 'del', device], { signal, timeoutMs })
}
