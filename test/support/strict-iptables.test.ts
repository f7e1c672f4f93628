// The strict iptables by itself; test/kernel/strict-iptables.test.ts holds it against the real tools.
import { expect, test } from 'vitest'
import { StrictExec } from './strict-iptables/exec.ts'
import { StrictIptables } from './strict-iptables/strict-iptables.ts'

const nft = () => new StrictIptables({ family: 'IPv4', variant: 'nft' })
const legacy = () => new StrictIptables({ family: 'IPv4', variant: 'legacy' })
const add = (machine: StrictIptables, ...lines: string[]) =>
  machine.restore(`*nat\n${lines.join('\n')}\nCOMMIT\n`, { noflush: true })
const rules = (machine: StrictIptables) =>
  machine
    .save('nat')
    .split('\n')
    .filter(line => line.startsWith('-A'))

test('a table is written whole or not at all', () => {
  const machine = nft()
  add(machine, ':A - [0:0]', '-A A -j ACCEPT')
  const before = machine.save()
  expect(add(machine, ':A - [0:0]', '-A A -j RETURN', '-A B -j RETURN').exitCode).toBe(1)
  expect(machine.save()).toBe(before)
})

test('a table committed before the one that fails stays', () => {
  const machine = legacy()
  const text = '*filter\n:F - [0:0]\nCOMMIT\n*nat\n-A NOPE -j ACCEPT\nCOMMIT\n'
  expect(machine.restore(text, { noflush: true })).toEqual({
    exitCode: 1,
    stdout: '',
    stderr: 'iptables-restore: line 5 failed\n',
  })
  expect(machine.save('filter')).toContain(':F - [0:0]')
})

test('the two variants name a missing chain in their own words', () => {
  expect(add(nft(), '-A PREROUTING -j NOPE').stderr).toBe(
    "iptables-nft-restore v1.8.9 (nf_tables): Chain 'NOPE' does not exist\nError occurred at line: 3\n" +
      "Try `iptables-nft-restore -h' or 'iptables-nft-restore --help' for more information.\n",
  )
  expect(add(legacy(), '-A PREROUTING -j NOPE').stderr).toContain("Couldn't load target `NOPE'")
})

test('a chain in use or with rules cannot be deleted', () => {
  for (const machine of [nft(), legacy()]) {
    add(machine, ':A - [0:0]', ':B - [0:0]', '-A A -j B')
    expect(add(machine, '-X A').exitCode).not.toBe(0)
    expect(add(machine, '-X B').exitCode).not.toBe(0)
    expect(add(machine, ':A - [0:0]', '-X B', '-X A').exitCode).toBe(0)
    expect(machine.save('nat')).not.toContain(':A ')
  }
})

test('the kernel refuses loops, and nft chains deeper than fifteen jumps', () => {
  const chain = (depth: number) => [
    ...Array.from({ length: depth }, (_, index) => `:C${index} - [0:0]`),
    ...Array.from({ length: depth - 1 }, (_, index) => `-A C${index} -j C${index + 1}`),
    '-A PREROUTING -j C0',
  ]
  expect(add(nft(), ...chain(15)).exitCode).toBe(0)
  expect(add(nft(), ...chain(16)).stderr).toContain('line 33: RULE_APPEND failed (Too many links)')
  expect(add(legacy(), ...chain(16)).exitCode).toBe(0)
  const loop = [':A - [0:0]', ':B - [0:0]', '-A A -j B', '-A B -j A']
  expect(add(legacy(), ...loop).exitCode).toBe(0)
  expect(add(legacy(), ...loop, '-A PREROUTING -j A').stderr).toBe('iptables-restore: line 7 failed\n')
})

test('targets work only where their hooks reach', () => {
  const masquerade = [':A - [0:0]', '-A A -j MASQUERADE']
  expect(add(nft(), ...masquerade, '-A POSTROUTING -j A').exitCode).toBe(0)
  expect(add(nft(), ...masquerade, '-A PREROUTING -j A')).toMatchObject({
    exitCode: 4,
    stderr: expect.stringContaining('line 4: RULE_APPEND failed (Invalid argument): rule in chain PREROUTING'),
  })
  expect(add(nft(), '-A OUTPUT -j DROP').stderr).toContain('not intended for filtering')
})

