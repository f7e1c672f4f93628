// A walk over the rules of one hook, as the kernel makes it with the first packet of a flow, splitting where chance decides.
import { type IP, ipToHex } from '../../net/ip.ts'
import type { Packet } from '../../net/packet.ts'
import type { Protocol } from '../../net/protocol.ts'
import type { Program, TracedRule } from '../backend.ts'
import type { Way } from '../outcome.ts'
import { chainKey, jumpKey, type Table } from './names.ts'
import { type Match, parseRule, type Rule } from './rule-parser.ts'

/** One way the packet may take. */
export interface State {
  /** Probability that it takes this one. */
  readonly weight: number
  /** The packet's mark, 32 bits unsigned. */
  readonly mark: number
  /** Destination and port, `10.0.1.2:8080`, once it has been rewritten: by a DNAT rule, or between two hooks by the caller. */
  readonly endpoint?: string
  /** Who rewrote it; left out: a DNAT rule. The conntrack state DNAT is for what netfilter itself rewrote only. */
  readonly rewrittenBy?: 'nat' | 'ipvs'
  /**
   * Whether the packet leaves by the interface lo, for `-o` matches. Left out: it does when its destination is an address
   * of the host.
   */
  readonly leavesByLoopback?: boolean
  /** How the walk of the latest hook ended, where a rule ended it. */
  readonly end?: 'accept' | 'drop' | 'reject'
  readonly masqueraded: boolean
}

export type Hook = 'PREROUTING' | 'INPUT' | 'FORWARD' | 'OUTPUT' | 'POSTROUTING'

/** What rules ask ipsets. `flags` are those of the rule, `dst,dst` for instance. */
export interface SetLookup {
  has(set: string, flags: string, packet: SetPacket): boolean
  /** The full mark that the packet's element carries; undefined when the set has no such element. */
  markOf(set: string, flags: string, packet: SetPacket): number | undefined
}

/** A packet as ipsets see it: with the destination that it has at that moment. */
export interface SetPacket {
  readonly src: IP
  readonly dst: IP
  /** Destination port. */
  readonly port: number
  readonly protocol: Protocol
}

export interface WalkOptions {
  /** Static chains that hooks jump to, in the order of their jumps; each hook has at most one jump to each. */
  readonly jumpTargets: readonly string[]
  /** Left out when no rule asks for sets. */
  readonly sets?: SetLookup
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

/**
 * Walks a program with one packet, hook by hook; which hooks, and what happens between them, is the caller's. Affinity is
 * that of a client never seen before. Throws an Error if a rule on the way is not understood.
 */
export class Walker {
  /** The rules that took the packet on any of its ways, each once, as they were met. */
  readonly path: TracedRule[] = []
  /** The Service port whose rules were met last. */
  servicePort: string | null = null
  readonly #program: Program
  readonly #packet: Packet
  readonly #isHost: (ip: IP) => boolean
  readonly #options: WalkOptions
  readonly #parsed: Map<string, ParsedChain>
  readonly #srcHex: string
  #dstHex: { ip: IP; hex: string }
  #atHook: Hook = 'PREROUTING'

