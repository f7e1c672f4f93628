// The order of what is written, and that endpoints come before others go.
import { expect, test } from 'vitest'
import type { Delta } from '../../../src/backend/backend.ts'
import { plan } from '../../../src/backend/ipvs/plan.ts'
import { skeleton } from '../../../src/backend/ipvs/skeleton.ts'
import { restoreLimits } from '../../../src/backend/xtables/plan.ts'
import { networkAt } from './network.ts'

const network = networkAt()

const none: Delta = { added: [], changed: [], removed: [] }
const planned = (delta: Partial<Delta>, program: ReadonlyMap<string, string> = new Map()) =>
  plan({ ...none, ...delta }, program, 'IPv4', restoreLimits(undefined)).steps

test('a change of endpoints is one call of ipvsadm: the new ones first, the others drained', () => {
  const changed = [
    { key: 'virtual tcp 10.96.0.1:80', from: '-s rr\n10.0.0.1:80\n10.0.0.2:80', to: '-s rr\n10.0.0.2:80\n10.0.0.3:80' },
    { key: 'virtual mark 0x5ea00010', from: '-s rr\n10.0.0.1:80 weight 7', to: '-s wlc\n10.0.0.1:80' },
  ]
  expect(planned({ changed }).map(({ tool, text }) => [tool, text])).toEqual([
    [
      'ipvsadm',
      [
        '-a -t 10.96.0.1:80 -r 10.0.0.3:80 -m -w 1',
        '-E -f 1587544080 -s wlc',
        '-e -f 1587544080 -r 10.0.0.1:80 -m -w 1',
        '-e -t 10.96.0.1:80 -r 10.0.0.1:80 -m -w 0',
        '',
      ].join('\n'),
    ],
  ])
})

test('a new Service is whole before its address is local, one that goes is not local before it is gone', () => {
  const objects = [
    { key: 'address 10.96.0.1', value: '' },
    { key: 'member PENSTOCK-RANGED 10.96.0.1,tcp:80', value: '' },
    { key: 'member PENSTOCK-RANGES 10.96.0.1,tcp:80,10.0.0.0/8', value: '' },
    { key: 'virtual tcp 10.96.0.1:80', value: '-s rr\n10.0.0.1:80' },
  ]
  expect(planned({ added: objects }).map(({ text }) => text.trim().split('\n'))).toEqual([
    ['add PENSTOCK-RANGES 10.96.0.1,tcp:80,10.0.0.0/8', 'add PENSTOCK-RANGED 10.96.0.1,tcp:80'],
    ['-A -t 10.96.0.1:80 -s rr', '-a -t 10.96.0.1:80 -r 10.0.0.1:80 -m -w 1'],
    ['route append local 10.96.0.1/32 dev lo table local proto 112 metric 112'],
  ])
  expect(planned({ removed: objects }).map(({ text }) => text.trim().split('\n'))).toEqual([
    ['-D -t 10.96.0.1:80'],
    ['route del local 10.96.0.1/32 dev lo table local proto 112 metric 112'],
    ['del PENSTOCK-RANGED 10.96.0.1,tcp:80', 'del PENSTOCK-RANGES 10.96.0.1,tcp:80,10.0.0.0/8'],
  ])
})

test('sets are there before rules look into them', () => {
  const tools = planned({ added: [...skeleton(network)] }).map(({ tool }) => tool)
  expect(tools).toEqual(['ipset', 'iptables', 'link'])
})

test('a set of another type in the place of ours goes, and everything that looked into it comes back', () => {
  const member = { key: 'member PENSTOCK-DROP 10.96.0.9,tcp:80', value: '' }
  const objects = [...skeleton(network), member]
  const program = new Map(objects.map(({ key, value }) => [key, value]))
  const key = 'set PENSTOCK-DROP'
  const steps = planned({ changed: [{ key, from: 'hash:net family inet', to: program.get(key) ?? '' }] }, program)
  expect(steps.map(({ tool }) => tool)).toEqual(['iptables', 'ipset', 'ipset', 'iptables'])
  expect(steps[0]?.text).toContain('-X PENSTOCKVS-SERVICES')
  expect(steps[1]?.text).toBe('destroy PENSTOCK-DROP\n')
  expect(steps[2]?.text).toBe(`create PENSTOCK-DROP ${program.get(key)}\nadd PENSTOCK-DROP 10.96.0.9,tcp:80\n`)
  expect(steps[3]?.text).toContain('-A PENSTOCKVS-SERVICES -m set --match-set PENSTOCK-DROP dst,dst -j DROP')
})

test('a changed comment is written over the old one, in a call of its own', () => {
  const steps = planned({
    added: [{ key: 'member PENSTOCK-INTERNAL 10.96.0.2,tcp:80', value: 'comment "a/b"' }],
    changed: [{ key: 'member PENSTOCK-INTERNAL 10.96.0.1,tcp:80', from: 'comment "a/a"', to: 'comment "b/a"' }],
  })
  expect(steps.map(({ text }) => text)).toEqual([
    'add PENSTOCK-INTERNAL 10.96.0.2,tcp:80 comment "a/b"\n',
    'add PENSTOCK-INTERNAL 10.96.0.1,tcp:80 comment "b/a" -exist\n',
  ])
})

test('what plan prints of a step is its title, its program, its text and its keys', () => {
  const [step] = planned({ added: [{ key: 'address 10.96.0.1', value: '' }] })
  expect(JSON.parse(JSON.stringify(step))).toEqual({
    title: 'route: addresses of Services',
    tool: 'route',
    text: 'route append local 10.96.0.1/32 dev lo table local proto 112 metric 112\n',
    keys: ['address 10.96.0.1'],
  })
})
