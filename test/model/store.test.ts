// The store: what each event changes, what it dirties, and that the order of events does not matter.
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { ModelEvent, ServiceKey } from '../../src/model/records.ts'
import { Store } from '../../src/model/store.ts'
import { formatCIDR } from '../../src/net/ip.ts'
import { histories, interleave, turns } from './arbitrary.ts'
import { cidr, endpoint, gone, ip, node, nodeEvent, port, service, serviceEvent, slice, sliceEvent } from './build.ts'

function storeOf(...events: ModelEvent[]): Store {
  const store = new Store()
  for (const event of events) store.apply(event)
  takeAllDirty(store)
  store.takeTriggerTimes('IPv4')
  return store
}

/** In either family. */
const takeAllDirty = (store: Store): Set<ServiceKey> =>
  new Set([...store.takeDirty('IPv4'), ...store.takeDirty('IPv6')])

const dirtyAfter = (store: Store, ...events: ModelEvent[]): ServiceKey[] => {
  for (const event of events) store.apply(event)
  return [...takeAllDirty(store)].sort()
}

const web1 = slice([endpoint('10.0.1.1')])
const names = (store: Store, key: ServiceKey): string[] => [...store.slices(key)].map(record => record.name).sort()

describe('what is dirty', () => {
  it('a new, a changed and a deleted Service', () => {
    const store = storeOf()
    expect(dirtyAfter(store, serviceEvent(service()))).toEqual(['shop/web'])
    expect(dirtyAfter(store, serviceEvent(service({ ports: [port({ port: 81 })] })))).toEqual(['shop/web'])
    expect(dirtyAfter(store, gone('Service', 'shop/web'))).toEqual(['shop/web'])
    expect(store.service('shop/web')).toBeUndefined()
  })

  it('nothing when an object comes again unchanged, and the record that was held stays', () => {
    const store = storeOf(serviceEvent(service()), sliceEvent(web1), nodeEvent(node()))
    const held = store.service('shop/web')
    const events = [serviceEvent(service()), sliceEvent(slice([endpoint('10.0.1.1')])), nodeEvent(node())]
    expect(dirtyAfter(store, ...events)).toEqual([])
    expect(store.service('shop/web')).toBe(held)
  })

  it('nothing when something unknown is deleted', () => {
    const store = storeOf()
    const events = [gone('Service', 'a/b'), gone('EndpointSlice', 'a/b-1'), gone('Node', 'x'), gone('ServiceCIDR', 'x')]
    expect(dirtyAfter(store, ...events)).toEqual([])
    expect(store.networkRevision).toBe(0)
  })

  it('the owner of a slice, whether or not the Service is there', () => {
    const store = storeOf()
    expect(dirtyAfter(store, sliceEvent(web1))).toEqual(['shop/web'])
    expect(dirtyAfter(store, gone('EndpointSlice', 'shop/web-1'))).toEqual(['shop/web'])
    expect(store.slices('shop/web')).toEqual([])
  })

  it('a Service that comes and goes before anybody looks: it is dirty, and it is not there', () => {
    const store = storeOf()
    expect(dirtyAfter(store, serviceEvent(service()), gone('Service', 'shop/web'))).toEqual(['shop/web'])
    expect(store.service('shop/web')).toBeUndefined()
  })

  it('a Service that goes and comes back before anybody looks: it is dirty, and it is the new one', () => {
    const store = storeOf(serviceEvent(service()))
    expect(dirtyAfter(store, gone('Service', 'shop/web'), serviceEvent(service({ uid: 'u2' })))).toEqual(['shop/web'])
    expect(store.service('shop/web')?.uid).toBe('u2')
  })

  it('both owners of a slice that is relabelled, and its endpoints move', () => {
    const store = storeOf(serviceEvent(service()), sliceEvent(web1), sliceEvent(slice([], { name: 'web-2' })))
    expect(dirtyAfter(store, sliceEvent({ ...web1, service: 'new' }))).toEqual(['shop/new', 'shop/web'])
    expect(names(store, 'shop/web')).toEqual(['web-2'])
    expect(names(store, 'shop/new')).toEqual(['web-1'])
  })

  it('every Service when the zone, an address or the pod CIDRs of the node change, or the Node goes', () => {
    const keys = ['shop/api', 'shop/web']
    const store = storeOf(serviceEvent(service()), serviceEvent(service({ name: 'api' })), nodeEvent(node()))
    expect(dirtyAfter(store, nodeEvent(node({ zone: 'zone-b' })))).toEqual(keys)
    expect(dirtyAfter(store, nodeEvent(node({ zone: 'zone-b', addresses: [ip('192.168.100.9')] })))).toEqual(keys)
    const changed = node({ zone: 'zone-b', addresses: [ip('192.168.100.9')], podCIDRs: [cidr('10.244.7.0/24')] })
    expect(dirtyAfter(store, nodeEvent(changed))).toEqual(keys)
    expect(dirtyAfter(store, gone('Node', 'node-a'))).toEqual(keys)
  })

  it('nothing when only the eligibility of the node changes, which is held all the same', () => {
    const store = storeOf(serviceEvent(service()), nodeEvent(node()))
    const revision = store.networkRevision
    expect(dirtyAfter(store, nodeEvent(node({ eligible: false })))).toEqual([])
    expect(store.node()?.eligible).toBe(false)
    expect(store.networkRevision).toBe(revision)
  })

  it('a slice in its own family only, a Service and the node in both', () => {
    const store = storeOf(serviceEvent(service()))
    const both = () => [[...store.takeDirty('IPv4')], [...store.takeDirty('IPv6')]]
    store.apply(sliceEvent(web1))
    expect(both()).toEqual([['shop/web'], []])
    store.apply(gone('EndpointSlice', 'shop/web-1'))
    expect(both()).toEqual([['shop/web'], []])
    store.apply(serviceEvent(service({ ports: [port({ port: 81 })] })))
    expect(both()).toEqual([['shop/web'], ['shop/web']])
    store.apply(nodeEvent(node()))
    expect(both()).toEqual([['shop/web'], ['shop/web']])
  })

  it('of families that are programmed', () => {
    const store = new Store({ families: ['IPv6'] })
    store.apply(serviceEvent(service()))
    store.apply(sliceEvent(web1))
    expect([...store.takeDirty('IPv4')]).toEqual([])
    expect([...store.takeDirty('IPv6')]).toEqual(['shop/web'])
  })

  it('a taken set does not grow, and a Service that is deleted after the node changed is in the next', () => {
    const store = storeOf(serviceEvent(service()))
    const taken = store.takeDirty('IPv4')
    store.apply(nodeEvent(node()))
    expect([...taken]).toEqual([])
    expect(dirtyAfter(store, gone('Service', 'shop/web'))).toEqual(['shop/web'])
    expect(dirtyAfter(store)).toEqual([])
  })
})

