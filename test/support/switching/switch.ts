// One switch from a mode to another under traffic, in a world that is the node's and its surroundings'.
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { world as places } from '../../conformance/world.ts'
import type { Variant, World } from '../world/world.ts'
import type { Patience } from './client.ts'
import { manifest } from './cluster.ts'
import { type Kind, nodeOf } from './kinds.ts'
import { configurationOf, startServers, Traffic, type TrafficReport, usualPatience } from './traffic.ts'

/** How the program is started: `run`, stopped for the next, or `run --once`. */
export type Style = 'daemon' | 'once'

export interface SwitchOptions {
  readonly from: Kind
  readonly to: Kind
  readonly style: Style
  /** Path of the program, bundled. */
  readonly program: string
  /** Emptied and used for configuration, manifests and logs. */
  readonly directory: string
  readonly patience?: Partial<Patience>
  /** How long what lives with flows may take to go after their end; milliseconds. */
  readonly drainMs?: number
  /** Done once the former has stopped and before the latter starts: for showing that the traffic notices. */
  readonly meanwhile?: (traffic: Pick<Traffic, 'advance'>) => Promise<void>
}

export interface SwitchReport extends Omit<TrafficReport, 'noted'> {
  /** One sentence for everything that went wrong, with its time from the moment the former mode was told to stop. */
  readonly failures: readonly string[]
}

/** New connections to each target, and echoes of each flow, before the switch and after it. */
const roundsBefore = 5
const roundsAfter = 10

/**
 * Switches, and tells what the traffic saw of it. The world is a fresh one, opened for the variant of `from`. Throws if the
 * program does not come to what it is started for.
 */
export async function switchModes(world: World, options: SwitchOptions): Promise<SwitchReport> {
  const { from, to, directory } = options
  await rm(directory, { recursive: true, force: true })
  await mkdir(directory, { recursive: true })
  await writeFile(join(directory, 'objects.json'), manifest)
  const failures: string[] = []
  const node = nodeOf(world.sandbox)

  const former = await start(world, options, from)
  if ((await from.held(node)).length === 0) throw new Error(`${from.name} holds nothing after its first sync`)
  await startServers(world)
  const traffic = await Traffic.start(world, { ...usualPatience, ...options.patience })
  await traffic.advance(roundsBefore)

  const began = Date.now()
  await former.stop()
  await options.meanwhile?.(traffic)
  if (to.variant !== from.variant) await useVariant(world, to.variant)
  const latter = await start(world, options, to)
  const synced = Date.now() - began
  const held = await from.held(node)
  const mayStay = from.livesWithFlows(held)
  const left = held.filter(line => !mayStay.includes(line))
  if (left.length > 0) failures.push(`left of ${from.name} once ${to.name} is in charge: ${summary(left)}`)
  await traffic.advance(roundsAfter)
  const { noted, ...counts } = await traffic.stop()
  failures.push(...noted.map(({ at, what }) => `after ${at - began} ms (switched after ${synced}): ${what}`))

  if (mayStay.length > 0 && !(await isGone(() => from.held(node), latter.again, options.drainMs ?? 60_000))) {
    failures.push(`left of ${from.name} after the end of all flows: ${summary(await from.held(node))}`)
  }
  await latter.stop()
  if ((await to.held(node)).length === 0) failures.push(`${to.name} holds nothing in the end`)
  return { ...counts, failures }
}

const summary = (lines: readonly string[]): string =>
  lines.length <= 5 ? lines.join('; ') : `${lines.slice(0, 5).join('; ')} and ${lines.length - 5} more`

async function isGone(
  held: () => Promise<readonly string[]>,
  again: () => Promise<void>,
  withinMs: number,
): Promise<boolean> {
  for (let left = Math.ceil(withinMs / 500); left > 0; left--) {
    if ((await held()).length === 0) return true
    await sleep(500)
    await again()
  }
  return (await held()).length === 0
}

/** Moves the mark that kubelet leaves for others to see which variant of iptables the node uses. */
async function useVariant(world: World, variant: Variant): Promise<void> {
  const run = (tool: string, verb: string) =>
    world.sandbox.check({ namespace: 'node-a', argv: [tool, '-t', 'mangle', verb, 'KUBE-IPTABLES-HINT'] })
  const other = variant === 'nft' ? 'legacy' : 'nft'
  for (const family of ['iptables', 'ip6tables']) {
    await run(`${family}-${variant}`, '-N')
    await run(`${family}-${other}`, '-X')
  }
}

interface Started {
  /** With `run --once`: once more, as what is left until flows end goes with a later run. */
  readonly again: () => Promise<void>
  /** Ends the daemon in order; the rules stay. */
  readonly stop: () => Promise<void>
}

/** Starts the program in a mode and waits until its rules are in and those of other modes are gone. */
async function start(world: World, { style, program, directory }: SwitchOptions, kind: Kind): Promise<Started> {
  const config = join(directory, `${kind.name}.json`)
  await writeFile(config, JSON.stringify(configurationOf(kind)))
  const argv = [
    ...[process.execPath, program, 'run', '--manifests', join(directory, 'objects.json'), '--config', config],
    ...['--hostname-override', places.nodeName, '--logging-format', 'json', '-v', '4'],
  ]
  if (style === 'once') {
    const once = async (): Promise<void> => {
      await world.sandbox.check({ namespace: 'node-a', argv: [...argv, '--once'] })
    }
    await once()
    return { again: once, stop: async () => undefined }
  }
  const output = join(directory, `${kind.name}.log`)
  const pid = await world.sandbox.start({ namespace: 'node-a', argv, output })
  await untilInCharge(world, pid, output, kind)
  return {
    again: async () => undefined,
    stop: async () => {
      const end = await world.sandbox.end(pid)
      if (end.exitCode !== 0) throw new Error(`the daemon in ${kind.name} ended with ${end.signal ?? end.exitCode}`)
    },
  }
}

/**
 * What a family's log says once its rules are in and those of earlier runs are out; or out but for what living connections
 * need.
 */
const inCharge = ['no other mode is in charge any more', 'connections still live in the mode that was in charge before']

async function untilInCharge(world: World, pid: number, output: string, kind: Kind): Promise<void> {
  for (let left = 15_000; left > 0; left--) {
    const log = await readFile(output, 'utf8')
    const lines = log.split('\n').filter(line => inCharge.some(said => line.includes(`"msg":"${said}`)))
    const families = new Set(lines.map(line => /"family":"(\w+)"/.exec(line)?.[1]))
    if (families.size >= places.nodeIPs.length) return
    if ((await world.sandbox.ended(pid)) !== null) throw new Error(`the daemon in ${kind.name} ended:\n${log}`)
    await sleep(20)
  }
  throw new Error(`the daemon in ${kind.name} does not come to be in charge:\n${await readFile(output, 'utf8')}`)
}
