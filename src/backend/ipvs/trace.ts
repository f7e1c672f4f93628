// What becomes of the first packet of a flow: the hooks it passes, and between them the virtual server that takes it.
import { bitsOf, cidrContains, familyOf, formatCIDR, type IP, parseCIDR } from '../../net/ip.ts'
import type { Packet } from '../../net/packet.ts'
import type { Network } from '../../policy/network.ts'
import type { Outcome, Program, TracedRule } from '../backend.ts'
import { outcomeOf } from '../outcome.ts'
import { loopback } from '../xtables/rules.ts'
import { destinationOf, type SetLookup, type SetPacket, type State, Walker, wayOf } from '../xtables/walk.ts'
import { addressKey, chains, markServer, memberKey, serverKey, setName, virtualServer } from './names.ts'
import { parseServerValue } from './servers.ts'
import { frontendElement, textOf } from './sets.ts'

const jumpTargets: readonly string[] = Object.values(chains)

/**
 * Walks a program with a packet (`design.md` §2): one from an address of the host enters at OUTPUT, any other at
 * PREROUTING. Affinity is that of a client never seen before; any scheduler is taken to choose evenly. Throws an Error if a
 * rule on the way is not understood.
 */
export function trace(program: Program, packet: Packet, network: Network): Outcome {
  const lo = loopback(network.family)
  const isHost = (ip: IP): boolean =>
    cidrContains(lo, ip) || network.nodeAddresses.includes(ip) || program.has(addressKey(ip))
  const walker = new Walker(program, packet, isHost, { jumpTargets, sets: setsOf(program) })
  const servers = new Scheduler(program, packet)
  const start: State[] = [{ weight: 1, mark: 0, masqueraded: false }]
  const ends = isHost(packet.src)
    ? fromHost(walker, servers, packet, isHost, start)
    : fromElsewhere(walker, servers, packet, isHost, start)
  const path = [...walker.path, ...servers.path]
  return outcomeOf(ends.map(wayOf), servicePortOf(program, packet, network), path)
}

type IsHost = (ip: IP) => boolean

/** IPVS comes between nat and filter of OUTPUT. */
function fromHost(walker: Walker, servers: Scheduler, packet: Packet, isHost: IsHost, start: State[]): State[] {
  const judged = walker.hook('nat', 'OUTPUT', walker.hook('mangle', 'OUTPUT', start))
  return servers.schedule(judged).flatMap(state => {
    if (isOver(state)) return [state]
    const toHost = isHost(destinationOf(state, packet))
    let states: readonly State[] = [state]
    // Sent out anew, from the beginning of OUTPUT; to the host itself it goes on where it was.
    if (isScheduled(state) && !toHost) states = walker.hook('mangle', 'OUTPUT', states)
    states = walker.hook('nat', 'POSTROUTING', walker.hook('filter', 'OUTPUT', states))
    return toHost ? delivered(walker, states) : states
  })
}

/** IPVS comes after INPUT. */
function fromElsewhere(walker: Walker, servers: Scheduler, packet: Packet, isHost: IsHost, start: State[]): State[] {
  const routed = walker.hook('nat', 'PREROUTING', walker.hook('mangle', 'PREROUTING', start))
  if (!isHost(packet.dst)) return walker.hook('nat', 'POSTROUTING', walker.hook('filter', 'FORWARD', routed))
  return servers.schedule(delivered(walker, routed)).flatMap(state => {
    if (!isScheduled(state) || isHost(destinationOf(state, packet))) return [state]
    const sent = walker.hook('filter', 'OUTPUT', walker.hook('mangle', 'OUTPUT', [state]))
    return walker.hook('nat', 'POSTROUTING', sent)
  })
}

const delivered = (walker: Walker, states: readonly State[]): State[] =>
  walker.hook('filter', 'INPUT', walker.hook('mangle', 'INPUT', states))

const isOver = ({ end }: State): boolean => end === 'drop' || end === 'reject'
const isScheduled = ({ rewrittenBy }: State): boolean => rewrittenBy === 'ipvs'

/** What IPVS does with a packet. */
class Scheduler {
  readonly path: TracedRule[] = []
  readonly #program: Program
  readonly #packet: Packet

  constructor(program: Program, packet: Packet) {
    this.#program = program
    this.#packet = packet
  }

  /** A virtual server by mark goes before one by address; one without real servers answers "port unreachable". */
  schedule(states: readonly State[]): State[] {
    const { protocol, dst, port } = this.#packet
    return states.flatMap(state => {
      if (isOver(state)) return [state]
      const names = [...(state.mark === 0 ? [] : [markServer(state.mark)]), virtualServer(protocol, dst, port)]
      const name = names.find(server => this.#program.has(serverKey(server)))
      if (name === undefined) return [state]
      const { options, real } = parseServerValue(this.#program.get(serverKey(name)) ?? '')
      this.#note(name, options)
      if (real.length === 0) return [{ ...state, end: 'reject' as const }]
      return real.map(line => ({
        ...state,
        weight: state.weight / real.length,
        endpoint: line.split(' ', 1)[0] ?? '',
        rewrittenBy: 'ipvs' as const,
      }))
    })
  }

  #note(server: string, options: string): void {
    if (!this.path.some(({ chain }) => chain === server))
      this.path.push({ table: 'ipvs', chain: server, rule: options })
  }
}

/** Which Service port the packet's destination is a frontend of: the sets say so in comments. */
function servicePortOf(program: Program, { dst, protocol, port }: Packet, { family }: Network): string | null {
  const element = frontendElement(dst, protocol, port)
  for (const role of ['INTERNAL', 'EXTERNAL', 'LOCAL'] as const) {
    const value = program.get(memberKey(setName(family, role), element))
    if (value !== undefined) return textOf(value) ?? null
  }
  return null
}

/** Looks members up as the kernel does. */
function setsOf(program: Program): SetLookup {
  const find = (set: string, flags: string, packet: SetPacket): string | undefined => {
    for (const element of elementsFor(flags, set, packet)) {
      const value = program.get(memberKey(set, element))
      if (value !== undefined) return value
    }
    return undefined
  }
  return {
    has: (set, flags, packet) => find(set, flags, packet) !== undefined,
    markOf: (set, flags, packet) => {
      const mark = /^skbmark (0x[0-9a-f]+)$/.exec(find(set, flags, packet) ?? '')?.[1]
      return mark === undefined ? undefined : Number(mark)
    },
  }
}

/** The elements that a packet matches in a set of ours, by what the rule looks up. */
function* elementsFor(flags: string, set: string, { src, dst, port, protocol }: SetPacket): Iterable<string> {
  switch (flags) {
    case 'dst,dst':
      yield frontendElement(dst, protocol, port)
      break
    case 'dst,dst,src': {
      const frontend = frontendElement(dst, protocol, port)
      yield `${frontend},${src}`
      for (let prefix = bitsOf(familyOf(src)) - 1; prefix > 0; prefix--) {
        const range = parseCIDR(`${src}/${prefix}`)
        if (range !== undefined) yield `${frontend},${formatCIDR(range)}`
      }
      break
    }
    case 'src':
      yield src
      break
    case 'dst':
      // Of addresses, or of ports.
      yield dst
      yield String(port)
      break
    default:
      throw new Error(`a lookup of ${flags} in the set ${set} is not understood`)
  }
}
