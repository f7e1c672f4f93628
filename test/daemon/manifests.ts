// Objects for tests that start the program.

export interface ManifestObject {
  readonly apiVersion: string
  readonly kind: 'Service' | 'EndpointSlice'
  readonly metadata: { readonly name: string; readonly namespace: string }
}

/** A Service `shop/NAME` with a cluster IP, port 80, and its EndpointSlice; without addresses the slice is empty. */
export function serviceObjects(name: string, clusterIP: string, addresses: readonly string[]): ManifestObject[] {
  const service = {
    apiVersion: 'v1',
    kind: 'Service' as const,
    metadata: { name, namespace: 'shop', creationTimestamp: '2026-01-01T00:00:00Z' },
    spec: {
      type: 'ClusterIP',
      clusterIP,
      clusterIPs: [clusterIP],
      ports: [{ name: 'http', port: 80, protocol: 'TCP' }],
    },
  }
  const slice = {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice' as const,
    metadata: { name: `${name}-1`, namespace: 'shop', labels: { 'kubernetes.io/service-name': name } },
    addressType: 'IPv4',
    endpoints: addresses.map(address => ({
      addresses: [address],
      conditions: { ready: true },
      nodeName: 'node-a',
    })),
    ports: [{ name: 'http', port: 8080, protocol: 'TCP' }],
  }
  return [service, slice]
}

/** Services `svc-FROM` to below `svc-TO`, each with two endpoints of its own. */
export function manyServices(to: number, from = 0): ManifestObject[] {
  const objects: ManifestObject[] = []
  for (let n = from; n < to; n++) {
    const endpoints = [0, 1].map(i => `10.244.${(n >> 8) * 2 + i}.${n & 255}`)
    objects.push(...serviceObjects(`svc-${n}`, `10.96.${n >> 8}.${n & 255}`, endpoints))
  }
  return objects
}

/** A manifest file's text: a `List`. */
export const manifest = (objects: readonly ManifestObject[]): string =>
  JSON.stringify({ apiVersion: 'v1', kind: 'List', items: objects })
