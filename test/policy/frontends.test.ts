// Addresses of a Service (reference 1.2), source ranges (3.5), and one address of several kinds.
import { describe, expect, it } from 'vitest'
import type { ServiceRecord } from '../../src/model/records.ts'
import type { Family } from '../../src/net/ip.ts'
import { addressesOf, frontendsOf } from '../../src/policy/frontends.ts'
import { cidr, ip, port, service } from '../model/build.ts'
import { shownFrontend } from './view.ts'

const frontends = (over: Partial<ServiceRecord>, family: Family = 'IPv4', nodeIP = ip('192.168.100.1')): string[] => {
  const record = service(over)
  const addresses = addressesOf(record, family, nodeIP)
  return record.ports.flatMap(one => [...frontendsOf(addresses, one)]).map(shownFrontend)
}

const everything: Partial<ServiceRecord> = {
  type: 'LoadBalancer',
  clusterIPs: ['10.96.0.20', 'fd00:96::20'].map(ip),
  externalIPs: ['192.0.2.1', '2001:db8:2::1'].map(ip),
  loadBalancerIPs: ['203.0.113.1', '203.0.113.2', '2001:db8:113::1'].map(ip),
  ports: [port({ nodePort: 30080 })],
}

describe('the addresses of a Service', () => {
  it('of every kind, in one order', () => {
    expect(frontends(everything)).toEqual([
      'ClusterIP 10.96.0.20:80 internal',
      'ExternalIP 192.0.2.1:80 external',
      'LoadBalancer 203.0.113.1:80 external',
      'LoadBalancer 203.0.113.2:80 external',
      'NodePort node-ports:30080 external',
    ])
  })

  it('of the other family alike', () => {
    expect(frontends(everything, 'IPv6')).toEqual([
      'ClusterIP fd00:96::20:80 internal',
      'ExternalIP 2001:db8:2::1:80 external',
      'LoadBalancer 2001:db8:113::1:80 external',
      'NodePort node-ports:30080 external',
    ])
  })

  it('none in a family without a cluster address', () => {
    expect(addressesOf(service({ ...everything, clusterIPs: [ip('10.96.0.20')] }), 'IPv6', undefined)).toEqual([])
    expect(addressesOf(service({ clusterIPs: [ip('fd00::1')] }), 'IPv4', undefined)).toEqual([])
  })

  it('load balancer addresses whatever the type is', () => {
    expect(frontends({ loadBalancerIPs: [ip('203.0.113.1')] })).toEqual([
      'ClusterIP 10.96.0.20:80 internal',
      'LoadBalancer 203.0.113.1:80 external',
    ])
  })

  it('each port at its own number, node ports only where there is one', () => {
    const ports = [port(), port({ name: 'dns', protocol: 'UDP', port: 53, nodePort: 30053 })]
    expect(frontends({ ports })).toEqual([
      'ClusterIP 10.96.0.20:80 internal',
      'ClusterIP 10.96.0.20:53 internal',
      'NodePort node-ports:30053 external',
    ])
  })
})

describe('one address of several kinds', () => {
  const [clusterIP, external, vip] = ['10.96.0.20', '192.0.2.1', '203.0.113.1'].map(ip)
  const list = (...ips: (typeof clusterIP)[]) => ips.filter(one => one !== undefined)
  const loadBalancerSourceRanges = [cidr('198.51.100.0/24')]

  it.each([
    ['external IP and cluster address', { externalIPs: list(clusterIP) }, ['ClusterIP 10.96.0.20:80 internal']],
    [
      'load balancer and external IP',
      { externalIPs: list(external), loadBalancerIPs: list(external, vip) },
      ['ClusterIP 10.96.0.20:80 internal', 'ExternalIP 192.0.2.1:80 external', 'LoadBalancer 203.0.113.1:80 external'],
    ],
    ['load balancer and cluster address', { loadBalancerIPs: list(clusterIP) }, ['ClusterIP 10.96.0.20:80 internal']],
    [
      'a restricted load balancer and an external IP: the restriction holds',
      { externalIPs: list(vip), loadBalancerIPs: list(vip), loadBalancerSourceRanges },
      ['ClusterIP 10.96.0.20:80 internal', 'LoadBalancer 203.0.113.1:80 external from 198.51.100.0/24'],
    ],
    [
      'a restricted load balancer and the cluster address: the restriction holds',
      { loadBalancerIPs: list(clusterIP), loadBalancerSourceRanges },
      ['LoadBalancer 10.96.0.20:80 external from 198.51.100.0/24'],
    ],
    [
      'the same twice',
      { externalIPs: list(external, external), loadBalancerIPs: list(vip, vip) },
      ['ClusterIP 10.96.0.20:80 internal', 'ExternalIP 192.0.2.1:80 external', 'LoadBalancer 203.0.113.1:80 external'],
    ],
  ])('%s', (_, over, expected) => {
    expect(frontends(over)).toEqual(expected)
  })
})

describe('source ranges', () => {
  const restricted = (ranges: string[], over: Partial<ServiceRecord> = {}, family: Family = 'IPv4') =>
    frontends({ ...everything, loadBalancerSourceRanges: ranges.map(cidr), ...over }, family)
  const open = 'LoadBalancer 203.0.113.1:80 external'

  it('restrict load balancer addresses and nothing else', () => {
    expect(restricted(['198.51.100.0/24'])).toEqual([
      'ClusterIP 10.96.0.20:80 internal',
      'ExternalIP 192.0.2.1:80 external',
      'LoadBalancer 203.0.113.1:80 external from 198.51.100.0/24',
      'LoadBalancer 203.0.113.2:80 external from 198.51.100.0/24',
      'NodePort node-ports:30080 external',
    ])
  })

  it.each([
    ['there are none', []],
    ['one is a /0', ['198.51.100.0/24', '0.0.0.0/0']],
    ['all are of the other family', ['2001:db8:51::/48']],
    ['a /0 of the family has host bits', ['10.0.0.1/0']],
  ])('restrict nothing when %s', (_, ranges) => {
    expect(restricted(ranges)).toContain(open)
  })

  it('of the other family are left out, also its /0', () => {
    const ranges = ['198.51.100.0/24', '::/0']
    expect(restricted(ranges)).toContain(`${open} from 198.51.100.0/24`)
    expect(restricted(ranges, {}, 'IPv6')).toContain('LoadBalancer 2001:db8:113::1:80 external')
  })

  it('that hold the node let the load balancer addresses in as sources: all of them, of the family', () => {
    expect(restricted(['192.168.0.0/16'])).toContain(`${open} from 192.168.0.0/16 203.0.113.1/32 203.0.113.2/32`)
  })

  it('do not when the node’s address is not known or is of the other family only', () => {
    const addresses = addressesOf(
      service({ ...everything, loadBalancerSourceRanges: [cidr('192.168.0.0/16')] }),
      'IPv4',
      undefined,
    )
    expect(addresses.find(({ kind }) => kind === 'LoadBalancer')?.sourceRanges).toEqual([cidr('192.168.0.0/16')])
  })

  it('are the same whatever their order and repetition in the Service', () => {
    const ranges = ['198.51.100.0/24', '10.0.0.0/8', '198.51.100.0/24']
    expect(restricted(ranges)).toEqual(restricted(['10.0.0.0/8', '198.51.100.0/24']))
  })
})
