// Manifests for tests that start the program.

/** A Service with a cluster IP and one EndpointSlice, as YAML documents; without addresses the slice is empty. */
export function serviceYaml(name: string, clusterIP: string, addresses: readonly string[], more = ''): string {
  const endpoints = addresses.map(
    address => `{ addresses: ['${address}'], conditions: { ready: true }, nodeName: node-a }`,
  )
  return `apiVersion: v1
kind: Service
metadata: { name: ${name}, namespace: shop, uid: ${name}, creationTimestamp: '2026-01-01T00:00:00Z' }
spec:
  type: ClusterIP
  clusterIP: ${clusterIP}
  clusterIPs: [${clusterIP}]
  ports: [{ name: http, port: 80, protocol: TCP }]
${more}---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { name: ${name}-1, namespace: shop, labels: { kubernetes.io/service-name: ${name} } }
addressType: IPv4
endpoints: [${endpoints.join(', ')}]
ports: [{ name: http, port: 8080, protocol: TCP }]
`
}

/** So many Services, `svc-0` onwards, each with endpoints of its own. */
export const manyServices = (count: number, endpoints = 2): string =>
  Array.from({ length: count }, (_, n) =>
    serviceYaml(
      `svc-${n}`,
      `10.96.${n >> 8}.${n & 255}`,
      Array.from({ length: endpoints }, (_unused, i) => `10.244.${(n >> 8) * 8 + i}.${n & 255}`),
    ),
  ).join('---\n')