describe('ServiceCIDRs', () => {
  const event = (name: string, ...cidrs: string[]): ModelEvent => ({
    kind: 'ServiceCIDR',
    key: name,
    record: { name, cidrs: cidrs.map(cidr) },
  })
  const texts = (store: Store): string[] => store.serviceCIDRs().map(formatCIDR)

  it('keeps a CIDR that two objects share when one of them goes', () => {
    const store = storeOf(event('a', '10.96.0.0/16', 'fd00::/112'), event('b', '10.96.0.0/16'))
    expect(texts(store)).toEqual(['10.96.0.0/16', 'fd00::/112'])
    store.apply(gone('ServiceCIDR', 'a'))
    expect(texts(store)).toEqual(['10.96.0.0/16'])
    store.apply(gone('ServiceCIDR', 'b'))
    expect(texts(store)).toEqual([])
  })

  it('says that the network changed, and dirties no Service', () => {
    const store = storeOf(serviceEvent(service()))
    expect(dirtyAfter(store, event('a', '10.96.0.0/16'))).toEqual([])
    expect(store.networkRevision).toBe(1)
    store.apply(event('a', '10.96.0.0/16'))
    expect(store.networkRevision).toBe(1)
  })
})

describe('readiness', () => {
  it('comes with Services and EndpointSlices, and waits for nothing else', () => {
    const store = new Store()
    store.apply({ kind: 'synced', of: 'Node' })
    store.apply({ kind: 'synced', of: 'Service' })
    expect(store.isReady()).toBe(false)
    expect(store.synced('EndpointSlice')).toBe(false)
    store.apply({ kind: 'synced', of: 'EndpointSlice' })
    expect(store.isReady()).toBe(true)
    expect(store.synced('ServiceCIDR')).toBe(false)
  })
})

describe('options', () => {
  it('ignores Nodes of another name when it knows its own', () => {
    const store = new Store({ nodeName: 'node-a' })
    store.apply(nodeEvent(node({ name: 'node-b' })))
    expect(store.node()).toBeUndefined()
    store.apply(nodeEvent(node()))
    store.apply(gone('Node', 'node-b'))
    expect(store.node()?.name).toBe('node-a')
  })

  it('keeps no slices of a family that is not programmed', () => {
    const store = new Store({ families: ['IPv4'] })
    store.apply(sliceEvent(slice([endpoint('fd00::1')], { name: 'web-6', triggeredAt: 5 })))
    store.apply(sliceEvent(web1))
    expect(names(store, 'shop/web')).toEqual(['web-1'])
    expect(store.sizes().endpointSlices).toBe(1)
    expect(store.takeTriggerTimes('IPv6').size).toBe(0)
  })
})

