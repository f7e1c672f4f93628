// What this node should do for one port of one Service: the value that every backend compiles.
import type { CIDR, IP } from '../net/ip.ts'
import type { Protocol } from '../net/protocol.ts'

/** `namespace/service:port`, or `namespace/service` when the port is unnamed. The protocol is not part of it. */
export type ServicePortName = string

/** An address and port that packets are sent to. */
export interface Frontend {
  readonly kind: 'ClusterIP' | 'ExternalIP' | 'LoadBalancer' | 'NodePort'
  /** `node-ports`: every address of the node that nodePortAddresses admits. */
  readonly address: IP | 'node-ports'
  readonly port: number
  readonly traffic: 'internal' | 'external'
  /**
   * Sources that may use it; absent when it is open to all. A source outside is dropped. Of the frontend's family only;
   * the node exception (`kube-proxy.md` §3.5) is already in it.
   */
  readonly sourceRanges?: readonly CIDR[]
}

export interface Endpoint {
  readonly address: IP
  readonly port: number
  readonly isLocal: boolean
  readonly isTerminating: boolean
}

/** Where new connections go. `endpoints` is never empty and is sorted by address and port. */
export type EndpointChoice =
  | { readonly kind: 'endpoints'; readonly endpoints: readonly Endpoint[] }
  | { readonly kind: 'reject' }
  | { readonly kind: 'drop' }

/** One Service port on this node, for one address family. Pure data: same inputs, same value. */
export interface ServicePort {
  /** Owner: `namespace/service`. */
  readonly service: string
  readonly name: ServicePortName
  readonly protocol: Protocol
  readonly frontends: readonly Frontend[]
  /** For packets to internal frontends. */
  readonly internal: EndpointChoice
  /** For packets to external frontends that come from outside. */
  readonly external: EndpointChoice
  /** For packets to external frontends that come from this node's own addresses or its pods. */
  readonly externalFromNode: EndpointChoice
  /** Every packet to an external frontend is masqueraded (externalTrafficPolicy Cluster). */
  readonly externalMasquerade: boolean
  readonly affinitySeconds?: number
  /** The IPVS scheduler that the Service asks for, as its annotation says; other modes choose at random. */
  readonly scheduler?: string
  /** Port of the per-Service health check, on the first Service port that carries it; 0 when there is none. */
  readonly healthCheckNodePort: number
  /**
   * UDP only: every endpoint that serves, chosen here or not, draining ones too. A flow to one of these is not stale, whatever
   * policy and topology choose for new ones (`kube-proxy.md` §7).
   */
  readonly serving?: readonly { readonly address: IP; readonly port: number }[]
  /** Ready endpoints on this node, over all ports of the Service: what that health check tells. Only where there is one. */
  readonly localReadyEndpoints?: number
}
