// The state machine of health, with clocks that the test moves.
import { describe, expect, it } from 'vitest'
import { ProxyHealth } from '../../src/health/proxy-health.ts'
import type { Family } from '../../src/net/ip.ts'

const epoch = Date.UTC(2026, 0, 2, 3, 4, 5, 678)

function make(families: readonly Family[] = ['IPv4']) {
  let now = 0
  const health = new ProxyHealth({ families, timeoutMs: 60_000, now: () => now, date: () => epoch + now })
  health.nodeEligible(true)
  return {
    health,
    pass: (ms: number) => {
      now += ms
    },
    /** healthz, livez. */
    codes: () => [health.ready().ok, health.live().ok],
  }
}

const started = '2026-01-02T03:04:05.678Z'
const later = (ms: number) => new Date(epoch + ms).toISOString()

describe('before the first sync', () => {
  it('the node is not ready, and nothing is gained by a restart', () => {
    const { health, pass, codes } = make(['IPv6', 'IPv4'])
    pass(10_000_000)
    expect(codes()).toEqual([false, true])
    expect(health.ready().report).toEqual({
      lastUpdated: '0001-01-01T00:00:00Z',
      currentTime: later(10_000_000),
      nodeEligible: true,
      healthy: false,
      status: {
        IPv4: { lastUpdated: '0001-01-01T00:00:00Z', healthy: false },
        IPv6: { lastUpdated: '0001-01-01T00:00:00Z', healthy: false },
      },
      problems: [
        'IPv4: no rules have been programmed yet since the start',
        'IPv6: no rules have been programmed yet since the start',
      ],
    })
  })

  it('every family counts', () => {
    const { health, codes } = make(['IPv4', 'IPv6'])
    health.synced('IPv4')
    expect(codes()).toEqual([false, true])
    health.synced('IPv6')
    expect(codes()).toEqual([true, true])
  })

  it('a change that is not programmed in time is worth a restart', () => {
    const { health, pass, codes } = make()
    health.queued('IPv4')
    pass(59_999)
    expect(codes()).toEqual([false, true])
    pass(1)
    expect(codes()).toEqual([false, false])
  })
})

describe('answers', () => {
  it("have kube-proxy's keys in kube-proxy's order", () => {
    const { health } = make(['IPv4', 'IPv6'])
    health.synced('IPv4')
    health.synced('IPv6')
    expect(JSON.stringify(health.ready().report)).toBe(
      `{"lastUpdated":"${started}","currentTime":"${started}","nodeEligible":true,"healthy":true,` +
        `"status":{"IPv4":{"lastUpdated":"${started}","healthy":true},"IPv6":{"lastUpdated":"${started}","healthy":true}},` +
        '"problems":[]}',
    )
    expect(Object.keys(health.live().report)).toEqual(['lastUpdated', 'currentTime', 'healthy', 'status', 'problems'])
  })

  it('give the current time while all is well, and the last good sync of any family otherwise', () => {
    const { health, pass } = make(['IPv4', 'IPv6'])
    health.synced('IPv4')
    pass(1_000)
    health.synced('IPv6')
    pass(1_000)
    expect(health.ready().report.lastUpdated).toBe(later(2_000))
    health.queued('IPv4')
    pass(60_000)
    expect(health.ready().report).toMatchObject({
      lastUpdated: later(1_000),
      currentTime: later(62_000),
      status: { IPv4: { lastUpdated: later(0), healthy: false }, IPv6: { lastUpdated: later(1_000), healthy: true } },
    })
    expect(health.live().report.lastUpdated).toBe(later(1_000))
  })
})

