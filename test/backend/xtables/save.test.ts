// What iptables-save prints, read back: ours and nothing else, in our spelling.
import { expect, it } from 'vitest'
import { linesInParts, parseSave, type Scope, saveReader } from '../../../src/backend/xtables/save.ts'

const ours: Scope = { prefix: 'PENSTOCK-', tables: ['filter', 'nat'] }

const parsed = (text: string, scope = ours) =>
  Object.fromEntries([...parseSave(text, scope)].map(({ key, value }) => [key, value]))

it('takes our chains and our jumps, and leaves those of others', () => {
  const text = `# Generated
*nat
:PREROUTING ACCEPT [0:0]
:KUBE-SERVICES - [0:0]
:PENSTOCK-SERVICES - [0:0]
:PENSTOCK-ADDR - [0:0]
-A PREROUTING -m comment --comment "penstock service addresses" -j PENSTOCK-SERVICES
-A PREROUTING -p tcp -j PENSTOCK-SERVICES
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A KUBE-SERVICES -j RETURN
-A PENSTOCK-SERVICES -j PENSTOCK-ADDR
COMMIT
*mangle
:PENSTOCK-ELSEWHERE - [0:0]
COMMIT
`
  expect(parsed(text)).toEqual({
    'nat/PENSTOCK-SERVICES': '-j PENSTOCK-ADDR',
    'nat/PENSTOCK-ADDR': '',
    'nat/PREROUTING>PENSTOCK-SERVICES': '-m comment --comment "penstock service addresses" -j PENSTOCK-SERVICES',
  })
})

it('shows a jump that is there twice', () => {
  const jump = '-m comment --comment "penstock masquerading" -j PENSTOCK-POSTROUTING'
  const text = `*nat\n-A POSTROUTING ${jump}\n-A POSTROUTING ${jump}\nCOMMIT\n`
  expect(parsed(text)).toEqual({ 'nat/POSTROUTING>PENSTOCK-POSTROUTING': `${jump}\n${jump}` })
})

it('reads addresses that glibc prints with an IPv4 tail', () => {
  const text = `*nat
:PENSTOCK-SVC-A - [0:0]
-A PENSTOCK-SVC-A -d ::0.1.0.2/128 -p tcp -j DNAT --to-destination [::10.0.0.1]:80
-A PENSTOCK-SVC-A -d ::1/128 -j RETURN
COMMIT
`
  expect(parsed(text)).toEqual({
    'nat/PENSTOCK-SVC-A': '-d ::1:2/128 -p tcp -j DNAT --to-destination [::a00:1]:80\n-d ::1/128 -j RETURN',
  })
})

it('tells the chains of two backends apart', () => {
  const text = `*mangle
:INPUT ACCEPT [0:0]
:PENSTOCKVS-SERVICES - [0:0]
-A INPUT -m comment --comment "penstock service addresses" -j PENSTOCKVS-SERVICES
-A PENSTOCKVS-SERVICES -m set ! --match-set PENSTOCK-MARK dst,dst -j RETURN
COMMIT
*nat
:PENSTOCK-SERVICES - [0:0]
-A OUTPUT -m comment --comment "penstock service addresses" -j PENSTOCK-SERVICES
-A POSTROUTING -m comment --comment "penstock masquerading" -j PENSTOCKVS-POSTROUTING
COMMIT
`
  expect(parsed(text, { prefix: 'PENSTOCKVS-', tables: ['filter', 'nat', 'mangle'] })).toEqual({
    'mangle/PENSTOCKVS-SERVICES': '-m set ! --match-set PENSTOCK-MARK dst,dst -j RETURN',
    'mangle/INPUT>PENSTOCKVS-SERVICES': '-m comment --comment "penstock service addresses" -j PENSTOCKVS-SERVICES',
    'nat/POSTROUTING>PENSTOCKVS-POSTROUTING': '-m comment --comment "penstock masquerading" -j PENSTOCKVS-POSTROUTING',
  })
  expect(Object.keys(parsed(text))).toEqual(['nat/PENSTOCK-SERVICES', 'nat/OUTPUT>PENSTOCK-SERVICES'])
})

it('reads the same in parts, wherever they end', () => {
  const rules = (chain: string, n: number) =>
    Array.from({ length: n }, (_, i) => `-A ${chain} -d 10.96.0.${i}/32 -j RETURN`)
  const text = [
    '# Generated',
    '*nat',
    ...[':PREROUTING ACCEPT [0:0]', ':PENSTOCK-A - [0:0]', ':PENSTOCK-AB - [0:0]', ':PENSTOCK-B - [0:0]'],
    '-A PREROUTING -m comment --comment "penstock service addresses" -j PENSTOCK-A',
    ...[
      ...rules('PENSTOCK-A', 3),
      ...rules('PENSTOCK-AB', 2),
      'COMMIT',
      '*raw',
      ...rules('PENSTOCK-A', 1),
      'COMMIT',
      '',
    ],
  ].join('\n')
  const whole = parsed(text)
  expect(whole['nat/PENSTOCK-A']?.split('\n')).toHaveLength(3)
  expect(whole['nat/PENSTOCK-AB']?.split('\n')).toHaveLength(2)
  expect(whole['nat/PENSTOCK-B']).toBe('')
  for (let size = 0; size < text.length; size += 7) {
    const reader = saveReader(ours)
    const parts = [...linesInParts(text, size)]
    for (const part of parts) reader.take(part)
    expect(Object.fromEntries(reader.program)).toEqual(whole)
    expect(parts.join('')).toBe(text)
    expect(parts.slice(0, -1).every(part => part.endsWith('\n') && part.length > size)).toBe(true)
  }
})
