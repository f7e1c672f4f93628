// What becomes of the first packet of a flow: the hooks it passes, in their order.
import { cidrContains, type IP } from '../../net/ip.ts'
import type { Packet } from '../../net/packet.ts'
import type { Network } from '../../policy/network.ts'
import type { Outcome, Program } from '../backend.ts'
import { outcomeOf } from '../outcome.ts'
import { loopback } from '../xtables/rules.ts'
import { destinationOf, type Hook, type State, Walker, wayOf } from '../xtables/walk.ts'
import { chains } from './names.ts'

const jumpTargets: readonly string[] = Object.values(chains)

/**
 * Walks a program with a packet (`design.md` §2): one from an address of the host enters at OUTPUT, any other at
 * PREROUTING. Affinity is that of a client never seen before. Throws an Error if a rule on the way is not understood.
 */
export function trace(program: Program, packet: Packet, network: Network): Outcome {
  const lo = loopback(network.family)
  const isHost = (ip: IP) => cidrContains(lo, ip) || network.nodeAddresses.includes(ip)
  const fromHost = isHost(packet.src)
  const walker = new Walker(program, packet, isHost, { jumpTargets })

  const first = fromHost ? 'OUTPUT' : 'PREROUTING'
  const routed = walker.hook('nat', first, [{ weight: 1, mark: 0, masqueraded: false }])
  const outcomes = routed.flatMap(state => {
    let states: readonly State[] = [state]
    for (const hook of hooksAfterRouting(fromHost, isHost(destinationOf(state, packet)))) {
      states = walker.hook(hook === 'POSTROUTING' ? 'nat' : 'filter', hook, states)
    }
    return states
  })
  return outcomeOf(outcomes.map(wayOf), walker.servicePort, walker.path)
}

/** Filter hooks and POSTROUTING. A packet the host sends to itself passes POSTROUTING between OUTPUT and INPUT. */
function hooksAfterRouting(fromHost: boolean, toHost: boolean): readonly Hook[] {
  if (fromHost) return toHost ? ['OUTPUT', 'POSTROUTING', 'INPUT'] : ['OUTPUT', 'POSTROUTING']
  return toHost ? ['INPUT'] : ['FORWARD', 'POSTROUTING']
}
