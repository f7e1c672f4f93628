// What is kept of an API object: only the fields that decide what this node does. Everything else is dropped on parse.
import type { CIDR, Family, IP } from '../net/ip.ts'
import type { Protocol } from '../net/protocol.ts'

/** `namespace/name` of a Service: the unit of change. */
export type ServiceKey = string

/** The key of a namespaced object. */
export const keyOf = (namespace: string, name: string): ServiceKey => `${namespace}/${name}`

export interface ServicePortRecord {
  /** Empty when the Service has a single, unnamed port. */
  readonly name: string
  readonly protocol: Protocol
  readonly port: number
  /** 0 when the port has none. */
  readonly nodePort: number
}

/** A Service that has at least one cluster address. Headless and ExternalName Services have no record. */
export interface ServiceRecord {
  readonly namespace: string
  readonly name: string
  readonly uid: string
  /** Milliseconds since the epoch; 0 when the object carries none. Decides who keeps a contested address. */
  readonly createdAt: number
  readonly type: 'ClusterIP' | 'NodePort' | 'LoadBalancer'
  /** At most one an address family. */
  readonly clusterIPs: readonly IP[]
  readonly ports: readonly ServicePortRecord[]
  readonly externalIPs: readonly IP[]
  /** `status.loadBalancer.ingress` entries with an IP and ipMode VIP (or none). */
  readonly loadBalancerIPs: readonly IP[]
  /** As in the spec, parsed; both families. */
  readonly loadBalancerSourceRanges: readonly CIDR[]
  /** Present when sessionAffinity is ClientIP. */
  readonly affinitySeconds?: number
  /** Annotation `kube-penstock.io/ipvs-scheduler`, trimmed; absent when it is missing or empty. */
  readonly scheduler?: string
  readonly internalTrafficPolicy: 'Cluster' | 'Local'
  readonly externalTrafficPolicy: 'Cluster' | 'Local'
  /** 0 when there is none. */
  readonly healthCheckNodePort: number
}

export interface EndpointRecord {
  readonly address: IP
  readonly ready: boolean
  readonly serving: boolean
  readonly terminating: boolean
  readonly nodeName?: string
  /** `hints.forZones[].name`; absent when the endpoint carries no zone hint. */
  readonly zoneHints?: readonly string[]
  /** `hints.forNodes[].name` (KEP-3015). */
  readonly nodeHints?: readonly string[]
}

/** Endpoints in the order of their slice. An array is one; the store keeps a form that holds less. */
export interface EndpointList extends Iterable<EndpointRecord> {
  readonly length: number
}

export interface EndpointPortRecord {
  readonly name: string
  readonly protocol: Protocol
  readonly port: number
}

export interface EndpointSliceRecord {
  readonly namespace: string
  readonly name: string
  /** Name of the owning Service: label `kubernetes.io/service-name`. */
  readonly service: string
  readonly family: Family
  readonly ports: readonly EndpointPortRecord[]
  readonly endpoints: EndpointList
  /** `endpoints.kubernetes.io/last-change-trigger-time` in milliseconds since the epoch. */
  readonly triggeredAt?: number
}

/** This node's own object. */
export interface NodeRecord {
  readonly name: string
  /** InternalIPs, then ExternalIPs, in the object's order. */
  readonly addresses: readonly IP[]
  readonly podCIDRs: readonly CIDR[]
  /** Label `topology.kubernetes.io/zone`. */
  readonly zone?: string
  /** False when it is being deleted or carries the taint `ToBeDeletedByClusterAutoscaler` (KEP-3836). */
  readonly eligible: boolean
}

export interface ServiceCIDRRecord {
  readonly name: string
  readonly cidrs: readonly CIDR[]
}

/** A change of one object, as the way in reports it. `synced` says that the initial list of a kind is complete. */
export type ModelEvent =
  | { readonly kind: 'Service'; readonly key: ServiceKey; readonly record: ServiceRecord | undefined }
  | { readonly kind: 'EndpointSlice'; readonly key: string; readonly record: EndpointSliceRecord | undefined }
  | { readonly kind: 'Node'; readonly key: string; readonly record: NodeRecord | undefined }
  | { readonly kind: 'ServiceCIDR'; readonly key: string; readonly record: ServiceCIDRRecord | undefined }
  | { readonly kind: 'synced'; readonly of: ModelKind }

export type ModelKind = 'Service' | 'EndpointSlice' | 'Node' | 'ServiceCIDR'
