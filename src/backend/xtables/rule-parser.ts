// One rule, as text, into what it matches and where it goes. For `trace`: what is walked is what the kernel was given.
import { ipToHex, parseCIDR, parseIP } from '../../net/ip.ts'

export type Match =
  | {
      readonly kind: 'source' | 'destination'
      readonly hex: string
      readonly prefix: number
      readonly negated: boolean
    }
  | {
      readonly kind: 'input-interface' | 'output-interface'
      readonly name: string
      /** All interfaces whose names begin so. */
      readonly prefix: boolean
      readonly negated: boolean
    }
  | { readonly kind: 'protocol'; readonly protocol: string; readonly negated: boolean }
  | { readonly kind: 'destination-port'; readonly low: number; readonly high: number; readonly negated: boolean }
  | { readonly kind: 'conntrack-state'; readonly states: readonly string[]; readonly negated: boolean }
  | { readonly kind: 'address-type'; readonly side: 'src' | 'dst'; readonly type: string; readonly negated: boolean }
  | { readonly kind: 'chance'; readonly probability: number }
  | { readonly kind: 'recent'; readonly operation: string; readonly name: string }
  | { readonly kind: 'mark'; readonly value: number; readonly mask: number; readonly negated: boolean }
  | { readonly kind: 'set'; readonly name: string; readonly flags: string; readonly negated: boolean }
  | { readonly kind: 'same-address' }
  /** IPVS has scheduled the packet. */
  | { readonly kind: 'ipvs'; readonly negated: boolean }
  | { readonly kind: 'comment'; readonly text: string }

export type Target =
  | { readonly kind: 'jump' | 'goto'; readonly chain: string }
  | { readonly kind: 'verdict'; readonly verdict: 'ACCEPT' | 'DROP' | 'RETURN' | 'REJECT' }
  | { readonly kind: 'set-mark'; readonly value: number; readonly mask: number }
  /** Takes the mark from the packet's element of an ipset. */
  | { readonly kind: 'map-mark'; readonly set: string; readonly flags: string }
  | { readonly kind: 'masquerade' }
  | { readonly kind: 'dnat'; readonly to: string }

export interface Rule {
  readonly matches: readonly Match[]
  readonly target: Target | undefined
}

/** Parses a rule as iptables-save prints it. Throws an Error that names the first word that is not understood. */
export function parseRule(text: string): Rule {
  const words = splitWords(text)
  const matches: Match[] = []
  let target: Target | undefined
  let negated = false
  let recentOperation = ''
  let mapSet: { set: string; flags: string } | undefined
  const cursor = { index: 0 }
  const next = (): string => {
    const word = words[cursor.index++]
    if (word === undefined) throw new Error(`rule ends too early: ${text}`)
    return word
  }
  while (cursor.index < words.length) {
    const word = next()
    switch (word) {
      case '!':
        negated = true
        continue
      case '-s':
      case '-d':
        matches.push({ kind: word === '-s' ? 'source' : 'destination', ...cidr(next(), text), negated })
        break
      case '-i':
      case '-o': {
        const name = next()
        const prefix = name.endsWith('+')
        const kind = word === '-i' ? 'input-interface' : 'output-interface'
        matches.push({ kind, name: prefix ? name.slice(0, -1) : name, prefix, negated })
        break
      }
      case '-p':
        matches.push({ kind: 'protocol', protocol: next(), negated })
        break
      case '-m':
        // Loads a match; its options follow.
        next()
        break
      case '--dport': {
        const [low = '', high = low] = next().split(':')
        matches.push({ kind: 'destination-port', low: Number(low), high: Number(high), negated })
        break
      }
      case '--ctstate':
        matches.push({ kind: 'conntrack-state', states: next().split(','), negated })
        break
      case '--src-type':
      case '--dst-type':
        matches.push({ kind: 'address-type', side: word === '--src-type' ? 'src' : 'dst', type: next(), negated })
        break
      case '--mode':
        next()
        break
      case '--probability':
        matches.push({ kind: 'chance', probability: Number(next()) })
        break
      case '--set':
      case '--update':
      case '--rcheck':
        recentOperation = word.slice(2)
        break
      case '--seconds':
      case '--mask':
        next()
        break
      case '--reap':
      case '--rsource':
      case '--random-fully':
        break
      case '--name':
        matches.push({ kind: 'recent', operation: recentOperation, name: next() })
        break
      case '--mark': {
        const [value = '', mask = '0xffffffff'] = next().split('/')
        matches.push({ kind: 'mark', value: Number(value), mask: Number(mask), negated })
        break
      }
      case '--ipvs':
        matches.push({ kind: 'ipvs', negated })
        break
      case '--match-set':
        matches.push({ kind: 'set', name: next(), flags: next(), negated })
        break
      case '--bytecode':
        // The only program we write; any other is not ours to interpret.
        if (!sameAddressPattern.test(next())) throw new Error(`unknown BPF program in rule: ${text}`)
        matches.push({ kind: 'same-address' })
        break
      case '--comment':
        matches.push({ kind: 'comment', text: next() })
        break
      case '-g':
        target = { kind: 'goto', chain: next() }
        break
      case '-j':
        target = jumpTarget(next())
        break
      case '--set-xmark': {
        const [value = '', mask = '0xffffffff'] = next().split('/')
        target = { kind: 'set-mark', value: Number(value), mask: Number(mask) }
        break
      }
      case '--map-set':
        mapSet = { set: next(), flags: next() }
        break
      case '--map-mark':
        if (mapSet === undefined) throw new Error(`--map-mark without --map-set in rule: ${text}`)
        target = { kind: 'map-mark', ...mapSet }
        break
      case '--to-destination':
        target = { kind: 'dnat', to: next() }
        break
      case '--reject-with':
        next()
        break
      default:
        throw new Error(`"${word}" is not understood in rule: ${text}`)
    }
    negated = false
  }
  return { matches, target }
}

/** Both programs of `sameAddressProgram`: loads and comparisons of the two address fields. */
const sameAddressPattern = /^(?:6,32 0 0 12,|18,32 0 0 8,)/

function jumpTarget(name: string): Target | undefined {
  switch (name) {
    case 'ACCEPT':
    case 'DROP':
    case 'RETURN':
    case 'REJECT':
      return { kind: 'verdict', verdict: name }
    case 'MASQUERADE':
      return { kind: 'masquerade' }
    case 'MARK':
    case 'DNAT':
    case 'SET':
      // Completed by the option that follows.
      return undefined
    default:
      return { kind: 'jump', chain: name }
  }
}

/** The address in hexadecimal, and how many of its bits count. */
function cidr(text: string, rule: string): { hex: string; prefix: number } {
  const ip = text.includes('/') ? undefined : parseIP(text)
  const parsed = parseCIDR(ip === undefined ? text : `${text}/${ip.includes(':') ? 128 : 32}`)
  if (parsed === undefined) throw new Error(`"${text}" is no address in rule: ${rule}`)
  return { hex: ipToHex(parsed.address), prefix: parsed.prefix }
}

function splitWords(text: string): string[] {
  const words: string[] = []
  for (const [, quoted, plain] of text.matchAll(/"((?:[^"\\]|\\.)*)"|(\S+)/g)) {
    words.push(quoted === undefined ? (plain ?? '') : quoted.replace(/\\(.)/g, '$1'))
  }
  return words
}
