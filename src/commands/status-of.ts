// What the running daemon says of itself, and of one Service, when it is asked.
import type { Family } from '../net/ip.ts'
import type { DaemonStatus, FamilyStatus } from '../observe/status.ts'
import { version } from '../version.ts'
import { describeFailure, isNeedless } from './assembly.ts'
import type { Ledger } from './ledger.ts'
import type { Parts, TelemetryOptions } from './telemetry.ts'

const timeOf = (date: number | undefined): string | null =>
  date === undefined || date === 0 ? null : new Date(date).toISOString()

/** The whole of it. Before there are parts, nothing is known but that the program runs. */
export function statusOf(
  { context, nodeName, startedAt, health }: TelemetryOptions,
  parts: Parts | undefined,
  ledgerOf: (family: Family) => Ledger,
): DaemonStatus {
  const node = parts?.store.node()
  const { kinds = {} } = parts?.source.stats() ?? {}
  return {
    version,
    mode: context.configuration.mode,
    startedAt: new Date(startedAt).toISOString(),
    now: new Date().toISOString(),
    node: {
      name: nodeName,
      eligible: node?.eligible ?? null,
      addresses: node?.addresses ?? [],
      podCIDRs: node?.podCIDRs.map(({ address, prefix }) => `${address}/${prefix}`) ?? [],
    },
    families: (parts?.families ?? []).flatMap(item => familyOf(item, ledgerOf(item.family))),
    watches: Object.entries(kinds).map(([kind, { state, lastEventAt, lastError }]) => ({
      kind,
      state: lastError === undefined ? state : `${state} (${lastError})`,
      lastEvent: timeOf(lastEventAt),
    })),
    problems: [...health.ready().report.problems],
  }
}

function familyOf({ family, syncer }: Parts['families'][number], ledger: Ledger): FamilyStatus[] {
  const { lastError, failures } = syncer
  // The machine cannot, and nobody wants it to.
  if (lastError !== undefined && isNeedless(lastError, syncer)) return []
  return [
    {
      family,
      lastSync: timeOf(ledger.lastSync),
      failures,
      lastError: lastError === undefined ? null : describeFailure(lastError),
      dirty: syncer.pending,
      services: syncer.services,
      kernelObjects: syncer.program.objects.size,
      drift: ledger.drift,
      setAside: syncer.setAsides.map(({ servicePort, reason }) => ({ servicePort, reason })),
      conflicts: ledger.conflicts.map(({ service, frontend, holder }) => ({ service, frontend, holder })),
    },
  ]
}

/** One Service: what is known of it, and the kernel objects made from it; undefined if there is no such Service. */
export function debugService(parts: Parts | undefined, namespace: string, name: string): unknown {
  const key = `${namespace}/${name}`
  const service = parts?.store.service(key)
  if (parts === undefined || service === undefined) return undefined
  return {
    service,
    endpointSlices: parts.store.slices(key),
    families: parts.families.map(({ family, syncer }) => ({
      family,
      servicePorts: syncer
        .ownersOf(key)
        .map(owner => ({ name: owner, objects: syncer.program.objectsOf(owner).map(shown) })),
      setAside: syncer.setAsides
        .filter(item => item.service === key)
        .map(({ servicePort, reason }) => ({ servicePort, reason })),
    })),
  }
}

const shown = ({ key, value }: { readonly key: string; readonly value: string }) => ({ key, value: value.split('\n') })
