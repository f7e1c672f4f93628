// Who was in charge before gives way once our own rules are in: another mode, or kube-proxy.
import { setTimeout as sleep } from 'node:timers/promises'
import { type Backend, CommitError } from '../backend/backend.ts'
import { backends } from '../backend/registry.ts'
import { processesNamed } from '../kernel/processes.ts'
import type { Family } from '../net/ip.ts'
import { takeOver } from '../takeover/take-over.ts'
import { describeFailure, type FamilyAssembly, ipvsSettings } from './assembly.ts'
import type { CommandContext } from './context.ts'

/**
 * What an earlier run left in another mode or by other tools goes, now that the rules are in. What cannot be removed is
 * said, and holds nothing else back.
 */
export async function sweep(assembly: FamilyAssembly, context: CommandContext): Promise<void> {
  const { family, backend } = assembly
  const { exec, netlink, signal, log } = context
  const all = [
    await withPatience(assembly, context, async () => {
      const removed = await backend.sweep?.(signal)
      if (removed !== undefined) log.info({ family, removed }, 'swept')
    }),
  ]
  for (const [mode, make] of Object.entries(backends)) {
    if (mode === backend.mode) continue
    // What was written by netlink may be on a node without the programs that do the same.
    const means = netlink === undefined ? { exec } : { exec, netlink: netlink() }
    const former = make({ family, ...means, ipvs: ipvsSettings(context.configuration) })
    all.push(await withPatience(assembly, context, () => retire(family, former, context)))
    former.stop?.()
  }
  if (all.every(Boolean)) log.debug({ family }, 'no other mode is in charge any more')
}

/**
 * What a kube-proxy has left goes, too; one that still runs is not fought. In the daemon it is looked for again for a quarter
 * of an hour: whoever calls does not wait for it.
 */
export async function takeOverFromKubeProxy(
  { family, syncer }: FamilyAssembly,
  context: CommandContext,
): Promise<void> {
  const { exec, configuration, commandLine, log, signal } = context
  await takeOver(
    {
      family,
      exec,
      excludeCIDRs: configuration.ipvs.excludeCIDRs,
      running: async () => (await processesNamed(['kube-proxy'])).map(({ pid }) => pid),
      once: commandLine.options.once === true,
      tell: ({ level, text }) => {
        log[level]({ family }, text)
        // Virtual servers that were adopted from it may hold endpoints that are nobody's.
        if (configuration.mode === 'ipvs') syncer.markDoubtful()
      },
    },
    signal,
  )
}

/** Tries again what fails for a reason that passes. Returns false, and says why, where it does not pass. */
async function withPatience(
  { family }: FamilyAssembly,
  { commandLine, signal, log }: CommandContext,
  work: () => Promise<void>,
): Promise<boolean> {
  const attempts = commandLine.options.once === true ? 5 : 50
  for (let attempt = 1; ; attempt++) {
    try {
      await work()
      return true
    } catch (error) {
      const passes = error instanceof CommitError && (error.kind === 'transient' || error.kind === 'stale')
      if (signal.aborted) return false
      if (!passes || attempt === attempts) {
        log.warn({ family, error: describeFailure(error) }, 'what an earlier run left behind cannot be removed')
        return false
      }
      await sleep(Math.min(attempt * 500, 30_000), undefined, { signal, ref: false }).catch(() => undefined)
    }
  }
}

/** A former mode gives way. With --once its connections are left to the next run. */
async function retire(family: Family, former: Backend, context: CommandContext): Promise<void> {
  const { signal, log, commandLine } = context
  if (former.retire === undefined) return former.cleanup(signal)
  for (let look = 1; ; look++) {
    const wait = await former.retire(signal)
    if (wait === undefined) return
    if (look === 1) {
      log.info(
        { family, mode: former.mode },
        'connections still live in the mode that was in charge before; it stays until they end',
      )
    }
    if (commandLine.options.once === true) return
    await sleep(wait, undefined, { signal, ref: false }).catch(() => undefined)
    if (signal.aborted) return
  }
}
