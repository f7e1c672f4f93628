// The order in which chains and jumps of several tables are written.
import { expect, it } from 'vitest'
import type { Delta } from '../../../src/backend/backend.ts'
import { chainKey, jumpKey, parseKey } from '../../../src/backend/xtables/names.ts'
import { type PlanOptions, plan, restoreLimits } from '../../../src/backend/xtables/plan.ts'

const options: PlanOptions = { ...restoreLimits(undefined), refusalsFirst: false }
const jump = '-m comment --comment "penstock service addresses" -j OWN'

const texts = (delta: Partial<Delta>, given: Partial<PlanOptions> = {}) =>
  plan({ added: [], changed: [], removed: [], ...delta }, { ...options, ...given }).steps.map(({ text }) => text)

it('writes mangle as it writes nat, after the tables that heed its marks', () => {
  const added = (['mangle', 'nat', 'filter'] as const).flatMap(table => [
    { key: jumpKey(table, 'OUTPUT', 'OWN'), value: jump },
    { key: chainKey(table, 'OWN'), value: '-j ACCEPT' },
  ])
  const part = (table: string) => `*${table}\n:OWN - [0:0]\n-A OWN -j ACCEPT\n-I OUTPUT 1 ${jump}\nCOMMIT\n`
  expect(texts({ added })).toEqual([part('filter') + part('nat') + part('mangle')])
  const removed = [
    { key: jumpKey('mangle', 'OUTPUT', 'OWN'), value: jump },
    { key: 'mangle/OWN', value: '-j ACCEPT' },
  ]
  expect(texts({ removed })).toEqual([`*mangle\n-D OUTPUT ${jump}\n:OWN - [0:0]\n-X OWN\nCOMMIT\n`])
})

it('keeps old refusals until the other tables have changed, where it is asked to', () => {
  const changed = [
    { key: 'filter/OWN', from: '-d 10.96.0.1/32 -j REJECT', to: '-d 10.96.0.2/32 -j REJECT' },
    { key: 'mangle/OWN', from: '-j RETURN', to: '-j ACCEPT' },
  ]
  const filter = (...lines: string[]) =>
    `*filter\n:OWN - [0:0]\n${lines.map(line => `-A OWN ${line}\n`).join('')}COMMIT\n`
  const mangle = '*mangle\n:OWN - [0:0]\n-A OWN -j ACCEPT\nCOMMIT\n'
  const [before, after] = ['-d 10.96.0.1/32 -j REJECT', '-d 10.96.0.2/32 -j REJECT']
  expect(texts({ changed })).toEqual([filter(after) + mangle])
  expect(texts({ changed }, { refusalsFirst: true })).toEqual([filter(after, before) + mangle + filter(after)])
})

it('writes a change that takes several restores from its targets up, and what packets may be in at once', () => {
  const added = ['A', 'B', 'C'].map((name, i) => ({ key: `nat/${name}`, value: i < 2 ? `-g ${'BC'[i]}` : '-j ACCEPT' }))
  const changed = [
    { key: 'nat/ROOT', from: '-j RETURN', to: '-g A' },
    { key: 'nat/BODY', from: '-j RETURN', to: '-j ACCEPT' },
  ]
  const written = texts({ added, changed }, { chunk: 1 })
  expect(written.map(text => [...text.matchAll(/^:(\S+)/gm)].map(([, name]) => name))).toEqual([
    ['C'],
    ['B'],
    ['A'],
    ['ROOT', 'BODY'],
  ])
})

it('writes chains that go to none with their rules and from the last name on, then those that go to them', () => {
  const added = ['OWN-B', 'OWN-A', 'OWN-C'].map(name => ({ key: `nat/${name}`, value: '-j ACCEPT' }))
  added.unshift({ key: 'nat/OWN-TREE', value: '-s 10.0.0.1/32 -g OWN-B\n-j OWN-A' })
  expect(texts({ added })).toEqual([
    '*nat\n:OWN-C - [0:0]\n-A OWN-C -j ACCEPT\n:OWN-B - [0:0]\n-A OWN-B -j ACCEPT\n:OWN-A - [0:0]\n-A OWN-A -j ACCEPT\n' +
      ':OWN-TREE - [0:0]\n-A OWN-TREE -s 10.0.0.1/32 -g OWN-B\n-A OWN-TREE -j OWN-A\nCOMMIT\n',
  ])
  const removed = added
  expect(texts({ removed })).toEqual([
    '*nat\n:OWN-TREE - [0:0]\n-X OWN-TREE\n:OWN-C - [0:0]\n-X OWN-C\n:OWN-B - [0:0]\n-X OWN-B\n' +
      ':OWN-A - [0:0]\n-X OWN-A\nCOMMIT\n',
  ])
})

it('commits chains that go to many others few at a time, after those, and deletes them before those', () => {
  const leaves = Array.from({ length: 6 }, (_, i) => ({ key: `nat/OWN-L${i}`, value: '-j ACCEPT' }))
  const branches = [0, 2, 4].map(i => ({ key: `nat/OWN-T${i}`, value: `-g OWN-L${i}\n-g OWN-L${i + 1}` }))
  const root = { key: 'nat/OWN-ROOT', value: '-g OWN-T0\n-g OWN-T2\n-g OWN-T4' }
  const all = [root, ...branches, ...leaves]
  const commits = (delta: Partial<Delta>) =>
    texts(delta, { chunk: 8, mostTargets: 4 }).flatMap(text =>
      text.split('COMMIT\n').flatMap(part => {
        const names = [...part.matchAll(/^:OWN-(\S+)/gm)].map(([, name]) => name)
        return names.length === 0 ? [] : [names.join(' ')]
      }),
    )
  expect(commits({ added: all })).toEqual(['L5 L4 L3 L2 L1 L0', 'T0 T2', 'T4', 'ROOT'])
  expect(commits({ removed: all })).toEqual(['T0 T2 T4 ROOT', 'L5 L4 L3 L2 L1 L0'])
})

it('says the same in pieces as at once', () => {
  const added = ['A', 'B'].map(name => ({ key: `nat/OWN-${name}`, value: '-p tcp -j RETURN\n-j ACCEPT' }))
  const removed = [{ key: 'nat/OWN-C', value: '-j RETURN' }]
  const { steps } = plan({ added, changed: [], removed }, options)
  const [step] = steps
  expect(steps).toHaveLength(1)
  expect([...(step?.pieces() ?? [])].join('')).toBe(step?.text)
  expect(step?.text).toBe(
    '*nat\n:OWN-B - [0:0]\n-A OWN-B -p tcp -j RETURN\n-A OWN-B -j ACCEPT\n:OWN-A - [0:0]\n' +
      '-A OWN-A -p tcp -j RETURN\n-A OWN-A -j ACCEPT\n:OWN-C - [0:0]\n-X OWN-C\nCOMMIT\n',
  )
  expect(step?.keys).toEqual(['nat/OWN-B', 'nat/OWN-A', 'nat/OWN-C'])
})

it('takes keys apart', () => {
  expect(parseKey(chainKey('mangle', 'OWN'))).toEqual({ kind: 'chain', table: 'mangle', chain: 'OWN' })
  expect(parseKey(jumpKey('nat', 'OUTPUT', 'OWN'))).toEqual({ kind: 'jump', table: 'nat', from: 'OUTPUT', to: 'OWN' })
  expect(() => parseKey('raw/OWN')).toThrow('not the key of a chain or jump')
})
