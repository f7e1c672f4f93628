// Rules as iptables-save prints them, so that what is written and what is read back are the same text.
import {
  type CIDR,
  type Family,
  formatAddressPort,
  formatCIDR,
  hostCIDR,
  type IP,
  parseCIDR,
  parseIP,
} from '../../net/ip.ts'
import type { Protocol } from '../../net/protocol.ts'
import type { LocalDetector } from '../../policy/network.ts'
import type { Endpoint } from '../../policy/service-port.ts'

/** Loopback, which NodePorts leave alone unless localhostNodePorts is on. */
export const loopback = (family: Family): CIDR => {
  const cidr = family === 'IPv4' ? parseCIDR('127.0.0.0/8') : hostCIDR(parseIP('::1') as IP)
  if (cidr === undefined) throw new Error('unreachable: the loopback CIDR is well formed')
  return cidr
}

/** `0x4000/0x4000`: the form of both `--set-xmark` and `--mark`. */
export const markText = (mark: number): string => `0x${(mark >>> 0).toString(16)}/0x${(mark >>> 0).toString(16)}`

export const markPacket = (mark: number): string => `-j MARK --set-xmark ${markText(mark)}`
export const clearMark = (mark: number): string => `-j MARK --set-xmark 0x0/0x${(mark >>> 0).toString(16)}`

export const lower = (protocol: Protocol): string => protocol.toLowerCase()

/** `-p tcp -m tcp --dport 80`. */
export const portMatch = (protocol: Protocol, port: number): string =>
  `-p ${lower(protocol)} -m ${lower(protocol)} --dport ${port}`

/** `-d 10.96.0.20/32`. */
export const destination = (ip: IP): string => `-d ${formatCIDR(hostCIDR(ip))}`

/**
 * `-m set --match-set NAME dst,dst`: the packet is in the ipset, or negated, is not. `flags` say for each dimension of the
 * set whether the packet's source or destination is looked up: `dst,dst` is destination address and port.
 */
export const matchSet = (name: string, flags: string, negated = false): string =>
  `-m set ${negated ? '! ' : ''}--match-set ${name} ${flags}`

/**
 * `-j SET --map-set NAME dst,dst --map-mark`: the packet gets the mark of its element of an ipset with `skbinfo`; without
 * such an element it stays as it is. The walk goes on with the next rule. Taken in the table mangle only.
 */
export const mapMark = (name: string, flags: string): string => `-j SET --map-set ${name} ${flags} --map-mark`

/** A name from the API in a comment. Names are validated on decoding and hold nothing that iptables-save would quote. */
export const comment = (text: string): string =>
  `-m comment --comment ${/^[A-Za-z0-9_-]+$/.test(text) ? text : `"${text}"`}`

/**
 * The probability that rule i of n is taken, 1/(n−i), as the kernel keeps it: a multiple of 2^-31, printed with 11
 * decimals.
 */
export const probability = (weight: number, remaining: number): string =>
  (Math.round((weight / remaining) * 0x80000000) / 0x80000000).toFixed(11)

/** `-m statistic …`, or nothing when the rule is sure to be taken. */
export const chance = (weight: number, remaining: number): string =>
  weight === remaining ? '' : `-m statistic --mode random --probability ${probability(weight, remaining)} `

/** A list of xt_recent, keyed by source address. */
export const recent = (operation: string, name: string, family: Family): string =>
  `-m recent ${operation} --name ${name} --mask ${family === 'IPv4' ? '255.255.255.255' : 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff'} --rsource`

export const dnat = (endpoint: Endpoint): string =>
  `-j DNAT --to-destination ${formatAddressPort(endpoint.address, endpoint.port)}`

export const reject = (family: Family): string =>
  `-j REJECT --reject-with ${family === 'IPv4' ? 'icmp-port-unreachable' : 'icmp6-port-unreachable'}`

/**
 * The match for packets of this node's pods, or negated for all others, as (source, interface) parts in printing order.
 * Undefined when no packet can match: without a detector there are no known pods.
 */
export function fromLocalPod(detector: LocalDetector, negated: boolean): { source: string; input: string } | undefined {
  const not = negated ? '! ' : ''
  switch (detector.kind) {
    case 'none':
      return undefined
    case 'source-cidr':
      // Everything is local: nft refuses `! -s 0.0.0.0/0`, and no variant prints `-s 0.0.0.0/0` again.
      if (detector.cidr.prefix === 0) return negated ? undefined : { source: '', input: '' }
      return { source: `${not}-s ${formatCIDR(detector.cidr)} `, input: '' }
    case 'interface':
      return { source: '', input: `${not}-i ${detector.name} ` }
    case 'interface-prefix':
      return { source: '', input: `${not}-i ${detector.prefix}+ ` }
  }
}

/**
 * Classic BPF that is true when source and destination address are the same: after DNAT, an endpoint that reached itself.
 * One rule for all endpoints; a rule or set entry for each would grow with the cluster. xt_bpf is in every kernel since
 * 3.9 and needs no privilege beyond CAP_NET_ADMIN in the namespace.
 */
export const sameAddressProgram: Readonly<Record<Family, string>> = {
  IPv4: '6,32 0 0 12,7 0 0 0,32 0 0 16,29 0 1 0,6 0 0 65535,6 0 0 0',
  IPv6:
    '18,32 0 0 8,7 0 0 0,32 0 0 24,29 0 13 0,32 0 0 12,7 0 0 0,32 0 0 28,29 0 9 0,32 0 0 16,7 0 0 0,32 0 0 32,29 0 5 0,' +
    '32 0 0 20,7 0 0 0,32 0 0 36,29 0 1 0,6 0 0 65535,6 0 0 0',
}

export const sameAddress = (family: Family): string => `-m bpf --bytecode "${sameAddressProgram[family]}"`
