// At which addresses of this node a UDP flow to a node port is a Service's.
import { cidrContains, familyOf, type IP, parseCIDR } from '../net/ip.ts'
import type { Network } from '../policy/network.ts'

const loopback = parseCIDR('127.0.0.0/8')

/**
 * True for the addresses at which this node answers node ports. kube-proxy takes every flow to such a port for one of its
 * own, wherever it goes; a pod that talks to the same port of a server elsewhere then loses its flow.
 */
export function nodePortTest(network: Network): (ip: IP) => boolean {
  const own = new Set(network.nodeAddresses)
  const { family, nodePortAddresses: admitted, localhostNodePorts } = network
  return ip => {
    if (familyOf(ip) !== family) return false
    const isLoopback = loopback !== undefined && cidrContains(loopback, ip)
    if (isLoopback ? !localhostNodePorts : !own.has(ip)) return false
    return admitted.kind === 'all' || admitted.cidrs.some(cidr => cidrContains(cidr, ip))
  }
}
