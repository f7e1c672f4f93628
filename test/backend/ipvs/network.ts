// What tests of this mode have for the node's network, where nothing but its addresses matters.
import type { IP } from '../../../src/net/ip.ts'
import type { Network } from '../../../src/policy/network.ts'

/** The network of a node that has these addresses. */
export const networkAt = (...nodeAddresses: readonly IP[]): Network => ({
  family: 'IPv4',
  detector: { kind: 'none' },
  masqueradeAll: false,
  masqueradeMark: 0x4000,
  nodePortAddresses: { kind: 'all' },
  localhostNodePorts: false,
  dropInvalid: true,
  nodeAddresses,
})
