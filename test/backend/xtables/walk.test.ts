// What a walk makes of sets, marks, output interfaces and destinations that others rewrote.
import { describe, expect, it } from 'vitest'
import { type SetLookup, type State, Walker, type WalkOptions } from '../../../src/backend/xtables/walk.ts'
import { type IP, parseIP } from '../../../src/net/ip.ts'
import type { Packet } from '../../../src/net/packet.ts'

const ip = (text: string): IP => parseIP(text) ?? expect.fail(`${text} is no address`)

const client = ip('10.1.0.9')
const service = ip('10.96.0.20')
const node = ip('192.0.2.1')
const packet: Packet = { src: client, dst: service, port: 80, protocol: 'TCP' }
const start: State = { weight: 1, mark: 0, masqueraded: false }

/** A walker over one chain, which INPUT, OUTPUT and POSTROUTING of mangle and nat jump to. */
function walkerOf(rules: readonly string[], options: Omit<WalkOptions, 'jumpTargets'> = {}): Walker {
  const program = new Map(
    ['mangle', 'nat'].flatMap(table => [
      [`${table}/OWN`, rules.join('\n')] as const,
      ...['INPUT', 'OUTPUT', 'POSTROUTING'].map(hook => [`${table}/${hook}>OWN`, '-j OWN'] as const),
    ]),
  )
  return new Walker(program, packet, address => address === node, { jumpTargets: ['OWN'], ...options })
}

/** One set with one element: an address and a port. */
const setOf = (element: string, mark = 0): SetLookup => {
  const has: SetLookup['has'] = (set, flags, { dst, port, protocol }) =>
    set === 'S' && flags === 'dst,dst' && element === `${dst},${protocol.toLowerCase()}:${port}`
  return { has, markOf: (...asked) => (has(...asked) ? mark : undefined) }
}

describe('sets', () => {
  const drop = '-m set --match-set S dst,dst -j DROP'
  const unlessIn = '-m set ! --match-set S dst,dst -j DROP'

  it('match what they hold', () => {
    const inside = setOf('10.96.0.20,tcp:80')
    const outside = setOf('10.96.0.20,udp:80')
    const end = (rule: string, sets: SetLookup) => walkerOf([rule], { sets }).hook('mangle', 'INPUT', [start])[0]?.end
    expect(end(drop, inside)).toBe('drop')
    expect(end(drop, outside)).toBeUndefined()
    expect(end(unlessIn, inside)).toBeUndefined()
    expect(end(unlessIn, outside)).toBe('drop')
  })

  it('are asked for the destination that the packet has by then', () => {
    const walker = walkerOf([drop], { sets: setOf('10.1.2.3,tcp:8080') })
    const rewritten: State = { ...start, endpoint: '10.1.2.3:8080', rewrittenBy: 'ipvs' }
    expect(walker.hook('mangle', 'OUTPUT', [start, rewritten]).map(({ end }) => end)).toEqual([undefined, 'drop'])
  })

  it('give a whole mark to what they hold, and the walk goes on', () => {
    const rules = ['-j SET --map-set S dst,dst --map-mark', '-j MARK --set-xmark 0x1/0x1']
    const mark = (sets: SetLookup) =>
      walkerOf(rules, { sets }).hook('mangle', 'INPUT', [{ ...start, mark: 0x4000 }])[0]?.mark
    expect(mark(setOf('10.96.0.20,tcp:80', 0xf0000000))).toBe(0xf0000001)
    expect(mark(setOf('10.96.0.21,tcp:80', 0xf0000000))).toBe(0x4001)
  })

  it('must be given where rules ask for them', () => {
    expect(() => walkerOf([drop]).hook('mangle', 'INPUT', [start])).toThrow('the set S')
  })
})

describe('a destination that IPVS rewrote', () => {
  const translated = '-m conntrack --ctstate DNAT -j DROP'

  it('is the destination, but no DNAT of conntrack', () => {
    const walker = walkerOf(['-d 10.1.2.3/32 -p tcp -m tcp --dport 8080 -j MARK --set-xmark 0x1/0x1', translated])
    const byIPVS: State = { ...start, endpoint: '10.1.2.3:8080', rewrittenBy: 'ipvs' }
    const byNAT: State = { ...byIPVS, rewrittenBy: 'nat' }
    const left = walker.hook('nat', 'POSTROUTING', [byIPVS, byNAT])
    expect(left.map(({ mark, end }) => ({ mark, end }))).toEqual([
      { mark: 1, end: undefined },
      { mark: 1, end: 'drop' },
    ])
  })

  it('is told from one that a rule rewrote', () => {
    const [way] = walkerOf(['-p tcp -j DNAT --to-destination 10.1.2.3:8080']).hook('nat', 'OUTPUT', [start])
    expect(way).toMatchObject({ endpoint: '10.1.2.3:8080', rewrittenBy: 'nat', end: 'accept' })
    expect(walkerOf([translated]).hook('nat', 'POSTROUTING', way === undefined ? [] : [way])[0]?.end).toBe('drop')
  })
})

describe('the output interface', () => {
  const marked = (rule: string, hook: 'INPUT' | 'OUTPUT', state: State) =>
    walkerOf([`${rule} -j MARK --set-xmark 0x1/0x1`]).hook('mangle', hook, [state])[0]?.mark === 1

  it('is lo for what goes to the host itself', () => {
    const toHost: State = { ...start, endpoint: '192.0.2.1:80' }
    expect([marked('-o lo', 'OUTPUT', toHost), marked('! -o lo', 'OUTPUT', toHost)]).toEqual([true, false])
    expect([marked('-o lo', 'OUTPUT', start), marked('! -o lo', 'OUTPUT', start)]).toEqual([false, true])
    expect(marked('-o eth0', 'OUTPUT', toHost)).toBe(false)
  })

  it('is what the caller says', () => {
    expect(marked('-o lo', 'OUTPUT', { ...start, leavesByLoopback: true })).toBe(true)
    expect(marked('-o lo', 'OUTPUT', { ...start, endpoint: '192.0.2.1:80', leavesByLoopback: false })).toBe(false)
  })

  it('is none where a packet arrives', () => {
    const toHost: State = { ...start, leavesByLoopback: true }
    expect([marked('-o lo', 'INPUT', toHost), marked('! -o lo', 'INPUT', toHost)]).toEqual([false, true])
  })

  it('other than lo is not guessed', () => {
    expect(() => marked('-o eth0', 'OUTPUT', start)).toThrow('eth0')
  })
})

it('lets what a hook accepted go on in the next, and what one refused go nowhere', () => {
  const walker = walkerOf(['-m mark --mark 0x1/0x1 -j DROP', '-j ACCEPT'])
  const first = walker.hook('mangle', 'OUTPUT', [start, { ...start, mark: 1 }])
  expect(first.map(({ end }) => end)).toEqual(['accept', 'drop'])
  const second = walker.hook(
    'mangle',
    'POSTROUTING',
    first.map(way => ({ ...way, mark: 1 - way.mark })),
  )
  expect(second.map(({ end }) => end)).toEqual(['drop', 'drop'])
  expect(walker.path.map(({ chain, rule }) => `${chain} ${rule}`)).toEqual([
    'OUTPUT -j OWN',
    'OWN -j ACCEPT',
    'OWN -m mark --mark 0x1/0x1 -j DROP',
    'POSTROUTING -j OWN',
  ])
})
