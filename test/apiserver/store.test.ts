// The store: revisions, history, snapshots, compaction.
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { decode, type Entry, itemJson, objectJson } from '../support/apiserver/codec.ts'
import { resourceNamed } from '../support/apiserver/resources.ts'
import { type Change, Store } from '../support/apiserver/store.ts'

const newStore = (historyLimit = 1000) => new Store({ historyLimit, resourceVersion: 1 })
const object = (name: string, value: number) => ({ metadata: { namespace: 'ns', name, uid: name }, value })
const state = (entries: readonly Entry[]) => entries.map(e => `${e.key}@${e.resourceVersion}`)

describe('the store', () => {
  test('gives every change the next revision and tells listeners in order', () => {
    const store = newStore()
    const seen: string[] = []
    store.subscribe('services', change => seen.push(`${change.type} ${change.entry.key} ${change.resourceVersion}`))
    store.put('services', 'ns/a', object('a', 1))
    store.put('nodes', 'n', object('n', 1))
    store.put('services', 'ns/a', object('a', 2))
    store.remove('services', 'ns/a')
    expect(seen).toEqual(['ADDED ns/a 2', 'MODIFIED ns/a 4', 'DELETED ns/a 5'])
    expect(store.resourceVersion).toBe(5)
  })

  test('a write that changes nothing has no revision, whatever the order of its fields', () => {
    const store = newStore()
    store.put('services', 'ns/a', { metadata: { name: 'a', uid: 'u' }, x: 1, y: 2 })
    expect(store.put('services', 'ns/a', { y: 2, x: 1, metadata: { uid: 'u', name: 'a' } })).toBeUndefined()
    expect(store.resourceVersion).toBe(2)
  })

  test('a deletion carries the last state under the revision of the deletion', () => {
    const store = newStore()
    store.put('services', 'ns/a', object('a', 7))
    const change = store.remove('services', 'ns/a')
    expect(change && decode(resourceNamed('services'), change.entry)).toMatchObject({
      metadata: { name: 'a', resourceVersion: '3' },
      value: 7,
    })
  })

  test('objects keep their content through storage; items of lists have no kind', () => {
    const store = newStore()
    store.put('services', 'ns/a', { kind: 'Service', apiVersion: 'v1', ...object('a', 1) })
    const [entry] = store.list('services')
    if (entry === undefined) throw new Error('nothing stored')
    expect(JSON.parse(objectJson(resourceNamed('services'), entry))).toEqual({
      kind: 'Service',
      apiVersion: 'v1',
      metadata: { namespace: 'ns', name: 'a', uid: 'a', resourceVersion: '2' },
      value: 1,
    })
    expect(Object.keys(JSON.parse(itemJson(resourceNamed('services'), entry)))).toEqual(['metadata', 'value'])
  })

  test('past states are refused with 410 once compacted, the present one never', () => {
    const store = newStore()
    for (const name of ['a', 'b', 'c']) store.put('services', `ns/${name}`, object(name, 1))
    store.compact(3)
    expect(state(store.list('services', 3))).toEqual(['ns/a@2', 'ns/b@3'])
    expect(() => store.list('services', 2)).toThrow(expect.objectContaining({ code: 410 }))
    expect(() => store.changesSince('services', 2)).toThrow(expect.objectContaining({ code: 410 }))
    expect(store.changesSince('services', 3).map(c => c.entry.key)).toEqual(['ns/c'])
  })

  test('compaction also holds for kinds that have had no change since', () => {
    const store = newStore()
    store.put('services', 'ns/a', object('a', 1))
    store.put('nodes', 'n', object('n', 1))
    store.compact()
    expect(() => store.changesSince('services', 1)).toThrow(expect.objectContaining({ code: 410 }))
    expect(store.changesSince('services', 3)).toEqual([])
  })

  test('the history is bounded', () => {
    const store = newStore(10)
    for (let i = 0; i < 100; i++) store.put('services', 'ns/a', object('a', i))
    expect(() => store.changesSince('services', 50)).toThrow(expect.objectContaining({ code: 410 }))
    expect(store.changesSince('services', 95).length).toBe(6)
  })

  test('any past state is what it was then, and its changes lead to the present', () => {
    const step = fc.record({
      name: fc.constantFrom('a', 'a-b', 'b', 'c'),
      value: fc.option(fc.nat(3), { nil: undefined }),
    })
    fc.assert(
      fc.property(fc.array(step, { maxLength: 30 }), steps => {
        const store = newStore()
        const past = new Map([[1, state(store.list('services'))]])
        for (const { name, value } of steps) {
          if (value === undefined) store.remove('services', `ns/${name}`)
          else store.put('services', `ns/${name}`, object(name, value))
          past.set(store.resourceVersion, state(store.list('services')))
        }
        for (const [revision, expected] of past) {
          expect(state(store.list('services', revision))).toEqual(expected)
          expect(state(replay(store.list('services', revision), store.changesSince('services', revision)))).toEqual(
            state(store.list('services')),
          )
        }
      }),
    )
  })
})

function replay(from: readonly Entry[], changes: readonly Change[]): Entry[] {
  const result = new Map(from.map(entry => [entry.key, entry]))
  for (const change of changes) {
    if (change.type === 'DELETED') result.delete(change.entry.key)
    else result.set(change.entry.key, change.entry)
  }
  return [...result.values()].sort((a, b) => (a.key < b.key ? -1 : 1))
}
