// Taking over from a kube-proxy, and giving the node back to it, under traffic.
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { world as places } from '../../conformance/world.ts'
import { manifest } from '../switching/cluster.ts'
import { type Kind, nodeOf } from '../switching/kinds.ts'
import { configurationOf, startServers, Traffic, type TrafficReport, usualPatience } from '../switching/traffic.ts'
import type { World } from '../world/world.ts'
import { type FormerProxy, saved } from './leftovers.ts'

export interface TakeOverOptions {
  readonly from: FormerProxy
  readonly to: Kind
  /** Path of the program, bundled. */
  readonly program: string
  /** Emptied and used. */
  readonly directory: string
}

export interface TakeOverReport {
  readonly probes: number
  readonly echoes: number
  readonly failures: readonly string[]
}

const roundsBefore = 5
const roundsAfter = 8
const namespace = 'node-a'

/** Rules that are neither kube-proxy's nor ours: kubelet's, a CNI's and somebody's own table. */
const ofOthers = {
  iptables: [
    '*mangle',
    ':KUBE-KUBELET-CANARY - [0:0]',
    'COMMIT',
    '*filter',
    ':KUBE-FIREWALL - [0:0]',
    ':CNI-FORWARD - [0:0]',
    '-A INPUT -j KUBE-FIREWALL',
    '-A FORWARD -m comment --comment "to KUBE-FORWARD or not" -j CNI-FORWARD',
    '-A CNI-FORWARD -p tcp -m tcp --dport 4789 -j ACCEPT',
    'COMMIT',
    '*nat',
    ':CNI-HOSTPORT-DNAT - [0:0]',
    '-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT',
    'COMMIT',
    '',
  ].join('\n'),
  nft: 'add table inet others; add chain inet others c { type filter hook forward priority 5; }; add rule inet others c accept',
}

/**
 * kube-proxy's rules first, then our program, then kube-proxy's rules once more and our cleanup; both changes under traffic.
 * Throws if a program fails.
 */
export async function takeOverAndBack(world: World, options: TakeOverOptions): Promise<TakeOverReport> {
  const { from, to, program, directory } = options
  const { sandbox } = world
  await rm(directory, { recursive: true, force: true })
  await mkdir(directory, { recursive: true })
  const objects = join(directory, 'objects.json')
  const config = join(directory, 'config.json')
  await writeFile(objects, manifest)
  await writeFile(config, JSON.stringify(configurationOf(to)))
  const run = (...argv: readonly string[]): Promise<string> => sandbox.check({ namespace, argv })
  const penstock = (...args: readonly string[]): Promise<string> =>
    run(process.execPath, program, ...args, '--config', config, '--hostname-override', places.nodeName)
  const failures: string[] = []

  for (const tool of ['iptables', 'ip6tables']) {
    const argv = [`${tool}-${to.variant}-restore`, '--noflush']
    await sandbox.check({ namespace, argv, input: ofOthers.iptables })
  }
  await run('nft', ofOthers.nft)
  const others = await notOurs(world)
  await from.apply(sandbox, manifest)
  if ((await from.held(sandbox)).length === 0) throw new Error(`${from.name} holds nothing`)
  await startServers(world)

  const there = await Traffic.start(world, usualPatience)
  await there.advance(roundsBefore)
  await penstock('run', '--once', '--manifests', objects)
  const left = await from.held(sandbox)
  if (left.length > 0) failures.push(`left of ${from.name}: ${left.slice(0, 5).join('; ')}`)
  if ((await to.held(nodeOf(sandbox))).length === 0) failures.push(`${to.name} holds nothing`)
  failures.push(...differences('taking over', others, await notOurs(world)))
  await there.advance(roundsAfter)
  const first = await there.stop()

  const back = await Traffic.start(world, usualPatience)
  await back.advance(roundsBefore)
  await from.apply(sandbox, manifest)
  await penstock('cleanup')
  const ours = await to.held(nodeOf(sandbox))
  if (ours.length > 0) failures.push(`left of ${to.name} after cleanup: ${ours.slice(0, 5).join('; ')}`)
  if ((await from.held(sandbox)).length === 0) failures.push(`cleanup removed the rules of ${from.name}`)
  await back.advance(roundsAfter)
  const second = await back.stop()

  const told = (way: string, { noted }: TrafficReport): string[] => noted.map(({ what }) => `${way}: ${what}`)
  return {
    probes: first.probes + second.probes,
    echoes: first.echoes + second.echoes,
    failures: [...failures, ...told('taking over', first), ...told('going back', second)],
  }
}

/** Lines of both variants and of nft that bear neither our names nor kube-proxy's. */
async function notOurs({ sandbox }: World): Promise<string[]> {
  const tables = await sandbox.check({ namespace, argv: ['nft', 'list', 'tables'] })
  const lines = [
    ...(await saved(sandbox, 'nft')),
    ...(await saved(sandbox, 'legacy')),
    ...tables.split('\n').filter(line => line.startsWith('table inet ')),
    await sandbox.check({ namespace, argv: ['nft', 'list', 'table', 'inet', 'others'] }),
  ]
  // Tables and built-in chains come with the first rule of anybody.
  return lines.filter(
    line =>
      !/PENSTOCK|KUBE-(?!FIREWALL|KUBELET|IPTABLES|FORWARD or)/.test(line) &&
      !/ip6?: (?:[*]|:[A-Z]+ (?:ACCEPT|DROP)|COMMIT)/.test(line),
  )
}

function differences(way: string, before: readonly string[], after: readonly string[]): string[] {
  const gone = before.filter(line => !after.includes(line)).map(line => `${way} took away: ${line}`)
  const more = after.filter(line => !before.includes(line)).map(line => `${way} added: ${line}`)
  return [...gone, ...more]
}
