// One measurement: a cluster of one size in one mode, in a sandbox of its own.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { type Means, Sandbox, type Worker } from '../support/netns/sandbox.ts'
import type { ApiMethods } from './api.ts'
import { clusterIP, freeIP, nodeAddress, nodeName, podCIDR, ports, serviceCIDR } from './objects.ts'
import type { ProbeMethods, Usage } from './probe.ts'
import { untilQuiet } from './quiet.ts'

/** Modes, and variants of iptables where they differ. */
export const kinds = ['iptables-nft', 'iptables-legacy', 'nftables', 'ipvs'] as const
export type Kind = (typeof kinds)[number]

/** What the program is told. */
const modeOf = (kind: Kind): string => (kind === 'nftables' || kind === 'ipvs' ? kind : 'iptables')

export interface Case {
  readonly services: number
  readonly endpoints: number
  readonly kind: Kind
  readonly changes: number
  /** Options for the Node that runs the program, as for a CPU profile. */
  readonly nodeOptions: readonly string[]
  /** For a quiet machine, at most. */
  readonly waitSeconds: number
}

/** Units are in the names. Null: not within the limit, or not measured therefore. */
export interface Figures extends Omit<Case, 'nodeOptions' | 'waitSeconds'> {
  /** Of all cores, by others, before it began: times are only worth something on a machine that is quiet. */
  readonly otherwiseBusyPercent: number
  readonly programmedMs: number | null
  readonly startCpuMs: number | null
  readonly change: { readonly p50Ms: number; readonly p90Ms: number; readonly p99Ms: number } | null
  readonly cpuPerChangeMs: number | null
  /** Of `cpuPerChangeMs`, spent in the programs that write the rules. */
  readonly toolsPerChangeMs: number | null
  readonly rssBytes: number | null
  readonly peakBytes: number | null
  readonly idleCpuPercent: number | null
  readonly connectUs: {
    readonly first: number
    readonly middle: number
    readonly last: number
    readonly none: number
  } | null
  readonly restart: {
    /** From the start until the program had compared everything with the kernel. */
    readonly ms: number
    /** Of `ms`, compiling, reading the kernel and comparing; the rest is Node's start and the lists from the API. */
    readonly syncMs: number
    readonly written: number
    readonly connects: number
    readonly failedConnects: number
  } | null
}

const namespace = 'node'
const startLimitMs = 180_000
const changeLimitMs = 30_000
const idleMs = 10_000
const connectRounds = 1_500

const root = resolve(import.meta.dirname, '../..')
const program = join(root, 'dist/penstock.js')

type Measured = Omit<Figures, 'otherwiseBusyPercent'>

interface Bench {
  readonly sandbox: Sandbox
  readonly api: Worker<ApiMethods>
  readonly probe: Worker<ProbeMethods>
  readonly argv: readonly string[]
}

/** Measures one case. `say` is told what is being waited for. */
export async function measure(means: Means, wanted: Case, say: (line: string) => void): Promise<Figures> {
  const otherwiseBusyPercent = await untilQuiet(wanted.waitSeconds, say)
  const directory = await mkdtemp(join(tmpdir(), 'penstock-figures-'))
  const sandbox = await Sandbox.open(means)
  try {
    const bench = await prepare(sandbox, wanted, join(directory, 'kubeconfig'))
    return { ...(await measureIn(bench, wanted, say)), otherwiseBusyPercent }
  } finally {
    await sandbox.close()
    await rm(directory, { recursive: true, force: true })
  }
}

async function prepare(sandbox: Sandbox, wanted: Case, kubeconfig: string): Promise<Bench> {
  const { services, endpoints, kind } = wanted
  await sandbox.addNamespaces([namespace])
  await sandbox.configure(namespace, {
    sysctls: { 'net/ipv4/ip_forward': '1' },
    ip: [
      'link set lo up',
      `addr add ${nodeAddress}/32 dev lo`,
      // All of them are this namespace's own: connects to endpoints are answered, those to bare Service addresses refused.
      `route add local ${podCIDR} dev lo`,
      `route add local ${serviceCIDR} dev lo`,
    ],
  })
  for (const tool of ['iptables', 'ip6tables']) {
    const argv = [
      `${tool}-${kind === 'iptables-legacy' ? 'legacy' : 'nft'}`,
      '-t',
      'mangle',
      '-N',
      'KUBE-IPTABLES-HINT',
    ]
    await sandbox.check({ namespace, argv })
  }
  const api = await sandbox.worker<ApiMethods>({ namespace, module: join(import.meta.dirname, 'api.ts') })
  const probe = await sandbox.worker<ProbeMethods>({ namespace, module: join(import.meta.dirname, 'probe.ts') })
  await api.call('fill', { services, endpoints, kubeconfig })
  await probe.call('serve', { free: freeIP(services) })
  const argv = [
    process.execPath,
    '--max-semi-space-size=2',
    ...wanted.nodeOptions,
    program,
    'run',
    `--kubeconfig=${kubeconfig}`,
    `--hostname-override=${nodeName}`,
    `--cluster-cidr=${podCIDR}`,
    `--proxy-mode=${modeOf(kind)}`,
    '--logging-format=json',
    '-v=4',
  ]
  return { sandbox, api, probe, argv }
}

