// Reading from and writing to the kernel through ipset, ipvsadm, ip and the iptables programs.
import type { Exec, ExecResult } from '../../kernel/exec.ts'
import { type CIDR, cidrContains, type Family, type IP, parseIP } from '../../net/ip.ts'
import { CommitError, type Program, type Step, type Transaction } from '../backend.ts'
import { commit as commitGlue, read as readGlue } from '../xtables/commit.ts'
import type { Scope } from '../xtables/save.ts'
import type { Tools } from '../xtables/tools.ts'
import { type ServerCommand, unmet } from './commands.ts'
import {
  addressKey,
  chainPrefix,
  device,
  deviceKey,
  markMask,
  markSignature,
  memberKey,
  serverKey,
  setKey,
  type VirtualServer,
} from './names.ts'
import { type HeldServer, type HeldSet, parseAddresses, parseServers, parseSets } from './parse.ts'
import type { Tool } from './plan.ts'
import { addressOf, elementOf, serverValue } from './servers.ts'

/** Ten thousand Services take seconds, never minutes; longer means that a program hangs. */
const timeoutMs = 120_000

/** Our chains. */
export const glueScope: Scope = { prefix: chainPrefix, tables: ['mangle', 'nat', 'filter'] }

/** What we own in the kernel; and what is being drained, which is no part of it. */
export interface Held {
  readonly program: Program
  /** Virtual servers that no packet is sent to any more. */
  readonly givenUp: readonly VirtualServer[]
  readonly draining: readonly { readonly server: string; readonly real: string }[]
}

export interface ReadOptions {
  readonly family: Family
  /** Virtual servers at these addresses are not ours, even on our device, unless they are frontends in our sets. */
  readonly excludeCIDRs: readonly CIDR[]
}

/** What the kernel holds. Throws CommitError. */
export async function read(exec: Exec, tools: Tools, options: ReadOptions, signal: AbortSignal): Promise<Held> {
  const { family } = options
  const program = new Map<string, string>(await readGlue(exec, tools, glueScope, signal))
  const sets = await readSets(exec, family, signal)
  for (const { name, type, members } of sets) {
    program.set(setKey(name), type)
    for (const [element, value] of members) program.set(memberKey(name, element), value)
  }
  const addresses = await readAddresses(exec, family, signal)
  if (addresses !== undefined) program.set(deviceKey, 'dummy')
  const isOwn = ownAddresses(sets, options.excludeCIDRs)
  for (const ip of addresses ?? []) if (isOwn(ip)) program.set(addressKey(ip), '')

  const draining: { server: string; real: string }[] = []
  const givenUp: VirtualServer[] = []
  const isOurs = ownership(sets, (addresses ?? []).filter(isOwn))
  const inUse = marksInUse(sets)
  for (const held of await readServers(exec, family, signal)) {
    if (!isOurs(held)) continue
    const { server, options: text, real } = held
    for (const { address, weight } of real) if (weight === 0) draining.push({ server, real: address })
    const lines = real.filter(({ weight }) => weight !== 0).map(realLine)
    if (lines.length === 0 && addressOf(server) === undefined && !inUse.has(server)) givenUp.push(server)
    else program.set(serverKey(server), serverValue({ options: text, real: lines.sort() }))
  }
  return { program, draining, givenUp }
}

/** Addresses on the device are ours, but for those that the operator excludes and our sets do not name. */
export function ownAddresses(sets: readonly HeldSet[], excludeCIDRs: readonly CIDR[]): (ip: IP) => boolean {
  const named = sets.find(({ role }) => role === 'ADDRESS')?.members
  return ip => named?.has(ip) === true || !excludeCIDRs.some(cidr => cidrContains(cidr, ip))
}

/** Virtual servers by mark that packets are sent to. */
function marksInUse(sets: readonly HeldSet[]): ReadonlySet<VirtualServer> {
  const marks = sets.find(({ role }) => role === 'MARK')?.members.values() ?? []
  return new Set([...marks].map(value => `mark ${value.split(' ')[1]}`))
}

/** Anything unusual about a real server is kept, so that it shows as a difference. */
const realLine = ({ address, weight, rest }: HeldServer['real'][number]): string =>
  weight === 1 && rest === '-m' ? address : `${address} weight ${weight}${rest === '-m' ? '' : ` ${rest}`}`

/**
 * Tells our virtual servers from those of others: by mark those with our signature, by address those on our device and
 * those that our sets name.
 */
export function ownership(sets: readonly HeldSet[], addresses: readonly IP[]): (held: HeldServer) => boolean {
  const onDevice = new Set<string>(addresses)
  const frontends = sets.filter(({ role }) => role === 'INTERNAL' || role === 'EXTERNAL' || role === 'LOCAL')
  return ({ server }) => {
    const address = addressOf(server)
    if (address === undefined) return (Number(server.split(' ')[1]) & markMask) >>> 0 === markSignature
    const element = elementOf(server) ?? ''
    return onDevice.has(parseIP(address) ?? '') || frontends.some(({ members }) => members.has(element))
  }
}

/** Our sets. Throws CommitError. */
export async function readSets(exec: Exec, family: Family, signal: AbortSignal): Promise<HeldSet[]> {
  const result = await exec.run('ipset', ['save'], { signal, timeoutMs })
  if (result.exitCode !== 0) throw failure('ipset', result)
  return parseSets(result.stdout, family)
}

/** All virtual servers of the family, ours or not. Throws CommitError. */
export async function readServers(exec: Exec, family: Family, signal: AbortSignal): Promise<HeldServer[]> {
  const result = await exec.run('ipvsadm', ['-Sn'], { signal, timeoutMs })
  if (result.exitCode !== 0) throw failure('ipvsadm', result)
  return parseServers(result.stdout, family)
}

