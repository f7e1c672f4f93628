// What the configuration says of IPVS mode, and the kernel settings it relies on (`kube-proxy.md` §5.2).
import type { CIDR } from '../../net/ip.ts'
import type { Timeouts } from './kernel.ts'
import type { Scheduling } from './servers.ts'

/** What the configuration says of IPVS mode. */
export interface IpvsSettings {
  readonly scheduling: Scheduling
  readonly excludeCIDRs: readonly CIDR[]
  readonly strictARP: boolean
  /** Milliseconds; 0 leaves the kernel's. */
  readonly timeoutsMs: { readonly tcp: number; readonly tcpFin: number; readonly udp: number }
}

export const defaultIpvsSettings: IpvsSettings = {
  scheduling: { scheduler: 'rr', flags: [] },
  excludeCIDRs: [],
  strictARP: false,
  timeoutsMs: { tcp: 0, tcpFin: 0, udp: 0 },
}

export interface Setting {
  readonly name: string
  readonly value: string
  /** What happens while it is not so. */
  readonly without: string
}

/** Settings under /proc/sys. `release` is the kernel's, `6.1.0-13-amd64`. */
export function settingsFor({ strictARP }: Pick<IpvsSettings, 'strictARP'>, release: string): readonly Setting[] {
  const [major = 0, minor = 0] = release.split('.').map(Number)
  const before = (toMajor: number, toMinor: number) => major < toMajor || (major === toMajor && minor < toMinor)
  const settings: Setting[] = [
    {
      name: 'net.ipv4.vs.conntrack',
      value: '1',
      without: 'packets that IPVS has scheduled are not masqueraded: node ports and external addresses do not answer',
    },
    {
      name: 'net.ipv4.vs.expire_nodest_conn',
      value: '1',
      without: 'connections to an endpoint that is gone hang instead of ending',
    },
    {
      name: 'net.ipv4.vs.expire_quiescent_template',
      value: '1',
      without: 'session affinity keeps sending clients to an endpoint that is gone',
    },
    { name: 'net.ipv4.ip_forward', value: '1', without: 'nothing is forwarded to pods' },
  ]
  // From 5.9 on the kernel itself does what 0 was needed for (kubernetes #93297); before 4.1 there is no such setting.
  if (!before(4, 1) && before(5, 9)) {
    settings.push({
      name: 'net.ipv4.vs.conn_reuse_mode',
      value: '0',
      without: 'a client that takes a source port again waits a second for its connection',
    })
  }
  if (strictARP) {
    const without = 'the node answers ARP for addresses of Services on every interface'
    settings.push({ name: 'net.ipv4.conf.all.arp_ignore', value: '1', without })
    settings.push({ name: 'net.ipv4.conf.all.arp_announce', value: '2', without })
  }
  return settings
}

/**
 * IPVS' timeouts in whole seconds, 0 leaving one as it is; undefined when nothing is to be set. The configuration gives
 * milliseconds; less than a second is a second.
 */
export function timeoutsOf({ timeoutsMs }: Pick<IpvsSettings, 'timeoutsMs'>): Timeouts | undefined {
  const { tcp, tcpFin, udp } = timeoutsMs
  if (tcp <= 0 && tcpFin <= 0 && udp <= 0) return undefined
  const seconds = (ms: number): number => (ms <= 0 ? 0 : Math.max(1, Math.round(ms / 1000)))
  return { tcp: seconds(tcp), tcpFin: seconds(tcpFin), udp: seconds(udp) }
}
