// Random scripts: mostly sensible, often enough wrong in one place.
import fc from 'fast-check'
import type { Family } from '../../../src/net/ip.ts'

const chain = fc.constantFrom('a', 'b', 'c', 'd/x.y-z')
const target = fc.oneof(
  { weight: 12, arbitrary: chain },
  { weight: 1, arbitrary: fc.constantFrom('nowhere', 'prerouting', 'services') },
)
const rareChain = fc.oneof(
  { weight: 8, arbitrary: chain },
  { weight: 2, arbitrary: fc.constantFrom('services', 'postrouting') },
  { weight: 1, arbitrary: fc.constantFrom('prerouting', 'nowhere') },
)

interface Words {
  readonly ip: string
  readonly type: string
  readonly addresses: readonly string[]
  readonly ranges: readonly string[]
}

const wordsOf: Readonly<Record<Family, Words>> = {
  IPv4: {
    ip: 'ip',
    type: 'ipv4_addr',
    addresses: ['10.96.0.1', '10.96.0.2', '10.96.0.3'],
    ranges: ['10.0.0.0/8', '10.128.0.0/9', '11.0.0.0/8', '192.168.3.7', '192.168.3.8-192.168.3.17', '172.16.5.4/20'],
  },
  IPv6: {
    ip: 'ip6',
    type: 'ipv6_addr',
    addresses: ['fd00::1', 'fd00::2', 'fd00:0:0:0:1::3'],
    ranges: ['fd00::/8', 'fd80::/9', 'fe00::/8', '2001:db8::7', '2001:db8::8-2001:db8::1:17', '2001:db8:5::4/48'],
  },
}

function declarations({ ip, type }: Words): string[] {
  return [
    `map T services { type ${type} . inet_proto . inet_service : verdict; }`,
    `map T endpoints { typeof ${ip} daddr . meta l4proto . th dport . numgen random mod 2 : ${ip} daddr . th dport; }`,
    `set T cluster-ips { type ${type}; }`,
    'set T octets { typeof @nh,0,8 . @nh,8,8; }',
    `set T seen { type ${type}; size 4096; flags dynamic,timeout; timeout 60s; }`,
  ]
}

const verdict = fc.oneof(
  { weight: 2, arbitrary: fc.constantFrom('accept', 'drop', 'return') },
  { weight: 3, arbitrary: fc.tuple(fc.constantFrom('goto', 'jump'), target).map(words => words.join(' ')) },
)

function ruleOf({ ip, addresses, ranges }: Words): fc.Arbitrary<string> {
  const rangeSet = fc
    .tuple(fc.constantFrom('', '!= '), fc.subarray([...ranges], { minLength: 1 }))
    .map(([not, list]) => `${ip} saddr ${not}${list.length === 1 ? list.join() : `{ ${list.join(', ')} }`}`)
  const match = fc.oneof(
    rangeSet,
    fc.constantFrom(
      ...[`${ip} daddr @cluster-ips`, `${ip} saddr @seen`, 'iifname "veth*"', 'iifname != "cbr0"', 'meta l4proto udp'],
      ...[`fib daddr type local`, `fib saddr type != local`, 'ct status dnat', '@nh,96,8 . @nh,128,8 @octets'],
      ...[
        'numgen random mod 3 0',
        'numgen random mod 7 < 3',
        'meta mark & 0x4000 != 0x0',
        'meta mark & 0x80000000 != 0x0',
      ],
      ...['meta mark set meta mark | 0x1', 'meta mark set meta mark ^ 0x4000', `update @seen { ${ip} saddr }`],
      ...[`${ip} daddr . meta l4proto . th dport vmap @services`, `${ip} daddr @absent`, `${ip} daddr @octets`],
    ),
  )
  const host = ip === 'ip6' ? `[${addresses[0]}]` : addresses[0]
  const key = `${ip} daddr . meta l4proto . th dport . numgen random mod 2`
  const end = fc.oneof(
    { weight: 4, arbitrary: verdict },
    {
      weight: 2,
      arbitrary: fc.constantFrom(
        ...['reject', 'masquerade fully-random', `meta l4proto tcp dnat to ${host}:8080`, `dnat to ${host}:8080`],
        ...[`dnat ${ip} to ${key} map @endpoints`, 'drop drop', 'frobnicate'],
      ),
    },
  )
  return fc
    .tuple(fc.array(match, { maxLength: 2 }), fc.option(end, { freq: 4 }))
    .map(([matches, last]) => [...matches, ...(last === null ? [] : [last])].join(' '))
    .filter(text => text !== '')
}

