// What becomes of the first packet of a flow: a walk over the rules, splitting where chance decides.
import { cidrContains, type IP, ipToHex } from '../../net/ip.ts'
import type { Packet } from '../../net/packet.ts'
import type { Network } from '../../policy/network.ts'
import type { Outcome, Program, TracedRule } from '../backend.ts'
import { outcomeOf, type Way } from '../outcome.ts'
import { chainKey, chains, jumpKey, type Table } from './names.ts'
import { type Match, parseRule, type Rule } from './rule-parser.ts'
import { loopback } from './skeleton.ts'

/** One way the packet may take. */
interface State {
  readonly weight: number
  readonly mark: number
  /** Set once a DNAT rule has taken it. */
  readonly endpoint?: string
  /** Ends the walk of this hook. */
  readonly end?: 'accept' | 'drop' | 'reject'
  readonly masqueraded: boolean
}

type Hook = 'PREROUTING' | 'INPUT' | 'FORWARD' | 'OUTPUT' | 'POSTROUTING'

/**
 * Walks a program with a packet (`design.md` §2): one from an address of the host enters at OUTPUT, any other at
 * PREROUTING. Affinity is that of a client never seen before. Throws an Error if a rule on the way is not understood.
 */
export function trace(program: Program, packet: Packet, network: Network): Outcome {
  const lo = loopback(network.family)
  const isHost = (ip: IP) => cidrContains(lo, ip) || network.nodeAddresses.includes(ip)
  const fromHost = isHost(packet.src)
  const walker = new Walker(program, packet, isHost)

  const first = fromHost ? 'OUTPUT' : 'PREROUTING'
  const routed = walker.hook('nat', first, [{ weight: 1, mark: 0, masqueraded: false }])
  const outcomes = routed.flatMap(state => {
    const destination = state.endpoint === undefined ? packet.dst : hostOf(state.endpoint)
    return walker.deliver(state, fromHost, isHost(destination))
  })
  return outcomeOf(outcomes.map(wayOf), walker.servicePort, walker.path)
}

interface ParsedRule extends Rule {
  readonly text: string
}

interface ParsedChain {
  /** What was parsed; a program may have changed since. */
  readonly value: string
  readonly rules: readonly ParsedRule[]
}

/** Rules parsed for earlier packets: many packets are traced through one program. */
const parsedPrograms = new WeakMap<Program, Map<string, ParsedChain>>()

class Walker {
  readonly path: TracedRule[] = []
  servicePort: string | null = null
  readonly #program: Program
  readonly #packet: Packet
  readonly #isHost: (ip: IP) => boolean
  readonly #parsed: Map<string, ParsedChain>
  readonly #srcHex: string
  #dstHex: { ip: IP; hex: string }