async function measureIn(bench: Bench, wanted: Case, say: (line: string) => void): Promise<Measured> {
  const { probe, argv } = bench
  const { services } = wanted
  const { nodeOptions: _, waitSeconds: __, ...base } = wanted
  const last = clusterIP(services - 1, services)

  say('  starting until programmed …')
  await probe.call('start', { argv })
  const programmedMs = await probe.call('untilAnswers', { address: last, limitMs: startLimitMs })
  const nothing = {
    startCpuMs: null,
    change: null,
    cpuPerChangeMs: null,
    toolsPerChangeMs: null,
    rssBytes: null,
    peakBytes: null,
    idleCpuPercent: null,
    connectUs: null,
    restart: null,
  }
  if (programmedMs === null) return { ...base, programmedMs, ...nothing }
  await sleep(2_000)
  const started = await probe.call('usage', undefined)

  say(`  ${wanted.changes} changes …`)
  const changes = await measureChanges(bench, wanted)

  say('  idle, then connects …')
  const before = await probe.call('usage', undefined)
  await sleep(idleMs)
  const after = await probe.call('usage', undefined)
  const connectUs = await measureConnects(bench, services)

  say('  restart …')
  const restart = await measureRestart(bench, [clusterIP(0, services), last])
  return {
    ...base,
    programmedMs,
    startCpuMs: started.cpuMs,
    ...changes,
    rssBytes: after.rssKiB * 1024,
    peakBytes: after.peakKiB * 1024,
    idleCpuPercent: ((after.cpuMs - before.cpuMs) / idleMs) * 100,
    connectUs,
    restart,
  }
}

type Changes = Pick<Figures, 'change' | 'cpuPerChangeMs' | 'toolsPerChangeMs'>

/** Each change moves one Service's endpoints, a Service that was not touched before, when the one before is digested. */
async function measureChanges({ api, probe }: Bench, { services, endpoints, changes }: Case): Promise<Changes> {
  const times: number[] = []
  const before: Usage = await probe.call('usage', undefined)
  for (let turn = 0; turn < changes; turn++) {
    const index = Math.floor(((turn + 0.5) * services) / changes)
    const moved = probe.call('untilMoved', { address: clusterIP(index, services), limitMs: changeLimitMs })
    const { at } = await api.call('move', { index, endpoints, port: ports.after })
    const seen = await moved
    if (seen === null) throw new Error(`a change was not in the kernel after ${changeLimitMs / 1000} s`)
    const took = Number(BigInt(seen.at) - BigInt(at)) / 1e6
    times.push(took)
    await sleep(Math.max(200, 1.5 * took))
  }
  const after: Usage = await probe.call('usage', undefined)
  times.sort((a, b) => a - b)
  const rank = (share: number): number =>
    times[Math.min(times.length - 1, Math.floor(share * times.length))] ?? Number.NaN
  return {
    change: { p50Ms: rank(0.5), p90Ms: rank(0.9), p99Ms: rank(0.99) },
    cpuPerChangeMs: (after.cpuMs - before.cpuMs) / changes,
    toolsPerChangeMs: (after.childCpuMs - before.childCpuMs) / changes,
  }
}

async function measureConnects({ probe }: Bench, services: number): Promise<NonNullable<Figures['connectUs']>> {
  const addresses = [0, services >> 1, services - 1].map(index => clusterIP(index, services))
  const [first = Number.NaN, middle = Number.NaN, last = Number.NaN, none = Number.NaN] = await probe.call(
    'connectTimes',
    { addresses: [...addresses, freeIP(services)], times: connectRounds },
  )
  return { first, middle, last, none }
}

/** Ends the program and starts it again while connects go on. */
async function measureRestart({ probe, argv }: Bench, addresses: readonly string[]): Promise<Figures['restart']> {
  await probe.call('stop', undefined)
  await probe.call('start', { argv })
  const sync = await probe.call('firstSync', { family: 'IPv4', limitMs: startLimitMs })
  if (sync === null) return null
  const { tried, failed } = await probe.call('keepConnecting', { addresses, forMs: 1_000 })
  await probe.call('stop', undefined)
  const written = sync.added + sync.changed + sync.removed
  return { ms: sync.atMs, syncMs: sync.durationMs, written, connects: tried, failedConnects: failed }
}
