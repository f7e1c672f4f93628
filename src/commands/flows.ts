// Stale UDP flows are removed after syncs, in the background; what becomes of them is counted.
import { FlowKeeper } from '../conntrack/keeper.ts'
import { nodePortTest } from '../conntrack/node-ports.ts'
import { machineFlows } from '../kernel/conntrack-flows.ts'
import type { Exec } from '../kernel/exec.ts'
import type { Family } from '../net/ip.ts'
import type { Logger } from '../observe/log.ts'
import type { Metrics } from '../observe/metrics.ts'
import type { Network } from '../policy/network.ts'
import type { SyncObserver } from '../sync/contract.ts'

export interface FlowsOptions {
  readonly families: readonly Family[]
  readonly exec: Exec
  readonly network: (family: Family) => Network | undefined
  readonly log: Logger
  readonly metrics: Pick<Metrics, 'flowsDeleted'>
}

/** One keeper a family, told of what the syncers do. */
export function followFlows({ families, exec, network, log, metrics }: FlowsOptions): {
  readonly observer: Required<Pick<SyncObserver, 'resolved' | 'synced'>>
  close(): Promise<void>
} {
  const keepers = new Map(
    families.map(family => {
      const keeper = new FlowKeeper({
        family,
        flows: machineFlows(exec),
        takesNodePorts: ip => {
          const known = network(family)
          return known !== undefined && nodePortTest(known)(ip)
        },
        onCleaned: ({ searches, seen, removed, milliseconds }) => {
          metrics.flowsDeleted(family, removed, milliseconds)
          const fields = { family, searches, seen, removed, durationMs: Math.round(milliseconds) }
          if (removed > 0) log.info(fields, 'stale UDP flows removed')
          else log.debug(fields, 'no stale UDP flows')
        },
        onProblem: sentence => {
          if (sentence !== undefined) log.warn({ family, error: sentence }, 'stale UDP flows cannot be removed')
          else log.info({ family }, 'stale UDP flows can be removed again')
        },
      })
      return [family, keeper] as const
    }),
  )
  return {
    observer: {
      resolved: (family, service, ports) => keepers.get(family)?.note(service, ports),
      synced: ({ family }) => keepers.get(family)?.afterSync(),
    },
    close: async () => {
      await Promise.all([...keepers.values()].map(keeper => keeper.close()))
    },
  }
}
