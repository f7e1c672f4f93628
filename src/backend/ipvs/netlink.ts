// IPVS mode by netlink: no program is started to write, to read, or to look.
import { createHash, type Hash } from 'node:crypto'
import { type IpsetConnection, openIpset } from '../../kernel/netlink/ipset.ts'
import { ipsetRefusal, ipsetWords, readIpsetElements } from '../../kernel/netlink/ipset-messages.ts'
import { type IpvsConnection, openIpvs } from '../../kernel/netlink/ipvs.ts'
import { familyOfService, type IpvsService } from '../../kernel/netlink/ipvs-messages.ts'
import { type Ack, errnoName, NetlinkError } from '../../kernel/netlink/message.ts'
import { openRoute, type RouteConnection } from '../../kernel/netlink/route.ts'
import type { Family, IP } from '../../net/ip.ts'
import { CommitError, type Look } from '../backend.ts'
import { type Command, lineOf, partsOf } from './commands.ts'
import type { IpvsKernel, Refused } from './kernel.ts'
import { device, routeMark, setName, setRoles, type VirtualServer } from './names.ts'
import { type HeldServer, type HeldSet, type Load, loadKey } from './parse.ts'
import { noIpset, noIpvs } from './programs.ts'
import {
  elementText,
  heldDestination,
  optionsText,
  routeOperation,
  serverName,
  serverOperation,
  serviceId,
  setOperation,
  typeText,
  valueText,
} from './records.ts'

/** What a kernel lacks that does not know who is spoken to. */
const lacks: Readonly<Record<string, string>> = {
  IPVS: noIpvs,
  ipset: noIpset,
  rtnetlink: 'this kernel has no dummy devices (CONFIG_DUMMY, module dummy)',
}

/** What the kernel is spoken to by. */
export interface IpvsNetlink {
  readonly ipvs: IpvsConnection
  readonly sets: IpsetConnection
  readonly route: RouteConnection
}

/**
 * Opens the three in this network namespace. Undefined where one of them cannot be: then programs do the same; `explain` is
 * told why, in one sentence.
 */
export async function openIpvsNetlink(explain?: (sentence: string) => void): Promise<IpvsNetlink | undefined> {
  const ipvs = await openIpvs(explain)
  const sets = ipvs && (await openIpset(explain))
  const route = sets && (await openRoute(explain))
  if (ipvs !== undefined && sets !== undefined && route !== undefined) return { ipvs, sets, route }
  await Promise.all([ipvs?.close(), sets?.close()])
  return undefined
}

/** The kernel by netlink. `load` has the module of IPVS loaded, by a program, where the kernel does not do so itself. */
export function overNetlink({ ipvs, sets, route }: IpvsNetlink, load: () => Promise<void>): IpvsKernel {
  const ready = async (): Promise<void> => {
    if (!(await ipvs.isThere())) await load()
    if (!(await ipvs.isThere())) throw new CommitError('unsupported', noIpvs)
  }
  return {
    sets: (family, signal) => answered('ipset', () => readSets(sets, family, signal)),
    servers: (family, signal) =>
      answered('IPVS', async () => {
        await ready()
        return (await readServers(ipvs, family, signal)).servers
      }),
    addresses: (family, signal) => answered('rtnetlink', () => route.locals(family, routeMark, signal)),
    hasDevice: () => answered('rtnetlink', async () => (await route.link(device)) !== undefined),
    proxyAddresses: (family, signal) => answered('rtnetlink', () => readProxyAddresses(route, family, signal)),
    isLocal: address => answered('rtnetlink', () => route.isLocal(address)),
    hasServer: (server, family) => answered('IPVS', () => ipvs.hasService(serviceId(server, family))),
    loadsPerTurn: 4,
    loads: (servers, family, signal) =>
      answered('IPVS', async () => {
        const found = new Map<VirtualServer, Map<string, Load>>()
        for (const [index, server] of [...servers].entries()) {
          // Small dumps are answered at once: somebody else gets a turn now and then.
          if (index % turnLength === turnLength - 1) await new Promise(next => setImmediate(next))
          const real = await ipvs.destinations(serviceId(server, family), signal)
          found.set(loadKey(server, family), new Map(real.map(heldDestination).map(one => [one.address, one])))
        }
        return found
      }),
    change: (commands, family, signal) => change({ ipvs, sets, route }, commands, family, signal),
    fingerprint: (family, signal) => answered('the kernel', () => fingerprint({ ipvs, sets, route }, family, signal)),
    load: () => answered('IPVS', ready),
    changeTimeouts: timeouts => answered('IPVS', () => ipvs.setTimeouts(timeouts)),
    async close() {
      await Promise.all([ipvs.close(), sets.close(), route.close()])
    },
  }
}

