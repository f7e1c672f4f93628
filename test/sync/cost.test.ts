// A change costs what the change costs: the same calls, chains and bytes whether there are 100 Services or 5,000.
import { describe, expect, it } from 'vitest'
import type { Backend } from '../../src/backend/backend.ts'
import { iptablesBackend } from '../../src/backend/iptables/index.ts'
import { Ledger } from '../../src/commands/ledger.ts'
import { ServiceHealth } from '../../src/health/service-health.ts'
import type { ModelEvent, ServiceKey } from '../../src/model/records.ts'
import { Store } from '../../src/model/store.ts'
import { Claims } from '../../src/policy/claims.ts'
import { Syncer } from '../../src/sync/syncer.ts'
import { gone, ip, serviceEvent } from '../model/build.ts'
import { StrictExec } from '../support/strict-iptables/exec.ts'
import { FakeKernel, fakeBackend } from './fake-backend.ts'
import { harness, networkOf, nodeViewOf } from './harness.ts'
import { arrives, endpointsBecome, numbered, upTo } from './objects.ts'

/** A store that counts what is asked of it. */
class CountingStore extends Store {
  asked = 0
  override service(key: ServiceKey) {
    this.asked++
    return super.service(key)
  }
  override slices(key: ServiceKey) {
    this.asked++
    return super.slices(key)
  }
  override keys() {
    this.asked += 1_000_000
    return super.keys()
  }
}

/** What a change makes the program do. */
interface Cost {
  readonly asked: number
  readonly compiled: number
  readonly objects: number
  readonly spawned: readonly string[]
  readonly bytes: number
  readonly chains: number
  readonly rules: number
}

type Change = readonly ModelEvent[]

/** A node with so many Services, in step with its kernel; returns what each change costs after that. */
async function costs(variant: 'nft' | 'legacy', services: number, changes: readonly Change[]): Promise<Cost[]> {
  const exec = new StrictExec({ variants: [variant] })
  const kernel = exec.iptables('IPv4', variant)
  const store = new CountingStore({ nodeName: 'node-a' })
  let compiled = 0
  const own = iptablesBackend({ family: 'IPv4', exec, variant })
  const backend: Backend = {
    ...own,
    compile(port, network) {
      compiled++
      return own.compile(port, network)
    },
  }
  const { sync, heard } = harness({ backend, store })
  await sync(...upTo(services).flatMap(arrives))
  const found: Cost[] = []
  for (const change of changes) {
    compiled = 0
    store.asked = 0
    exec.calls.length = 0
    kernel.resetCounts()
    await sync(...change)
    const { added = 0, changed = 0, removed = 0 } = heard.reports.at(-1) ?? {}
    found.push({
      asked: store.asked,
      compiled,
      objects: added + changed + removed,
      spawned: exec.calls.map(({ command, args }) => `${command} ${args.join(' ')}`),
      bytes: exec.calls.reduce((sum, { input }) => sum + (input?.length ?? 0), 0),
      chains: kernel.counts.chains,
      rules: kernel.counts.rules,
    })
  }
  return found
}

describe.each(['nft', 'legacy'] as const)('with the %s variant', variant => {
  it('a changed EndpointSlice costs the same with 100 Services and with 5,000', async () => {
    const changes: Change[] = [[endpointsBecome(42, '10.244.7.1', '10.244.7.2')], [endpointsBecome(42, '10.244.7.2')]]
    const [few, many] = await Promise.all([costs(variant, 100, changes), costs(variant, 5_000, changes)])
    expect(many).toEqual(few)
    const restore = `iptables-${variant}-restore --noflush -w 5`
    expect(few).toMatchObject([
      { asked: 2, compiled: 1, objects: 1, spawned: [restore], chains: 1, rules: 3 },
      { asked: 2, compiled: 1, objects: 1, spawned: [restore], chains: 1, rules: 2 },
    ])
    expect(Math.max(...few.map(({ bytes }) => bytes))).toBeLessThan(600)
  })

  it('a Service that comes, loses its endpoints and goes writes only the chains on its path', async () => {
    const extra = numbered(9_999, { clusterIPs: [ip('10.96.0.200')] })
    const changes: Change[] = [
      [serviceEvent(extra), endpointsBecome(9_999, '10.244.7.1')],
      [endpointsBecome(9_999)],
      [gone('Service', 'ns/svc-9999'), gone('EndpointSlice', 'ns/svc-9999-1')],
    ]
    // From some hundreds on the tree has its depth: only then are its chains as full as they get.
    const [few, many] = await Promise.all([costs(variant, 600, changes), costs(variant, 5_000, changes)])
    for (const [i, { asked, compiled, spawned, chains, rules, bytes }] of many.entries()) {
      expect({ asked, compiled, spawned }).toEqual({
        asked: few[i]?.asked,
        compiled: few[i]?.compiled,
        spawned: few[i]?.spawned,
      })
      expect(chains).toBeLessThanOrEqual(6)
      expect(rules).toBeLessThanOrEqual(80)
      expect(bytes).toBeLessThan(12_000)
    }
  })

  it('a Service that is changed without meaning spawns nothing', async () => {
    const [cost] = await costs(variant, 300, [[serviceEvent(numbered(7, { uid: 'another' }))]])
    expect(cost).toMatchObject({ asked: 2, compiled: 1, objects: 0, spawned: [], bytes: 0 })
  })
})

