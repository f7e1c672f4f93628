// What doctor finds on machines with one thing wrong, and that it finds nothing on a healthy one.
import { describe, expect, test } from 'vitest'
import { examine } from '../../src/doctor/examine.ts'
import { exitStatus, type Finding, findingsJson, findingsText } from '../../src/doctor/finding.ts'
import { isAtLeast } from '../../src/doctor/tools.ts'
import { type Facts, healthyStatus, machine } from './machine.ts'

const found = async (facts: Facts): Promise<readonly Finding[]> =>
  (await examine(machine(facts))).filter(({ severity }) => severity !== 'ok')

/** The one thing that is wrong, as `severity id: title`. */
async function only(facts: Facts): Promise<string> {
  const all = await found(facts)
  expect(all.map(({ id }) => id)).toHaveLength(1)
  const [finding] = all
  if (finding === undefined) throw new Error('there is one')
  if (finding.severity !== 'unknown') {
    expect(finding.meaning).not.toBe('')
    expect(finding.mend).not.toBe('')
  }
  return `${finding.severity} ${finding.id}: ${finding.title}`
}

test('a healthy machine has nothing wrong, and everything was looked at', async () => {
  const findings = await examine(machine())
  expect(findings.filter(({ severity }) => severity !== 'ok')).toEqual([])
  expect(findings.length).toBeGreaterThan(18)
  expect(exitStatus(findings)).toBe(0)
})

const rules = (...lines: readonly string[]): string =>
  ['*nat', ':PREROUTING ACCEPT [0:0]', ...lines, 'COMMIT', ''].join('\n')