function elementsOf({ addresses }: Words): fc.Arbitrary<string> {
  const address = fc.constantFrom(...addresses)
  const protocol = fc.constantFrom('tcp', 'udp', 'sctp', '6')
  const frontend = fc.tuple(address, protocol, fc.constantFrom('80', '443')).map(parts => parts.join(' . '))
  const index = fc.constantFrom('0', '1', '2')
  const endpoint = fc.tuple(address, fc.constantFrom('8080', '8081', '65536')).map(parts => parts.join(' . '))
  const comment = fc.constantFrom('', ' comment "ns/name:port"')
  const services = fc.tuple(frontend, comment, verdict).map(([key, note, data]) => `${key}${note} : ${data}`)
  const endpoints = fc.tuple(frontend, index, endpoint).map(([key, at, data]) => `${key} . ${at} : ${data}`)
  const octets = fc.constantFrom('0x7 . 0x7', '0x8 . 0x8', '0xff . 0xff', '0x100 . 0x1')
  const list = (element: fc.Arbitrary<string>): fc.Arbitrary<string> =>
    fc.array(element, { minLength: 1, maxLength: 3 }).map(all => `{ ${all.join(', ')} }`)
  const plain = fc.oneof(
    list(services).map(text => `services ${text}`),
    list(endpoints).map(text => `endpoints ${text}`),
    list(address).map(text => `cluster-ips ${text}`),
    list(octets).map(text => `octets ${text}`),
  )
  const odd = fc.oneof(
    list(frontend).map(text => `services ${text}`),
    list(services).map(text => `endpoints ${text}`),
    list(address).map(text => `absent ${text}`),
  )
  const added = fc.oneof({ weight: 12, arbitrary: plain }, { weight: 1, arbitrary: odd })
  const keys = fc.oneof(
    list(frontend).map(text => `services ${text}`),
    list(fc.tuple(frontend, index).map(parts => parts.join(' . '))).map(text => `endpoints ${text}`),
    list(address).map(text => `cluster-ips ${text}`),
  )
  return fc.oneof(
    { weight: 3, arbitrary: added.map(text => `add element T ${text}`) },
    { weight: 1, arbitrary: keys.map(text => `delete element T ${text}`) },
  )
}

function commandOf(words: Words): fc.Arbitrary<string> {
  const container = fc.constantFrom(
    'map T services',
    'map T endpoints',
    'set T cluster-ips',
    'set T octets',
    'set T seen',
  )
  const redefined = fc.constantFrom(
    `map T services { type ${words.type} . inet_proto : verdict; }`,
    `set T services { type ${words.type}; }`,
    'set T cluster-ips { type inet_service; }',
  )
  const hook = fc.constantFrom(
    'prerouting { type nat hook prerouting priority -100; policy accept; }',
    'prerouting { type nat hook prerouting priority -99; policy accept; }',
    'hooked { type filter hook input priority 0; policy accept; }',
    'hooked { type nat hook output priority -300; policy accept; }',
    'a { type nat hook output priority -100; policy accept; }',
  )
  return fc.oneof(
    { weight: 10, arbitrary: fc.tuple(rareChain, ruleOf(words)).map(([name, rule]) => `add rule T ${name} ${rule}`) },
    { weight: 10, arbitrary: elementsOf(words) },
    { weight: 4, arbitrary: chain.map(name => `add chain T ${name}`) },
    { weight: 3, arbitrary: rareChain.map(name => `flush chain T ${name}`) },
    { weight: 3, arbitrary: rareChain.map(name => `delete chain T ${name}`) },
    { weight: 1, arbitrary: hook.map(text => `add chain T ${text}`) },
    { weight: 1, arbitrary: container.map(text => `delete ${text}`) },
    { weight: 1, arbitrary: fc.constantFrom(...declarations(words)).map(text => `add ${text}`) },
    { weight: 1, arbitrary: redefined.map(text => `add ${text}`) },
    { weight: 1, arbitrary: fc.constantFrom('add table T', 'delete table T', 'add rule T a', 'add chain T drop', '') },
  )
}

/** Scripts to be run one after the other; the first makes the sets and chains that the others use. */
export function scriptsOf(family: Family): fc.Arbitrary<readonly string[]> {
  const words = wordsOf[family]
  const placed = (lines: readonly string[]): string => `${lines.join('\n').replace(/\bT\b/g, `${words.ip} penstock`)}\n`
  const first = [
    'add table T',
    ...declarations(words).map(text => `add ${text}`),
    'add chain T prerouting { type nat hook prerouting priority -100; policy accept; }',
    'add chain T postrouting { type nat hook postrouting priority 100; policy accept; }',
    ...['services', 'a', 'b', 'c', 'd/x.y-z'].map(name => `add chain T ${name}`),
    'add rule T prerouting jump services',
    `add rule T services ${words.ip} daddr . meta l4proto . th dport vmap @services`,
  ]
  return fc
    .array(fc.array(commandOf(words), { minLength: 1, maxLength: 4 }).map(placed), { minLength: 2, maxLength: 6 })
    .map(scripts => [placed(first), ...scripts])
}
