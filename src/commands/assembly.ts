// Puts the parts of one node together: the store, and for each address family its network, claims, backend and syncer.
import { type Backend, CommitError } from '../backend/backend.ts'
import { parseScheduling } from '../backend/ipvs/servers.ts'
import type { IpvsSettings } from '../backend/ipvs/settings.ts'
import { backendFor, backends, type Netlink } from '../backend/registry.ts'
import { ConfigError, type Configuration } from '../config/types.ts'
import type { Exec } from '../kernel/exec.ts'
import { Store } from '../model/store.ts'
import type { Family, IP } from '../net/ip.ts'
import { Claims } from '../policy/claims.ts'
import type { Network } from '../policy/network.ts'
import { isLinkLocal } from '../policy/node-ports.ts'
import type { NodeView } from '../policy/node-view.ts'
import type { SyncObserver } from '../sync/contract.ts'
import { Syncer } from '../sync/syncer.ts'
import { type NodeFacts, networkOf, nodeViewOf } from './node.ts'

export interface AssemblyOptions {
  readonly configuration: Configuration
  readonly nodeName: string
  readonly families: readonly Family[]
  readonly exec: Exec
  /** See BackendOptions. */
  readonly netlink?: Netlink | undefined
  readonly own?: boolean
  readonly hostAddresses: readonly IP[]
  /** From the command line. */
  readonly givenAddresses: readonly IP[]
  readonly observer: SyncObserver
  /** sysctl nf_conntrack_tcp_be_liberal is on already: INVALID packets are the operator's choice (§4.3). */
  readonly conntrackIsLiberal?: boolean
}

export interface FamilyAssembly {
  readonly family: Family
  readonly backend: Backend
  readonly syncer: Syncer
  readonly network: () => Network
}

export interface Assembly {
  readonly store: Store
  readonly families: readonly FamilyAssembly[]
  /** Hands what became dirty in the store to the syncers. */
  distribute(): void
  /** The host's addresses may have changed. */
  readdress(addresses: readonly IP[]): void
}

/** Time between full comparisons with the kernel where nothing else asks for one. */
const resyncMs = 15 * 60_000
const minBackoffMs = 250
const maxBackoffMs = 30_000

/** Throws ConfigError when this version has no backend for the configured mode. */
export function assemble(options: AssemblyOptions): Assembly {
  const { configuration, nodeName, exec, netlink, own = false, givenAddresses, observer } = options
  let { hostAddresses } = options
  const store = new Store({ nodeName, families: options.families, startedAt: Date.now() })
  const { conntrackIsLiberal = false } = options
  const facts = (): NodeFacts => ({
    name: nodeName,
    record: store.node(),
    hostAddresses,
    givenAddresses,
    conntrackIsLiberal,
    serviceCIDRs: store.serviceCIDRs(),
  })

  const ipvs = ipvsSettings(configuration)
  const families = options.families.map(family => {
    const means = netlink === undefined ? { exec } : { exec, netlink }
    const backend = backendFor(configuration.mode, { family, ipvs, own, ...means })
    if (backend === undefined) {
      const known = Object.keys(backends).join(', ')
      throw new ConfigError('the mode cannot be used', [
        `mode: ${configuration.mode} is not available in this version; available: ${known}`,
      ])
    }
    let network: Network = networkOf(configuration, facts(), family)
    let node: NodeView = nodeViewOf(configuration, facts(), family)
    const syncer = new Syncer({
      family,
      backend,
      reader: store,
      claims: new Claims(),
      node: () => node,
      network: () => network,
      pace: {
        minBackoffMs,
        maxBackoffMs: Math.min(maxBackoffMs, configuration.syncPeriod),
        ...(configuration.minSyncPeriod === undefined ? {} : { minSyncPeriodMs: configuration.minSyncPeriod }),
      },
      resyncMs,
      checkMs: configuration.syncPeriod,
      observer,
      now: () => performance.now(),
      random: () => Math.random(),
    })
    /** Takes the Node object into account; a change of it may concern every Service. */
    const refreshNode = (): void => {
      const newNetwork = networkOf(configuration, facts(), family)
      const newNode = nodeViewOf(configuration, facts(), family)
      if (JSON.stringify([newNetwork, newNode]) === JSON.stringify([network, node])) return
      network = newNetwork
      node = newNode
      syncer.markAll()
    }
    return { family, backend, syncer, network: () => network, refreshNode }
  })

  let revision = store.networkRevision
  const refresh = (): void => {
    for (const { refreshNode } of families) refreshNode()
  }
  return {
    store,
    families,
    distribute() {
      if (store.networkRevision !== revision) {
        revision = store.networkRevision
        refresh()
      }
      for (const { family, syncer } of families) {
        const triggered = store.takeTriggerTimes(family)
        const dirty = store.takeDirty(family)
        if (dirty.size > 0) syncer.markDirty(dirty, triggered.values())
      }
    },
    readdress(addresses) {
      // Every pod that comes or goes brings a device with such an address.
      const lasting = (all: readonly IP[]): string =>
        all
          .filter(ip => !isLinkLocal(ip))
          .sort()
          .join()
      if (lasting(addresses) === lasting(hostAddresses)) return
      hostAddresses = addresses
      refresh()
    },
  }
}

/** What the configuration says of IPVS mode. Throws ConfigError when the scheduler cannot be read. */
export function ipvsSettings({ ipvs }: Configuration): IpvsSettings {
  const scheduling = parseScheduling(ipvs.scheduler)
  if (scheduling === undefined) {
    throw new ConfigError('the configuration cannot be used', [
      `ipvs.scheduler: "${ipvs.scheduler}" is not the name of a scheduler, with flags after it as in "sh,sh-port"`,
    ])
  }
  const { excludeCIDRs, strictARP, tcpTimeout, tcpFinTimeout, udpTimeout } = ipvs
  return {
    scheduling,
    excludeCIDRs,
    strictARP,
    timeoutsMs: { tcp: tcpTimeout, tcpFin: tcpFinTimeout, udp: udpTimeout },
  }
}

/** True if a family cannot be programmed here, and no Service wants it: a node that is single-stack in all but name. */
export const isNeedless = (error: unknown, syncer: Syncer): boolean =>
  error instanceof CommitError && error.kind === 'unsupported' && syncer.services === 0

/** The error's kind and message, for people. */
export const describeFailure = (error: unknown): string =>
  error instanceof CommitError ? `${error.kind}: ${error.message}` : String(error)
