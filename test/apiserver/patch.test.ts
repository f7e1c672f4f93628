// Patches of the three kinds kubectl and clients send.
import { describe, expect, test } from 'vitest'
import { jsonPatch, mergePatch } from '../support/apiserver/patch.ts'
import { strategicMerge } from '../support/apiserver/strategic-merge.ts'

describe('a merge patch (the examples of RFC 7386, appendix A)', () => {
  test.each<[unknown, unknown, unknown]>([
    [{ a: 'b' }, { a: 'c' }, { a: 'c' }],
    [{ a: 'b' }, { b: 'c' }, { a: 'b', b: 'c' }],
    [{ a: 'b' }, { a: null }, {}],
    [{ a: 'b', b: 'c' }, { a: null }, { b: 'c' }],
    [{ a: ['b'] }, { a: 'c' }, { a: 'c' }],
    [{ a: 'c' }, { a: ['b'] }, { a: ['b'] }],
    [{ a: { b: 'c' } }, { a: { b: 'd', c: null } }, { a: { b: 'd' } }],
    [{ a: [{ b: 'c' }] }, { a: [1] }, { a: [1] }],
    [
      ['a', 'b'],
      ['c', 'd'],
      ['c', 'd'],
    ],
    [{ e: null }, { a: 1 }, { e: null, a: 1 }],
    [[1, 2], { a: 'b', c: null }, { a: 'b' }],
    [{}, { a: { bb: { ccc: null } } }, { a: { bb: {} } }],
  ])('%j patched with %j', (target, patch, expected) => {
    const before = structuredClone(target)
    expect(mergePatch(target, patch)).toEqual(expected)
    expect(target).toEqual(before)
  })
})

describe('a JSON patch', () => {
  test.each<[string, unknown, unknown[], unknown]>([
    ['add', { a: [1, 2] }, [{ op: 'add', path: '/a/1', value: 9 }], { a: [1, 9, 2] }],
    ['add at the end', { a: [1] }, [{ op: 'add', path: '/a/-', value: 2 }], { a: [1, 2] }],
    ['remove', { a: { b: 1, c: 2 } }, [{ op: 'remove', path: '/a/b' }], { a: { c: 2 } }],
    ['replace', { a: [1, 2] }, [{ op: 'replace', path: '/a/0', value: 5 }], { a: [5, 2] }],
    ['escapes', { 'x/y~z': 1 }, [{ op: 'replace', path: '/x~1y~0z', value: 2 }], { 'x/y~z': 2 }],
    ['move', { a: 1 }, [{ op: 'move', from: '/a', path: '/b' }], { b: 1 }],
    ['copy', { a: { b: 1 } }, [{ op: 'copy', from: '/a', path: '/c' }], { a: { b: 1 }, c: { b: 1 } }],
    ['test', { a: { b: 1 } }, [{ op: 'test', path: '/a', value: { b: 1 } }], { a: { b: 1 } }],
  ])('%s', (_name, target, patch, expected) => {
    const before = structuredClone(target)
    expect(jsonPatch(target, patch)).toEqual(expected)
    expect(target).toEqual(before)
  })

  test.each<[string, unknown[], number]>([
    ['a test that fails', [{ op: 'test', path: '/a', value: 2 }], 422],
    ['a path that is not there', [{ op: 'remove', path: '/b' }], 422],
    ['an unknown operation', [{ op: 'merge', path: '/a' }], 400],
    ['a path that is no pointer', [{ op: 'add', path: 'a', value: 1 }], 400],
  ])('%s is refused', (_name, patch, code) => {
    expect(() => jsonPatch({ a: 1 }, patch)).toThrow(expect.objectContaining({ code }))
  })
})

describe('a strategic merge patch', () => {
  const web = {
    metadata: { labels: { a: '1' }, finalizers: ['x'] },
    spec: {
      ports: [
        { port: 80, name: 'http' },
        { port: 443, name: 'https' },
      ],
      externalIPs: ['192.0.2.1'],
    },
  }

  test('merges ports by their number and leaves the others alone', () => {
    const patched = strategicMerge('Service', web, { spec: { ports: [{ port: 443, targetPort: 9 }] } })
    expect(patched.spec).toEqual({
      ...web.spec,
      ports: [
        { port: 80, name: 'http' },
        { port: 443, name: 'https', targetPort: 9 },
      ],
    })
  })

  test('deletes a port and orders the rest', () => {
    const patched = strategicMerge('Service', web, {
      spec: {
        '$setElementOrder/ports': [{ port: 8080 }, { port: 80 }],
        ports: [
          { port: 8080, name: 'alt' },
          { port: 443, $patch: 'delete' },
        ],
      },
    })
    expect(patched.spec).toEqual({
      ...web.spec,
      ports: [
        { port: 8080, name: 'alt' },
        { port: 80, name: 'http' },
      ],
    })
  })

  test('replaces a list when it says so, and lists without a merge key always', () => {
    const patched = strategicMerge('Service', web, {
      spec: { ports: [{ port: 1 }, { $patch: 'replace' }], externalIPs: ['192.0.2.2'] },
    })
    expect(patched.spec).toEqual({ ports: [{ port: 1 }], externalIPs: ['192.0.2.2'] })
  })

  test('null removes a field; finalizers are united and can be taken out', () => {
    expect(
      strategicMerge('Service', web, { metadata: { labels: { a: null, b: '2' }, finalizers: ['y'] } }).metadata,
    ).toEqual({
      labels: { b: '2' },
      finalizers: ['x', 'y'],
    })
    const patched = strategicMerge('Service', web, { metadata: { '$deleteFromPrimitiveList/finalizers': ['x'] } })
    expect(patched.metadata).toEqual({ labels: { a: '1' }, finalizers: [] })
  })
})
