// What `compile`, `plan` and `trace` have in common: the model loaded once, and a syncer that is asked and never run.

import { hostAddresses } from '../kernel/addresses.ts'
import { speaks } from '../kernel/host.ts'
import type { Family } from '../net/ip.ts'
import type { SyncObserver } from '../sync/contract.ts'
import { type Assembly, assemble } from './assembly.ts'
import type { CommandContext } from './context.ts'
import { loadOnce, nodeNameOf } from './input.ts'

/** Both families: what is compiled does not depend on the machine it is compiled on. */
export const bothFamilies: readonly Family[] = ['IPv4', 'IPv6']

/** Families of this machine. */
export const machineFamilies = (): Family[] => bothFamilies.filter(speaks)

/** Conflicts are worth a line; nothing else happens without a sync. */
function quiet({ log }: CommandContext): SyncObserver {
  return {
    synced: () => undefined,
    failed: () => undefined,
    setAside: item => log.warn({ ...item }, 'Service port set aside'),
    conflict: item => log.warn({ ...item }, 'address is held by an older Service'),
  }
}

/** Loads the objects and puts the node together, for a command that looks and does not touch. */
export async function loadAssembly(
  context: CommandContext,
  families: readonly Family[],
  machine: { readonly conntrackIsLiberal?: boolean } = {},
): Promise<Assembly> {
  const given = context.commandLine.options.nodeAddresses ?? []
  const assembly = assemble({
    configuration: context.configuration,
    nodeName: nodeNameOf(context),
    families,
    exec: context.exec,
    netlink: context.netlink?.(),
    hostAddresses: given.length > 0 ? given : await hostAddresses(),
    givenAddresses: given,
    observer: quiet(context),
    ...machine,
  })
  await loadOnce(context, assembly.store)
  assembly.distribute()
  return assembly
}
