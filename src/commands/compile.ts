// `penstock compile`: the whole compiled rule program on stdout. Touches no kernel; works as any user on any system.
import type { CommandContext } from './context.ts'
import { type CompiledFamily, compiledJson, compiledText } from './outputs.ts'
import { bothFamilies, loadAssembly } from './program.ts'

export async function compile(context: CommandContext): Promise<number> {
  const { configuration, commandLine, print } = context
  const assembly = await loadAssembly(context, bothFamilies)
  const families: CompiledFamily[] = []
  for (const { family, backend, syncer } of assembly.families) {
    const program = await syncer.compile()
    const added = [...program].map(([key, value]) => ({ key, value }))
    families.push({ family, program, transaction: backend.plan({ added, changed: [], removed: [] }, program) })
  }
  const { mode } = configuration
  return commandLine.options.output === 'json'
    ? print(`${JSON.stringify(compiledJson(mode, families), null, 2)}\n`)
    : print(compiledText(mode, families))
}
