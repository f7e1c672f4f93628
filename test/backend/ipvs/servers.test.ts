// Virtual servers as text: schedulers and flags, and what ipvsadm prints.
import { describe, expect, test } from 'vitest'
import {
  loadOf,
  parseAddresses,
  parseLoads,
  parseLocals,
  parseServers,
  parseSets,
} from '../../../src/backend/ipvs/parse.ts'
import { elementOf, optionsOf, parseScheduling, serverArguments } from '../../../src/backend/ipvs/servers.ts'
import { settingsFor, timeoutsOf } from '../../../src/backend/ipvs/settings.ts'

test.each([
  ['', '-s rr'],
  ['wlc', '-s wlc'],
  ['mh', '-s mh -b mh-port'],
  ['mh,mh-fallback', '-s mh -b mh-fallback'],
  ['sh, sh-port,sh-fallback', '-s sh -b sh-fallback,sh-port'],
])('scheduler "%s" is "%s"', (text, options) => {
  const scheduling = parseScheduling(text)
  expect(scheduling === undefined ? undefined : optionsOf(scheduling, undefined)).toBe(options)
})

test.each([
  'rr,sh-port',
  'mh,sh-port',
  'sh,flag-1',
  'rr;reboot',
  'rr -p',
  'RR',
  'sh,frobnicate',
  ',sh',
  'a'.repeat(16),
  '-s',
])('"%s" is no scheduler', text => {
  expect(parseScheduling(text)).toBeUndefined()
})

test('affinity comes before flags, as ipvsadm prints it', () => {
  expect(optionsOf({ scheduler: 'sh', flags: ['sh-port'] }, 300)).toBe('-s sh -p 300 -b sh-port')
})

/** As printed by ipvsadm 1.31 on Linux 6.1. */
const saved = `-A -t 10.96.0.1:80 -s rr
-a -t 10.96.0.1:80 -r 10.0.0.1:80 -m -w 1
-a -t 10.96.0.1:80 -r 10.0.0.2:80 -m -w 0
-A -t 10.96.0.2:80 -s mh -p 300 -b mh-port
-A --sctp-service 10.96.0.2:80 -s lc
-a --sctp-service 10.96.0.2:80 -r 10.0.0.3:81 -g -w 5
-A -u [fd00::9]:53 -s sh -p 100 -b sh-fallback,sh-port
-A -f 1588204384 -s rr
-a -f 1588204384 -r 10.0.0.2:80 -m -w 1
-A -f 6 -6 -s rr
-a -f 6 -6 -r [fd00::1]:80 -m -w 0
`

test('virtual servers are read by family', () => {
  expect(parseServers(saved, 'IPv4')).toEqual([
    {
      server: 'tcp 10.96.0.1:80',
      options: '-s rr',
      real: [
        { address: '10.0.0.1:80', weight: 1, rest: '-m' },
        { address: '10.0.0.2:80', weight: 0, rest: '-m' },
      ],
    },
    { server: 'tcp 10.96.0.2:80', options: '-s mh -p 300 -b mh-port', real: [] },
    { server: 'sctp 10.96.0.2:80', options: '-s lc', real: [{ address: '10.0.0.3:81', weight: 5, rest: '-g' }] },
    { server: 'mark 0x5eaa1360', options: '-s rr', real: [{ address: '10.0.0.2:80', weight: 1, rest: '-m' }] },
  ])
  expect(parseServers(saved, 'IPv6')).toEqual([
    { server: 'udp [fd00::9]:53', options: '-s sh -p 100 -b sh-fallback,sh-port', real: [] },
    { server: 'mark 0x6', options: '-s rr', real: [{ address: '[fd00::1]:80', weight: 0, rest: '-m' }] },
  ])
})

test('ipvsadm is told of a server as it prints it', () => {
  for (const family of ['IPv4', 'IPv6'] as const) {
    for (const { server, options } of parseServers(saved, family)) {
      expect(saved).toContain(`-A ${serverArguments(server, family)} ${options}\n`)
    }
  }
  expect(elementOf('udp [fd00::9]:53')).toBe('fd00::9,udp:53')
  expect(elementOf('mark 0x6')).toBeUndefined()
})

