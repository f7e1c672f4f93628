// What connection tracking is set to besides what the rules say (`kube-proxy.md` §11.6): how many connections, how long.
import { readFile, writeFile } from 'node:fs/promises'
import { cpus } from 'node:os'
import type { Family } from '../net/ip.ts'
import { ensureSysctl, readSysctl } from './sysctl.ts'

/** The part of the configuration that is about it; durations in milliseconds, 0 leaves a setting as it is. */
export interface ConntrackConfiguration {
  readonly maxPerCore: number
  readonly min: number
  readonly tcpEstablishedTimeout: number
  readonly tcpCloseWaitTimeout: number
  readonly tcpBeLiberal: boolean
  readonly udpTimeout: number
  readonly udpStreamTimeout: number
}

/** One setting to be made. */
export interface ConntrackSetting {
  /** Name of a sysctl; `hashsize` is the parameter of the module nf_conntrack, which is raised and never lowered. */
  readonly name: string
  readonly value: string
  /** What to expect where it cannot be made. */
  readonly without: string
}

/** As in kube-proxy: a node with hundreds of CPUs would give a gigabyte to the table. */
const mostConnections = 1 << 20

/**
 * The settings a configuration asks for, on a machine with so many CPUs. As kube-proxy computes them: the number for each
 * CPU, at least `min`, and never more than 1,048,576 because of the CPUs. Seconds are rounded down, but not to 0.
 */
export function conntrackSettings(configuration: ConntrackConfiguration, cpuCount: number): ConntrackSetting[] {
  const { maxPerCore, min, tcpBeLiberal } = configuration
  const settings: ConntrackSetting[] = []
  const put = (name: string, value: number, without: string): void => {
    settings.push({ name, value: `${value}`, without })
  }
  if (maxPerCore > 0) {
    const scaled = maxPerCore * cpuCount
    const max = scaled > mostConnections ? mostConnections : Math.max(scaled, min)
    put(`${prefix}max`, max, 'new connections are dropped once as many are tracked as the limit that is set now')
    put('hashsize', max >> 2, 'a full table of connections costs time for each packet')
  }
  const timeouts = [
    ['tcp_timeout_established', configuration.tcpEstablishedTimeout, 'an idle TCP connection'],
    ['tcp_timeout_close_wait', configuration.tcpCloseWaitTimeout, 'a half-closed TCP connection'],
    ['udp_timeout', configuration.udpTimeout, 'a UDP flow of one packet'],
    ['udp_timeout_stream', configuration.udpStreamTimeout, 'an idle UDP flow'],
  ] as const
  for (const [name, milliseconds, what] of timeouts) {
    if (milliseconds > 0) {
      put(prefix + name, Math.max(1, Math.floor(milliseconds / 1000)), `${what} is forgotten when the kernel says so`)
    }
  }
  if (tcpBeLiberal) {
    put(`${prefix}tcp_be_liberal`, 1, 'packets outside the TCP window are INVALID, and connections may be reset')
  }
  return settings
}

const prefix = 'net.netfilter.nf_conntrack_'
const hashsizePath = '/sys/module/nf_conntrack/parameters/hashsize'

/** What the settings are made with; the machine's own unless a test says otherwise. */
export interface SettingMeans {
  readonly ensureSysctl: (name: string, value: string) => Promise<void>
  readonly readHashsize: () => Promise<string>
  readonly writeHashsize: (value: string) => Promise<void>
}

const machine: SettingMeans = {
  ensureSysctl,
  readHashsize: () => readFile(hashsizePath, 'utf8'),
  writeHashsize: value => writeFile(hashsizePath, value),
}

/**
 * Makes the settings, each for itself. Returns one sentence for each that cannot be made, as in a container with a
 * read-only /proc/sys, where kube-proxy ends (kubernetes #99225 and many more); never throws.
 */
export async function applyConntrackSettings(
  settings: readonly ConntrackSetting[],
  means: SettingMeans = machine,
): Promise<string[]> {
  const failures: string[] = []
  for (const { name, value, without } of settings) {
    try {
      if (name === 'hashsize') await raiseHashsize(value, means)
      else await means.ensureSysctl(name, value)
    } catch (error) {
      failures.push(`${error instanceof Error ? error.message : String(error)}; without it ${without}`)
    }
  }
  return failures
}

async function raiseHashsize(value: string, { readHashsize, writeHashsize }: SettingMeans): Promise<void> {
  let current = ''
  try {
    current = (await readHashsize()).trim()
    if (Number(current) < Number(value)) await writeHashsize(value)
  } catch (cause) {
    const held = current === '' ? 'it cannot be read' : `it is ${current}`
    const why = cause instanceof Error ? cause.message : String(cause)
    throw new Error(`${hashsizePath} cannot be raised to ${value} (${held}): ${why}`, { cause })
  }
}

/**
 * CPUs that are online, by sysfs: what Node counts is what this process may use (kubernetes #99225). Falls back to what
 * Node knows of the machine.
 */
export async function machineCpus(): Promise<number> {
  const listed = await readFile('/sys/devices/system/cpu/online', 'utf8').catch(() => '')
  return countCpus(listed) ?? Math.max(1, cpus().length)
}

/** Counts a list of CPUs as the kernel writes it, `0-3,8`; undefined for what is none. */
export function countCpus(list: string): number | undefined {
  let count = 0
  for (const range of list.trim().split(',')) {
    const [, first, last] = /^(\d+)(?:-(\d+))?$/.exec(range) ?? []
    if (first === undefined) return undefined
    count += Number(last ?? first) - Number(first) + 1
  }
  return count > 0 ? count : undefined
}

const bridgeSetting: Readonly<Record<Family, string>> = {
  IPv4: 'net.bridge.bridge-nf-call-iptables',
  IPv6: 'net.bridge.bridge-nf-call-ip6tables',
}

/**
 * For nodes whose pods are on a Linux bridge (detectLocalMode BridgeInterface): one sentence if what goes from pod to pod
 * within it passes no rules, so that answers of a pod on this node come back untranslated; undefined when all is well.
 * @param value of the family's setting; undefined where the kernel has none, as without the module br_netfilter.
 */
export function bridgeProblem(family: Family, value: string | undefined): string | undefined {
  if (value !== undefined && value !== '0') return undefined
  const name = bridgeSetting[family]
  const mend = value === undefined ? `load the module br_netfilter and set ${name} to 1` : `set ${name} to 1`
  const held = value === undefined ? 'is not there' : 'is 0'
  return `the sysctl ${name} ${held}: pods on this node's bridge cannot reach each other through Services; ${mend}`
}

/** The same, of this machine. */
export const machineBridgeProblem = async (family: Family): Promise<string | undefined> =>
  bridgeProblem(family, await readSysctl(bridgeSetting[family]))
