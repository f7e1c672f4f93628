// Random cases for the three programs: small worlds of names, so that most calls meet what earlier ones left.
import fc from 'fast-check'
import { type Case, type Step, withLooks } from './cases.ts'

type Kind = 'ipset' | 'ip' | 'ipvsadm'

/** More elements than one message to the kernel holds, then a line that loses those that still wait. */
export function crowdedCases(): readonly Case[] {
  const kinds: readonly (readonly [spec: string, element: (port: number) => string])[] = [
    ['hash:ip,port', port => `10.0.0.1,tcp:${port}`],
    ['hash:ip,port family inet6', port => `fd00::1,tcp:${port}`],
    ['hash:ip,port,net', port => `10.0.0.1,tcp:${port},10.0.0.0/8`],
    ['hash:ip,port,net family inet6', port => `fd00::1,tcp:${port},fd00::1`],
    ['hash:ip', port => `10.0.1.${port}/32`],
    ['hash:ip family inet6', port => `fd00::${port}`],
    ['bitmap:port range 0-65535', port => `${port}`],
    ['hash:ip,port skbinfo', port => `10.0.0.1,tcp:${port} skbmark 0x5`],
    ['hash:ip,port comment', port => `10.0.0.1,tcp:${port} comment abc`],
    ['hash:ip,port comment', port => `10.0.0.1,tcp:${port} comment abcd`],
    ['hash:ip,port comment', port => `10.0.0.1,tcp:${port} comment "twenty-six characters long"`],
    ['hash:ip,port skbinfo comment', port => `10.0.0.1,tcp:${port} comment abc skbmark 0x1/0xf`],
  ]
  return kinds.map(([spec, element], number) => {
    const elements = Array.from({ length: 230 }, (_, index) => `add set ${element(index + 1)}`)
    const [step] = given('ipset', `create set ${spec}`, ...elements, 'frob')
    return { name: `ipset: crowded ${number}`, steps: step === undefined ? [] : withLooks(step) }
  })
}

/** The same cases every time. */
export function randomCases(kind: Kind, count: number): readonly Case[] {
  const step = fc
    .array(lines[kind], { minLength: 1, maxLength: 8 })
    .map((input): Step => ({ words: calls[kind].split(' '), input: `${input.join('\n')}\n` }))
  const cases = fc.array(step, { minLength: 1, maxLength: 6 }).map(steps => [...first[kind], ...steps])
  return fc
    .sample(cases, { numRuns: count, seed: 20_260_731 })
    .map((steps, number) => ({ name: `${kind}: random ${number}`, steps: steps.flatMap(withLooks) }))
}

const calls: Readonly<Record<Kind, string>> = {
  ipset: 'ipset restore',
  ip: 'ip -batch -',
  ipvsadm: 'ipvsadm --restore',
}

const given = (kind: Kind, ...input: string[]): Step[] => [
  { words: calls[kind].split(' '), input: input.map(line => `${line}\n`).join('') },
]

/** Most sequences find something to work on. */
const first: Readonly<Record<Kind, Step[]>> = {
  ipset: given(
    'ipset',
    'create a hash:ip,port maxelem 3',
    'create b hash:ip,port,net family inet6',
    'create c hash:ip',
    'create d bitmap:port range 0-65535',
    'create e hash:ip,port skbinfo',
  ),
  ip: given(
    'ip',
    'link add d0 type dummy',
    'addr add 10.0.0.1/32 dev d0',
    'route append local 10.0.0.2/32 dev lo table local proto 112 metric 112',
  ),
  ipvsadm: given('ipvsadm', '-A -t 10.0.0.1:80 -s rr', '-A -f 1 -6 -s rr'),
}

const words = (...parts: readonly (fc.Arbitrary<string> | string)[]): fc.Arbitrary<string> =>
  fc.tuple(...parts.map(part => (typeof part === 'string' ? fc.constant(part) : part))).map(list => list.join(''))

const one = (...texts: readonly string[]): fc.Arbitrary<string> => fc.constantFrom(...texts)