  constructor(program: Program, packet: Packet, isHost: (ip: IP) => boolean) {
    this.#program = program
    this.#packet = packet
    this.#isHost = isHost
    this.#parsed = parsedPrograms.get(program) ?? new Map()
    parsedPrograms.set(program, this.#parsed)
    this.#srcHex = ipToHex(packet.src)
    this.#dstHex = { ip: packet.dst, hex: ipToHex(packet.dst) }
  }

  /** Filter hooks and POSTROUTING for one way. */
  deliver(state: State, fromHost: boolean, toHost: boolean): State[] {
    let states: State[] = [state]
    const filterHooks: Hook[] = fromHost
      ? ['OUTPUT', ...(toHost ? (['INPUT'] as const) : [])]
      : [toHost ? 'INPUT' : 'FORWARD']
    // A packet the host sends to itself passes POSTROUTING between OUTPUT and INPUT.
    const hooks: Hook[] = fromHost
      ? ['OUTPUT', 'POSTROUTING', ...filterHooks.slice(1)]
      : [...filterHooks, ...(toHost ? [] : (['POSTROUTING'] as const))]
    for (const hook of hooks) {
      states = states.flatMap(way => {
        if (way.end === 'drop' || way.end === 'reject') return [way]
        const { end: _ended, ...fresh } = way
        return this.hook(hook === 'POSTROUTING' ? 'nat' : 'filter', hook, [fresh])
      })
    }
    return states
  }

  hook(table: Table, hook: Hook, states: readonly State[]): State[] {
    let ways = [...states]
    for (const target of jumpTargets) {
      for (const rule of this.#rulesOf(jumpKey(table, hook, target)) ?? []) {
        ways = ways.flatMap(way => (way.end === undefined ? this.#apply(table, hook, rule, way) : [way]))
      }
    }
    return ways
  }

  /** A rule of a chain that is not ours: a jump to one that is. */
  #apply(table: Table, hook: Hook, rule: ParsedRule, state: State): State[] {
    const { taken, passed } = this.#split(rule, state)
    if (taken === undefined) return passed === undefined ? [] : [passed]
    this.#note(table, hook, rule.text)
    const target = rule.target
    if (target === undefined || (target.kind !== 'jump' && target.kind !== 'goto')) return [taken]
    return this.#chain(table, target.chain, taken)
  }

  /** All ways a packet leaves a chain: those with an end or endpoint are done, the others go on in the caller. */
  #chain(table: Table, chain: string, state: State): State[] {
    const left: State[] = []
    let current: State | undefined = state
    const rules = this.#rulesOf(chainKey(table, chain))
    if (rules === undefined)
      throw new Error(`a rule goes to the chain ${chain} of table ${table}, which does not exist`)
    for (const rule of rules) {
      if (current === undefined) break
      const split: Split = this.#split(rule, current)
      current = split.passed
      if (split.taken === undefined) continue
      this.#note(table, chain, rule.text)
      this.#name(rule)
      const result = this.#target(table, rule, split.taken)
      if (result.kind === 'left') left.push(...result.states)
      else if (current === undefined) current = result.state
      else throw new Error(`rule of chance that does not decide in ${chain}: ${rule.text}`)
    }
    return current === undefined ? left : [...left, current]
  }

  #target(table: Table, rule: Rule, state: State): { kind: 'left'; states: State[] } | { kind: 'next'; state: State } {
    const { target } = rule
    if (target === undefined) return { kind: 'next', state }
    switch (target.kind) {
      case 'goto':
        return { kind: 'left', states: this.#chain(table, target.chain, state) }
      case 'jump': {
        const states = this.#chain(table, target.chain, state)
        const back = states.filter(way => way.end === undefined && way.endpoint === state.endpoint)
        const [only] = back
        if (back.length === 1 && states.length === 1 && only !== undefined) return { kind: 'next', state: only }
        if (back.length > 0) throw new Error(`chain ${target.chain} both decides by chance and returns`)
        return { kind: 'left', states }
      }
      case 'verdict':
        if (target.verdict === 'RETURN') return { kind: 'left', states: [state] }
        return { kind: 'left', states: [{ ...state, end: verdictEnd(target.verdict) }] }
      case 'set-mark':
        // XOR after clearing the mask, as --set-xmark does; unsigned.
        return { kind: 'next', state: { ...state, mark: ((state.mark & ~target.mask) ^ target.value) >>> 0 } }
      case 'masquerade':
        return { kind: 'left', states: [{ ...state, masqueraded: true, end: 'accept' }] }
      case 'dnat':
        return { kind: 'left', states: [{ ...state, endpoint: target.to, end: 'accept' }] }
    }
  }

  /** Which part of a way a rule takes, and which goes on. */
  #split(rule: Rule, state: State): Split {
    let chance = 1
    for (const match of rule.matches) {
      const holds = this.#matches(match, state)
      if (typeof holds === 'number') chance *= holds
      else if (!holds) return { taken: undefined, passed: state }
    }
    if (chance >= 1) return { taken: state, passed: undefined }
    return {
      taken: { ...state, weight: state.weight * chance },
      passed: { ...state, weight: state.weight * (1 - chance) },
    }
  }

