// What of the tables is kube-proxy's, and what must stay because somebody else lives by it.
import { describe, expect, test } from 'vitest'
import { proxyRules } from '../../src/takeover/tables.ts'
import { iptablesRules } from '../support/kube-proxy/iptables.ts'
import { clusters } from '../support/kube-proxy/leftovers.ts'
import { manifest } from '../support/switching/cluster.ts'

const table = (name: string, ...lines: readonly string[]): string => [`*${name}`, ...lines, 'COMMIT', ''].join('\n')

const removedKeys = (text: string): string[] => proxyRules(text).delta.removed.map(({ key }) => key)

describe('chains', () => {
  test('of every kind that kube-proxy makes are its own', () => {
    const names = [
      'KUBE-SERVICES',
      'KUBE-SVC-67NZLRHBNDSAWJRO',
      'KUBE-SVL-67NZLRHBNDSAWJRO',
      'KUBE-EXT-67NZLRHBNDSAWJRO',
      'KUBE-FW-67NZLRHBNDSAWJRO',
      'KUBE-XLB-67NZLRHBNDSAWJRO',
      'KUBE-SEP-4QSAKEI6VQKQTQY7',
      'KUBE-PROXY-CANARY',
      'KUBE-IPVS-OUT-FILTER',
    ]
    expect(removedKeys(table('nat', ...names.map(name => `:${name} - [0:0]`)))).toEqual(
      names.map(name => `nat/${name}`),
    )
  })

  test("of kubelet, of kube-router, of a CNI and those that merely look alike are others'", () => {
    const text = table(
      'filter',
      ':INPUT ACCEPT [0:0]',
      ...[
        'KUBE-FIREWALL',
        'KUBE-KUBELET-CANARY',
        'KUBE-IPTABLES-HINT',
        'KUBE-ROUTER-INPUT',
        'KUBE-POD-FW-67NZLRHBNDSAWJRO',
        'KUBE-NWPLCY-67NZLRHBNDSAWJRO',
        'KUBE-SVC-67NZ',
        'KUBE-SVC-67nzlrhbndsawjro',
        'CNI-FORWARD',
        'PENSTOCK-SERVICES',
      ].map(name => `:${name} - [0:0]`),
      '-A INPUT -j KUBE-FIREWALL',
      '-A INPUT -j KUBE-ROUTER-INPUT',
      '-A INPUT -m comment --comment "not -j KUBE-SERVICES" -j CNI-FORWARD',
    )
    const found = proxyRules(text)
    expect(found.delta).toEqual({ added: [], changed: [], removed: [] })
    expect(found.kept).toEqual([])
    expect(found.wasInCharge).toBe(false)
  })

  test('of other tables are not looked at', () => {
    expect(removedKeys(table('raw', ':KUBE-SERVICES - [0:0]'))).toEqual([])
  })
})

describe('jumps', () => {
  test('go with their chains, all of them, and with their rules as they are', () => {
    const jump = '-m conntrack --ctstate NEW -m comment --comment "kubernetes service portals" -j KUBE-SERVICES'
    const text = table(
      'filter',
      ':FORWARD DROP [12:345]',
      ':KUBE-SERVICES - [0:0]',
      `-A FORWARD ${jump}`,
      '-A FORWARD -g KUBE-SERVICES',
    )
    const found = proxyRules(text)
    expect(found.delta.removed).toEqual([
      { key: 'filter/KUBE-SERVICES', value: '' },
      { key: 'filter/FORWARD>KUBE-SERVICES', value: `${jump}\n-g KUBE-SERVICES` },
    ])
    expect(found).toMatchObject({ chains: 1, jumps: 2, wasInCharge: true, isIpvs: false })
  })

  test("of somebody else's chain stay, and what they go to is emptied", () => {
    const text = table(
      'nat',
      ':PREROUTING ACCEPT [0:0]',
      ':KUBE-SERVICES - [0:0]',
      ':MY-OWN - [0:0]',
      '-A PREROUTING -j KUBE-SERVICES',
      '-A MY-OWN -p tcp -j KUBE-SERVICES',
      '-A KUBE-SERVICES -p tcp -j RETURN',
    )
    const found = proxyRules(text)
    expect(found.delta.changed).toEqual([{ key: 'nat/KUBE-SERVICES', from: '-p tcp -j RETURN', to: '' }])
    expect(found.delta.removed.map(({ key }) => key)).toEqual(['nat/PREROUTING>KUBE-SERVICES'])
    expect(found.kept).toEqual(['nat KUBE-SERVICES stays, empty: a rule in MY-OWN of somebody else goes to it'])
    // Nothing is left to do once that is done.
    const after = table('nat', ':KUBE-SERVICES - [0:0]', ':MY-OWN - [0:0]', '-A MY-OWN -p tcp -j KUBE-SERVICES')
    expect(proxyRules(after)).toMatchObject({ delta: { changed: [], removed: [] }, chains: 0, jumps: 0 })
  })
})