describe('one thing wrong', () => {
  const cases: readonly (readonly [expected: string, facts: Facts])[] = [
    [
      'problem kernel-version: Linux 5.4.0-1 is too old for mode nftables',
      {
        wanted: { mode: 'nftables', localhostNodePorts: false },
        files: { '/proc/sys/net/ipv4/conf/all/route_localnet': '0' },
        more: { release: '5.4.0-1' },
      },
    ],
    [
      'problem iptables-version: iptables-nft 1.8.2 (nft): older than 1.8.4',
      { programs: { 'iptables-nft --version': { stdout: 'iptables v1.8.2 (nf_tables)' } } },
    ],
    [
      'warning nft-version: nft 1.0.2 is older than 1.0.6',
      { programs: { 'nft --version': { stdout: 'nftables v1.0.2 (Lester Gooch)' } } },
    ],
    [
      'warning nft-version: nft 1.0.6 cannot read the rules of this node: it ended by a signal',
      { programs: { 'nft -t list ruleset': { exitCode: -1 } } },
    ],
    [
      'warning nft-version: nft 1.0.6 cannot read the rules of this node: netlink: Error: Invalid argument',
      { programs: { 'nft -t list ruleset': { exitCode: 1, stderr: 'netlink: Error: Invalid argument\n' } } },
    ],
    [
      'unknown nft-version: nft 1.0.6; whether it reads the rules of this node cannot be seen: Operation not permitted (you must be root)',
      { programs: { 'nft -t list ruleset': { exitCode: 1, stderr: 'Operation not permitted (you must be root)\n' } } },
    ],
    [
      'problem kernel-features: the kernel refuses what mode iptables needs (IPv4): Warning: Extension recent is not supported',
      {
        programs: {
          'unshare --net -- sample': { exitCode: 2, stderr: 'Warning: Extension recent is not supported\nmore\n' },
        },
      },
    ],
    [
      'unknown kernel-features: rules of mode iptables could not be tried: this user may make no network namespace (`unshare --net`)',
      {
        programs: {
          'unshare --net -- true': { exitCode: 1 },
          'unshare --user --map-root-user --net -- true': { exitCode: 1 },
        },
      },
    ],
    [
      'warning koffi: the kernel cannot be spoken to directly: it is not installed',
      { more: { netlink: async () => 'it is not installed' } },
    ],
    ['problem ip-forward: net.ipv4.ip_forward is off', { files: { '/proc/sys/net/ipv4/ip_forward': '0\n' } }],
    [
      'warning rp-filter: strict reverse path filtering on eth0',
      { files: { '/proc/sys/net/ipv4/conf/eth0/rp_filter': '1\n' } },
    ],
    [
      'warning route-localnet: net.ipv4.conf.all.route_localnet is off, and iptables.localhostNodePorts is on',
      { files: { '/proc/sys/net/ipv4/conf/all/route_localnet': '0\n' } },
    ],
    [
      'warning route-localnet: net.ipv4.conf.all.route_localnet is on, and nothing here needs it',
      { wanted: { localhostNodePorts: false } },
    ],
    [
      'warning bridge-netfilter: the module br_netfilter is not loaded',
      { names: { '/sys/class/net': ['cni0'], '/sys/class/net/cni0/bridge': [] } },
    ],
    [
      'problem bridge-netfilter: net.bridge.bridge-nf-call-iptables is off',
      { wanted: { usesBridge: true }, files: { '/proc/sys/net/bridge/bridge-nf-call-iptables': '0' } },
    ],
    [
      'warning port-range: outgoing connections use ports 1024 to 65535, and node ports are 30000 to 32767',
      { files: { '/proc/sys/net/ipv4/ip_local_port_range': '1024 65535' } },
    ],
    [
      'warning conntrack-fill: 800 of 1000 connections tracked (80 %)',
      { files: { '/proc/sys/net/netfilter/nf_conntrack_count': '800' } },
    ],
    [
      'problem conntrack-fill: 990 of 1000 connections tracked (99 %)',
      { files: { '/proc/sys/net/netfilter/nf_conntrack_count': '990' } },
    ],
    [
      'warning conntrack-drops: connection tracking has dropped 17 connections for want of room since the node started',
      { files: { '/proc/net/stat/nf_conntrack': 'insert_failed drop early_drop\n00 10 00\n00 00 01\n' } },
    ],
    [
      'warning conntrack-drops: connection tracking has failed to insert 4096 since the node started',
      {
        files: { '/proc/net/stat/nf_conntrack': undefined },
        programs: { 'conntrack -S': { stdout: 'cpu=0 \tfound=1 insert=0 insert_failed=4096 drop=0 early_drop=0\n' } },
      },
    ],
    [
      'warning iptables-variants: both variants of iptables hold rules: nft 1, legacy 2',
      {
        programs: {
          'cat /proc/net/ip_tables_names': { stdout: 'nat\n' },
          'iptables-legacy-save -t nat': { stdout: rules('-A PREROUTING -j ACCEPT', '-A PREROUTING -j DROP') },
        },
      },
    ],
    [
      "warning kube-proxy-rules: kube-proxy's rules are in iptables (nft), nftables (table ip kube-proxy)",
      {
        programs: {
          'iptables-nft-save -t nat': { stdout: rules(':KUBE-SERVICES - [0:0]', '-A PREROUTING -j KUBE-SERVICES') },
          'nft list tables': { stdout: 'table ip kube-proxy\n' },
        },
      },
    ],
    ['warning kube-proxy-process: kube-proxy runs here (process 77)', { processes: { 'kube-proxy': 77 } }],
    [
      'warning other-proxies: rules of kube-router, Cilium are in the kernel',
      {
        programs: {
          'iptables-nft-save -t nat': { stdout: rules(':CILIUM_PRE_nat - [0:0]', ':KUBE-ROUTER-INPUT - [0:0]') },
        },
      },
    ],
    [
      'problem xtables-lock: /run/xtables.lock has been held for more than 2 s by iptables-legacy, process 4711',
      {
        inodes: { '/run/xtables.lock': 4321 },
        files: {
          '/proc/locks':
            '1: FLOCK  ADVISORY  WRITE 4711 00:19:4321 0 EOF\n1: -> FLOCK  ADVISORY  WRITE 5 00:19:4321 0 EOF\n',
          '/proc/4711/comm': 'iptables-legacy\n',
        },
      },
    ],
    ['warning firewalld: firewalld runs (process 12)', { processes: { firewalld: 12 } }],
    [
      'warning daemon: no daemon answers at http://x',
      { more: { daemon: async () => ({ kind: 'silent', why: 'no daemon answers at http://x' }) } },
    ],
    [
      'problem daemon: http://x is answered by another program',
      { more: { daemon: async () => ({ kind: 'other', why: 'http://x is answered by another program' }) } },
    ],
    [
      'problem last-sync: IPv4: last synced 56 min ago',
      {
        more: {
          daemon: async () => ({
            kind: 'status',
            status: {
              ...healthyStatus,
              families: healthyStatus.families.map(item => ({ ...item, lastSync: '2026-01-01T00:04:00Z' })),
            },
          }),
        },
      },
    ],
    [
      'problem daemon: IPv4: 3 syncs failed one after another: denied: no',
      {
        more: {
          daemon: async () => ({
            kind: 'status',
            status: {
              ...healthyStatus,
              families: healthyStatus.families.map(item => ({ ...item, failures: 3, lastError: 'denied: no' })),
            },
          }),
        },
      },
    ],
    [
      'warning watches: nothing heard of for over ten minutes: Service',
      {
        more: {
          daemon: async () => ({
            kind: 'status',
            status: {
              ...healthyStatus,
              watches: [{ kind: 'Service', state: 'watching', lastEvent: '2026-01-01T00:49:00Z' }],
            },
          }),
        },
      },
    ],
  ]
  test.each(cases)('%s', async (expected, facts) => {
    expect(await only(facts)).toBe(expected)
  })
})

