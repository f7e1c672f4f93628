// `penstock run`: the daemon. With --once, one full sync.
import { setTimeout as sleep } from 'node:timers/promises'
import { CommitError } from '../backend/backend.ts'
import { hostAddresses } from '../kernel/addresses.ts'
import { isLiberal } from '../kernel/conntrack.ts'
import {
  type Assembly,
  type AssemblyOptions,
  assemble,
  describeFailure,
  type FamilyAssembly,
  isNeedless,
} from './assembly.ts'
import type { CommandContext } from './context.ts'
import { sweep, takeOverFromKubeProxy } from './give-way.ts'
import { loadOnce, nodeNameOf } from './input.ts'
import { closeLocalnet } from './localnet.ts'
import { logging } from './logging.ts'
import { machineFamilies } from './program.ts'
import { serve } from './serve.ts'
import { prepareMode, settings } from './settings.ts'
/** With --once: exit status 0 if the kernel holds everything. Otherwise it runs until it is told to stop. */
export async function run(context: CommandContext): Promise<number> {
  const { commandLine, log, notices } = context
  for (const notice of notices) log.warn(notice)
  if (commandLine.options.initOnly === true) return prepare(context)
  return commandLine.options.once === true ? once(context, await assembled(context)) : serve(context)
}

async function assembled(context: CommandContext, options: Partial<AssemblyOptions> = {}): Promise<Assembly> {
  const given = context.commandLine.options.nodeAddresses ?? []
  return assemble({
    configuration: context.configuration,
    nodeName: nodeNameOf(context),
    families: machineFamilies(),
    exec: context.exec,
    netlink: context.netlink?.(),
    own: context.commandLine.options.nftablesTableOwner ?? true,
    hostAddresses: given.length > 0 ? given : await hostAddresses(),
    givenAddresses: given,
    observer: logging(context.log),
    conntrackIsLiberal: await isLiberal(),
    ...options,
  })
}

/**
 * What needs full privileges, so that the container that runs can do with fewer (`kube-proxy.md` §9.2). What cannot be done
 * is said, and is no reason not to run: the daemon says it again, with what follows from it.
 */
async function prepare(context: CommandContext): Promise<number> {
  const { configuration, signal, log } = context
  const assembly = await assembled(context, { hostAddresses: [], givenAddresses: [] })
  await Promise.all(
    assembly.families.map(async family => {
      await prepareMode(family, log)
      await settings(family, configuration, log)
      // Loads what the tools load for themselves, and may not where there are fewer privileges.
      await family.backend.read(signal).catch((error: unknown) => {
        log.warn({ family: family.family, error: describeFailure(error) }, 'the kernel cannot be read yet')
      })
      family.backend.stop?.()
    }),
  )
  return 0
}

async function once(context: CommandContext, assembly: Assembly): Promise<number> {
  const { signal, log, configuration } = context
  await loadOnce(context, assembly.store)
  assembly.distribute()
  const results = await Promise.all(
    assembly.families.map(async family => {
      if (family.family === 'IPv4' && !family.network().localhostNodePorts) {
        const complaint = await closeLocalnet(context.exec, signal)
        if (complaint !== undefined) log.warn(complaint)
      }
      await prepareMode(family, log)
      const failure = await syncWithPatience(family, signal)
      if (failure !== undefined) return isNeedless(failure, family.syncer)
      await sweep(family, context)
      await takeOverFromKubeProxy(family, context)
      // What cannot be set is said; the status is about rules.
      await settings(family, configuration, log)
      return family.syncer.setAsides.length === 0
    }),
  )
  return results.every(Boolean) ? 0 : 1
}

/** Failures that pass by themselves get a few more tries, as the lock of iptables held by another. */
async function syncWithPatience({ syncer }: FamilyAssembly, signal: AbortSignal): Promise<CommitError | undefined> {
  for (let attempt = 1; ; attempt++) {
    try {
      await syncer.sync(signal)
      return undefined
    } catch (error) {
      if (!(error instanceof CommitError)) throw error
      if (error.kind !== 'transient' || attempt === 5 || signal.aborted) return error
      await sleep(attempt * 500)
    }
  }
}