test('weights and connections are read by family', () => {
  const loads = parseLoads(`IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
TCP  10.96.0.1:80 rr
  -> 10.0.0.1:80                  Masq    1      3          4         
  -> 10.0.0.2:80                  Masq    0      0          0         
UDP  [fd00::9]:53 sh (sh-fallback,sh-port) persistent 100
  -> [fd00::1]:53                 Masq    1      0          7         
FWM  6 rr
  -> 10.0.0.2:80                  Masq    1      1          0         
FWM  6 IPv6 rr
  -> [fd00::1]:80                 Masq    0      0          2         
`)
  expect(loadOf(loads, 'tcp 10.96.0.1:80', '10.0.0.1:80', 'IPv4')?.connections).toBe(7)
  expect(loadOf(loads, 'tcp 10.96.0.1:80', '10.0.0.2:80', 'IPv4')?.connections).toBe(0)
  expect(loadOf(loads, 'tcp 10.96.0.1:80', '10.0.0.2:80', 'IPv4')?.weight).toBe(0)
  expect(loadOf(loads, 'mark 0x6', '10.0.0.2:80', 'IPv4')?.weight).toBe(1)
  expect(loadOf(loads, 'tcp 10.96.0.1:80', '10.0.0.3:80', 'IPv4')).toBeUndefined()
  expect(loadOf(loads, 'udp [fd00::9]:53', '[fd00::1]:53', 'IPv6')?.connections).toBe(7)
  expect(loadOf(loads, 'mark 0x6', '10.0.0.2:80', 'IPv4')?.connections).toBe(1)
  expect(loadOf(loads, 'mark 0x6', '[fd00::1]:80', 'IPv6')?.connections).toBe(2)
})

test('sets of others, and how a set has grown, do not matter', () => {
  const [set, ...others] = parseSets(
    `create KUBE-CLUSTER-IP hash:ip,port family inet hashsize 1024 maxelem 65536 bucketsize 12 initval 0x1
add KUBE-CLUSTER-IP 10.96.0.1,tcp:80
create PENSTOCK-6-INTERNAL hash:ip,port family inet6 hashsize 4096 maxelem 1048576 comment bucketsize 12 initval 0x6c283097
add PENSTOCK-6-INTERNAL fd00::1,tcp:80 comment "shop/web:http"
add PENSTOCK-6-INTERNAL ::0.1.0.2,tcp:80 comment "shop/odd"
`,
    'IPv6',
  )
  expect(others).toEqual([])
  expect(set).toEqual({
    role: 'INTERNAL',
    name: 'PENSTOCK-6-INTERNAL',
    type: 'hash:ip,port family inet6 maxelem 1048576 comment',
    members: new Map([
      ['fd00::1,tcp:80', 'comment "shop/web:http"'],
      ['::1:2,tcp:80', 'comment "shop/odd"'],
    ]),
  })
})

test("addresses are read without the kernel's own", () => {
  const text = `3: kube-ipvs0    inet 10.96.0.20/32 scope global kube-ipvs0\\       valid_lft forever preferred_lft forever
3: kube-ipvs0    inet6 fd00:10:96::20/128 scope global \\       valid_lft forever preferred_lft forever
3: kube-ipvs0    inet6 fe80::1/64 scope link \\       valid_lft forever preferred_lft forever
`
  expect(parseAddresses(text, 'IPv4')).toEqual(['10.96.0.20'])
  expect(parseAddresses(text, 'IPv6')).toEqual(['fd00:10:96::20'])
})

test('local routes of a metric are read of either family', () => {
  const text = `local 10.96.0.20 dev lo scope host metric 112 
local 10.96.0.21 dev lo scope host 
local 10.96.0.22 dev lo scope host metric 1120 
local fd00:10:96::20 dev lo metric 112 pref medium
local fd00:10:96::21 dev lo metric 1024 pref medium
broadcast 10.255.255.255 dev eth0 scope link 
`
  expect(parseLocals(text, 112)).toEqual(['10.96.0.20', 'fd00:10:96::20'])
})

describe('settings', () => {
  const names = (release: string, strictARP = false) => settingsFor({ strictARP }, release).map(({ name }) => name)
  test('conn_reuse_mode is for kernels from 4.1 to 5.8', () => {
    const has = (release: string) => names(release).includes('net.ipv4.vs.conn_reuse_mode')
    expect(['3.10.0-1160', '4.1.0', '4.19.0-27-amd64', '5.8.18', '5.9.0', '6.1.0-13-amd64'].map(has)).toEqual([
      false,
      true,
      true,
      true,
      false,
      false,
    ])
  })
  test('strictARP sets both sides of ARP', () => {
    expect(names('6.1.0', true)).toEqual(
      expect.arrayContaining(['net.ipv4.conf.all.arp_ignore', 'net.ipv4.conf.all.arp_announce']),
    )
    expect(names('6.1.0').filter(name => name.includes('arp'))).toEqual([])
  })
  test('timeouts are set together, in seconds, or not at all', () => {
    expect(timeoutsOf({ timeoutsMs: { tcp: 0, tcpFin: 0, udp: 0 } })).toBeUndefined()
    expect(timeoutsOf({ timeoutsMs: { tcp: 900_000, tcpFin: 0, udp: 500 } })).toEqual({ tcp: 900, tcpFin: 0, udp: 1 })
  })
})
