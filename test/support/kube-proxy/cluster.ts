// A cluster as kube-proxy sees it from one node: Service ports with their endpoints, read from a manifest.

export interface ProxiedEndpoint {
  readonly ip: string
  readonly port: number
  readonly local: boolean
}

/** What kube-proxy calls svcPort. */
export interface ProxiedPort {
  readonly namespace: string
  readonly service: string
  readonly portName: string
  readonly protocol: 'tcp' | 'udp' | 'sctp'
  readonly clusterIP: string
  readonly port: number
  readonly nodePort: number | undefined
  readonly vips: readonly string[]
  readonly ranges: readonly string[]
  readonly externalLocal: boolean
  /** Seconds. */
  readonly affinity: number | undefined
  readonly endpoints: readonly ProxiedEndpoint[]
}

/** One family's view of one node. */
export interface ProxiedCluster {
  readonly family: 'IPv4' | 'IPv6'
  readonly ports: readonly ProxiedPort[]
  /** The detector's. */
  readonly clusterCIDR: string
  /** Addresses at which node ports answer, for mode ipvs. */
  readonly nodeAddresses: readonly string[]
}

interface Port {
  readonly name?: string
  readonly port: number
  readonly protocol?: string
  readonly nodePort?: number
}

interface Item {
  readonly kind: string
  readonly metadata: { readonly name: string; readonly namespace?: string; readonly labels?: Record<string, string> }
  readonly spec?: {
    readonly clusterIPs?: readonly string[]
    readonly ports?: readonly Port[]
    readonly externalTrafficPolicy?: string
    readonly loadBalancerSourceRanges?: readonly string[]
    readonly sessionAffinity?: string
    readonly sessionAffinityConfig?: { readonly clientIP?: { readonly timeoutSeconds?: number } }
  }
  readonly status?: { readonly loadBalancer?: { readonly ingress?: readonly { readonly ip: string }[] } }
  readonly addressType?: string
  readonly endpoints?: readonly { readonly addresses: readonly string[]; readonly nodeName?: string }[]
  readonly ports?: readonly Port[]
}

const familyOf = (address: string): string => (address.includes(':') ? 'IPv6' : 'IPv4')

/** Reads Services and EndpointSlices of a List; other kinds are passed over. All endpoints count as ready. */
export function proxiedCluster(
  manifest: string,
  { nodeName, ...rest }: Omit<ProxiedCluster, 'ports'> & { readonly nodeName: string },
): ProxiedCluster {
  const { items }: { items: readonly Item[] } = JSON.parse(manifest)
  const slices = items.filter(({ kind, addressType }) => kind === 'EndpointSlice' && addressType === rest.family)
  const isOf = (address: string): boolean => familyOf(address) === rest.family
  const ports: ProxiedPort[] = []
  for (const { kind, metadata, spec = {}, status } of items) {
    const clusterIP = spec.clusterIPs?.find(isOf)
    if (kind !== 'Service' || clusterIP === undefined) continue
    for (const { name = '', port, protocol = 'TCP', nodePort } of spec.ports ?? []) {
      const endpoints = slices
        .filter(({ metadata: { labels } }) => labels?.['kubernetes.io/service-name'] === metadata.name)
        .flatMap(slice => {
          const target = slice.ports?.find(item => item.name === name && (item.protocol ?? 'TCP') === protocol)
          if (target === undefined) return []
          return (slice.endpoints ?? []).map(({ addresses: [ip = ''], nodeName: on }) => ({
            ip,
            port: target.port,
            local: on === nodeName,
          }))
        })
      ports.push({
        namespace: metadata.namespace ?? 'default',
        service: metadata.name,
        portName: name,
        protocol: protocol.toLowerCase() as ProxiedPort['protocol'],
        clusterIP,
        port,
        nodePort,
        vips: (status?.loadBalancer?.ingress ?? []).map(({ ip }) => ip).filter(isOf),
        ranges: (spec.loadBalancerSourceRanges ?? []).filter(isOf),
        externalLocal: spec.externalTrafficPolicy === 'Local',
        affinity:
          spec.sessionAffinity === 'ClientIP'
            ? (spec.sessionAffinityConfig?.clientIP?.timeoutSeconds ?? 10_800)
            : undefined,
        endpoints,
      })
    }
  }
  return { ...rest, ports }
}

/** `shop/web:tcp`. */
export const printed = ({ namespace, service, portName }: ProxiedPort): string =>
  `${namespace}/${service}${portName === '' ? '' : `:${portName}`}`

export const addressPort = (ip: string, port: number): string =>
  ip.includes(':') ? `[${ip}]:${port}` : `${ip}:${port}`
