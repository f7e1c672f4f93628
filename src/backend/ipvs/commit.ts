// Reading from and writing to the kernel: which of what it holds is ours, and what becomes of a transaction.
import type { Exec } from '../../kernel/exec.ts'
import { type CIDR, cidrContains, type Family, type IP, parseIP } from '../../net/ip.ts'
import type { Program, Transaction } from '../backend.ts'
import { commit as commitGlue, read as readGlue } from '../xtables/commit.ts'
import type { Scope } from '../xtables/save.ts'
import type { Tools } from '../xtables/tools.ts'
import { type Command, commandsOf } from './commands.ts'
import { type IpvsKernel, refusalOf } from './kernel.ts'
import {
  addressKey,
  chainPrefix,
  deviceKey,
  markMask,
  markSignature,
  memberKey,
  serverKey,
  setKey,
  type VirtualServer,
} from './names.ts'
import type { HeldServer, HeldSet } from './parse.ts'
import { addressOf, elementOf, serverValue } from './servers.ts'

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
  /** Virtual servers at these addresses are not ours, even on the device, unless they are frontends in our sets. */
  readonly excludeCIDRs: readonly CIDR[]
}

/** What the kernel holds. Throws CommitError. */
export async function read(
  kernel: IpvsKernel,
  exec: Exec,
  tools: Tools,
  options: ReadOptions,
  signal: AbortSignal,
): Promise<Held> {
  const { family } = options
  const program = new Map<string, string>(await readGlue(exec, tools, glueScope, signal))
  const sets = await kernel.sets(family, signal)
  for (const { name, type, members } of sets) {
    program.set(setKey(name), type)
    for (const [element, value] of members) program.set(memberKey(name, element), value)
  }
  if (await kernel.hasDevice(signal)) program.set(deviceKey, 'dummy')
  const addresses = await kernel.addresses(family, signal)
  for (const ip of addresses) program.set(addressKey(ip), '')
  // Virtual servers that kube-proxy has made are taken over, those that no Service has any more among them.
  const isExcluded = (ip: IP): boolean => options.excludeCIDRs.some(cidr => cidrContains(cidr, ip))
  const taken = (await kernel.proxyAddresses(family, signal)).filter(ip => !isExcluded(ip))

  const draining: { server: string; real: string }[] = []
  const givenUp: VirtualServer[] = []
  const isOurs = ownership(sets, [...addresses, ...taken])
  const inUse = marksInUse(sets)
  for (const held of await kernel.servers(family, signal)) {
    if (!isOurs(held)) continue
    const { server, options: text, real } = held
    for (const { address, weight } of real) if (weight === 0) draining.push({ server, real: address })
    const lines = real.filter(({ weight }) => weight !== 0).map(realLine)
    if (lines.length === 0 && addressOf(server) === undefined && !inUse.has(server)) givenUp.push(server)
    else program.set(serverKey(server), serverValue({ options: text, real: lines.sort() }))
  }
  return { program, draining, givenUp }
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
 * Tells our virtual servers from those of others: by mark those with our signature, by address those at these addresses and
 * those that our sets name.
 */
export function ownership(sets: readonly HeldSet[], addresses: readonly IP[]): (held: HeldServer) => boolean {
  const atAddress = new Set<string>(addresses)
  const frontends = sets.filter(({ role }) => role === 'INTERNAL' || role === 'EXTERNAL' || role === 'LOCAL')
  return ({ server }) => {
    const address = addressOf(server)
    if (address === undefined) return (Number(server.split(' ')[1]) & markMask) >>> 0 === markSignature
    const element = elementOf(server) ?? ''
    return atAddress.has(parseIP(address) ?? '') || frontends.some(({ members }) => members.has(element))
  }
}

/**
 * Writes the steps in order. `rewrite` may change what is done in IPVS. Throws CommitError; with `refused`, its keys name
 * the objects at fault.
 */
export async function commit(
  kernel: IpvsKernel,
  exec: Exec,
  tools: Tools,
  transaction: Transaction,
  family: Family,
  rewrite: (commands: readonly Command[]) => readonly Command[],
  signal: AbortSignal,
): Promise<void> {
  for (const step of transaction.steps) {
    const commands = commandsOf(step)
    if (commands === undefined) {
      if (step.tool !== 'iptables') throw new Error(`a step of IPVS mode has no commands: ${step.title}`)
      await commitGlue(exec, tools, { steps: [step] }, signal)
      continue
    }
    const refusal = refusalOf(await kernel.change(rewrite(commands), family, signal))
    if (refusal !== undefined) throw refusal
  }
}
