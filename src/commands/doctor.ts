// `penstock doctor`: is this node fit, and what is wrong. Looks and changes nothing.
import { readdir, readFile, stat } from 'node:fs/promises'
import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { CommitError } from '../backend/backend.ts'
import { backendFor } from '../backend/registry.ts'
import { detectTools } from '../backend/xtables/tools.ts'
import type { ProxyMode } from '../config/types.ts'
import { examine } from '../doctor/examine.ts'
import { exitStatus, findingsJson, findingsText } from '../doctor/finding.ts'
import type { FileText, Look, Sample } from '../doctor/look.ts'
import type { Exec } from '../kernel/exec.ts'
import { kernelRelease } from '../kernel/host.ts'
import { loadLibc } from '../kernel/netlink/libc.ts'
import { processesNamed } from '../kernel/processes.ts'
import { type Family, type IP, parseIP } from '../net/ip.ts'
import type { Network } from '../policy/network.ts'
import type { EndpointChoice, ServicePort } from '../policy/service-port.ts'
import { DesiredProgram } from '../sync/program.ts'
import type { CommandContext } from './context.ts'
import { askDaemon } from './daemon.ts'
import { machineFamilies } from './program.ts'

/** Exit status 1 if there is a problem; warnings, and what could not be looked at, do not count. */
export async function doctor(context: CommandContext): Promise<number> {
  const findings = await examine(lookFor(context))
  context.print(
    context.commandLine.options.output === 'json'
      ? `${JSON.stringify(findingsJson(findings), null, 2)}\n`
      : findingsText(findings),
  )
  return exitStatus(findings)
}

/** The machine itself. */
export function lookFor({ configuration, exec, signal }: CommandContext): Look {
  const { mode, localhostNodePorts, detectLocalMode } = configuration
  return {
    wanted: {
      mode,
      families: machineFamilies(),
      localhostNodePorts,
      usesBridge: detectLocalMode === 'BridgeInterface',
    },
    release: kernelRelease(),
    file: textOf,
    names: path => readdir(path).catch(() => undefined),
    inode: path =>
      stat(path).then(
        ({ ino }) => ino,
        () => undefined,
      ),
    exec: { run: (command, args, options) => exec.run(command, args, { signal, ...options }) },
    processes: processesNamed,
    sleep: ms => sleep(ms),
    daemon: () => askDaemon(configuration.metricsBindAddress),
    listens,
    netlink: async () => {
      const libc = await loadLibc()
      return typeof libc === 'string' ? libc : undefined
    },
    sample: family => sampleOf(mode, family, exec),
  }
}

async function textOf(path: string): Promise<FileText> {
  try {
    return { kind: 'text', text: await readFile(path, 'utf8') }
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    return code === 'ENOENT' || code === 'ENOTDIR' ? { kind: 'absent' } : { kind: 'unreadable', why: message }
  }
}

function listens(port: number): Promise<boolean> {
  const found = Promise.withResolvers<boolean>()
  const socket = connect({ host: '127.0.0.1', port })
  const end = (answer: boolean): void => {
    socket.destroy()
    found.resolve(answer)
  }
  socket.setTimeout(1_000, () => end(false))
  socket.once('connect', () => end(true))
  socket.once('error', () => end(false))
  return found.promise
}

const addressesOf: Readonly<Record<Family, readonly [service: string, ...endpoints: string[]]>> = {
  IPv4: ['198.51.100.1', '198.51.100.10', '198.51.100.11'],
  IPv6: ['2001:db8::1', '2001:db8::10', '2001:db8::11'],
}

/** One Service that uses all that a mode's rules are made of, as far as one can. */
function sampleService(family: Family): ServicePort {
  const [service, ...endpoints] = addressesOf[family].map(known)
  if (service === undefined) throw new Error('a sample has an address')
  const some: EndpointChoice = {
    kind: 'endpoints',
    endpoints: endpoints.map(address => ({ address, port: 80, isLocal: true, isTerminating: false })),
  }
  return {
    service: 'doctor/sample',
    name: 'doctor/sample:http',
    protocol: 'TCP',
    frontends: [
      { kind: 'ClusterIP', address: service, port: 80, traffic: 'internal' },
      { kind: 'NodePort', address: 'node-ports', port: 30_080, traffic: 'external' },
    ],
    internal: some,
    external: some,
    externalFromNode: some,
    externalMasquerade: true,
    affinitySeconds: 10_800,
    healthCheckNodePort: 0,
  }
}

function known(text: string): IP {
  const ip = parseIP(text)
  if (ip === undefined) throw new Error(`${text} is no address`)
  return ip
}

const sampleNetwork = (family: Family): Network => ({
  family,
  detector: { kind: 'none' },
  masqueradeAll: false,
  masqueradeMark: 0x4000,
  nodePortAddresses: { kind: 'all' },
  localhostNodePorts: false,
  dropInvalid: true,
  nodeAddresses: [],
})

async function sampleOf(mode: ProxyMode, family: Family, exec: Exec): Promise<Sample | undefined> {
  // Its rules need sets and servers before them: that IPVS is there says most.
  if (mode === 'ipvs') return { command: 'ipvsadm', args: ['-Ln'], input: '' }
  const backend = backendFor(mode, { family, exec })
  if (backend === undefined) return undefined
  const program = new DesiredProgram(backend.layout?.())
  const network = sampleNetwork(family)
  program.replace('skeleton', backend.skeleton(network))
  program.replace('sample', backend.compile(sampleService(family), network))
  const { steps } = backend.plan(program.pending(), program.objects)
  const input = steps.map(({ text }) => text).join('')
  if (mode === 'nftables') return { command: 'nft', args: ['-f', '-'], input }
  try {
    const { restore } = await detectTools(exec, family)
    return { command: restore, args: ['--noflush', '-w', '5'], input }
  } catch (error) {
    if (error instanceof CommitError) return undefined
    throw error
  }
}