  constructor(program: Program, packet: Packet, isHost: (ip: IP) => boolean, options: WalkOptions) {
    this.#program = program
    this.#packet = packet
    this.#isHost = isHost
    this.#options = options
    this.#parsed = parsedPrograms.get(program) ?? new Map()
    parsedPrograms.set(program, this.#parsed)
    this.#srcHex = ipToHex(packet.src)
    this.#dstHex = { ip: packet.dst, hex: ipToHex(packet.dst) }
  }

  /**
   * Walks one table's rules of one hook on each of the ways. A way that was dropped or rejected before stays as it is; one
   * that was accepted in an earlier hook starts anew.
   */
  hook(table: Table, hook: Hook, states: readonly State[]): State[] {
    this.#atHook = hook
    let ways = states.map(afresh)
    for (const target of this.#options.jumpTargets) {
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
      case 'map-mark': {
        const mark = this.#sets(target.set).markOf(target.set, target.flags, this.#setPacket(state))
        return { kind: 'next', state: mark === undefined ? state : { ...state, mark: mark >>> 0 } }
      }
      case 'masquerade':
        return { kind: 'left', states: [{ ...state, masqueraded: true, end: 'accept' }] }
      case 'dnat':
        return { kind: 'left', states: [{ ...state, endpoint: target.to, rewrittenBy: 'nat', end: 'accept' }] }
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
    const dst = this.#destination(state)
    const port = this.#port(state)
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
      case 'output-interface':
        return this.#leavesBy(match, state) !== match.negated
      case 'protocol':
        return (packet.protocol.toLowerCase() === match.protocol) !== match.negated
      case 'destination-port':
        return (port >= match.low && port <= match.high) !== match.negated
      case 'conntrack-state': {
        // The first packet of its flow.
        const translated = state.endpoint !== undefined && state.rewrittenBy !== 'ipvs'
        const states = ['NEW', ...(translated ? ['DNAT'] : [])]
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
      case 'set':
        return this.#sets(match.name).has(match.name, match.flags, this.#setPacket(state)) !== match.negated
      case 'ipvs':
        return (state.rewrittenBy === 'ipvs') !== match.negated
      case 'same-address':
        return packet.src === dst
      case 'comment':
        return true
    }
  }

  #destination(state: State): IP {
    return destinationOf(state, this.#packet)
  }

  #port(state: State): number {
    return state.endpoint === undefined ? this.#packet.port : portOf(state.endpoint)
  }

  /** Which interface it is, is known of lo only: asking for another by name is not understood. */
  #leavesBy({ name, prefix }: { name: string; prefix: boolean }, state: State): boolean {
    // Where a packet arrives, it has no output interface yet, which is not the one that is asked for.
    if (this.#atHook === 'PREROUTING' || this.#atHook === 'INPUT') return false
    const loopback = state.leavesByLoopback ?? this.#isHost(this.#destination(state))
    if (loopback) return prefix ? 'lo'.startsWith(name) : name === 'lo'
    if (prefix || name !== 'lo') throw new Error(`output interface ${name}${prefix ? '+' : ''} is not understood`)
    return false
  }

  #sets(name: string): SetLookup {
    const { sets } = this.#options
    if (sets === undefined) throw new Error(`a rule asks for the set ${name}, and there are none`)
    return sets
  }

  #setPacket(state: State): SetPacket {
    const { src, protocol } = this.#packet
    return { src, dst: this.#destination(state), port: this.#port(state), protocol }
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

/** Compares digits of the prefix, then the bits of the digit it ends in. */
function inCIDR({ hex, prefix }: { hex: string; prefix: number }, address: string): boolean {
  const whole = prefix >> 2
  const rest = prefix & 3
  if (hex.length !== address.length || !address.startsWith(hex.slice(0, whole))) return false
  if (rest === 0) return true
  const digits = Number.parseInt(hex[whole] ?? '0', 16) ^ Number.parseInt(address[whole] ?? '0', 16)
  return digits >> (4 - rest) === 0
}

/** A way as `outcomeOf` adds it up. */
export const wayOf = ({ weight, endpoint, end, masqueraded }: State): Way => ({
  weight,
  endpoint,
  refusal: end === 'drop' || end === 'reject' ? end : undefined,
  masqueraded,
})

/** The destination that the packet has on this way. */
export const destinationOf = (state: State, packet: Packet): IP =>
  state.endpoint === undefined ? packet.dst : hostOf(state.endpoint)

/** A packet that an earlier hook accepted is free again; what was refused is gone for good. */
function afresh(state: State): State {
  if (state.end !== 'accept') return state
  const { end: _accepted, ...free } = state
  return free
}

function hostOf(addressPort: string): IP {
  const end = addressPort.lastIndexOf(':')
  const host = addressPort.slice(0, end)
  return (host.startsWith('[') ? host.slice(1, -1) : host) as IP
}

const portOf = (addressPort: string): number => Number(addressPort.slice(addressPort.lastIndexOf(':') + 1))
