// A machine to examine, as values: healthy unless a test says otherwise.
import type { Look } from '../../src/doctor/look.ts'
import type { ExecResult } from '../../src/kernel/exec.ts'
import type { DaemonStatus } from '../../src/observe/status.ts'

export const healthyStatus: DaemonStatus = {
  version: 'v0.1.0',
  mode: 'iptables',
  startedAt: '2026-01-01T00:00:00Z',
  now: '2026-01-01T01:00:00Z',
  node: { name: 'node-a', eligible: true, addresses: [], podCIDRs: [] },
  families: [
    {
      family: 'IPv4',
      lastSync: '2026-01-01T00:59:00Z',
      failures: 0,
      lastError: null,
      dirty: 0,
      services: 1,
      kernelObjects: 10,
      drift: 0,
      setAside: [],
      conflicts: [],
    },
  ],
  watches: [{ kind: 'Service', state: 'watching', lastEvent: '2026-01-01T00:59:30Z' }],
  problems: [],
}

export interface Facts {
  /** By path; a path with `undefined` is unreadable. */
  readonly files?: Readonly<Record<string, string | undefined>>
  readonly names?: Readonly<Record<string, readonly string[]>>
  readonly inodes?: Readonly<Record<string, number>>
  /** By command line; `-` for a program that is not installed. */
  readonly programs?: Readonly<Record<string, Partial<ExecResult> | '-'>>
  readonly processes?: Readonly<Record<string, number>>
  readonly wanted?: Partial<Look['wanted']>
  readonly more?: Partial<Look>
}

const files = {
  '/proc/sys/net/ipv4/ip_forward': '1\n',
  '/proc/sys/net/ipv6/conf/all/forwarding': '1\n',
  '/proc/sys/net/ipv4/conf/all/rp_filter': '0\n',
  '/proc/sys/net/ipv4/conf/eth0/rp_filter': '0\n',
  '/proc/sys/net/ipv4/conf/all/route_localnet': '1\n',
  '/proc/sys/net/ipv4/ip_local_port_range': '32768\t60999\n',
  '/proc/sys/net/ipv4/ip_local_reserved_ports': '\n',
  '/proc/sys/net/netfilter/nf_conntrack_count': '100\n',
  '/proc/sys/net/netfilter/nf_conntrack_max': '1000\n',
  '/proc/net/stat/nf_conntrack':
    'entries  found new insert_failed drop early_drop\n00000064  00 00 00000002 00000000 00000000\n00000064  00 00 00000003 00000000 00000000\n',
  '/proc/locks': '1: POSIX  ADVISORY  WRITE 17 08:01:99 0 EOF\n',
}
const names = {
  '/proc/sys/net/ipv4/conf': ['all', 'default', 'eth0', 'lo'],
  '/sys/class/net': ['eth0', 'lo'],
}
const programs: NonNullable<Facts['programs']> = {
  'iptables-nft --version': { stdout: 'iptables v1.8.9 (nf_tables)\n' },
  'iptables-nft-save -t mangle': {},
  'iptables-nft-save -t nat': {},
  'iptables-nft-save -t filter': { stdout: '*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -j ACCEPT\nCOMMIT\n' },
  'iptables-legacy --version': { stdout: 'iptables v1.8.9 (legacy)\n' },
  'cat /proc/net/ip_tables_names': { stdout: '' },
  'ip6tables-nft --version': '-',
  'ip6tables-legacy --version': '-',
  'ip6tables --version': '-',
  'nft --version': { stdout: 'nftables v1.0.6 (Lester Gooch #5)\n' },
  'nft -t list ruleset': { stdout: '' },
  'nft list tables': { stdout: 'table ip nat\n' },
  'conntrack --version': { stdout: 'conntrack v1.4.7\n' },
  'unshare --net -- true': {},
  'unshare --net -- sample': {},
}

/** What checks are handed. Throws for a program that no test knows of. */
export function machine(facts: Facts = {}): Look & { readonly calls: readonly string[] } {
  const calls: string[] = []
  const all = { ...programs, ...facts.programs }
  const texts: Facts['files'] = { ...files, ...facts.files }
  const folders: Facts['names'] = { ...names, ...facts.names }
  return {
    calls,
    wanted: { mode: 'iptables', families: ['IPv4'], localhostNodePorts: true, usesBridge: false, ...facts.wanted },
    release: '6.1.0-13-amd64',
    file: async path => {
      if (!(path in texts)) return { kind: 'absent' }
      const text = texts[path]
      return text === undefined ? { kind: 'unreadable', why: 'EACCES' } : { kind: 'text', text }
    },
    names: async path => folders[path],
    inode: async path => facts.inodes?.[path],
    exec: {
      run: async (command, args) => {
        const line = [command, ...args].join(' ')
        calls.push(line)
        const answer = all[line]
        if (answer === undefined) throw new Error(`nobody has said what \`${line}\` answers`)
        if (answer === '-') return { exitCode: -1, stdout: '', stderr: '', notFound: true }
        return { exitCode: 0, stdout: '', stderr: '', notFound: false, ...answer }
      },
    },
    processes: async wanted =>
      wanted.flatMap(name => {
        const pid = facts.processes?.[name]
        return pid === undefined ? [] : [{ pid, name }]
      }),
    sleep: async () => undefined,
    daemon: async () => ({ kind: 'status', status: healthyStatus }),
    listens: async () => false,
    netlink: async () => undefined,
    sample: async () => ({ command: 'sample', args: [], input: '' }),
    ...facts.more,
  }
}
