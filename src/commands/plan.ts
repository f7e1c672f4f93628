// `penstock plan`: the kernel against what it should hold, as a diff. Changes nothing.
import { isLiberal } from '../kernel/conntrack.ts'
import { describeFailure, isNeedless } from './assembly.ts'
import type { CommandContext } from './context.ts'
import { type PlannedFamily, plannedJson, plannedText } from './outputs.ts'
import { loadAssembly, machineFamilies } from './program.ts'

/** Exit status 0: nothing to do; 2: there are changes. */
export async function plan(context: CommandContext): Promise<number> {
  const { configuration, commandLine, print, signal, log } = context
  const assembly = await loadAssembly(context, machineFamilies(), { conntrackIsLiberal: await isLiberal() })
  const families: PlannedFamily[] = []
  for (const { family, backend, syncer } of assembly.families) {
    try {
      const delta = await syncer.difference(signal)
      families.push({ family, delta, transaction: backend.plan(delta, syncer.program.objects) })
    } catch (error) {
      // A family that this kernel or its tools cannot do, and that no Service asks for.
      if (!isNeedless(error, syncer)) throw error
      log.warn({ family, error: describeFailure(error) }, 'left out: no Service needs this address family')
    }
  }
  const { mode } = configuration
  print(
    commandLine.options.output === 'json'
      ? `${JSON.stringify(plannedJson(mode, families), null, 2)}\n`
      : plannedText(mode, families),
  )
  return families.some(({ delta }) => delta.added.length + delta.changed.length + delta.removed.length > 0) ? 2 : 0
}
