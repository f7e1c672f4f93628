// A sandbox with a cluster of one size, the probe, and the command of the program that is measured in it.
import { mkdir, symlink } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { type Means, Sandbox, type Worker } from '../support/netns/sandbox.ts'
import type { ApiMethods } from './api.ts'
import { clusterIP, freeIP, nodeAddress, nodeName, podCIDR, rollingIP, serviceCIDR } from './objects.ts'
import { fillIn, type Kind, modeOf, type Options, type Peer } from './options.ts'
import type { ProbeMethods } from './probe.ts'
import type { SinkMethods } from './sink.ts'

/** One program in one mode with one cluster. */
export interface Case {
  /** Undefined: our own program. */
  readonly peer: Peer | undefined
  readonly kind: Kind
  /** 1 in the case of one large Service. */
  readonly services: number
  readonly endpoints: number
  readonly isLarge: boolean
}

/** Where a case is measured. */
export interface Bench {
  readonly sandbox: Sandbox
  readonly api: Worker<ApiMethods>
  readonly probe: Worker<ProbeMethods>
  readonly wanted: Case
  readonly options: Options
  readonly argv: readonly string[]
  readonly env: Readonly<Record<string, string>>
  /** The address of the Service of that number. */
  readonly addressOf: (index: number) => string
  /** The file the event loop's delay is written to; undefined where it cannot be measured. */
  readonly delayFile: string | undefined
}

const namespace = 'node'
const built = resolve(import.meta.dirname, '../../dist/penstock.js')

/** Makes everything ready; the program is not started. `directory` is empty, and the caller's to remove. */
export async function openBench(means: Means, directory: string, wanted: Case, options: Options): Promise<Bench> {
  const sandbox = await Sandbox.open(means)
  try {
    return await prepare(sandbox, directory, wanted, options)
  } catch (error) {
    await sandbox.close()
    throw error
  }
}

async function prepare(sandbox: Sandbox, directory: string, wanted: Case, options: Options): Promise<Bench> {
  const { services, endpoints, isLarge, peer } = wanted
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
  const env = await chooseIptables(sandbox, wanted.kind, join(directory, 'tools'))
  const api = await sandbox.worker<ApiMethods>({ namespace, module: join(import.meta.dirname, 'api.ts') })
  const probe = await sandbox.worker<ProbeMethods>({ namespace, module: join(import.meta.dirname, 'probe.ts') })
  const kubeconfig = join(directory, 'kubeconfig')
  if (isLarge) {
    await api.call('fillBare', { kubeconfig })
    await api.call('putRolling', { endpoints })
  } else await api.call('fill', { services, endpoints, kubeconfig })
  await probe.call('serve', { free: freeIP(services) })
  const delayFile = peer === undefined ? join(directory, 'loop-delay.json') : undefined
  return {
    sandbox,
    api,
    probe,
    wanted,
    options,
    argv: peer === undefined ? ownCommand(wanted, kubeconfig, options) : peerCommand(peer, wanted, kubeconfig),
    env: peer === undefined ? {} : env,
    addressOf: index => (isLarge ? rollingIP : clusterIP(index, services)),
    delayFile,
  }
}

/** A worker that takes streams. */
export const openSink = ({ sandbox }: Bench): Promise<Worker<SinkMethods>> =>
  sandbox.worker<SinkMethods>({ namespace, module: join(import.meta.dirname, 'sink.ts') })

/**
 * Chooses the variant of iptables: by a hint, as kubelet leaves it, and by a search path on which the plain names are of that
 * variant. Returns the environment with that path.
 */
async function chooseIptables(sandbox: Sandbox, kind: Kind, folder: string): Promise<Record<string, string>> {
  const variant = kind === 'iptables-legacy' ? 'legacy' : 'nft'
  await mkdir(folder)
  for (const tool of ['iptables', 'ip6tables']) {
    const argv = [`${tool}-${variant}`, '-t', 'mangle', '-N', 'KUBE-IPTABLES-HINT']
    await sandbox.check({ namespace, argv })
    for (const part of ['', '-save', '-restore']) {
      const found = await sandbox.check({ argv: ['sh', '-c', `command -v ${tool}-${variant}${part}`] })
      await symlink(found.trim(), join(folder, `${tool}${part}`))
    }
  }
  return { PATH: `${folder}:${process.env.PATH ?? ''}:/usr/local/sbin:/usr/sbin:/sbin` }
}

/** The program as the image starts it, with a log that tells each sync. */
const ownCommand = ({ kind }: Case, kubeconfig: string, { nodeOptions, program = built }: Options): string[] => [
  process.execPath,
  '--max-semi-space-size=2',
  ...nodeOptions,
  program,
  'run',
  `--kubeconfig=${kubeconfig}`,
  `--hostname-override=${nodeName}`,
  `--cluster-cidr=${podCIDR}`,
  `--proxy-mode=${modeOf(kind)}`,
  '--logging-format=json',
  '-v=4',
]

const peerCommand = ({ words }: Peer, { kind }: Case, kubeconfig: string): string[] =>
  fillIn(words, { kubeconfig, hostname: nodeName, 'cluster-cidr': podCIDR, mode: modeOf(kind) })

/** The first start is watched by an instrument; later ones are not. */
export function firstCommand({ argv, env, delayFile }: Bench): {
  argv: readonly string[]
  env: Readonly<Record<string, string>>
} {
  if (delayFile === undefined) return { argv, env }
  const [node = '', ...rest] = argv
  const instrument = join(import.meta.dirname, 'loop-delay.mjs')
  return { argv: [node, `--import=${instrument}`, ...rest], env: { ...env, BENCH_LOOP_DELAY: delayFile } }
}
