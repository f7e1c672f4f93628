// What policy needs to know of this node.
import type { IP } from '../net/ip.ts'

export interface NodeView {
  /** Node name, compared with endpoints' nodeName and node hints. */
  readonly name: string
  /** `topology.kubernetes.io/zone`; absent when the node has no such label. */
  readonly zone?: string
  /** The node's address of the family being resolved, for the source-range exception; absent when unknown. */
  readonly nodeIP?: IP
  /** Feature gate AllowServiceExternalIPs is off (KEP-5707): external IPs are not programmed. */
  readonly ignoresExternalIPs?: boolean
}