describe('a change that waits', () => {
  it('is late when the first of those that wait is', () => {
    const { health, pass, codes } = make()
    health.synced('IPv4')
    health.queued('IPv4')
    pass(30_000)
    health.queued('IPv4')
    pass(29_999)
    expect(codes()).toEqual([true, true])
    pass(1)
    expect(codes()).toEqual([false, false])
    pass(4_500)
    expect(health.ready().report.problems).toEqual(['IPv4: a change has been waiting for 64 s'])
    health.synced('IPv4')
    expect(codes()).toEqual([true, true])
  })

  it('and came during a sync has its time from the end of the sync', () => {
    const { health, pass, codes } = make()
    health.queued('IPv4')
    pass(50_000)
    health.synced('IPv4', true)
    pass(59_999)
    expect(codes()).toEqual([true, true])
    pass(1)
    expect(codes()).toEqual([false, false])
  })
})

describe('a failure', () => {
  it('that may pass is said at once and counts when it is late', () => {
    const { health, pass, codes } = make()
    health.synced('IPv4')
    health.failed('IPv4', 'iptables-restore: the lock is held by process 12')
    expect(codes()).toEqual([true, true])
    expect(health.ready().report.problems).toEqual([
      'IPv4: rules cannot be programmed: iptables-restore: the lock is held by process 12',
    ])
    pass(60_000)
    expect(codes()).toEqual([false, false])
    expect(health.live().report.problems).toHaveLength(2)
    health.synced('IPv4')
    expect(codes()).toEqual([true, true])
    expect(health.ready().report.problems).toEqual([])
  })

  it('that lasts counts at once, for traffic and not for a restart', () => {
    const { health, pass, codes } = make()
    health.synced('IPv4')
    health.failed('IPv4', 'nft: operation not permitted', true)
    expect(codes()).toEqual([false, true])
    pass(60_000)
    expect(codes()).toEqual([false, false])
  })

  it('of a family that does not count is none', () => {
    const { health, pass, codes } = make(['IPv4', 'IPv6'])
    health.synced('IPv4')
    health.expect('IPv6', false)
    health.failed('IPv6', 'no IPv6 NAT in this kernel', true)
    pass(1_000_000)
    expect(codes()).toEqual([true, true])
    expect(Object.keys(health.ready().report.status)).toEqual(['IPv4'])
    health.expect('IPv6', true)
    health.failed('IPv6', 'no IPv6 NAT in this kernel', true)
    expect(codes()).toEqual([false, true])
    health.expect('IPv6', false)
    health.synced('IPv6')
    expect(codes()).toEqual([true, true])
    expect(Object.keys(health.ready().report.status)).toEqual(['IPv4', 'IPv6'])
  })

  it('of a family that this node was never to program is none', () => {
    const { health, pass, codes } = make(['IPv4'])
    health.synced('IPv4')
    health.failed('IPv6', 'no', true)
    health.queued('IPv6')
    pass(60_000)
    expect(codes()).toEqual([true, true])
  })
})

describe('the node', () => {
  it.each([
    [undefined, 'the Node object of this node is not known'],
    [false, 'the node takes no new traffic: it is being deleted, or has the taint ToBeDeletedByClusterAutoscaler'],
  ])('that is %s eligible fails healthz alone, and no per-Service check', (eligible, sentence) => {
    const { health, codes } = make()
    health.synced('IPv4')
    health.nodeEligible(eligible)
    expect(codes()).toEqual([false, true])
    expect(health.isHealthy()).toBe(true)
    expect(health.ready().report).toMatchObject({ nodeEligible: false, healthy: true, problems: [sentence] })
    expect(health.live().report.problems).toEqual([])
    health.nodeEligible(true)
    expect(codes()).toEqual([true, true])
  })

  it('has other problems too, until they are over', () => {
    const { health, codes } = make()
    health.synced('IPv4')
    health.problem('watch', 'the API server has not been reached for 10 minutes')
    expect(codes()).toEqual([false, true])
    expect(health.isHealthy()).toBe(false)
    expect(health.ready().report).toMatchObject({
      healthy: false,
      problems: ['the API server has not been reached for 10 minutes'],
    })
    health.problem('watch', undefined)
    health.problem('never said', undefined)
    expect(codes()).toEqual([true, true])
  })
})
