// What is made of the node and the configuration: detector (reference 3.2), NodePort addresses (3.4), node IPs (11.2, 11.3).
import { describe, expect, it } from 'vitest'
import { formatCIDR } from '../../src/net/ip.ts'
import { type DetectorSettings, localDetector } from '../../src/policy/detector.ts'
import type { NodePortAddresses } from '../../src/policy/network.ts'
import { chooseNodeIPs, nodeView } from '../../src/policy/node-ips.ts'
import { admitsLoopback, nodePortAddresses } from '../../src/policy/node-ports.ts'
import { cidr, ip, node } from '../model/build.ts'

describe('localDetector', () => {
  const settings = (over: Partial<DetectorSettings>): DetectorSettings => ({
    mode: 'ClusterCIDR',
    clusterCIDR: [],
    podCIDRs: [],
    bridgeInterface: '',
    interfaceNamePrefix: '',
    ...over,
  })
  const dual = ['10.244.0.0/16', 'fd00:10:244::/56', '10.245.0.0/16'].map(cidr)
  const none = { kind: 'none' }
  const v4 = { kind: 'source-cidr', cidr: cidr('10.244.0.0/16') }
  const v6 = { kind: 'source-cidr', cidr: cidr('fd00:10:244::/56') }

  it.each([
    ['the first cluster CIDR of each family', { clusterCIDR: dual }, v4, v6],
    ['none for a family without', { clusterCIDR: dual.slice(0, 1) }, v4, none],
    ['the first pod CIDR of each family', { mode: 'NodeCIDR', podCIDRs: dual }, v4, v6],
    ['pod CIDRs only in their mode', { podCIDRs: dual }, none, none],
    [
      'the bridge, for both families',
      { mode: 'BridgeInterface', bridgeInterface: 'br0', clusterCIDR: dual },
      { kind: 'interface', name: 'br0' },
      { kind: 'interface', name: 'br0' },
    ],
    [
      'the prefix, for both families',
      { mode: 'InterfaceNamePrefix', interfaceNamePrefix: 'veth' },
      { kind: 'interface-prefix', prefix: 'veth' },
      { kind: 'interface-prefix', prefix: 'veth' },
    ],
    ['none without a bridge', { mode: 'BridgeInterface' }, none, none],
    ['none without a prefix', { mode: 'InterfaceNamePrefix' }, none, none],
  ] as const)('%s', (_, over, ipv4, ipv6) => {
    expect(localDetector(settings(over), 'IPv4')).toEqual(ipv4)
    expect(localDetector(settings(over), 'IPv6')).toEqual(ipv6)
  })
})

