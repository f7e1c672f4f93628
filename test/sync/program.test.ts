// The desired program: who owns what, and what separates it from the kernel.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { KernelObject, Layout } from '../../src/backend/backend.ts'
import { DesiredProgram } from '../../src/sync/program.ts'

const object = (key: string, value: string): KernelObject => ({ key, value })
const held = (...objects: readonly KernelObject[]) => new Map(objects.map(({ key, value }) => [key, value]))
const nothing = { added: [], changed: [], removed: [] }

/** Gathers entries `tree@path` in one shared object. */
function listLayout(): Layout {
  const entries = new Map<string, string>()
  let changed = true
  return {
    isEntry: key => key.includes('@'),
    set({ key, value }) {
      changed ||= entries.get(key) !== value
      entries.set(key, value)
    },
    delete(key) {
      changed = entries.delete(key) || changed
    },
    *drain() {
      if (!changed) return
      changed = false
      const lines = [...entries].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, value]) => value)
      yield { key: 'tree', value: lines.join('\n') }
    },
  }
}

describe('what is pending', () => {
  it('is what was added, changed and removed since the kernel was settled', () => {
    const program = new DesiredProgram()
    program.replace('a', [object('x', '1'), object('y', '1')])
    expect(program.pending()).toEqual({ ...nothing, added: [object('x', '1'), object('y', '1')] })
    program.settle()
    expect(program.pending()).toEqual(nothing)

    program.replace('a', [object('x', '2'), object('z', '1')])
    expect(program.pending()).toEqual({
      added: [object('z', '1')],
      changed: [{ key: 'x', from: '1', to: '2' }],
      removed: [object('y', '1')],
    })
  })

  it('stays the same however often it is asked for', () => {
    const program = new DesiredProgram()
    program.replace('a', [object('x', '1')])
    program.settle()
    program.replace('a', [])
    expect(program.pending()).toEqual(program.pending())
    expect(program.pending().removed).toEqual([object('x', '1')])
  })

  it('is nothing when a change was taken back, or changed nothing', () => {
    const program = new DesiredProgram()
    program.replace('a', [object('x', '1')])
    program.settle()
    program.replace('a', [object('x', '2')])
    program.replace('a', [object('x', '1')])
    program.replace('b', [object('y', '1')])
    program.replace('b', [])
    expect(program.pending()).toEqual(nothing)
  })

  it('counts from what the kernel really holds after rebase', () => {
    const program = new DesiredProgram()
    program.replace('a', [object('x', '1'), object('y', '1'), object('w', '1')])
    program.settle()
    program.rebase(held(object('x', '1'), object('y', '0'), object('old', '1')))
    expect(program.pending()).toEqual({
      added: [object('w', '1')],
      changed: [{ key: 'y', from: '0', to: '1' }],
      removed: [object('old', '1')],
    })
    program.rebase(program.objects)
    expect(program.pending()).toEqual(nothing)
  })
})

describe('a key that passes from one owner to another', () => {
  it.each([
    ['the new owner comes first', ['b', 'a']],
    ['the old owner goes first', ['a', 'b']],
  ])('ends with the new one when %s', (_, order) => {
    const program = new DesiredProgram()
    program.replace('a', [object('address', 'a')])
    program.settle()
    for (const owner of order) program.replace(owner, owner === 'b' ? [object('address', 'b')] : [])
    expect(program.objects).toEqual(held(object('address', 'b')))
    expect(program.pending().changed).toEqual([{ key: 'address', from: 'a', to: 'b' }])
    program.replace('b', [])
    expect(program.objects.size).toBe(0)
  })

  it('returns to an owner who still wants it', () => {
    const program = new DesiredProgram()
    program.replace('a', [object('address', 'a')])
    program.replace('b', [object('address', 'b')])
    program.replace('b', [])
    expect(program.objects).toEqual(held(object('address', 'a')))
    expect(program.ownersOf('address')).toEqual(['a'])
  })

  it('belongs to the last owner, by any history, who placed it and has not let it go', () => {
    const step = fc.record({
      owner: fc.constantFrom('a', 'b', 'c'),
      keys: fc.subarray(['x', 'y', 'z']),
    })
    fc.assert(
      fc.property(fc.array(step, { maxLength: 20 }), steps => {
        const program = new DesiredProgram()
        const wants = new Map<string, readonly string[]>()
        const placed: string[][] = []
        for (const { owner, keys } of steps) {
          program.replace(
            owner,
            keys.map(key => object(key, owner)),
          )
          wants.set(owner, keys)
          for (const key of keys) placed.push([key, owner])
        }
        const expected = new Map<string, string>()
        for (const [key = '', owner = ''] of placed) {
          if (wants.get(owner)?.includes(key) === true) expected.set(key, owner)
        }
        expect(new Map(program.objects)).toEqual(expected)
      }),
    )
  })
})

describe('objects that owners share', () => {
  it('change once for all entries, and only when an entry does', () => {
    const program = new DesiredProgram(listLayout())
    program.replace('a', [object('tree@1', 'to a')])
    program.replace('b', [object('tree@2', 'to b'), object('chain', 'rules')])
    expect(program.objects).toEqual(held(object('tree', 'to a\nto b'), object('chain', 'rules')))
    program.pending()
    program.settle()
    program.replace('a', [object('tree@1', 'to a')])
    expect(program.pending()).toEqual(nothing)
    program.replace('a', [])
    expect(program.pending().changed).toEqual([{ key: 'tree', from: 'to a\nto b', to: 'to b' }])
  })

  it('are traced to the owner of the entry that is refused', () => {
    const program = new DesiredProgram(listLayout())
    program.replace('a', [object('tree@1', 'to a')])
    program.replace('b', [object('tree@2', 'to b'), object('chain', 'rules')])
    expect(program.ownersOf('tree\nto b')).toEqual(['b'])
    expect(program.ownersOf('chain')).toEqual(['b'])
    expect(program.ownersOf('chain\nrules')).toEqual(['b'])
    expect(program.ownersOf('tree\nto nobody')).toEqual([])
  })

  it('tell whose entries the kernel lacks', () => {
    const program = new DesiredProgram(listLayout())
    program.replace('a', [object('tree@1', 'to a')])
    program.replace('b', [object('tree@2', 'to b'), object('chain', 'rules')])
    program.replace('c', [object('tree@3', 'to c')])
    expect(program.ownersLacking(held(object('tree', 'to a\nto b'), object('chain', 'other')))).toEqual(['b', 'c'])
  })
})

it('leaves a key to the owner that has got it since, when another gets back what it had, and gives it back after that one', () => {
  const program = new DesiredProgram()
  const former = [
    { key: 'port', value: 'to a' },
    { key: 'own', value: 'of a' },
  ]
  program.replace('a', former)
  program.replace('a', [])
  program.replace('b', [{ key: 'port', value: 'to b' }])
  program.putBack('a', former)
  expect([...program.objects].sort()).toEqual([
    ['own', 'of a'],
    ['port', 'to b'],
  ])
  program.replace('b', [])
  expect(program.objects.get('port')).toBe('to a')
  program.replace('a', [])
  expect([...program.objects]).toEqual([])
})
