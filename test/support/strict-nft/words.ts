// A line of a script, word by word.
import { SyntaxProblem } from './problems.ts'

/** Texts in quotes, raw offsets with their commas, braces, commas and semicolons, and everything between blanks. */
const pattern = /"[^"]*"|@nh,\d+,\d+|[{},;]|[^\s{},;"]+|"/g

export class Words {
  readonly #words: readonly string[]
  #index = 0

  constructor(line: string) {
    this.#words = line.match(pattern) ?? []
  }

  atEnd(): boolean {
    return this.#index >= this.#words.length
  }

  /** The word that comes next, or the one so much further on; empty past the end. */
  peek(ahead = 0): string {
    return this.#words[this.#index + ahead] ?? ''
  }

  /** Throws SyntaxProblem at the end. */
  next(): string {
    const word = this.#words[this.#index++]
    if (word === undefined) throw new SyntaxProblem('syntax error, unexpected newline')
    return word
  }

  /** Takes these words if they come next. */
  take(...words: readonly string[]): boolean {
    if (!words.every((word, ahead) => this.peek(ahead) === word)) return false
    this.#index += words.length
    return true
  }

  /** Throws SyntaxProblem unless these come next. */
  expect(...words: readonly string[]): void {
    for (const word of words) if (!this.take(word)) this.fail()
  }

  /** A word that the pattern describes whole. Throws SyntaxProblem for another. */
  match(description: RegExp): string {
    const word = this.peek()
    if (!description.test(word)) this.fail()
    return this.next()
  }

  /** Throws SyntaxProblem, naming the word that comes next. */
  fail(): never {
    throw new SyntaxProblem(`syntax error, unexpected ${this.atEnd() ? 'newline' : this.peek()}`)
  }
}

/** Words of nft's language that it takes for no name of a table, chain, set or map. */
const keywords = new Set([
  ...[
    'accept',
    'add',
    'and',
    'chain',
    'comment',
    'counter',
    'create',
    'ct',
    'daddr',
    'delete',
    'dnat',
    'dport',
    'drop',
  ],
  ...['dynamic', 'element', 'elements', 'expires', 'fib', 'flags', 'flow', 'flush', 'fully-random', 'goto', 'hook'],
  ...[
    'icmp',
    'icmpv6',
    'iifname',
    'inet',
    'insert',
    'interval',
    'ip',
    'ip6',
    'jump',
    'l4proto',
    'limit',
    'list',
    'log',
  ],
  ...[
    'map',
    'mark',
    'masquerade',
    'meta',
    'missing',
    'mod',
    'notrack',
    'numgen',
    'or',
    'policy',
    'port',
    'priority',
    'queue',
  ],
  ...[
    'random',
    'redirect',
    'reject',
    'reset',
    'return',
    'rule',
    'saddr',
    'sctp',
    'set',
    'size',
    'snat',
    'sport',
    'table',
  ],
  ...['tcp', 'th', 'timeout', 'type', 'typeof', 'udp', 'update', 'vmap', 'with', 'xor'],
])

/**
 * A name. On purpose stricter than nft, which also takes some with a colon: its listings then read as something else.
 * Throws SyntaxProblem.
 */
export function nameOf(words: Words): string {
  if (keywords.has(words.peek())) words.fail()
  return words.match(/^[a-zA-Z][\w/.-]*$/)
}
