// What becomes of the first packet of a flow: a walk over the rules, splitting where chance decides.
import { cidrContains, type IP } from '../../net/ip.ts'
import type { Packet } from '../../net/packet.ts'
import type { Network } from '../../policy/network.ts'
import type { Outcome, Program } from '../backend.ts'
import { outcomeOf, type Way } from '../outcome.ts'
import { chains } from './names.ts'
import { loopback } from './skeleton.ts'
import { type State, Walker } from './walk.ts'

/**
 * Walks a program with a packet (`design.md` §2): one from an address of the host enters at OUTPUT, any other at
 * PREROUTING. Affinity is that of a client never seen before. Throws an Error if a rule on the way is not understood.
 */
export function trace(program: Program, packet: Packet, network: Network): Outcome {
  const lo = loopback(network.family)
  const isHost = (ip: IP) => cidrContains(lo, ip) || network.nodeAddresses.includes(ip)
  const fromHost = isHost(packet.src)
  const walker = new Walker(program, packet, network.family, isHost)

  const ways = walker.baseChain(fromHost ? chains.output : chains.prerouting, {
    weight: 1,
    mark: 0,
    masqueraded: false,
  })
  const outcomes = ways.flatMap(way => {
    if (way.end === 'drop' || way.end === 'reject') return [way]
    // A packet that others send to the host itself does not pass POSTROUTING.
    if (!fromHost && isHost(way.endpoint?.address ?? packet.dst)) return [way]
    const { end: _ended, ...onward } = way
    return walker.baseChain(chains.postrouting, onward)
  })
  return outcomeOf(outcomes.map(wayOf), walker.servicePort, walker.path)
}

const wayOf = ({ weight, endpoint, end, masqueraded }: State): Way => ({
  weight,
  endpoint: endpoint?.text,
  refusal: end === 'drop' || end === 'reject' ? end : undefined,
  masqueraded,
})
