// The walk itself: rules parsed from the program's text, chains followed, maps and sets looked up.
import { type Family, formatAddressPort, type IP, ipToHex } from '../../net/ip.ts'
import type { Packet } from '../../net/packet.ts'
import type { Program, TracedRule } from '../backend.ts'
import { chainKey, elementKey, indexedKey, tableOf } from './names.ts'
import type { Field, Rule, Statement, Verdict } from './objects.ts'
import { parseRule, parseVerdict } from './parse.ts'
import { rulesOf } from './plan.ts'
import { rangesHold } from './ranges.ts'

/** One way the packet may take. */
export interface State {
  readonly weight: number
  readonly mark: number
  /** Set once a DNAT has taken it. */
  readonly endpoint?: { readonly address: IP; readonly port: number; readonly text: string }
  /** Ends the walk of this hook. */
  readonly end?: 'accept' | 'drop' | 'reject'
  readonly masqueraded: boolean
}

interface ParsedRule {
  readonly text: string
  readonly statements: Rule
}

interface ParsedChain {
  /** What was parsed; a program may have changed since. */
  readonly value: string
  readonly rules: readonly ParsedRule[]
}

/** Rules parsed for earlier packets: many packets are traced through one program. */
const parsedPrograms = new WeakMap<Program, Map<string, ParsedChain>>()

/** What a rule does with one way: ways that end or leave the chain, and what goes on to the next rule. */
interface Applied {
  readonly left: readonly State[]
  readonly passed: readonly State[]
}

export class Walker {
  readonly path: TracedRule[] = []
  servicePort: string | null = null
  readonly #program: Program
  readonly #packet: Packet
  readonly #family: Family
  readonly #isHost: (ip: IP) => boolean
  readonly #parsed: Map<string, ParsedChain>

  constructor(program: Program, packet: Packet, family: Family, isHost: (ip: IP) => boolean) {
    this.#program = program
    this.#packet = packet
    this.#family = family
    this.#isHost = isHost
    this.#parsed = parsedPrograms.get(program) ?? new Map()
    parsedPrograms.set(program, this.#parsed)
  }

  /** All ways through a base chain; one that is not there lets everything pass. */
  baseChain(name: string, state: State): State[] {
    return this.#program.has(chainKey(name)) ? this.#chain(name, state) : [state]
  }

  /** All ways a packet leaves a chain: those with an end are done, the others go on in the caller. */
  #chain(name: string, state: State): State[] {
    const left: State[] = []
    let current: readonly State[] = [state]
    for (const rule of this.#rulesOf(name)) {
      const passed: State[] = []
      for (const way of current) {
        const applied = this.#rule(name, rule, way)
        left.push(...applied.left)
        passed.push(...applied.passed)
      }
      current = passed
      if (current.length === 0) break
    }
    return [...left, ...current]
  }

