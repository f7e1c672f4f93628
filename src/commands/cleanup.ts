// `penstock cleanup`: removes everything of ours, of every backend, in both address families.
import { defaultIpvsSettings } from '../backend/ipvs/settings.ts'
import { backends } from '../backend/registry.ts'
import { hasFamily } from '../kernel/host.ts'
import { describeFailure } from './assembly.ts'
import type { CommandContext } from './context.ts'
import { closeLocalnet } from './localnet.ts'

/** Exit status 1 if anything could not be removed; the rest is removed all the same. */
export async function cleanup({ configuration, exec, netlink, signal, log }: CommandContext): Promise<number> {
  const ipvs = { ...defaultIpvsSettings, excludeCIDRs: configuration.ipvs.excludeCIDRs }
  let status = 0
  const complaint = await closeLocalnet(exec, signal)
  if (complaint !== undefined) {
    log.error(complaint)
    status = 1
  }
  for (const family of ['IPv4', 'IPv6'] as const) {
    if (!hasFamily(family)) continue
    for (const [mode, make] of Object.entries(backends)) {
      try {
        await make({ family, exec, ipvs, ...(netlink === undefined ? {} : { netlink: netlink() }) }).cleanup(signal)
      } catch (error) {
        log.error({ family, mode, error: describeFailure(error) }, 'cleanup failed')
        status = 1
      }
    }
  }
  return status
}