test('rules are saved in one form however they were written', () => {
  const machine = nft()
  add(
    machine,
    '-A OUTPUT -m comment --comment "a b" -m tcp -p tcp -d 10.0.0.1 --dport 80 ! -s 10.1.2.3/8 -j MARK --or-mark 0x004000',
    '-A OUTPUT -m recent --name X --rcheck --seconds 10 --reap -m statistic --mode random --probability 0.3333333333 -j ACCEPT',
  )
  expect(rules(machine)).toEqual([
    '-A OUTPUT ! -s 10.0.0.0/8 -d 10.0.0.1/32 -p tcp -m comment --comment "a b" -m tcp --dport 80 -j MARK --set-xmark 0x4000/0x4000',
    '-A OUTPUT -m recent --rcheck --seconds 10 --reap --name X --mask 255.255.255.255 --rsource -m statistic --mode random --probability 0.33333333349 -j ACCEPT',
  ])
})

test('failures are injected one restore at a time', () => {
  const machine = nft()
  machine.failNext({ kind: 'lock' }, { kind: 'permission' })
  expect(add(machine, ':A - [0:0]')).toMatchObject({ exitCode: 4, stderr: expect.stringContaining('xtables lock') })
  expect(add(machine, ':A - [0:0]')).toMatchObject({
    exitCode: 4,
    stderr: expect.stringContaining('Permission denied'),
  })
  expect(machine.save()).toBe('')
  expect(add(machine, ':A - [0:0]').exitCode).toBe(0)
})

test('a killed restore leaves the tables it had committed', () => {
  const machine = nft()
  machine.failNext({ kind: 'killed', afterTables: 1 })
  const text = '*filter\n:F - [0:0]\nCOMMIT\n*nat\n:N - [0:0]\nCOMMIT\n'
  expect(machine.restore(text, { noflush: true }).exitCode).toBe(-1)
  expect(machine.save('filter')).toContain(':F ')
  expect(machine.save('nat')).not.toContain(':N ')
})

test('rules that a test names are refused as the kernel refuses them', () => {
  const machine = nft()
  machine.refuse(rule => rule.includes('10.0.0.66'))
  expect(add(machine, '-A OUTPUT -d 10.0.0.1 -j ACCEPT', '-A OUTPUT -d 10.0.0.66 -j ACCEPT')).toMatchObject({
    exitCode: 4,
    stderr: expect.stringContaining('line 3: RULE_APPEND failed (Invalid argument)'),
  })
  expect(rules(machine)).toEqual([])
})

test('what is written is counted', () => {
  const machine = nft()
  add(machine, ':A - [0:0]', '-A A -j ACCEPT', '-A OUTPUT -j A')
  add(machine, '-D OUTPUT -j A')
  expect(machine.counts).toEqual({ restores: 2, commits: 2, chains: 1, rules: 2, deletions: 1 })
  machine.resetCounts()
  expect(machine.counts.restores).toBe(0)
})

test('every commit is seen as it takes effect', () => {
  const machine = nft()
  const seen: string[] = []
  machine.onCommit(table => seen.push(`${table} ${machine.save(table).includes(':A ')}`))
  machine.restore('*filter\n:A - [0:0]\nCOMMIT\n*nat\nCOMMIT\n', { noflush: true })
  expect(seen).toEqual(['filter true', 'nat false'])
})

test('the programs answer by name', async () => {
  const exec = new StrictExec({ variants: ['nft', 'legacy'], alternative: 'legacy' })
  expect((await exec.run('ip6tables-nft', ['--version'])).stdout).toBe('ip6tables v1.8.9 (nf_tables)\n')
  expect((await exec.run('iptables', ['--version'])).stdout).toBe('iptables v1.8.9 (legacy)\n')
  expect((await exec.run('nft', ['-v'])).notFound).toBe(true)
  const input = '*nat\n:A - [0:0]\nCOMMIT\n'
  const written = await exec.run('iptables-legacy-restore', ['--noflush', '-w', '5'], { input })
  expect(written).toEqual({ exitCode: 0, stdout: '', stderr: '', notFound: false })
  expect((await exec.run('iptables-save', ['-t', 'nat'])).stdout).toContain('\n:A - [0:0]\n')
  expect((await exec.run('iptables-nft-save', [])).stdout).toBe('')
  expect((await exec.run('iptables-nft-save', ['-t', 'nope'])).exitCode).toBe(1)
  expect((await exec.run('iptables-nft-restore', ['--frobnicate'])).exitCode).toBe(1)
  expect((await new StrictExec({ variants: ['nft'] }).run('iptables-legacy', ['--version'])).notFound).toBe(true)
})