test('without iptables mode nftables is well, and mode iptables is not', async () => {
  const programs = {
    'iptables-nft --version': '-',
    'iptables-legacy --version': '-',
    'iptables --version': '-',
  } as const
  expect(await only({ programs })).toBe('problem iptables-version: iptables is not installed')
  const nftables = { mode: 'nftables', localhostNodePorts: false } as const
  const files = { '/proc/sys/net/ipv4/conf/all/route_localnet': '0' }
  expect(await found({ programs, files, wanted: nftables })).toEqual([])
})

test('programs of mode ipvs are asked for in mode ipvs alone', async () => {
  const programs = { 'ipvsadm --version': '-', 'ipset --version': {}, 'ip -V': '-' } as const
  const wanted = { mode: 'ipvs', localhostNodePorts: false } as const
  const files = { '/proc/sys/net/ipv4/conf/all/route_localnet': '0' }
  expect(await only({ programs, wanted, files })).toBe('problem ipvs-programs: not installed: ipvsadm, ip')
  const { calls, ...look } = machine()
  await examine(look)
  expect(calls.filter(line => /^ip(?:vsadm|set| )/.test(line))).toEqual([])
})

test('another program on the health port of a node without a daemon is a problem', async () => {
  const ids = await found({
    more: { daemon: async () => ({ kind: 'silent', why: 'nobody' }), listens: async port => port === 10_256 },
  })
  expect(ids.map(({ id, severity }) => `${severity} ${id}`)).toEqual(['warning daemon', 'problem health-port'])
})

test('a lock that changes hands is no problem', async () => {
  let looks = 0
  const holder = (pid: number): string => `1: FLOCK  ADVISORY  WRITE ${pid} 00:19:4321 0 EOF\n`
  const base = machine({ inodes: { '/run/xtables.lock': 4321 } })
  const findings = await examine({
    ...base,
    file: async path => (path === '/proc/locks' ? { kind: 'text', text: holder(++looks) } : await base.file(path)),
  })
  expect(findings.filter(({ severity }) => severity !== 'ok')).toEqual([])
  expect(looks).toBe(2)
})

