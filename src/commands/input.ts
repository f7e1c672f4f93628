// Where a subcommand gets the objects from: the API, or files.
import { openConnection } from '../api/connection.ts'
import { createEventWriter, type Writer } from '../api/event-writer.ts'
import type { Problem } from '../api/fields.ts'
import { createManifestSource } from '../api/manifests.ts'
import { createApiSource, type Source } from '../api/source.ts'
import type { RequestFacts } from '../api/transport.ts'
import { hostName } from '../kernel/host.ts'
import type { ModelEvent, ModelKind } from '../model/records.ts'
import type { Store } from '../model/store.ts'
import type { CommandContext } from './context.ts'

/** This node's name: --hostname-override, else the host's. */
export const nodeNameOf = ({ configuration }: CommandContext): string => configuration.hostnameOverride || hostName()

/** Where objects come from. */
export interface Opened {
  readonly source: Source
  /** Writes events to the API; left out where there is none. */
  readonly write?: Writer
  /** False where nobody tells of Nodes: then that there is none means nothing. */
  readonly hasNodes: boolean
  close(): void
}

/**
 * The source that the command line asks for. Throws an Error of one sentence when it cannot be used.
 * @param onRequest told of every request to the API server, once it is answered.
 */
export function openSource(context: CommandContext, onRequest?: (facts: RequestFacts) => void): Opened {
  const { commandLine, configuration, log } = context
  const nodeName = nodeNameOf(context)
  const report = ({ object, field, message }: Problem): void => {
    log.warn({ object, field, problem: message }, 'problem in an object')
  }
  const paths = commandLine.options.manifests ?? []
  if (paths.length > 0) {
    return { source: createManifestSource({ paths, nodeName, report }), hasNodes: false, close: () => undefined }
  }

  const { master } = commandLine.options
  const connection = openConnection({
    kubeconfig: configuration.clientConnection.kubeconfig,
    ...(master === undefined ? {} : { master }),
    ...(onRequest === undefined ? {} : { onRequest }),
  })
  const source = createApiSource(connection, {
    nodeName,
    report,
    onState: (kind, state, why) => {
      if (state === 'waiting' || state === 'absent') log.warn({ kind, state, why }, 'not in step with the API server')
      else log.debug({ kind, state, why }, 'watch')
    },
  })
  return { source, write: createEventWriter(connection), hasNodes: true, close: () => connection.close() }
}

const awaited: readonly ModelKind[] = ['Service', 'EndpointSlice']
/** How long a command that looks once waits for the API server, and then for the Node object, which it can do without. */
export interface Patience {
  readonly apiMs: number
  readonly nodeMs: number
}

const usualPatience: Patience = { apiMs: 30_000, nodeMs: 5_000 }

/**
 * Fills the store with what there is now. Throws an Error of one sentence when a file cannot be read, or the API server
 * gives no complete lists in time.
 */
export async function loadOnce(context: CommandContext, store: Store, patience = usualPatience): Promise<void> {
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
  const complete = (): boolean => awaited.every(kind => store.synced(kind))
  const timers = [setTimeout(() => enough.abort(), patience.apiMs)]
  try {
    const sink = (event: ModelEvent): void => {
      store.apply(event)
      if (event.kind !== 'synced' || !complete()) return
      if (store.synced('Node')) enough.abort()
      else timers.push(setTimeout(() => enough.abort(), patience.nodeMs))
    }
    await source.start(sink, AbortSignal.any([signal, enough.signal]))
  } finally {
    for (const timer of timers) clearTimeout(timer)
    close()
  }
  if (complete()) return
  if (signal.aborted) throw new Error('interrupted before the API server had answered')
  throw new Error(`no complete list from the API server within ${patience.apiMs / 1000} s: ${reasonsOf(source, store)}`)
}

/** Why the kinds that are missing are missing. */
function reasonsOf(source: Source, store: Store): string {
  const { kinds } = source.stats()
  return awaited
    .filter(kind => !store.synced(kind))
    .map(kind => `${kind}: ${kinds[kind]?.lastError ?? 'no answer yet'}`)
    .join('; ')
}