describe('trigger times (reference 12.3)', () => {
  const at = (triggeredAt: number, address: string, over = {}): ModelEvent =>
    sliceEvent(slice([endpoint(address)], { triggeredAt, ...over }))

  it('one for each change of a Service, by family, handed over once', () => {
    const store = storeOf()
    store.apply(at(100, '10.0.1.1'))
    store.apply(at(200, '10.0.1.2'))
    store.apply(at(300, 'fd00::1', { name: 'web-6' }))
    expect([...store.takeTriggerTimes('IPv4')]).toEqual([['shop/web', [100, 200]]])
    expect([...store.takeTriggerTimes('IPv4')]).toEqual([])
    expect([...store.takeTriggerTimes('IPv6')]).toEqual([['shop/web', [300]]])
  })

  it('none for a change from before the start, for a slice without one, or for no change', () => {
    const store = new Store({ startedAt: 150 })
    store.apply(at(100, '10.0.1.1'))
    store.apply(sliceEvent(slice([endpoint('10.0.1.2')], { name: 'web-2' })))
    expect(store.takeTriggerTimes('IPv4').size).toBe(0)
    store.apply(at(200, '10.0.1.9'))
    store.apply(at(200, '10.0.1.9'))
    expect([...store.takeTriggerTimes('IPv4')]).toEqual([['shop/web', [200]]])
  })

  it('are dropped when a slice of the Service is deleted or relabelled away', () => {
    const store = storeOf()
    store.apply(at(100, '10.0.1.1'))
    store.apply(at(110, '10.0.1.2', { name: 'web-2' }))
    store.apply(gone('EndpointSlice', 'shop/web-2'))
    expect(store.takeTriggerTimes('IPv4').size).toBe(0)

    store.apply(at(200, '10.0.1.3'))
    store.apply(at(300, '10.0.1.3', { service: 'new' }))
    expect([...store.takeTriggerTimes('IPv4')]).toEqual([['shop/new', [300]]])
  })
})

describe('sizes', () => {
  it('follow every change', () => {
    const store = storeOf(serviceEvent(service()), sliceEvent(slice([endpoint('10.0.1.1'), endpoint('10.0.1.2')])))
    expect(store.sizes()).toEqual({ services: 1, endpointSlices: 1, endpoints: 2, serviceCIDRs: 0 })
    store.apply(sliceEvent(slice([endpoint('10.0.1.1')], { service: 'new' })))
    expect(store.sizes().endpoints).toBe(1)
    store.apply(gone('EndpointSlice', 'shop/web-1'))
    store.apply(gone('Service', 'shop/web'))
    expect(store.sizes()).toEqual({ services: 0, endpointSlices: 0, endpoints: 0, serviceCIDRs: 0 })
  })
})

describe('any order of events', () => {
  /** Everything that can be read out, in an order of its own. */
  const contentOf = (store: Store): unknown => ({
    services: [...store.keys()].sort().map(key => store.service(key)),
    slices: ['ns/a', 'ns/b', 'ns/c'].map(key => [...store.slices(key)].sort((a, b) => (a.name < b.name ? -1 : 1))),
    node: store.node(),
    serviceCIDRs: store.serviceCIDRs().map(formatCIDR),
    sizes: store.sizes(),
  })

  it('leads to the content that the last state of each object gives', () => {
    fc.assert(
      fc.property(histories, turns, turns, (lists, first, second) => {
        const last = lists.map(list => list.slice(-1))
        const [a, b, fresh] = [interleave(lists, first), interleave(lists, second), last.flat()].map(events =>
          contentOf(storeOf(...events)),
        )
        expect(a).toEqual(fresh)
        expect(b).toEqual(fresh)
      }),
    )
  })

  it('dirties every Service whose content changed, and none that no event touched', () => {
    const view = (store: Store, key: ServiceKey) =>
      JSON.stringify([store.service(key), [...store.slices(key)].sort((a, b) => (a.name < b.name ? -1 : 1))])
    fc.assert(
      fc.property(histories, turns, (lists, order) => {
        const store = new Store()
        const keys = ['ns/a', 'ns/b', 'ns/c']
        for (const event of interleave(lists, order)) {
          const before = keys.map(key => view(store, key))
          store.apply(event)
          const dirty = takeAllDirty(store)
          if (event.kind === 'Node') continue
          const changed = keys.filter((key, index) => view(store, key) !== before[index])
          expect([...dirty].sort()).toEqual(changed)
        }
      }),
    )
  })
})
