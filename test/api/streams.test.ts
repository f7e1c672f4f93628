// The small parts under the reflector: lines, lists, back-off, keys.
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { createBackoff } from '../../src/api/backoff.ts'
import { errorKind, StreamError, statusError } from '../../src/api/errors.ts'
import { jsonLines } from '../../src/api/json-lines.ts'
import { KnownKeys } from '../../src/api/known-keys.ts'
import { type ListPart, listParts } from '../../src/api/list-stream.ts'
import { createPacer } from '../../src/api/pacer.ts'

/** A text in chunks of the given sizes, over and over. */
async function* chunked(text: string, sizes: readonly number[]): AsyncGenerator<Buffer> {
  const bytes = Buffer.from(text)
  for (let at = 0, round = 0; at < bytes.length; round++) {
    const size = sizes[round % sizes.length] ?? 1
    yield bytes.subarray(at, at + size)
    at += size
  }
}

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const found: T[] = []
  for await (const item of items) found.push(item)
  return found
}

const sizes = fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 1, maxLength: 4 })
const json = fc.jsonValue().filter(value => value !== undefined)

describe('jsonLines', () => {
  test('gives back any values, however they are cut', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(json), sizes, async (values, cuts) => {
        const text = values.map(value => `${JSON.stringify(value)}\n`).join('')
        expect(await all(jsonLines(chunked(text, cuts)))).toEqual(JSON.parse(JSON.stringify(values)))
      }),
    )
  })

  test('passes over blank lines and takes a last line without its newline', async () => {
    expect(await all(jsonLines(chunked('\n{"a":1}\r\n \n{"a":2}', [3])))).toEqual([{ a: 1 }, { a: 2 }])
  })

  test.each(['{"a":1}\n{"a":', '{"a":1}\nnot json\n'])('refuses %j as a bad frame, after what was good', async text => {
    const seen: unknown[] = []
    const read = async (): Promise<void> => {
      for await (const value of jsonLines(chunked(text, [4]))) seen.push(value)
    }
    await expect(read()).rejects.toMatchObject({ kind: 'bad-frame' })
    expect(seen).toEqual([{ a: 1 }])
  })
})

describe('listParts', () => {
  const item = fc.dictionary(fc.string(), json)

  test('splits any list into the items that JSON.parse would give', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(item), sizes, fc.boolean(), async (items, cuts, metadataFirst) => {
        const metadata = { resourceVersion: '7', continue: '"items":[{' }
        const object = metadataFirst ? { kind: 'L', metadata, items } : { items, metadata, kind: 'L' }
        const parts = await all(listParts(chunked(JSON.stringify(object), cuts)))
        const found = parts.flatMap(part => (part.kind === 'item' ? [part.item] : []))
        expect(found).toEqual(JSON.parse(JSON.stringify(items)))
        expect(parts.at(-1)).toEqual({ kind: 'list', list: { kind: 'L', metadata, items: [] } })
      }),
    )
  })

  test('takes white space and a list of nothing', async () => {
    const text = '{ "metadata" : { "resourceVersion" : "1" } ,\n "items" : [ ] }\n'
    expect(await all(listParts(chunked(text, [5])))).toHaveLength(1)
    expect(await all(listParts(chunked('{"metadata":{},"items":null}', [5])))).toHaveLength(1)
  })

  test('hands over items before the list has ended', async () => {
    async function* endless(): AsyncGenerator<Buffer> {
      yield Buffer.from('{"items":[{"a":1}')
      for (;;) yield Buffer.from(',{"a":2}')
    }
    const found: ListPart[] = []
    for await (const part of listParts(endless())) {
      found.push(part)
      if (found.length === 3) break
    }
    expect(found.map(part => part.kind)).toEqual(['item', 'item', 'item'])
  })

  test.each(['', '{', '{"items":[{"a":1}', '{"items":[{"a":1},{"a"', '[]', 'no', '{"items":[{a}]}', '{"items":[]}}'])(
    'refuses %j as a bad frame',
    async text => {
      await expect(all(listParts(chunked(text, [3])))).rejects.toMatchObject({ kind: 'bad-frame' })
    },
  )
})

describe('back-off', () => {
  test('doubles to its cap and stays there', () => {
    const backoff = createBackoff({ baseMs: 100, capMs: 1_000, random: () => 1 })
    expect([1, 2, 3, 4, 5, 6].map(() => backoff.next())).toEqual([100, 200, 400, 800, 1_000, 1_000])
    for (let i = 0; i < 2_000; i++) backoff.next()
    expect(backoff.next()).toBe(1_000)
    backoff.reset()
    expect(backoff.next()).toBe(100)
  })

  test('is random in its upper half', () => {
    expect(createBackoff({ baseMs: 100, capMs: 1_000, random: () => 0 }).next()).toBe(50)
  })

  test('never comes back before Retry-After, and not all at once after it', () => {
    expect(createBackoff({ baseMs: 100, capMs: 1_000, random: () => 0 }).next(7_000)).toBe(7_000)
    expect(createBackoff({ baseMs: 100, capMs: 1_000, random: () => 0.5 }).next(7_000)).toBe(7_050)
    expect(createBackoff({ baseMs: 100, capMs: 1_000, random: () => 0 }).next(9e9)).toBe(120_000)
  })
})

describe('errors', () => {
  test('a Retry-After in seconds is read, anything else is not', () => {
    expect(statusError(429, '3', '').retryAfterMs).toBe(3_000)
    expect(statusError(429, 'Wed, 21 Oct 2026 07:28:00 GMT', '').retryAfterMs).toBeUndefined()
    expect(statusError(503, undefined, '<html>').message).toBe('the API server answered 503')
  })

  test.each([
    [statusError(410, undefined, ''), 'gone'],
    [statusError(400, undefined, '{"reason":"Expired"}'), 'gone'],
    [statusError(500, undefined, ''), 'status'],
    [new StreamError('idle', ''), 'idle'],
    [Object.assign(new Error(), { code: 'ECONNREFUSED' }), 'unavailable'],
    [Object.assign(new Error(), { code: 'CERT_HAS_EXPIRED' }), 'tls'],
    [Object.assign(new Error(), { code: 'ECONNRESET' }), 'reset'],
  ])('%s is of kind %s', (error, kind) => {
    expect(errorKind(error)).toBe(kind)
  })
})

describe('known keys', () => {
  test('what a list does not show is gone, once it is complete', () => {
    const keys = new KnownKeys()
    for (const key of ['a', 'b', 'c']) keys.add(key)
    keys.beginList()
    keys.add('a')
    keys.add('d')
    keys.delete('c')
    expect(keys.size).toBe(3)
    expect(keys.endList()).toEqual(['b'])
    expect(keys.size).toBe(2)
  })

  test('a list that fails says nothing of what it did not show', () => {
    const keys = new KnownKeys()
    keys.add('a')
    keys.beginList()
    keys.add('b')
    keys.abandonList()
    keys.beginList()
    keys.add('c')
    expect(keys.endList().toSorted()).toEqual(['a', 'b'])
  })
})

test('a pacer lets others have their turn when its slice is used up', async () => {
  const pacer = createPacer(0)
  let turns = 0
  const other = setInterval(() => {
    turns += 1
  }, 0)
  for (let i = 0; i < 200 && turns === 0; i++) await pacer.pause()
  clearInterval(other)
  expect(pacer.pause()).toBeInstanceOf(Promise)
  expect(createPacer(60_000).pause()).toBeUndefined()
})
