// Where a subcommand gets the objects from: the API, or files.
import { openConnection } from '../api/connection.ts'
import type { Problem } from '../api/fields.ts'
import { createManifestSource } from '../api/manifests.ts'
import { createApiSource, type Source } from '../api/source.ts'
import { hostName } from '../kernel/host.ts'
import type { ModelEvent, ModelKind } from '../model/records.ts'
import type { Store } from '../model/store.ts'
import type { CommandContext } from './context.ts'

/** This node's name: --hostname-override, else the host's. */
export const nodeNameOf = ({ configuration }: CommandContext): string => configuration.hostnameOverride || hostName()

/** The source that the command line asks for. Throws an Error of one sentence when it cannot be used. */
export function openSource(context: CommandContext): { source: Source; close: () => void } {
  const { commandLine, configuration, log } = context
  const nodeName = nodeNameOf(context)
  const report = ({ object, field, message }: Problem): void => {
    log.warn({ object, field, problem: message }, 'problem in an object')
  }
  const paths = commandLine.options.manifests ?? []
  if (paths.length > 0) return { source: createManifestSource({ paths, nodeName, report }), close: () => undefined }

  const { master } = commandLine.options
  const connection = openConnection({
    kubeconfig: configuration.clientConnection.kubeconfig,
    ...(master === undefined ? {} : { master }),
  })
  const source = createApiSource(connection, {
    nodeName,
    report,
    onState: (kind, state, why) => {
      if (state === 'waiting' || state === 'absent') log.warn({ kind, state, why }, 'not in step with the API server')
      else log.debug({ kind, state, why }, 'watch')
    },
  })
  return { source, close: () => connection.close() }
}

const awaited: readonly ModelKind[] = ['Service', 'EndpointSlice', 'Node']

/** Fills the store with what there is now. From files, a file that cannot be read is an error; from the API, it waits. */
export async function loadOnce(context: CommandContext, store: Store): Promise<void> {
  const { commandLine, signal } = context
  const paths = commandLine.options.manifests ?? []
  if (paths.length > 0) {
    const problems: Problem[] = []
    const source = createManifestSource({
      paths,
      nodeName: nodeNameOf(context),
      report: problem => problems.push(problem),
    })
    // A file that cannot be read is the error itself; objects that cannot be used are worth a line each.
    for (const event of await source.readOnce()) store.apply(event)
    for (const { object, field, message } of problems) {
      context.log.warn({ object, field, problem: message }, 'problem in an object')
    }
    return
  }
  const { source, close } = openSource(context)
  const enough = new AbortController()
  try {
    const sink = (event: ModelEvent): void => {
      store.apply(event)
      if (awaited.every(kind => store.synced(kind))) enough.abort()
    }
    await source.start(sink, AbortSignal.any([signal, enough.signal]))
  } finally {
    close()
  }
  if (!enough.signal.aborted) throw new Error('interrupted before the API server had answered')
}