  #rule(chain: string, rule: ParsedRule, state: State): Applied {
    const passed: State[] = []
    let way = state
    for (const statement of rule.statements) {
      const chance = this.#chance(statement, way)
      if (chance !== undefined) {
        if (chance < 1) passed.push({ ...way, weight: way.weight * (1 - chance) })
        if (chance <= 0) return { left: [], passed }
        way = { ...way, weight: way.weight * chance }
        continue
      }
      const done = this.#act(chain, rule, statement, way)
      if (done.kind === 'next') way = done.state
      else return { left: done.left, passed: [...passed, ...done.passed] }
    }
    this.#note(chain, rule.text)
    return { left: [], passed: [...passed, way] }
  }

  /** The probability that a statement that matches holds; undefined for one that acts. */
  #chance(statement: Statement, state: State): number | undefined {
    const packet = this.#packet
    const sure = (holds: boolean): number => (holds ? 1 : 0)
    switch (statement.kind) {
      case 'address':
        return sure(rangesHold(statement.ranges, ipToHex(this.#address(statement.side, state))) !== statement.negated)
      case 'input-interface': {
        const name = packet.interface ?? ''
        const same = statement.prefix ? name.startsWith(statement.name) : name === statement.name
        return sure((packet.interface !== undefined && same) !== statement.negated)
      }
      case 'protocol':
        return sure(packet.protocol === statement.protocol)
      case 'local':
        return sure(this.#isHost(this.#address(statement.side, state)) !== statement.negated)
      case 'chance':
        return statement.below / statement.of
      case 'in-set':
        return sure(this.#program.has(elementKey(statement.set, this.#key(statement.fields, state))))
      case 'mark-set':
        return sure((state.mark & statement.mark) !== 0)
      case 'translated':
        return sure(state.endpoint !== undefined)
      case 'octet-pair': {
        const octet = (ip: IP): string => {
          const hex = ipToHex(ip).slice(statement.octet * 2, statement.octet * 2 + 2)
          return `0x${Number.parseInt(hex, 16).toString(16)}`
        }
        const pair = `${octet(packet.src)} . ${octet(this.#address('daddr', state))}`
        return sure(this.#program.has(elementKey(statement.set, pair)))
      }
      default:
        return undefined
    }
  }

  #act(
    chain: string,
    rule: ParsedRule,
    statement: Statement,
    state: State,
  ): { kind: 'next'; state: State } | ({ kind: 'done' } & Applied) {
    const done = (left: readonly State[], passed: readonly State[] = []) => ({ kind: 'done' as const, left, passed })
    switch (statement.kind) {
      case 'set-mark':
        return { kind: 'next', state: { ...state, mark: (state.mark | statement.mark) >>> 0 } }
      case 'clear-mark':
        return { kind: 'next', state: { ...state, mark: (state.mark ^ statement.mark) >>> 0 } }
      case 'verdict':
        this.#note(chain, rule.text)
        return { kind: 'done', ...this.#verdict(statement.verdict, state) }
      case 'verdict-map': {
        const key = this.#key(statement.fields, state)
        const element = this.#program.get(elementKey(statement.map, key))
        if (element === undefined) return done([], [state])
        this.#note(chain, rule.text)
        this.#note(statement.map, `${key} ${element}`)
        this.servicePort = /^comment "([^"]+)"/.exec(element)?.[1] ?? this.servicePort
        const verdict = parseVerdict(dataOf(element))
        if (verdict === undefined) throw new Error(`element ${key} of ${statement.map} has no verdict: ${element}`)
        return { kind: 'done', ...this.#verdict(verdict, state) }
      }
      case 'dnat': {
        this.#note(chain, rule.text)
        return done([translated(state, statement.address as IP, statement.port)])
      }
      case 'dnat-map':
        return { kind: 'done', ...this.#dnatMap(chain, rule, statement, state) }
      case 'masquerade':
        this.#note(chain, rule.text)
        return done([{ ...state, masqueraded: true, end: 'accept' }])
      case 'reject':
        this.#note(chain, rule.text)
        return done([{ ...state, end: 'reject' }])
      default:
        // A client is remembered: of no consequence for its first packet.
        return { kind: 'next', state }
    }
  }

  #verdict(verdict: Verdict, state: State): Applied {
    switch (verdict.kind) {
      case 'accept':
      case 'drop':
        return { left: [{ ...state, end: verdict.kind }], passed: [] }
      case 'return':
        return { left: [state], passed: [] }
      case 'goto':
        return { left: this.#chain(verdict.chain, state), passed: [] }
      case 'jump': {
        const ways = this.#chain(verdict.chain, state)
        return { left: ways.filter(way => way.end !== undefined), passed: ways.filter(way => way.end === undefined) }
      }
    }
  }

  /** Each index leads to its element; what finds none goes on to the next rule. */
  #dnatMap(
    chain: string,
    rule: ParsedRule,
    { fields, of, map }: Statement & { kind: 'dnat-map' },
    state: State,
  ): Applied {
    const left: State[] = []
    const share = { ...state, weight: state.weight / of }
    const base = this.#key(fields, state)
    const elements = this.#program.get(indexedKey(map, base))?.split('\n') ?? []
    for (const [index, element] of elements.slice(0, of).entries()) {
      // A gap: the kernel lacks an element.
      if (element === '') continue
      if (left.length === 0) this.#note(chain, rule.text)
      this.#note(map, `${base} . ${index} : ${element}`)
      const [address = '', port = ''] = element.split(' . ')
      left.push(translated(share, address as IP, Number(port)))
    }
    const missing = of - left.length
    return { left, passed: missing === 0 ? [] : [{ ...state, weight: share.weight * missing }] }
  }

  #address(side: 'saddr' | 'daddr', state: State): IP {
    return side === 'saddr' ? this.#packet.src : (state.endpoint?.address ?? this.#packet.dst)
  }

  #key(fields: readonly Field[], state: State): string {
    const text = (field: Field): string | number => {
      switch (field) {
        case 'saddr':
        case 'daddr':
          return this.#address(field, state)
        case 'protocol':
          return this.#packet.protocol.toLowerCase()
        case 'port':
          return state.endpoint?.port ?? this.#packet.port
      }
    }
    return fields.map(text).join(' . ')
  }

  #rulesOf(chain: string): readonly ParsedRule[] {
    const value = this.#program.get(chainKey(chain))
    if (value === undefined) throw new Error(`a rule goes to the chain ${chain}, which does not exist`)
    const before = this.#parsed.get(chain)
    if (before?.value === value) return before.rules
    const rules = rulesOf(value).map(text => ({ text, statements: parseRule(text, this.#family) }))
    this.#parsed.set(chain, { value, rules })
    return rules
  }

  #note(chain: string, rule: string): void {
    const table = tableOf(this.#family)
    if (!this.path.some(item => item.chain === chain && item.rule === rule)) this.path.push({ table, chain, rule })
  }
}

/** What stands after the colon, in front of which there may be a comment. */
const dataOf = (element: string): string => /(?:^|" ): (.*)$/.exec(element)?.[1] ?? ''

const translated = (state: State, address: IP, port: number): State => ({
  ...state,
  endpoint: { address, port, text: formatAddressPort(address, port) },
  end: 'accept',
})