  /** True or false, or the probability that it holds. */
  #matches(match: Match, state: State): boolean | number {
    const packet = this.#packet
    const dst = state.endpoint === undefined ? packet.dst : hostOf(state.endpoint)
    const port = state.endpoint === undefined ? packet.port : portOf(state.endpoint)
    switch (match.kind) {
      case 'source':
        return inCIDR(match, this.#srcHex) !== match.negated
      case 'destination':
        return inCIDR(match, this.#hexOf(dst)) !== match.negated
      case 'input-interface': {
        const name = packet.interface
        const same = name !== undefined && (match.prefix ? name.startsWith(match.name) : name === match.name)
        return same !== match.negated
      }
      case 'protocol':
        return (packet.protocol.toLowerCase() === match.protocol) !== match.negated
      case 'destination-port':
        return (port >= match.low && port <= match.high) !== match.negated
      case 'conntrack-state': {
        // The first packet of its flow.
        const states = ['NEW', ...(state.endpoint === undefined ? [] : ['DNAT'])]
        return match.states.some(name => states.includes(name)) !== match.negated
      }
      case 'address-type': {
        const ip = match.side === 'src' ? packet.src : dst
        if (match.type !== 'LOCAL') throw new Error(`address type ${match.type} is not understood`)
        return this.#isHost(ip) !== match.negated
      }
      case 'chance':
        return match.probability
      case 'recent':
        return match.operation === 'set'
      case 'mark':
        return ((state.mark & match.mask) >>> 0 === match.value >>> 0) !== match.negated
      case 'same-address':
        return packet.src === dst
      case 'comment':
        return true
    }
  }

  #hexOf(dst: IP): string {
    if (this.#dstHex.ip !== dst) this.#dstHex = { ip: dst, hex: ipToHex(dst) }
    return this.#dstHex.hex
  }

  #rulesOf(key: string): readonly ParsedRule[] | undefined {
    const value = this.#program.get(key)
    if (value === undefined) return undefined
    const before = this.#parsed.get(key)
    if (before?.value === value) return before.rules
    const rules = value === '' ? [] : value.split('\n').map(text => ({ ...parseRule(text), text }))
    this.#parsed.set(key, { value, rules })
    return rules
  }

  /** Entries of a tree carry their Service port's name as a comment. */
  #name(rule: Rule): void {
    const text = rule.matches.find(match => match.kind === 'comment')?.text
    if (text?.includes('/') === true) this.servicePort = text
  }

  #note(table: Table, chain: string, rule: string): void {
    if (!this.path.some(item => item.table === table && item.chain === chain && item.rule === rule)) {
      this.path.push({ table, chain, rule })
    }
  }
}

const verdictEnd = (verdict: 'ACCEPT' | 'DROP' | 'REJECT'): 'accept' | 'drop' | 'reject' => {
  switch (verdict) {
    case 'ACCEPT':
      return 'accept'
    case 'DROP':
      return 'drop'
    case 'REJECT':
      return 'reject'
  }
}

interface Split {
  readonly taken: State | undefined
  readonly passed: State | undefined
}

/** Static chains that hooks jump to; each hook has at most one jump to each. */
const jumpTargets: readonly string[] = Object.values(chains)

/** Compares digits of the prefix, then the bits of the digit it ends in. */
function inCIDR({ hex, prefix }: { hex: string; prefix: number }, address: string): boolean {
  const whole = prefix >> 2
  const rest = prefix & 3
  if (hex.length !== address.length || !address.startsWith(hex.slice(0, whole))) return false
  if (rest === 0) return true
  const digits = Number.parseInt(hex[whole] ?? '0', 16) ^ Number.parseInt(address[whole] ?? '0', 16)
  return digits >> (4 - rest) === 0
}

const wayOf = ({ weight, endpoint, end, masqueraded }: State): Way => ({
  weight,
  endpoint,
  refusal: end === 'drop' || end === 'reject' ? end : undefined,
  masqueraded,
})

function hostOf(addressPort: string): IP {
  const end = addressPort.lastIndexOf(':')
  const host = addressPort.slice(0, end)
  return (host.startsWith('[') ? host.slice(1, -1) : host) as IP
}

const portOf = (addressPort: string): number => Number(addressPort.slice(addressPort.lastIndexOf(':') + 1))