describe('KUBE-MARK-MASQ', () => {
  const masquerading = [
    ':POSTROUTING ACCEPT [0:0]',
    ':KUBE-MARK-MASQ - [0:0]',
    ':KUBE-POSTROUTING - [0:0]',
    '-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING',
    '-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000',
    '-A KUBE-POSTROUTING -j MASQUERADE --random-fully',
  ]

  test('goes when nobody but kube-proxy uses it', () => {
    expect(removedKeys(table('nat', ...masquerading))).toEqual([
      'nat/KUBE-MARK-MASQ',
      'nat/KUBE-POSTROUTING',
      'nat/POSTROUTING>KUBE-POSTROUTING',
    ])
  })

  test('stays, and what does as it asks with it, when a CNI uses it', () => {
    const text = table('nat', ...masquerading, ':CNI-DN-abc - [0:0]', '-A CNI-DN-abc -s 10.0.0.0/8 -j KUBE-MARK-MASQ')
    const found = proxyRules(text)
    expect(found.delta).toEqual({ added: [], changed: [], removed: [] })
    expect(found.kept).toEqual([
      'nat KUBE-MARK-MASQ stays: CNI-DN-abc of somebody else uses KUBE-MARK-MASQ',
      'nat KUBE-POSTROUTING stays: CNI-DN-abc of somebody else uses KUBE-MARK-MASQ',
    ])
  })

  test('stays beside a kubelet of before v1.28, which would put it back', () => {
    const found = proxyRules(table('nat', ...masquerading, ':KUBE-MARK-DROP - [0:0]'))
    expect(found.delta.removed).toEqual([])
    expect(found.wasInCharge).toBe(false)
  })
})

test('all that a kube-proxy writes is found, and no rule of what it leads to is left', () => {
  for (const cluster of clusters(manifest)) {
    // What iptables-restore takes has jumps put in front by -I and chains without a policy's word.
    const builtIn = { mangle: [], filter: ['INPUT', 'FORWARD', 'OUTPUT'], nat: ['PREROUTING', 'OUTPUT', 'POSTROUTING'] }
    const text = Object.entries(builtIn).reduce(
      (sum, [name, chains]) =>
        sum.replace(`*${name}\n`, `*${name}\n${chains.map(chain => `:${chain} ACCEPT [0:0]\n`).join('')}`),
      iptablesRules(cluster).replaceAll(/^-I (\S+) 1 /gm, '-A $1 '),
    )
    const found = proxyRules(text)
    const declared = text.match(/^:KUBE-/gm)?.length
    const rules = text.match(/^-A /gm)?.length
    expect(found.chains).toBe(declared)
    expect(found.jumps).toBe(12)
    const lines = found.delta.removed.flatMap(({ value }) => (value === '' ? [] : value.split('\n')))
    expect(lines).toHaveLength(rules ?? 0)
    expect(found.wasInCharge).toBe(true)
  }
})
