// All checks, in the order in which they are made.
import { daemon } from './daemon.ts'
import { type Finding, unknown } from './finding.ts'
import type { Look } from './look.ts'
import { firewalld, foreignRules, xtablesLock } from './others.ts'
import { bridge, conntrackDrops, conntrackFill, forwarding, portRange, reversePath, routeLocalnet } from './settings.ts'
import { directKernelCalls, features, iptablesVersion, kernelVersion, nftVersion, otherPrograms } from './tools.ts'

const checks: Readonly<Record<string, (look: Look) => Promise<Finding[]>>> = {
  'kernel-version': kernelVersion,
  'iptables-version': iptablesVersion,
  'nft-version': nftVersion,
  'ipvs-programs': otherPrograms,
  'kernel-features': features,
  koffi: directKernelCalls,
  'ip-forward': forwarding,
  'rp-filter': reversePath,
  'route-localnet': routeLocalnet,
  'bridge-netfilter': bridge,
  'port-range': portRange,
  'conntrack-fill': conntrackFill,
  'conntrack-drops': conntrackDrops,
  'foreign-rules': foreignRules,
  'xtables-lock': xtablesLock,
  firewalld,
  daemon,
}

/** Makes all checks side by side. One that breaks is a finding itself and holds no other back. */
export async function examine(look: Look): Promise<readonly Finding[]> {
  const all = await Promise.all(
    Object.entries(checks).map(([id, check]) =>
      check(look).catch((error: unknown) => [
        unknown(id, `the check could not be made: ${error instanceof Error ? error.message : String(error)}`),
      ]),
    ),
  )
  return all.flat()
}
