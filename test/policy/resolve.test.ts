// A Service and its slices to Service ports: derived data (reference 1.2) and the verdict matrix (3.1, 14).
import { describe, expect, it } from 'vitest'
import type { EndpointRecord, ServiceRecord } from '../../src/model/records.ts'
import { cidrContains, type IP } from '../../src/net/ip.ts'
import { resolve } from '../../src/policy/resolve.ts'
import type { EndpointChoice, Frontend, ServicePort } from '../../src/policy/service-port.ts'
import { cidr, dying, endpoint, ip, port, service, slice } from '../model/build.ts'
import { here, resolveOne, shown } from './view.ts'

const local = endpoint('10.244.1.10', { nodeName: 'node-a' })
const remote = endpoint('10.244.2.10', { nodeName: 'node-b' })
const both = [local, remote]
const C = '10.244.1.10 10.244.2.10'
const L = '10.244.1.10'
const R = '10.244.2.10'

const reachable: Partial<ServiceRecord> = {
  type: 'LoadBalancer',
  externalIPs: [ip('192.0.2.1')],
  loadBalancerIPs: [ip('203.0.113.1')],
  ports: [port({ nodePort: 30080 })],
}

const resolved = (over: Partial<ServiceRecord>, endpoints: readonly EndpointRecord[]): ServicePort =>
  resolveOne(service(over), [slice(endpoints)])

type Origin = 'pod' | 'node' | 'ext'

/** What a backend makes of a packet: the choice for its origin, whether it is masqueraded, unless ranges shut it out. */
function verdict(one: ServicePort, kind: Frontend['kind'], origin: Origin, source?: IP): string {
  const frontend = one.frontends.find(candidate => candidate.kind === kind)
  if (frontend === undefined) return 'not programmed'
  const choice = choiceFor(one, frontend, origin)
  const shutOut = source !== undefined && frontend.sourceRanges?.some(range => cidrContains(range, source)) === false
  if (shutOut && choice.kind === 'endpoints') return 'DROP'
  if (frontend.traffic === 'internal' || choice.kind !== 'endpoints') return shown(choice)
  return `${shown(choice)}${one.externalMasquerade || origin === 'node' ? ' masq' : ''}`
}

function choiceFor(one: ServicePort, frontend: Frontend, origin: Origin): EndpointChoice {
  if (frontend.traffic === 'internal') return one.internal
  return origin === 'ext' ? one.external : one.externalFromNode
}

describe('normal cases (reference 14.1): Cluster, Local with L, Local without L, no endpoints', () => {
  const columns = (kind: Frontend['kind'], origin: Origin): string[] => {
    const policies = (policy: 'Cluster' | 'Local') =>
      kind === 'ClusterIP' ? { internalTrafficPolicy: policy } : { externalTrafficPolicy: policy }
    return (
      [
        ['Cluster', both],
        ['Local', both],
        ['Local', [remote]],
        ['Local', []],
        ['Cluster', []],
      ] as const
    ).map(([policy, endpoints]) => verdict(resolved({ ...reachable, ...policies(policy) }, endpoints), kind, origin))
  }

  it.each([
    ['pod', 'ClusterIP', [C, L, 'DROP', 'REJ', 'REJ']],
    ['node', 'ClusterIP', [C, L, 'DROP', 'REJ', 'REJ']],
    ['ext', 'ClusterIP', [C, L, 'DROP', 'REJ', 'REJ']],
    ['pod', 'NodePort', [`${C} masq`, C, R, 'REJ', 'REJ']],
    ['node', 'NodePort', [`${C} masq`, `${C} masq`, `${R} masq`, 'REJ', 'REJ']],
    ['ext', 'NodePort', [`${C} masq`, L, 'DROP', 'REJ', 'REJ']],
    ['pod', 'ExternalIP', [`${C} masq`, C, R, 'REJ', 'REJ']],
    ['node', 'ExternalIP', [`${C} masq`, `${C} masq`, `${R} masq`, 'REJ', 'REJ']],
    ['ext', 'ExternalIP', [`${C} masq`, L, 'DROP', 'REJ', 'REJ']],
    ['pod', 'LoadBalancer', [`${C} masq`, C, R, 'REJ', 'REJ']],
    ['node', 'LoadBalancer', [`${C} masq`, `${C} masq`, `${R} masq`, 'REJ', 'REJ']],
    ['ext', 'LoadBalancer', [`${C} masq`, L, 'DROP', 'REJ', 'REJ']],
  ] as const)('%s to %s', (origin, kind, expected) => {
    expect(columns(kind, origin)).toEqual(expected)
  })

  it('a load balancer address that is not programmed (ipMode Proxy) has no frontend', () => {
    expect(verdict(resolved({ ...reachable, loadBalancerIPs: [] }, both), 'LoadBalancer', 'ext')).toBe('not programmed')
  })

  it('in every cell with L, L may be the terminating fallback', () => {
    const one = resolved({ ...reachable, internalTrafficPolicy: 'Local', externalTrafficPolicy: 'Local' }, [
      dying('10.244.1.10', { nodeName: 'node-a' }),
      remote,
    ])
    expect(shown(one.internal)).toBe(L)
    expect(shown(one.external)).toBe(L)
    expect(shown(one.externalFromNode)).toBe(R)
  })
})

