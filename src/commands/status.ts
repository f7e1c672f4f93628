// `penstock status`: the running daemon's view of itself.
import { statusText } from '../observe/status.ts'
import type { CommandContext } from './context.ts'
import { askDaemon } from './daemon.ts'

/** Throws an Error of one sentence when no daemon answers. */
export async function status({ configuration, commandLine, print }: CommandContext): Promise<number> {
  const answer = await askDaemon(configuration.metricsBindAddress)
  if (answer.kind !== 'status') throw new Error(answer.why)
  return print(
    commandLine.options.output === 'json' ? `${JSON.stringify(answer.status, null, 2)}\n` : statusText(answer.status),
  )
}
