// What the kernel needs whatever the Services are: our static chains, and the jumps to them from the chains of others.
import { cidrContains, formatCIDR } from '../../net/ip.ts'
import type { Network } from '../../policy/network.ts'
import type { KernelObject } from '../backend.ts'
import { chainKey, jumpKey, type Table } from '../xtables/names.ts'
import { clearMark, comment, loopback, markText, sameAddress } from '../xtables/rules.ts'
import { chains, trees } from './names.ts'

/** The static objects, in no particular order. Without `hairpin` the rules that need xt_bpf are left out. */
export function* skeleton(network: Network, hairpin = true): Iterable<KernelObject> {
  const { family, masqueradeMark } = network
  const chain = (table: Table, name: string, lines: readonly string[]): KernelObject => ({
    key: chainKey(table, name),
    value: lines.join('\n'),
  })
  const jump = (table: Table, from: string, match: string, to: string, note: string): KernelObject => ({
    key: jumpKey(table, from, to),
    value: `${match}${comment(note)} -j ${to}`,
  })
  const mark = markText(masqueradeMark)
  const reachedItself = `-m conntrack --ctstate DNAT ${sameAddress(family)}`

  yield chain('nat', chains.services, [`-j ${trees.address}`, ...nodePortJumps(network, '')])
  yield chain('nat', chains.postrouting, [
    ...(hairpin ? [`-m mark ! --mark ${mark} ${reachedItself} -j MASQUERADE --random-fully`] : []),
    `-m mark ! --mark ${mark} -j RETURN`,
    // Cleared, so that the packet is not taken for ours if it comes through another hook (§4.3).
    clearMark(masqueradeMark),
    '-j MASQUERADE --random-fully',
  ])
  yield chain('filter', chains.filter, [`-j ${trees.address}`])
  yield chain('filter', chains.input, [
    ...nodePortJumps(network, '-m conntrack --ctstate NEW '),
    `-p tcp -j ${trees.health}`,
  ])
  yield chain('filter', chains.forward, [
    ...(network.dropInvalid ? ['-m conntrack --ctstate INVALID -j DROP'] : []),
    `-m mark --mark ${mark} -j ACCEPT`,
    '-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT',
    ...(hairpin ? [`${reachedItself} -j ACCEPT`] : []),
  ])

  yield jump('nat', 'PREROUTING', '', chains.services, 'penstock service addresses')
  yield jump('nat', 'OUTPUT', '', chains.services, 'penstock service addresses')
  yield jump('nat', 'POSTROUTING', '', chains.postrouting, 'penstock masquerading')
  const fresh = '-m conntrack --ctstate NEW '
  for (const from of ['INPUT', 'FORWARD', 'OUTPUT']) {
    yield jump('filter', from, fresh, chains.filter, 'penstock refused service addresses')
  }
  yield jump('filter', 'INPUT', '', chains.input, 'penstock node ports')
  yield jump('filter', 'FORWARD', '', chains.forward, 'penstock forwarding')

  if (network.localhostNodePorts && family === 'IPv4') {
    // With route_localnet=1 a neighbour could reach what listens on 127.0.0.1 only (CVE-2020-8558).
    yield chain('filter', chains.localnet, [
      '! -s 127.0.0.0/8 -d 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP',
    ])
    for (const from of ['INPUT', 'OUTPUT']) {
      yield jump('filter', from, '', chains.localnet, 'penstock block incoming localnet connections')
    }
  }
}

/**
 * Jumps to the node-port tree for packets to addresses that accept NodePorts. A CIDR together with addrtype LOCAL is the
 * node's addresses inside that CIDR as they are at that moment: no list of interface addresses to keep up to date.
 */
function* nodePortJumps(network: Network, state: string): Iterable<string> {
  const { family, nodePortAddresses, localhostNodePorts } = network
  const local = `-m addrtype --dst-type LOCAL ${state}-j ${trees.nodePort}`
  const lo = loopback(family)
  if (nodePortAddresses.kind === 'all') {
    yield localhostNodePorts ? local : `! -d ${formatCIDR(lo)} ${local}`
    return
  }
  for (const cidr of nodePortAddresses.cidrs) {
    const insideLoopback = cidr.prefix >= lo.prefix && cidrContains(lo, cidr.address)
    if (!insideLoopback || localhostNodePorts) yield `-d ${formatCIDR(cidr)} ${local}`
  }
}
