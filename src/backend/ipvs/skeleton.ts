// What IPVS mode needs whatever the Services are: the device, the sets, and the few rules that look into them.
import type { Network } from '../../policy/network.ts'
import type { KernelObject } from '../backend.ts'
import { chainKey, jumpKey, type Table } from '../xtables/names.ts'
import {
  clearMark,
  comment,
  fromLocalPod,
  mapMark,
  markPacket,
  markText,
  matchSet,
  reject,
  sameAddress,
} from '../xtables/rules.ts'
import {
  chains,
  deviceKey,
  markHex,
  markMask,
  markSignature,
  type SetRole,
  setKey,
  setName,
  setRoles,
} from './names.ts'
import { setType } from './sets.ts'

/**
 * The static objects, in no particular order. Without `hairpin` the rule that needs xt_bpf and xt_ipvs is left out.
 *
 * IPVS looks at packets in two places: at those from outside between the INPUT rules and their delivery, at those of the
 * node between the nat and the filter rules of OUTPUT. What it has scheduled passes OUTPUT (once more) with its endpoint
 * as destination. So both are judged in mangle, which comes first in either hook.
 */
export function* skeleton(network: Network, hairpin = true): Iterable<KernelObject> {
  const { family, masqueradeMark, masqueradeAll, detector } = network
  const chain = (table: Table, name: string, lines: readonly string[]): KernelObject => ({
    key: chainKey(table, name),
    value: lines.join('\n'),
  })
  const jump = (table: Table, from: string, match: string, to: string, note: string): KernelObject => ({
    key: jumpKey(table, from, to),
    value: `${match}${comment(note)} -j ${to}`,
  })
  const is = (role: SetRole, flags = 'dst,dst') => matchSet(setName(family, role), flags)
  const isNot = (role: SetRole, flags = 'dst,dst') => matchSet(setName(family, role), flags, true)
  const masquerade = markPacket(masqueradeMark)
  const byMark = `-m mark --mark ${markHex(markSignature)}/${markHex(markMask)}`
  const fromNode = '-m addrtype --src-type LOCAL'

  yield { key: deviceKey, value: 'dummy' }
  for (const role of setRoles) yield { key: setKey(setName(family, role)), value: setType(role, family) }

  const localPod = fromLocalPod(detector, false)
  const others = fromLocalPod(detector, true)
  yield chain('mangle', chains.services, [
    `${byMark} -g ${chains.scheduled}`,
    `${is('RANGED')} ${isNot('RANGES', 'dst,dst,src')} -j DROP`,
    ...(localPod === undefined ? [] : [`${localPod.source}${localPod.input}${is('MARK')} -g ${chains.fromNode}`]),
    `${is('MARK')} ${fromNode} -g ${chains.fromNode}`,
    `${is('DROP')} -j DROP`,
    ...(masqueradeAll
      ? [`${is('INTERNAL')} ${masquerade}`]
      : others === undefined
        ? []
        : [`${others.source}${others.input}${is('INTERNAL')} ${masquerade}`]),
    // The node picks a Service's address as source where it was not told which to use; of IPv6, one of its own.
    `${is('INTERNAL')} ${is('ADDRESS', 'src')} ${masquerade}`,
    `${is('EXTERNAL')} ${masquerade}`,
    `${is('LOCAL')} ${fromNode} ${masquerade}`,
  ])
  yield chain('mangle', chains.fromNode, [mapMark(setName(family, 'MARK'), 'dst,dst')])
  yield chain('mangle', chains.scheduled, [
    `${fromNode} -j MARK --set-xmark ${markHex(masqueradeMark)}/0xffffffff`,
    `-m addrtype ! --src-type LOCAL ${clearMark(0xffffffff)}`,
  ])
  const mark = markText(masqueradeMark)
  yield chain('nat', chains.postrouting, [
    // To an endpoint on the node itself: such a packet does not pass OUTPUT again, where its mark would be given up.
    `${byMark} ${fromNode} -j MASQUERADE --random-fully`,
    `${byMark} -j RETURN`,
    ...(hairpin ? [`-m ipvs --ipvs ${sameAddress(family)} -j MASQUERADE --random-fully`] : []),
    `-m mark ! --mark ${mark} -j RETURN`,
    // Cleared, so that the packet is not taken for ours if it comes through another hook (§4.3).
    clearMark(masqueradeMark),
    '-j MASQUERADE --random-fully',
  ])
  yield chain('filter', chains.input, [
    `${byMark} -j ACCEPT`,
    `-m mark --mark ${mark} -j ACCEPT`,
    `-p tcp ${is('HEALTH', 'dst')} -j ACCEPT`,
    // Ping is answered by the node, as in kube-proxy.
    `! -p ${family === 'IPv4' ? 'icmp' : 'ipv6-icmp'} -m conntrack --ctstate NEW ${is('ADDRESS', 'dst')} ` +
      `${isNot('INTERNAL')} ${isNot('EXTERNAL')} ${isNot('LOCAL')} ${reject(family)}`,
  ])
  yield chain('filter', chains.forward, ['-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT'])

  const fresh = '-m conntrack --ctstate NEW '
  for (const from of ['INPUT', 'OUTPUT']) {
    yield jump('mangle', from, fresh, chains.services, 'penstock service addresses')
  }
  yield jump('nat', 'POSTROUTING', '', chains.postrouting, 'penstock masquerading')
  yield jump('filter', 'INPUT', '', chains.input, 'penstock service addresses')
  yield jump('filter', 'FORWARD', '', chains.forward, 'penstock forwarding')
}
