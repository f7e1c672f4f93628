// How traffic of this node's pods is told from other traffic (`kube-proxy.md` §3.2).
import { type CIDR, type Family, familyOf } from '../net/ip.ts'
import type { LocalDetector } from './network.ts'

/** The configuration's fields, parsed, and the Node's pod CIDRs. */
export interface DetectorSettings {
  readonly mode: 'ClusterCIDR' | 'NodeCIDR' | 'BridgeInterface' | 'InterfaceNamePrefix'
  readonly clusterCIDR: readonly CIDR[]
  readonly podCIDRs: readonly CIDR[]
  /** Empty when not set, like the prefix. */
  readonly bridgeInterface: string
  readonly interfaceNamePrefix: string
}

/**
 * The detector of one family: by the first CIDR of the family, or by interface for both. Without the data for it there
 * is none: cluster traffic is then not masqueraded, and pods count as outside clients.
 */
export function localDetector(settings: DetectorSettings, family: Family): LocalDetector {
  switch (settings.mode) {
    case 'ClusterCIDR':
      return bySource(settings.clusterCIDR, family)
    case 'NodeCIDR':
      return bySource(settings.podCIDRs, family)
    case 'BridgeInterface':
      return settings.bridgeInterface === '' ? none : { kind: 'interface', name: settings.bridgeInterface }
    case 'InterfaceNamePrefix':
      return settings.interfaceNamePrefix === ''
        ? none
        : { kind: 'interface-prefix', prefix: settings.interfaceNamePrefix }
  }
}

const none: LocalDetector = { kind: 'none' }

function bySource(cidrs: readonly CIDR[], family: Family): LocalDetector {
  const cidr = cidrs.find(({ address }) => familyOf(address) === family)
  return cidr === undefined ? none : { kind: 'source-cidr', cidr }
}
