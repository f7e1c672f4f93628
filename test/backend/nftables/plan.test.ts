// The order of a transaction: what is reached is whole, and what goes is not reached any more.
import { describe, expect, it } from 'vitest'
import type { Delta } from '../../../src/backend/backend.ts'
import { lineOf, objectOf } from '../../../src/backend/nftables/commands.ts'
import { isNftStep, plan } from '../../../src/backend/nftables/plan.ts'

const planned = (delta: Partial<Delta>, program: ReadonlyMap<string, string> = new Map()): string[][] =>
  plan({ added: [], changed: [], removed: [], ...delta }, program, 'IPv4').steps.map(step =>
    step.text.trim().split('\n'),
  )

describe('plan', () => {
  it('has nothing to do for nothing', () => {
    expect(planned({})).toEqual([])
  })

  it('makes chains before elements that lead there', () => {
    expect(
      planned({
        added: [
          { key: 'element services 10.96.0.1 . tcp . 80', value: 'comment "a/b" : goto external/a/b/tcp' },
          { key: 'chain external/a/b/tcp', value: 'meta mark set meta mark | 0x4000\ngoto service/a/b/tcp' },
          { key: 'chain service/a/b/tcp', value: 'drop' },
        ],
      }),
    ).toEqual([
      [
        'add chain ip penstock external/a/b/tcp',
        'add chain ip penstock service/a/b/tcp',
        'flush chain ip penstock external/a/b/tcp',
        'flush chain ip penstock service/a/b/tcp',
        'add rule ip penstock external/a/b/tcp meta mark set meta mark | 0x4000',
        'add rule ip penstock external/a/b/tcp goto service/a/b/tcp',
        'add rule ip penstock service/a/b/tcp drop',
        'add element ip penstock services { 10.96.0.1 . tcp . 80 comment "a/b" : goto external/a/b/tcp }',
      ],
    ])
  })

  it('writes of a list of endpoints what differs', () => {
    const key = 'indexed endpoints 10.96.0.1 . tcp . 80'
    expect(
      planned({
        changed: [{ key, from: '10.1.0.1 . 80\n10.1.0.2 . 80\n10.1.0.3 . 80', to: '10.1.0.1 . 80\n10.1.0.3 . 80' }],
      }),
    ).toEqual([
      [
        'delete element ip penstock endpoints { 10.96.0.1 . tcp . 80 . 1 }',
        'delete element ip penstock endpoints { 10.96.0.1 . tcp . 80 . 2 }',
        'add element ip penstock endpoints { 10.96.0.1 . tcp . 80 . 1 : 10.1.0.3 . 80 }',
      ],
    ])
    // A gap, left by somebody else, is filled.
    expect(
      planned({
        changed: [{ key, from: '10.1.0.1 . 80\n\n10.1.0.3 . 80', to: '10.1.0.1 . 80\n10.1.0.2 . 80\n10.1.0.3 . 80' }],
      })[0],
    ).toEqual(['add element ip penstock endpoints { 10.96.0.1 . tcp . 80 . 1 : 10.1.0.2 . 80 }'])
  })

  it('deletes chains and sets in a script of their own, after they are emptied', () => {
    expect(
      planned({
        removed: [
          { key: 'chain service/a/b/tcp', value: 'goto endpoint/a/b/tcp/10.1.0.1/80' },
          { key: 'set aff-60/a/b/tcp/10.1.0.1/80', value: 'type ipv4_addr;' },
          { key: 'element services 10.96.0.1 . tcp . 80', value: ': goto service/a/b/tcp' },
        ],
      }),
    ).toEqual([
      ['flush chain ip penstock service/a/b/tcp', 'delete element ip penstock services { 10.96.0.1 . tcp . 80 }'],
      ['delete chain ip penstock service/a/b/tcp', 'delete set ip penstock aff-60/a/b/tcp/10.1.0.1/80'],
    ])
  })

  it('makes the table anew, at once, where a map or a hook is not as it must be', () => {
    const program = new Map([
      ['map services', 'type ipv4_addr . inet_proto . inet_service : verdict;'],
      ['chain output', 'type nat hook output priority -100; policy accept;\njump services'],
    ])
    const hook = 'type nat hook output priority 0; policy accept;'
    const steps = planned(
      { changed: [{ key: 'chain output', from: hook, to: program.get('chain output') ?? '' }] },
      program,
    )
    expect(steps).toHaveLength(1)
    expect(steps[0]?.slice(0, 2)).toEqual(['delete table ip penstock', 'add table ip penstock'])
    expect(steps[0]).toContain('add map ip penstock services { type ipv4_addr . inet_proto . inet_service : verdict; }')
    const picked = planned(
      { added: [{ key: 'chain pick-1', value: 'dnat ip to numgen random mod 1 map @endpoints\ndrop' }] },
      program,
    )
    expect(picked[0]?.[0]).toBe('delete table ip penstock')
  })

  it('goes in parts where there is much, with what leads there last', () => {
    const added = Array.from({ length: 12_000 }, (_, i) => [
      { key: `chain service/a/s${i}/tcp`, value: i % 4 === 0 ? 'drop' : `goto service/a/s${i - 1}/tcp` },
      { key: `element services 10.96.${i >> 8}.${i & 255} . tcp . 80`, value: `: goto service/a/s${i}/tcp` },
    ]).flat()
    const steps = planned({ added: added.reverse() })
    expect(steps.length).toBeGreaterThan(2)
    const known = new Set<string>()
    for (const lines of steps) {
      for (const line of lines) if (line.startsWith('add chain ')) known.add(line.split(' ')[4] ?? '')
      for (const line of lines) {
        for (const [, target = ''] of line.matchAll(/goto ([^\s,]+)/g)) expect(known.has(target), target).toBe(true)
      }
    }
    expect(
      steps
        .slice(0, -1)
        .flat()
        .some(line => line.startsWith('add element')),
    ).toBe(false)
  })

  it('makes the text and the commands the same', () => {
    const key = 'indexed endpoints 10.96.0.1 . tcp . 80'
    const [step] = plan(
      {
        added: [
          { key: 'element services 10.96.0.1 . tcp . 80', value: 'comment "a/b" : goto x' },
          { key: 'chain x', value: 'drop' },
        ],
        changed: [{ key, from: '10.1.0.1 . 80', to: '10.1.0.2 . 80' }],
        removed: [],
      },
      new Map(),
      'IPv4',
    ).steps
    if (step === undefined || !isNftStep(step)) throw new Error('there is one')
    const commands = [...step.commands()]
    expect(commands.map(command => lineOf(command, 'IPv4'))).toEqual(step.text.trim().split('\n'))
    expect(commands.map(objectOf)).toEqual([
      'chain x',
      undefined,
      undefined,
      'chain x',
      'element services 10.96.0.1 . tcp . 80',
      key,
    ])
  })

  it('has one step for the kernel where nft needs several, and halves it where it must', () => {
    const added = Array.from({ length: 6_000 }, (_, i) => [
      { key: `element services 10.96.${i >> 8}.${i & 255} . tcp . 80`, value: `: goto service/a/s${i}/tcp` },
      { key: `indexed endpoints 10.96.${i >> 8}.${i & 255} . tcp . 80`, value: '10.1.0.1 . 80' },
      { key: `chain service/a/s${i}/tcp`, value: i % 4 === 0 ? 'drop' : `goto service/a/s${i - 1}/tcp` },
    ]).flat()
    const removed = [{ key: 'chain gone', value: 'drop' }]
    const { steps } = plan({ added, changed: [], removed }, new Map(), 'IPv4', 'kernel')
    expect(steps.map(step => isNftStep(step) && step.isSweep)).toEqual([false, true])
    const [whole] = steps
    if (whole === undefined || !isNftStep(whole)) throw new Error('there is one')
    const halves = whole.halves() ?? []
    expect(halves.flatMap(({ keys }) => keys).sort()).toEqual([...whole.keys].sort())
    // Chains before what leads there, endpoints before the entries that count them, what goes at the end.
    const [first, second] = halves.map(({ keys }) => keys.map(key => key.split(' ')[0]))
    expect(new Set(first)).toEqual(new Set(['chain', 'indexed']))
    expect(second?.slice(0, -1)).not.toContain('chain')
    expect(halves[1]?.keys.at(-1)).toBe('chain gone')
    const known = new Set<string>()
    for (const { text } of halves) {
      for (const [, name = ''] of text.matchAll(/^add chain ip penstock (\S+)$/gm)) known.add(name)
      for (const [, target = ''] of text.matchAll(/goto ([^\s,]+)/g)) expect(known.has(target), target).toBe(true)
    }
    const single = plan({ added: [], changed: [], removed }, new Map(), 'IPv4').steps[0]
    expect(single !== undefined && isNftStep(single) && single.halves()).toBeUndefined()
  })

  it('does not make the table anew for the kernel, which takes rules with maps that are there', () => {
    const added = [{ key: 'chain pick-1', value: 'dnat ip to numgen random mod 1 map @endpoints\ndrop' }]
    const program = new Map([['chain output', '']])
    const lines = plan({ added, changed: [], removed: [] }, program, 'IPv4', 'kernel').steps.map(({ text }) => text)
    expect(lines.join()).not.toContain('delete table')
  })
})
