// What the machine is set to before the rules, and after them.
import type { Configuration } from '../config/types.ts'
import {
  applyConntrackSettings,
  conntrackSettings,
  machineBridgeProblem,
  machineCpus,
} from '../kernel/conntrack-settings.ts'
import { kernelRelease } from '../kernel/host.ts'
import { ensureSysctl } from '../kernel/sysctl.ts'
import type { Logger } from '../observe/log.ts'
import type { FamilyAssembly } from './assembly.ts'

/** Makes the machine ready for the mode. What cannot be done is said and stops nothing else. */
export async function prepareMode({ family, backend }: FamilyAssembly, log: Logger): Promise<void> {
  const complaints = (await backend.prepare?.({ release: kernelRelease(), set: ensureSysctl })) ?? []
  for (const complaint of complaints) log.warn({ family, mode: backend.mode }, complaint)
}

/**
 * Kernel settings that the rules rely on, to be made once these protect from them. One that cannot be set is said once and
 * stops nothing else.
 */
export async function settings(
  { family, network }: FamilyAssembly,
  configuration: Configuration,
  log: Logger,
): Promise<void> {
  const complaints: string[] = []
  if (network().localhostNodePorts) {
    // Lets packets to 127.0.0.1:nodePort leave for a pod (§3.4).
    await ensureSysctl('net.ipv4.conf.all.route_localnet', '1').catch((error: Error) =>
      complaints.push(`${error.message}: node ports will not answer on 127.0.0.1`),
    )
  }
  // Of the machine, not of a family.
  if (family === 'IPv4') {
    complaints.push(...(await applyConntrackSettings(conntrackSettings(configuration.conntrack, await machineCpus()))))
  }
  if (configuration.detectLocalMode === 'BridgeInterface') {
    const problem = await machineBridgeProblem(family)
    if (problem !== undefined) complaints.push(problem)
  }
  for (const complaint of complaints) log.warn({ family }, complaint)
}