describe('nodePortAddresses', () => {
  const text = (addresses: NodePortAddresses): string =>
    addresses.kind === 'all' ? 'all' : addresses.cidrs.map(formatCIDR).join(' ')
  const nodeIPs = ['192.168.100.1', 'fd00:100::1'].map(ip)

  it.each([
    ['no entry', [], 'all', 'all'],
    ['one family only: the other stays open', ['192.168.0.0/16'], '192.168.0.0/16', 'all'],
    ['both', ['192.168.0.0/16', 'fd00::/8'], '192.168.0.0/16', 'fd00::/8'],
    ['sorted, each once', ['192.168.0.0/16', '10.0.0.0/8', '192.168.0.0/16'], '10.0.0.0/8 192.168.0.0/16', 'all'],
    ['a /0', ['10.0.0.0/8', '0.0.0.0/0', 'fd00::/8'], 'all', 'fd00::/8'],
    ['a /0 with host bits', ['10.0.0.1/0'], 'all', 'all'],
    ['primary', ['primary'], '192.168.100.1/32', 'fd00:100::1/128'],
    ['localhost (1.37)', ['localhost'], '127.0.0.0/8', '::1/128'],
    ['all (1.37)', ['all', '10.0.0.0/8'], 'all', 'all'],
    [
      'words and CIDRs mixed (1.37)',
      ['primary', 'localhost', '10.0.0.0/8'],
      '10.0.0.0/8 127.0.0.0/8 192.168.100.1/32',
      '::1/128 fd00:100::1/128',
    ],
  ])('%s', (_, entries, ipv4, ipv6) => {
    expect(text(nodePortAddresses(entries, nodeIPs, 'IPv4', 'iptables'))).toBe(ipv4)
    expect(text(nodePortAddresses(entries, nodeIPs, 'IPv6', 'iptables'))).toBe(ipv6)
  })

  it('takes no entry for primary in nftables mode', () => {
    expect(text(nodePortAddresses([], nodeIPs, 'IPv4', 'nftables'))).toBe('192.168.100.1/32')
    expect(text(nodePortAddresses([], nodeIPs, 'IPv4', 'ipvs'))).toBe('all')
  })

  it('leaves a family open that primary finds no address for', () => {
    expect(text(nodePortAddresses(['primary'], [ip('192.168.100.1')], 'IPv6', 'iptables'))).toBe('all')
    expect(text(nodePortAddresses(['primary'], ['127.0.0.1', '::1'].map(ip), 'IPv4', 'iptables'))).toBe('all')
    expect(text(nodePortAddresses(['primary'], ['127.0.0.1', '::1'].map(ip), 'IPv6', 'iptables'))).toBe('all')
  })

  it('names an entry that it cannot read', () => {
    expect(() => nodePortAddresses(['10.0.0.1'], nodeIPs, 'IPv4', 'iptables')).toThrow(
      'nodePortAddresses: "10.0.0.1" is neither a CIDR nor one of primary, localhost, all',
    )
  })

  it.each([
    [{ kind: 'all' }, 'IPv4', true],
    [{ kind: 'cidrs', cidrs: [cidr('127.0.0.1/32')] }, 'IPv4', true],
    [{ kind: 'cidrs', cidrs: [cidr('126.0.0.0/7')] }, 'IPv4', true],
    [{ kind: 'cidrs', cidrs: [cidr('192.168.0.0/16')] }, 'IPv4', false],
    [{ kind: 'cidrs', cidrs: [cidr('fd00::/8')] }, 'IPv6', false],
    [{ kind: 'cidrs', cidrs: [cidr('::/64')] }, 'IPv6', true],
  ] as const)('admitsLoopback %#', (addresses, family, expected) => {
    expect(admitsLoopback(addresses, family)).toBe(expected)
  })
})

describe('chooseNodeIPs', () => {
  it.each([
    ['nothing known', [], undefined, { primaryFamily: 'IPv4' }],
    [
      'the first, and the first of the other family',
      ['192.168.0.1', '192.168.0.2', 'fd00::1', 'fd00::2'],
      undefined,
      { primaryFamily: 'IPv4', IPv4: '192.168.0.1', IPv6: 'fd00::1' },
    ],
    [
      'IPv6 first',
      ['fd00::1', '192.168.0.1'],
      undefined,
      { primaryFamily: 'IPv6', IPv4: '192.168.0.1', IPv6: 'fd00::1' },
    ],
    ['one family', ['fd00::1'], undefined, { primaryFamily: 'IPv6', IPv6: 'fd00::1' }],
    [
      'bindAddress in its place',
      ['192.168.0.1', 'fd00::1'],
      '10.0.0.1',
      { primaryFamily: 'IPv4', IPv4: '10.0.0.1', IPv6: 'fd00::1' },
    ],
    [
      'bindAddress of the other family',
      ['192.168.0.1'],
      'fd00::9',
      { primaryFamily: 'IPv6', IPv4: '192.168.0.1', IPv6: 'fd00::9' },
    ],
    ['bindAddress 0.0.0.0', ['fd00::1'], '0.0.0.0', { primaryFamily: 'IPv6', IPv6: 'fd00::1' }],
    ['bindAddress ::', ['192.168.0.1'], '::', { primaryFamily: 'IPv4', IPv4: '192.168.0.1' }],
  ] as const)('%s', (_, addresses, bindAddress, expected) => {
    expect(chooseNodeIPs(addresses.map(ip), bindAddress === undefined ? undefined : ip(bindAddress))).toEqual(expected)
  })
})

describe('nodeView', () => {
  const ips = chooseNodeIPs([ip('192.168.100.1')])

  it('has the zone and the address of its family', () => {
    expect(nodeView('node-a', node(), ips, 'IPv4')).toEqual({ name: 'node-a', zone: 'zone-a', nodeIP: '192.168.100.1' })
    expect(nodeView('node-a', node(), ips, 'IPv6')).toEqual({ name: 'node-a', zone: 'zone-a' })
  })

  it('has the name alone when there is no Node object', () => {
    expect(nodeView('node-a', undefined, chooseNodeIPs([]), 'IPv4')).toEqual({ name: 'node-a' })
  })
})