describe('source ranges (reference 14.2)', () => {
  const nodeIP = ip('192.168.100.1')
  const vip = ip('203.0.113.1')
  const inside = ip('198.51.100.9')
  const outside = ip('198.18.0.1')
  const withRanges = (...ranges: string[]) =>
    resolved({ ...reachable, loadBalancerSourceRanges: ranges.map(cidr) }, both)

  it('others pass only from inside', () => {
    const one = withRanges('198.51.100.0/24')
    for (const origin of ['pod', 'ext'] as const) {
      expect(verdict(one, 'LoadBalancer', origin, inside)).toBe(`${C} masq`)
      expect(verdict(one, 'LoadBalancer', origin, outside)).toBe('DROP')
    }
  })

  it('so does the node with its own address', () => {
    expect(verdict(withRanges('192.168.100.0/24'), 'LoadBalancer', 'node', nodeIP)).toBe(`${C} masq`)
    expect(verdict(withRanges('198.51.100.0/24'), 'LoadBalancer', 'node', nodeIP)).toBe('DROP')
  })

  it('the node with the load balancer’s address passes if its own address would', () => {
    expect(verdict(withRanges('192.168.100.0/24'), 'LoadBalancer', 'node', vip)).toBe(`${C} masq`)
    expect(verdict(withRanges('198.51.100.0/24'), 'LoadBalancer', 'node', vip)).toBe('DROP')
  })

  it.each(['ClusterIP', 'ExternalIP', 'NodePort'] as const)('%s ignores them', kind => {
    expect(verdict(withRanges('198.51.100.0/24'), kind, 'ext', outside)).toMatch(C)
  })
})

describe('modifiers (reference 14.3)', () => {
  it('affinity is handed on, and absent when there is none', () => {
    expect(resolved({ affinitySeconds: 10_800 }, both).affinitySeconds).toBe(10_800)
    expect(resolved({}, both)).not.toHaveProperty('affinitySeconds')
  })

  it('internalTrafficPolicy Local changes the cluster address only', () => {
    const one = resolved({ ...reachable, internalTrafficPolicy: 'Local' }, [remote])
    expect(shown(one.internal)).toBe('DROP')
    expect(shown(one.external)).toBe(R)
    expect(shown(one.externalFromNode)).toBe(R)
  })

  it('externalTrafficPolicy Local changes everything but the cluster address', () => {
    const one = resolved({ ...reachable, externalTrafficPolicy: 'Local' }, [remote])
    expect(shown(one.internal)).toBe(R)
    expect(shown(one.external)).toBe('DROP')
    expect(one.externalMasquerade).toBe(false)
  })

  it('a hostNetwork endpoint is local when its node is this one', () => {
    const host = endpoint('192.168.100.1', { nodeName: 'node-a' })
    expect(shown(resolved({ internalTrafficPolicy: 'Local' }, [host]).internal)).toBe('192.168.100.1')
  })
})