/** Addresses on our device; undefined if there is no such device. Throws CommitError. */
export async function readAddresses(exec: Exec, family: Family, signal: AbortSignal): Promise<IP[] | undefined> {
  const args = [family === 'IPv4' ? '-4' : '-6', '-o', 'addr', 'show', 'dev', device]
  const result = await exec.run('ip', args, { signal, timeoutMs })
  if (result.exitCode === 0) return parseAddresses(result.stdout, family)
  if (/does not exist|Cannot find device/.test(result.stderr)) return undefined
  throw failure('ip', result)
}

/**
 * Writes the steps in order. `rewrite` may change what ipvsadm is told. Throws CommitError; with `refused`, its keys name
 * the objects at fault.
 */
export async function commit(
  exec: Exec,
  tools: Tools,
  transaction: Transaction,
  family: Family,
  rewrite: (text: string) => string,
  signal: AbortSignal,
): Promise<void> {
  for (const step of transaction.steps) {
    switch (step.tool as Tool | undefined) {
      case 'iptables':
        await commitGlue(exec, tools, { steps: [step] }, signal)
        break
      case 'ipset':
        await restoreSets(exec, step, signal)
        break
      case 'ipvsadm':
        await restoreServers(exec, { ...step, text: rewrite(step.text) }, family, signal)
        break
      case 'link':
      case 'address':
        await changeDevice(exec, step, signal)
        break
      case undefined:
        throw new Error(`a step of IPVS mode names no program: ${step.title}`)
    }
  }
}

async function restoreSets(exec: Exec, step: Step, signal: AbortSignal): Promise<void> {
  const result = await exec.run('ipset', ['restore'], { input: step.text, signal, timeoutMs })
  if (result.exitCode === 0) return
  const error = failure('ipset', result)
  const line = lineOf(step, /Error in line (\d+)/.exec(result.stderr)?.[1])
  if (error.kind !== 'refused' || line === undefined) throw error
  const [verb = '', name = '', element = ''] = line.split(' ')
  // What is there already, or is not there, is not as we believed.
  if (verb !== 'add' || /already added|does not exist/.test(result.stderr)) {
    throw new CommitError(/in use/.test(result.stderr) ? 'transient' : 'stale', `${error.message} (${line})`)
  }
  throw new CommitError('refused', `${error.message} (${line})`, { keys: [memberKey(name, element)] })
}

const lineOf = ({ text }: Step, number: string | undefined): string | undefined =>
  number === undefined ? undefined : text.split('\n')[Number(number) - 1]

/**
 * ipvsadm goes on after most errors, ends with the status of its last line, and does not say which line it means: the kernel
 * is asked. An input that it cannot read ends it there.
 */
async function restoreServers(exec: Exec, step: Step, family: Family, signal: AbortSignal): Promise<void> {
  if (step.text === '') return
  const result = await exec.run('ipvsadm', ['--restore'], { input: step.text, signal, timeoutMs })
  if (result.exitCode === 0 && result.stderr.trim() === '') return
  const error = failure('ipvsadm', result)
  if (error.kind !== 'refused') throw error
  const missed = unmet(step.text, await readServers(exec, family, signal))
  const isAbsent = ({ verb, weight }: ServerCommand) => verb === '-D' || verb === '-d' || weight === 0
  const wanted = missed.filter(command => !isAbsent(command))
  const [first] = wanted
  if (first === undefined) {
    // Everything is as it is to be, or something cannot be taken away.
    if (missed.length === 0) return
    throw new CommitError('stale', `${error.message} (${missed[0]?.line})`, { cause: error })
  }
  // After a line that cannot be read nothing was tried: only that one is to blame.
  const blamed = result.exitCode === 2 ? [first] : wanted
  const keys = [...new Set(blamed.flatMap(({ server }) => (server === undefined ? [] : [serverKey(server)])))]
  throw new CommitError('refused', `${error.message} (${first.line})`, { cause: error, keys })
}

async function changeDevice(exec: Exec, step: Step, signal: AbortSignal): Promise<void> {
  const result = await exec.run('ip', ['-batch', '-'], { input: step.text, signal, timeoutMs })
  if (result.exitCode === 0) return
  const line = lineOf(step, /Command failed -:(\d+)/.exec(result.stderr)?.[1]) ?? ''
  // Both address families share the device: the other one made it first.
  if (line.startsWith('link add') && /File exists/.test(result.stderr)) return
  const error = failure('ip', result)
  if (error.kind !== 'refused') throw error
  // One that is to be added and cannot be is not fit for a device, as a multicast address.
  const stale = line.startsWith('addr del')
    ? /Cannot assign requested address|Address not found|Cannot find device/
    : /File exists|already assigned|Cannot find device/
  throw new CommitError(stale.test(result.stderr) ? 'stale' : 'refused', `${error.message} (${line})`, {
    keys: step.keys.filter(key => line.includes(` ${key.replace('address ', '')}/`)),
  })
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
    return new CommitError('unsupported', `${message}: this kernel has no IPVS (CONFIG_IP_VS, module ip_vs)`)
  }
  if (/Cannot open session to kernel|Kernel support protocol versions/i.test(said)) {
    return new CommitError('unsupported', `${message}: this kernel has no ipset (CONFIG_IP_SET, module ip_set)`)
  }
  if (
    result.exitCode === -1 ||
    /Resource temporarily unavailable|resource busy|Cannot allocate memory|No buffer space|Interrupted/i.test(said)
  ) {
    return new CommitError('transient', message)
  }
  return new CommitError('refused', message)
}
