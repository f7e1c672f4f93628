// A list's body, item by item: a list of 75 MB is never in memory as a whole and never blocks the event loop.
import { StreamError } from './errors.ts'
import { isObject, type JSONObject } from './fields.ts'

const quote = 0x22
const backslash = 0x5c
const openBrace = 0x7b
const closeBrace = 0x7d
const openBracket = 0x5b
const closeBracket = 0x5d

export type ListPart =
  | { readonly kind: 'item'; readonly item: unknown }
  /** The list itself, with `items` left empty. Comes last. */
  | { readonly kind: 'list'; readonly list: JSONObject }

/**
 * Splits a JSON `List` into its items without building the whole. Only brackets and strings are followed here;
 * what lies between is JSON.parse's to judge.
 * @throws StreamError `bad-frame` when the text is not such a list or ends too early.
 */
export async function* listParts(chunks: AsyncIterable<Buffer>): AsyncGenerator<ListPart> {
  const frame = new ListFrame()
  for await (const chunk of chunks) {
    for (let at = 0; at < chunk.length; ) {
      at = frame.scan(chunk, at)
      const item = frame.takeItem()
      if (item !== undefined) yield { kind: 'item', item: parse(item) }
    }
  }
  const list = frame.isWhole ? parse(frame.rest()) : undefined
  if (!isObject(list)) throw new StreamError('bad-frame', 'a list that ends too early or is no JSON object')
  yield { kind: 'list', list }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (error) {
    throw new StreamError('bad-frame', `a list that is not JSON: ${JSON.stringify(text.slice(0, 60))}`, {
      cause: error,
    })
  }
}

/** Where in the list the text has got to: depth 1 is the List, depth 2 its `items`, depth 3 an item. */
class ListFrame {
  #depth = 0
  #inString = false
  #escaped = false
  #inItems = false
  #began = false
  /** Pieces of the item being read. */
  #item: Buffer[] = []
  #whole: string | undefined
  #rest: Buffer[] = []

  /** Reads until an item is complete or the chunk is used up; returns where to go on. */
  scan(chunk: Buffer, from: number): number {
    let start = from
    for (let at = from; at < chunk.length; at++) {
      const byte = chunk[at]
      if (this.#inString) {
        if (this.#escaped) this.#escaped = false
        else if (byte === backslash) this.#escaped = true
        else if (byte === quote) this.#inString = false
      } else if (byte === quote) this.#inString = true
      else if (byte === openBrace || byte === openBracket) {
        if (byte === openBracket && this.#depth === 1 && this.#endsInItems(chunk.subarray(start, at))) {
          this.#rest.push(chunk.subarray(start, at + 1))
          this.#inItems = true
          start = at + 1
        } else if (this.#inItems && this.#depth === 2) start = at
        this.#depth += 1
        this.#began = true
      } else if (byte === closeBrace || byte === closeBracket) {
        this.#depth -= 1
        if (this.#inItems && this.#depth === 2) {
          this.#item.push(chunk.subarray(start, at + 1))
          this.#whole = Buffer.concat(this.#item).toString('utf8')
          this.#item = []
          return at + 1
        }
        if (this.#inItems && this.#depth === 1) {
          this.#inItems = false
          start = at
        }
      }
    }
    if (start < chunk.length) this.#keep(chunk.subarray(start))
    return chunk.length
  }

  takeItem(): string | undefined {
    const item = this.#whole
    this.#whole = undefined
    return item
  }

  get isWhole(): boolean {
    return this.#began && this.#depth === 0 && !this.#inString
  }

  rest(): string {
    return Buffer.concat(this.#rest).toString('utf8')
  }

  /** Between two items there is nothing but a comma, which belongs nowhere. */
  #keep(piece: Buffer): void {
    if (!this.#inItems) this.#rest.push(piece)
    else if (this.#depth > 2) this.#item.push(piece)
  }

  #endsInItems(piece: Buffer): boolean {
    return /"items"\s*:\s*$/.test(Buffer.concat([...this.#rest, piece]).toString('utf8'))
  }
}