test('what cannot be read is said, and is no problem', async () => {
  const denied = {
    exitCode: 1,
    stderr:
      'iptables-save v1.8.9 (nf_tables): Could not fetch rule set generation id: Permission denied (you must be root)\n',
  }
  const findings = await found({
    files: Object.fromEntries(
      [
        '/proc/sys/net/ipv4/ip_forward',
        '/proc/sys/net/ipv4/conf/all/rp_filter',
        '/proc/sys/net/netfilter/nf_conntrack_max',
      ].map(path => [path, undefined]),
    ),
    programs: {
      'iptables-nft-save -t mangle': denied,
      'iptables-nft-save -t filter': denied,
      'iptables-nft-save -t nat': denied,
      'nft list tables': { exitCode: 1 },
    },
  })
  expect(findings.map(({ id, severity }) => `${severity} ${id}`)).toEqual([
    'unknown ip-forward',
    'unknown rp-filter',
    'unknown conntrack-fill',
    'unknown iptables-variants',
    'unknown kube-proxy-rules',
    'unknown other-proxies',
  ])
  expect(exitStatus(findings)).toBe(0)
})

test('a check that breaks is a finding and holds no other back', async () => {
  const findings = await found({ more: { netlink: () => Promise.reject(new Error('boom')) } })
  expect(findings.map(({ severity, id, title }) => `${severity} ${id}: ${title}`)).toEqual([
    'unknown koffi: the check could not be made: boom',
  ])
})

test('a listing that takes long is not waited for, and no fault', async () => {
  const slow = { exitCode: -1, stderr: 'Command timed out after 5000 milliseconds: nft -t list ruleset' }
  expect(await found({ programs: { 'nft -t list ruleset': slow } })).toEqual([])
})

test('legacy programs are not run where there are no legacy tables, as that makes some', async () => {
  const { calls, ...look } = machine()
  await examine(look)
  expect(calls).toContain('iptables-nft-save -t nat')
  expect(calls.filter(line => line.startsWith('iptables-legacy-save'))).toEqual([])
})

test('the worst comes first, with what mends it; a problem is exit status 1', () => {
  const finding = (severity: Finding['severity'], id: string): Finding => ({
    id,
    severity,
    title: `${id} is so`,
    meaning: severity === 'ok' ? '' : 'that matters',
    mend: severity === 'problem' ? 'mend it' : '',
  })
  const findings = [finding('ok', 'a'), finding('warning', 'b'), finding('problem', 'c'), finding('unknown', 'd')]
  expect(findingsText(findings).split('\n')).toEqual([
    'PROBLEM  c: c is so',
    '         that matters',
    '         mend: mend it',
    'warning  b: b is so',
    '         that matters',
    'unknown  d: d is so',
    '         that matters',
    'ok       a: a is so',
    '',
    '1 problems, 1 warnings, 1 not looked at, 1 ok',
    '',
  ])
  expect(findingsJson(findings)).toMatchObject({ healthy: false, findings: [{ id: 'c' }, {}, {}, { id: 'a' }] })
  expect(exitStatus(findings)).toBe(1)
  expect(exitStatus([finding('warning', 'b')])).toBe(0)
})

test('versions count part by part', () => {
  for (const [version, least] of [
    ['1.8.10', '1.8.4'],
    ['1.8.4', '1.8.4'],
    ['6.1.0-13-amd64', '5.13'],
    ['5.13.0', '5.13'],
    ['2', '1.0.6'],
  ] as const) {
    expect(isAtLeast(version, least)).toBe(true)
  }
  for (const [version, least] of [
    ['1.8.3', '1.8.4'],
    ['5.4.0-99', '5.13'],
    ['1', '1.0.6'],
  ] as const) {
    expect(isAtLeast(version, least)).toBe(false)
  }
})
