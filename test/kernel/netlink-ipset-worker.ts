// Inside a namespace: sets, local routes and addresses by netlink. Run by `Sandbox.worker`.
import type { Command } from '../../src/backend/ipvs/commands.ts'
import type { IpvsKernel } from '../../src/backend/ipvs/kernel.ts'
import { openIpvsNetlink, overNetlink } from '../../src/backend/ipvs/netlink.ts'
import { programs } from '../../src/backend/ipvs/programs.ts'
import { machineExec } from '../../src/kernel/exec.ts'
import { openIpset } from '../../src/kernel/netlink/ipset.ts'
import { openRoute, type RouteConnection } from '../../src/kernel/netlink/route.ts'
import type { RouteMark } from '../../src/kernel/netlink/route-messages.ts'
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

let connection: RouteConnection | undefined

async function routes(): Promise<RouteConnection> {
  connection ??= await openRoute()
  if (connection === undefined) throw new Error('no netlink')
  return connection
}

/** Adds local routes and deletes others. Returns what the kernel said to each. */
async function changeRoutes(params: {
  readonly add?: readonly string[]
  readonly remove?: readonly string[]
  readonly protocol?: number
}): Promise<readonly number[]> {
  const { add = [], remove = [], protocol = 112 } = params
  const mark = { protocol, metric: 112 }
  const acks = await (await routes()).apply([
    ...add.map(address => ({ kind: 'add-local' as const, address: address as IP, ...mark })),
    ...remove.map(address => ({ kind: 'delete-local' as const, address: address as IP, ...mark })),
  ])
  return acks.map(({ errno }) => errno)
}

/** Makes a device of a type, or deletes one. Returns what the kernel said. */
async function link({ name, type }: { readonly name: string; readonly type?: string }): Promise<number> {
  const [ack] = await (await routes()).apply([
    type === undefined ? { kind: 'delete-link', name } : { kind: 'add-link', name, type },
  ])
  return ack?.errno ?? 0
}

/** The addresses of local routes so marked. */
async function locals({ family, mark }: { family: Family; mark: RouteMark }): Promise<readonly string[]> {
  return (await routes()).locals(family, mark, signal)
}

/** Of each address, whether packets for it are delivered here. */
async function isLocal({ addresses }: { readonly addresses: readonly string[] }): Promise<readonly boolean[]> {
  const by = await asked()
  return Promise.all(addresses.map(address => by.isLocal(address as IP, signal)))
}

/** The addresses of a device, without those that the kernel gave it. */
async function onDevice({ device }: { readonly device: string }): Promise<readonly string[] | 'none'> {
  const route = await routes()
  const index = (await route.link(device))?.index
  if (index === undefined) return 'none'
  const held: string[] = []
  for (const family of ['IPv4', 'IPv6'] as const) {
    await route.addresses(index, family, ({ address }) => held.push(address))
  }
  return held.filter(one => !one.startsWith('fe80:')).sort()
}

type Addresses = { readonly own: readonly string[]; readonly proxy: readonly string[] }

/** Our addresses and those of kube-proxy's device, as netlink reads them, and as ip prints them. */
async function addresses({ family }: { family: Family }): Promise<{ netlink: Addresses; programs: Addresses }> {
  const plain = async (by: IpvsKernel): Promise<Addresses> => ({
    own: await by.addresses(family, signal),
    proxy: (await by.proxyAddresses(family, signal)).sort(),
  })
  return { netlink: await plain(await asked()), programs: await plain(programs(machineExec)) }
}

/** Of each address, whether a route of ours is there; by programs, which know of no others. */
async function isOurs({ addresses }: { readonly addresses: readonly string[] }): Promise<readonly boolean[]> {
  const by = programs(machineExec)
  return Promise.all(addresses.map(address => by.isLocal(address as IP, signal)))
}

const methods = { link, change, sets, fill, changeRoutes, locals, isLocal, isOurs, onDevice, addresses }
export type NetlinkMethods = typeof methods

answerCalls(methods)
