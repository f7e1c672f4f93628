// Inside a namespace: sets, devices and addresses by netlink. Run by `Sandbox.worker`.
import type { Command } from '../../src/backend/ipvs/commands.ts'
import type { IpvsKernel } from '../../src/backend/ipvs/kernel.ts'
import { openIpvsNetlink, overNetlink } from '../../src/backend/ipvs/netlink.ts'
import { programs } from '../../src/backend/ipvs/programs.ts'
import { machineExec } from '../../src/kernel/exec.ts'
import { openIpset } from '../../src/kernel/netlink/ipset.ts'
import { openRoute, type RouteConnection } from '../../src/kernel/netlink/route.ts'
import type { Family, IP } from '../../src/net/ip.ts'
import { answerCalls } from '../support/netns/calls.ts'

const { signal } = new AbortController()
let kernel: IpvsKernel | undefined

/** The kernel by netlink; nothing here asks for IPVS, which this kernel need not have. */
async function asked(): Promise<IpvsKernel> {
  if (kernel !== undefined) return kernel
  const netlink = await openIpvsNetlink()
  if (netlink === undefined) throw new Error('no netlink')
  kernel = overNetlink(netlink, async () => undefined)
  return kernel
}

/** What is refused, as text. */
async function change({ commands, family }: { commands: readonly Command[]; family: Family }): Promise<string[]> {
  const refused = await (await asked()).change(commands, family, signal)
  return refused.map(({ command, why }) => `${why}: ${Object.values(command).join(' ')}`)
}

type Sets = { readonly [set: string]: { readonly type: string; readonly members: Record<string, string> } }

/** Our sets as netlink reads them, and as ipset prints them. */
async function sets({ family }: { family: Family }): Promise<{ readonly netlink: Sets; readonly programs: Sets }> {
  const plain = async (by: IpvsKernel): Promise<Sets> => {
    const found = await by.sets(family, signal)
    return Object.fromEntries(
      found.map(({ name, type, members }) => [name, { type, members: Object.fromEntries(members) }]),
    )
  }
  return { netlink: await plain(await asked()), programs: await plain(programs(machineExec)) }
}

/** Adds so many members at once. Returns how many were refused. */
async function fill({ set, count }: { set: string; count: number }): Promise<number> {
  const ipset = await openIpset()
  if (ipset === undefined) throw new Error('no netlink')
  const address = (n: number): IP => `10.${n >> 16}.${(n >> 8) & 255}.${n & 255}` as IP
  const acks = await ipset.apply(
    Array.from({ length: count }, (_, n) => ({
      kind: 'add' as const,
      name: set,
      replace: false,
      element: { address: address(n + 1), protocol: 6, port: 80, comment: `ns-${n}/service:http` },
    })),
  )
  await ipset.close()
  return acks.filter(({ errno }) => errno !== 0).length
}

let route: RouteConnection | undefined

/** Like `change` for a device that is a bridge: not every kernel has dummy devices. */
async function addresses(params: {
  readonly device: string
  readonly add: readonly string[]
  readonly remove: readonly string[]
  readonly deprecated: boolean
}): Promise<{ readonly errnos: readonly number[]; readonly held: readonly string[] }> {
  route ??= await openRoute()
  if (route === undefined) throw new Error('no netlink')
  const index = (await route.link(params.device))?.index
  if (index === undefined) throw new Error(`there is no ${params.device}`)
  const { deprecated } = params
  const acks = await route.apply([
    ...params.add.map(address => ({ kind: 'add-address' as const, index, address: address as IP, deprecated })),
    ...params.remove.map(address => ({ kind: 'delete-address' as const, index, address: address as IP })),
  ])
  const held: string[] = []
  for (const family of ['IPv4', 'IPv6'] as const) {
    await route.addresses(index, family, one =>
      held.push(`${one.address}/${one.prefix}${one.deprecated ? ' deprecated' : ''}`),
    )
  }
  return { errnos: acks.map(({ errno }) => errno), held: held.filter(one => !one.startsWith('fe80:')).sort() }
}

/** Makes and deletes a device. */
async function link({ name, type }: { readonly name: string; readonly type?: string }): Promise<number> {
  route ??= await openRoute()
  if (route === undefined) throw new Error('no netlink')
  const [ack] = await route.apply([
    type === undefined ? { kind: 'delete-link', name } : { kind: 'add-link', name, type },
  ])
  return ack?.errno ?? 0
}

/** The addresses of our device by either way, sorted. */
async function device({ family }: { family: Family }): Promise<readonly (readonly string[] | 'none')[]> {
  const byPrograms = programs(machineExec)
  const both = [await (await asked()).addresses(family, signal), await byPrograms.addresses(family, signal)]
  return both.map(addresses => addresses?.sort() ?? 'none')
}

const methods = { change, sets, fill, addresses, link, device }
export type NetlinkMethods = typeof methods

answerCalls(methods)