describe('derived data (reference 1.2)', () => {
  it('programs no external IPs with the gate AllowServiceExternalIPs off', () => {
    const over = service({ ...reachable, type: 'ClusterIP', loadBalancerIPs: [], externalTrafficPolicy: 'Local' })
    const [with_] = resolve(over, [slice(both)], here, 'IPv4')
    const [without] = resolve(over, [slice(both)], { ...here, ignoresExternalIPs: true }, 'IPv4')
    expect(with_?.frontends.map(frontend => frontend.kind)).toContain('ExternalIP')
    expect(without?.frontends.map(frontend => frontend.kind)).not.toContain('ExternalIP')
    expect(without?.externalMasquerade, 'not reached from outside: the policy means nothing').toBe(true)
  })

  it('one Service port for each port of the Service, named as kube-proxy prints it', () => {
    const ports = [port(), port({ name: 'dns', protocol: 'UDP', port: 53 }), port({ name: '', port: 81 })]
    const names = resolve(service({ ports }), [], here, 'IPv4').map(one => `${one.service} ${one.name} ${one.protocol}`)
    expect(names).toEqual(['shop/web shop/web:http TCP', 'shop/web shop/web:dns UDP', 'shop/web shop/web TCP'])
  })

  it('each port has its own endpoints, also when the slices can be read only once', () => {
    const ports = [port(), port({ name: 'admin', port: 81 })]
    const once = (function* () {
      yield slice(both)
      yield slice([remote], { name: 'web-2', ports: [{ name: 'admin', protocol: 'TCP', port: 9090 }] })
    })()
    expect(resolve(service({ ports }), once, here, 'IPv4').map(one => shown(one.internal))).toEqual([C, R])
  })

  it('families are independent', () => {
    const dual = service({ clusterIPs: ['10.96.0.20', 'fd00:96::20'].map(ip) })
    const slices = [slice(both), slice([endpoint('fd00::1')], { name: 'web-6' })]
    expect(shown(resolveOne(dual, slices, here, 'IPv4').internal)).toBe(C)
    expect(shown(resolveOne(dual, slices, here, 'IPv6').internal)).toBe('fd00::1')
    expect(resolve(service(), slices, here, 'IPv6')).toEqual([])
  })

  it.each([
    ['LoadBalancer', {}, true],
    ['NodePort', {}, true],
    ['ClusterIP with external IPs', { type: 'ClusterIP', externalIPs: [ip('192.0.2.1')] }, true],
    ['ClusterIP without, but with a load balancer address', { loadBalancerIPs: [ip('203.0.113.1')] }, false],
  ] as const)('externalTrafficPolicy Local counts for %s: %s', (type, over, counts) => {
    const kind = type === 'LoadBalancer' || type === 'NodePort' ? type : 'ClusterIP'
    const one = resolved(
      {
        type: kind,
        ports: [port({ nodePort: kind === 'ClusterIP' ? 0 : 30080 })],
        externalTrafficPolicy: 'Local',
        ...over,
      },
      [remote],
    )
    expect(one.externalMasquerade).toBe(!counts)
    expect(shown(one.external)).toBe(counts ? 'DROP' : R)
  })

  it('a Service nobody reaches from outside has no endpoints for outside traffic', () => {
    const one = resolved({}, both)
    expect([one.external, one.externalFromNode]).toEqual([{ kind: 'reject' }, { kind: 'reject' }])
  })

  it('nor has one whose external IPs are all of the other family', () => {
    expect(resolved({ externalIPs: [ip('2001:db8::1')] }, both).external).toEqual({ kind: 'reject' })
  })

  it('nor has one whose external IPs the gate AllowServiceExternalIPs turns off', () => {
    const record = service({ externalIPs: [ip('192.0.2.1')], externalTrafficPolicy: 'Local' })
    const one = resolveOne(record, [slice(both)], { ...here, ignoresExternalIPs: true })
    expect(one.frontends.map(({ kind }) => kind)).toEqual(['ClusterIP'])
    expect(one.external).toEqual({ kind: 'reject' })
    expect(shown(one.internal)).toBe(C)
  })

  it('the health check port: on the first port of a LoadBalancer with policy Local, and nowhere else', () => {
    const ports = [port({ nodePort: 30080 }), port({ name: 'admin', port: 81, nodePort: 30081 })]
    const checks = (over: Partial<ServiceRecord>) =>
      resolve(service({ ports, healthCheckNodePort: 32000, ...over }), [], here, 'IPv4').map(
        one => one.healthCheckNodePort,
      )
    expect(checks({ type: 'LoadBalancer', externalTrafficPolicy: 'Local' })).toEqual([32000, 0])
    expect(checks({ type: 'LoadBalancer' })).toEqual([0, 0])
    expect(checks({ type: 'NodePort', externalTrafficPolicy: 'Local' })).toEqual([0, 0])
  })
})
