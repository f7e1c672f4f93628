// Topology mode (reference 2.1): hints count only when they cannot leave a Service without endpoints.
import { describe, expect, it } from 'vitest'
import { selectEndpoints } from '../../src/policy/endpoints.ts'
import { isNear, topologyMode } from '../../src/policy/topology.ts'
import { dying, endpoint } from '../model/build.ts'
import { addressesIn, candidatesOf, here } from './view.ts'

const hinted = (zones?: readonly string[], nodes?: readonly string[]) => ({
  ...(zones === undefined ? {} : { zoneHints: zones }),
  ...(nodes === undefined ? {} : { nodeHints: nodes }),
})

describe('topologyMode', () => {
  it.each([
    ['no ready endpoint', [], 'none'],
    ['no hints', [hinted(), hinted()], 'none'],
    ['every endpoint hinted, one for this zone', [hinted(['zone-a']), hinted(['zone-b'])], 'same-zone'],
    ['every endpoint hinted, none for this zone', [hinted(['zone-b']), hinted(['zone-c'])], 'none'],
    ['one endpoint without a zone hint', [hinted(['zone-a']), hinted()], 'none'],
    ['an empty list is no hint', [hinted(['zone-a']), hinted([])], 'none'],
    ['several zones on one endpoint', [hinted(['zone-c', 'zone-a'])], 'same-zone'],
    ['every endpoint hinted, one for this node', [hinted([], ['node-a']), hinted([], ['node-b'])], 'same-node'],
    ['node before zone', [hinted(['zone-a'], ['node-a']), hinted(['zone-a'], ['node-b'])], 'same-node'],
    ['no node hint for here: zone', [hinted(['zone-a'], ['node-b']), hinted(['zone-b'], ['node-c'])], 'same-zone'],
    ['one endpoint without a node hint: zone', [hinted(['zone-a'], ['node-a']), hinted(['zone-b'])], 'same-zone'],
    ['neither', [hinted(['zone-b'], ['node-b'])], 'none'],
  ] as const)('%s', (_, ready, mode) => {
    expect(topologyMode(ready, here)).toBe(mode)
  })

  it.each([
    ['no zone', { name: 'node-a' }],
    ['an empty zone', { name: 'node-a', zone: '' }],
  ])('a node with %s uses no zone hints', (_, node) => {
    expect(topologyMode([hinted(['zone-a'])], node)).toBe('none')
    expect(topologyMode([hinted([''])], node)).toBe('none')
  })

  it('a node with an unknown name uses no node hints', () => {
    expect(topologyMode([hinted(undefined, [''])], { name: '' })).toBe('none')
  })
})

describe('isNear', () => {
  it('narrows to what is hinted for here', () => {
    const near = hinted(['zone-a'], ['node-b'])
    expect(isNear(near, 'same-zone', here)).toBe(true)
    expect(isNear(near, 'same-node', here)).toBe(false)
    expect(isNear(near, 'none', here)).toBe(true)
  })
})

describe('what topology applies to', () => {
  const nearby = endpoint('10.0.1.1', { zoneHints: ['zone-a'], nodeName: 'node-b' })
  const farHere = endpoint('10.0.1.2', { zoneHints: ['zone-b'], nodeName: 'node-a' })

  it('the Cluster set, not the Local set', () => {
    const selection = selectEndpoints(candidatesOf(nearby, farHere), here)
    expect(addressesIn(selection.cluster)).toEqual(['10.0.1.1'])
    expect(addressesIn(selection.local)).toEqual(['10.0.1.2'])
  })

  it('ready endpoints only: one that terminates without a hint disables nothing', () => {
    const selection = selectEndpoints(candidatesOf(nearby, farHere, dying('10.0.1.3')), here)
    expect(addressesIn(selection.cluster)).toEqual(['10.0.1.1'])
  })

  it('not the fallback to terminating endpoints', () => {
    const far = dying('10.0.1.3', { zoneHints: ['zone-b'] })
    const near = dying('10.0.1.4', { zoneHints: ['zone-a'] })
    expect(addressesIn(selectEndpoints(candidatesOf(far, near), here).cluster)).toEqual(['10.0.1.3', '10.0.1.4'])
  })
})