/** Does something, and throws what goes wrong in it as CommitError. */
async function answered<T>(whom: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    if (error instanceof CommitError) throw error
    if (error instanceof NetlinkError) throw errorOf(whom, error.errno, error.message, { cause: error })
    // An answer that cannot be read, or a caller that does not wait any longer.
    const message = error instanceof Error ? error.message : String(error)
    throw new CommitError('transient', `${whom}: ${message}`, { cause: error })
  }
}

/** What a kernel that cannot be spoken to means for the syncer (`design.md` §3). */
function errorOf(whom: string, errno: number, message: string, options: { cause?: unknown } = {}): CommitError {
  const code = errnoName(errno)
  const said = `${whom}: ${message}`
  // What a route is refused with where lo has no IPv6 (net.ipv6.conf.lo.disable_ipv6).
  if (code === 'EACCES' && whom === 'rtnetlink') return new CommitError('transient', said, options)
  if (code === 'EPERM' || code === 'EACCES') return new CommitError('denied', said, options)
  // To netfilter's socket a part of netfilter that is not there is an invalid argument (nfnetlink_rcv_msg).
  const hasNoIpset = whom === 'ipset' && (code === 'EINVAL' || errno === ipsetRefusal.protocol)
  if (hasNoIpset || ['EPROTONOSUPPORT', 'ENOPROTOOPT', 'EOPNOTSUPP'].includes(code)) {
    return new CommitError('unsupported', `${said}: ${lacks[whom] ?? 'the kernel cannot do this'}`, options)
  }
  return new CommitError('transient', said, options)
}

async function readSets(sets: IpsetConnection, family: Family, signal: AbortSignal): Promise<HeldSet[]> {
  const found: HeldSet[] = []
  for (const role of setRoles) {
    const members = new Map<string, string>()
    let type = ''
    const isThere = await sets.list(
      setName(family, role),
      ({ header, elements }) => {
        if (header !== undefined) type = typeText(header)
        readIpsetElements(elements, element => members.set(elementText(element), valueText(element)))
      },
      signal,
    )
    if (isThere) found.push({ role, name: setName(family, role), type, members })
  }
  return found
}

/** The virtual servers of a family; `all`: how many there are of both, for the kernel lists no fewer. */
async function servicesOf(
  ipvs: IpvsConnection,
  family: Family,
  signal: AbortSignal,
): Promise<{ readonly services: readonly IpvsService[]; readonly all: number }> {
  const services: IpvsService[] = []
  let all = 0
  await ipvs.services(service => {
    all++
    if (familyOfService(service.id) === family) services.push(service)
  }, signal)
  return { services, all }
}

async function readServers(
  ipvs: IpvsConnection,
  family: Family,
  signal: AbortSignal,
): Promise<{ readonly servers: HeldServer[]; readonly all: number }> {
  const found: HeldServer[] = []
  const { services, all } = await servicesOf(ipvs, family, signal)
  for (const [index, service] of services.entries()) {
    // Nothing but answers of the kernel is waited for otherwise: others get their turn.
    if (index % turnLength === turnLength - 1) await new Promise(resolve => setImmediate(resolve))
    const real = (await ipvs.destinations(service.id, signal)).map(heldDestination)
    found.push({ server: serverName(service.id), options: optionsText(service), real })
  }
  return { servers: found, all }
}

async function readProxyAddresses(route: RouteConnection, family: Family, signal: AbortSignal): Promise<IP[]> {
  const link = await route.link(device)
  if (link === undefined) return []
  const found: IP[] = []
  await route.addresses(
    link.index,
    family,
    // Link-local ones are the kernel's own.
    ({ address }) => !address.startsWith('fe80:') && found.push(address),
    signal,
  )
  return found
}

/** Virtual servers that are asked for in one turn of the event loop: some milliseconds. */
const turnLength = 64

/**
 * Milliseconds of processor time. A listing of a few objects took 0.035 to 0.06 on Linux 6.18 (2,000 of the addresses of a
 * device, on a busy machine); an element is a guess.
 */
const cost = { server: 0.05, listed: 0.01, element: 0.001 } as const

async function fingerprint({ ipvs, sets, route }: IpvsNetlink, family: Family, signal: AbortSignal): Promise<Look> {
  const hash = createHash('sha256')
  let bytes = 0
  for (const role of setRoles) {
    await sets.list(
      setName(family, role),
      ({ header, elements }) => {
        if (header !== undefined) hash.update(`\n${header.name} ${typeText(header)}\n`)
        hash.update(elements)
        bytes += elements.length
      },
      signal,
    )
  }
  const { servers, all } = await readServers(ipvs, family, signal)
  for (const held of servers) addServer(hash, held)
  const addresses = await route.locals(family, routeMark, signal)
  const hasDevice = (await route.link(device)) !== undefined
  hash.update(`\n${addresses.join(' ')}\n${hasDevice}\n`)
  // An element is 40 bytes and more.
  const costMs = servers.length * cost.server + all * cost.listed + (bytes / 40 + addresses.length) * cost.element
  return { digest: hash.digest('base64'), costMs }
}