/** What the rest of the daemon is told of one change, with so many Services that all have a health check. */
async function checksTold(services: number) {
  const ledger = new Ledger()
  const store = new CountingStore({ nodeName: 'node-a' })
  let addressesAsked = 0
  const checks = new ServiceHealth({
    // None to listen on: what counts is how often somebody looks.
    addresses: () => {
      addressesAsked++
      return []
    },
    isProxyHealthy: () => true,
    onListenFailure: () => undefined,
  })
  const told: (readonly ServiceKey[])[] = []
  const syncer = new Syncer({
    family: 'IPv4',
    backend: fakeBackend(new FakeKernel()),
    reader: store,
    claims: new Claims(),
    node: () => nodeViewOf('IPv4'),
    network: () => networkOf('IPv4'),
    pace: { minBackoffMs: 250, maxBackoffMs: 30_000 },
    resyncMs: 900_000,
    observer: {
      resolved: (_, service, ports) => ledger.take(service, ports),
      synced: () => {
        const changed = ledger.takeChangedChecks()
        told.push([...changed.keys()])
        checks.change(changed)
      },
      failed: (_, error) => expect.fail(String(error)),
      setAside: item => expect.fail(item.reason),
      conflict: item => expect.fail(item.frontend),
    },
    now: () => 0,
    random: () => 0.5,
  })
  const sync = async (...events: readonly ModelEvent[]) => {
    for (const event of events) store.apply(event)
    syncer.markDirty(store.takeDirty('IPv4'))
    await syncer.sync(new AbortController().signal)
  }
  const checked = (n: number) =>
    numbered(n, { type: 'LoadBalancer', externalTrafficPolicy: 'Local', healthCheckNodePort: 20_000 + n })
  await sync(
    ...upTo(services).flatMap(n => [serviceEvent(checked(n)), endpointsBecome(n, `10.244.${n >> 8}.${n & 255}`)]),
  )
  expect(ledger.checks.size).toBe(services)
  expect(told.splice(0)).toEqual([upTo(services).map(n => `ns/svc-${n}`)])
  addressesAsked = 0
  store.asked = 0
  await sync(endpointsBecome(42, '10.245.7.1'))
  await sync(gone('Service', 'ns/svc-41'), gone('EndpointSlice', 'ns/svc-41-1'))
  await sync(serviceEvent(numbered(9_999, { clusterIPs: [ip('10.97.0.200')] })))
  return { told, addressesAsked, asked: store.asked }
}

it('health checks of Services are told of those that changed, whether there are 100 or 5,000', async () => {
  const [few, many] = [await checksTold(100), await checksTold(5_000)]
  expect(many).toEqual(few)
  // The last one has no check, and never had.
  expect(few).toEqual({ told: [['ns/svc-42'], ['ns/svc-41'], []], addressesAsked: 2, asked: 5 })
})

it('what is pending is found among what changed', async () => {
  const kernel = new FakeKernel()
  const { sync, syncer, apply } = harness({ backend: fakeBackend(kernel) })
  await sync(...upTo(5_000).flatMap(arrives))
  apply(endpointsBecome(42, '10.245.7.1'))
  await syncer.compile()
  // One step a 512 objects: of all there are it would be ten and more.
  expect([...syncer.program.pendingInSteps()]).toHaveLength(0)
})