const pair4 = words(
  one('10.0.0.1', '10.0.0.2', '10.0.0.3', '0.0.0.0'),
  ',',
  one('tcp:1', 'udp:1', '1', 'tcp:2', 'frob:1'),
)
const pair6 = words(one('fd00::1', 'fd00::2', '10.0.0.1'), ',', one('tcp:1', 'sctp:1', 'tcp:70000'))
const element = fc.oneof(
  { weight: 4, arbitrary: words('a ', pair4) },
  { weight: 3, arbitrary: words('b ', pair6, ',', one('fd00::/64', 'fd00::1/64', 'fd00::1', '::/0')) },
  { weight: 3, arbitrary: words('c ', one('10.0.0.1', '10.0.0.2', '10.0.0.2/32', '0.0.0.0', 'fd00::1')) },
  { weight: 3, arbitrary: words('d ', one('1', '2', 'tcp:2', '65536')) },
  { weight: 1, arbitrary: words('none ', pair4) },
)
const marked = words('add e ', pair4, one('', ' skbmark 0x1', ' skbmark 0x1/0xff', ' skbmark 0x0/0x0', ' skbmark 1'))
const set = one('a', 'b', 'c', 'd', 'e')
const made = one(
  'hash:ip',
  'hash:ip,port',
  'hash:ip,port,net family inet6',
  'bitmap:port range 0-9',
  'hash:ip maxelem 1',
)

const service = one(
  ...['-t 10.0.0.1:80', '-u 10.0.0.1:80', '-t 10.0.0.2:80', '-t [fd00::1]:80', '--sctp-service 10.0.0.1:80'],
  ...['-f 1', '-f 1 -6', '-f 2'],
)
const real = one('10.1.0.1:80', '10.1.0.2:80', '10.1.0.1:81', '10.1.0.3', '[fd00:1::1]:80', '224.0.0.1:80')
const settings = words(
  one('', ' -s rr', ' -s sh -b sh-port', ' -s mh -b mh-port,mh-fallback', ' -s frob', ' -s rr -b flag-2'),
  one('', '', ' -p', ' -p 300', ' -o'),
)
const weight = words(one(' -m', ' -m', ' -m', '', ' -i'), one('', ' -w 0', ' -w 1', ' -w 5'))

const device = one('d0', 'd0', 'd1', 'kube-ipvs0')
const address = one(
  '10.0.0.1/32',
  '10.0.0.2/32',
  '127.0.0.9/32',
  'fd00::1/128',
  'fd00::2/128',
  'fe80::9/128',
  'ff02::1/128',
)

const routeTo = one(
  ...['10.0.0.1/32', '10.0.0.2/32', '9.0.0.1/32', '127.0.0.1/32', '224.0.0.1/32', '10.0.0.256/32'],
  ...['fd00::1/128', 'fd00::a/128', '::/128', 'fe80::9/128', 'ff02::1/128'],
)

const lines: Readonly<Record<Kind, fc.Arbitrary<string>>> = {
  ipset: fc.oneof(
    { weight: 6, arbitrary: words(one('add ', 'add ', 'add ', 'del '), element) },
    { weight: 2, arbitrary: marked },
    { weight: 1, arbitrary: words('del e ', pair4) },
    { weight: 1, arbitrary: words('add ', element, ' -exist') },
    { weight: 1, arbitrary: words(one('flush ', 'destroy '), set) },
    { weight: 2, arbitrary: words('create ', set, ' ', made) },
    { weight: 1, arbitrary: one('', '# comment', 'COMMIT', 'flush', 'frob') },
  ),
  ip: fc.oneof(
    { weight: 8, arbitrary: words('addr ', one('add ', 'add ', 'del '), address, ' dev ', device) },
    {
      weight: 6,
      arbitrary: words(
        'route ',
        one('append ', 'append ', 'del '),
        'local ',
        routeTo,
        ' dev lo table local proto 112 metric 112',
      ),
    },
    { weight: 1, arbitrary: words('link add ', device, ' type dummy') },
    { weight: 1, arbitrary: words('link del ', device) },
    { weight: 1, arbitrary: one('', '# comment') },
  ),
  ipvsadm: fc.oneof(
    { weight: 3, arbitrary: words('-A ', service, settings) },
    { weight: 2, arbitrary: words('-E ', service, settings) },
    { weight: 1, arbitrary: words('-D ', service) },
    { weight: 5, arbitrary: words(one('-a ', '-a ', '-e '), service, ' -r ', real, weight) },
    { weight: 2, arbitrary: words('-d ', service, ' -r ', real) },
    { weight: 1, arbitrary: one('', '-C', 'frob', '-A -t 10.0.0.9:80 --frob') },
  ),
}