function addServer(hash: Hash, { server, options, real }: HeldServer): void {
  hash.update(`\n${server} ${options}`)
  for (const { address, weight, rest } of real) if (weight !== 0) hash.update(`\n${address} ${weight} ${rest}`)
}

/**
 * Commands that are made, written and acknowledged in one turn of the event loop, in which the kernel answers at once: some
 * milliseconds. A first load of 10,000 Services of 5 endpoints has 60,000 for virtual and real servers.
 */
const partLength = 512

/** Sets before virtual servers before routes, as the programs; a step is of one kind anyway. */
async function change(
  netlink: IpvsNetlink,
  commands: readonly Command[],
  family: Family,
  signal?: AbortSignal,
): Promise<readonly Refused[]> {
  const { sets, servers, routing } = partsOf(commands)
  const refused: Refused[] = []
  const take = (of: readonly Command[], acks: readonly Ack[], whyNot: WhyNot, whom: string): void => {
    for (const [index, command] of of.entries()) {
      const ack = acks[index]
      if (ack !== undefined && ack.errno !== 0) refused.push(refusedBy(whom, command, ack, whyNot, family))
    }
  }
  const apply = async <C extends Command>(
    whom: string,
    of: readonly C[],
    whyNot: WhyNot,
    write: (of: readonly C[]) => Promise<readonly Ack[]>,
  ): Promise<void> => {
    for (let start = 0; start < of.length; start += partLength) {
      const part = of.slice(start, start + partLength)
      await answered(whom, async () => {
        signal?.throwIfAborted()
        take(part, await write(part), whyNot, whom)
      })
      if (start + partLength < of.length) await new Promise(next => setImmediate(next))
    }
  }
  await apply('ipset', sets, whyNotSet, of => netlink.sets.apply(of.map(setOperation)))
  await apply('IPVS', servers, whyNotServer, of =>
    netlink.ipvs.apply(of.map(command => serverOperation(command, family))),
  )
  await apply(
    'rtnetlink',
    routing,
    (_, code) => commonly(code),
    of => netlink.route.apply(of.map(routeOperation)),
  )
  return refused
}

/** Why a command was refused, by errno's name or number; undefined for what says nothing of the command. */
type WhyNot = (command: Command, code: string, errno: number) => Refused['why'] | undefined

const whyNotSet: WhyNot = ({ kind }, code, errno) => {
  if (errno === ipsetRefusal.exists) return kind === 'add-member' ? 'exists' : 'missing'
  if (errno === ipsetRefusal.busy) return 'busy'
  // The numbers of ipset's own begin there.
  if (errno > 4096) return 'invalid'
  return commonly(code)
}

/** Of a virtual server ENOENT is about its scheduler. */
const whyNotServer: WhyNot = ({ kind }, code) =>
  code === 'ENOENT' && (kind === 'add-server' || kind === 'edit-server') ? 'invalid' : commonly(code)

function commonly(code: string): Refused['why'] | undefined {
  switch (code) {
    case 'EEXIST':
      return 'exists'
    case 'ENOENT':
    case 'ENODEV':
    case 'ESRCH':
      return 'missing'
    case 'EINVAL':
    case 'ERANGE':
    case 'EAFNOSUPPORT':
      return 'invalid'
    default:
      return undefined
  }
}

/** Throws CommitError for what is no matter of the command. */
function refusedBy(whom: string, command: Command, ack: Ack, whyNot: WhyNot, family: Family): Refused {
  const code = errnoName(ack.errno)
  const words = ack.words ?? ipsetWords(ack.errno) ?? wordsFor(command, code)
  const message = `${words === undefined ? code : `${words} (${code})`} (${lineOf(command, family)})`
  const why = whyNot(command, code, ack.errno)
  if (why === undefined) throw errorOf(whom, ack.errno, message)
  return { command, why, message: `${whom}: ${message}` }
}

/** IPVS has no words of its own. */
function wordsFor({ kind }: Command, code: string): string | undefined {
  if (code === 'ENOENT' && (kind === 'add-server' || kind === 'edit-server')) return 'the kernel has no such scheduler'
  if (code === 'EINVAL' && kind === 'add-real') return 'the address cannot be that of an endpoint'
  return undefined
}
