// The strict iptables of the fast tests against the real tools: the same inputs must be taken, refused and saved alike.
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { Family } from '../../src/net/ip.ts'
import { sampleInputs } from '../support/strict-iptables/inputs.ts'
import { StrictIptables } from '../support/strict-iptables/strict-iptables.ts'
import type { Variant } from '../support/strict-iptables/tables.ts'

interface Case {
  readonly name: string
  readonly family: Family
  readonly inputs: readonly { readonly text: string; readonly noflush: boolean }[]
}

/** After one input. */
interface Result {
  readonly exitCode: number
  readonly stderr: string
  /** Lines of the tables that are compared, without comments. */
  readonly saved: readonly string[]
}

const tables = ['filter', 'nat', 'mangle']
const toolName = (family: Family, variant: Variant) => `${family === 'IPv4' ? 'iptables' : 'ip6tables'}-${variant}`
const lines = (text: string) => text.split('\n').filter(line => line !== '' && !line.startsWith('#'))

/** Runs all cases with the real tools, each in a network namespace of its own. */
function real(cases: readonly Case[], variant: Variant): Result[][] {
  const directory = mkdtempSync(join(tmpdir(), 'strict-iptables-'))
  try {
    const script = ['cd "$1" || exit 1', 'export XTABLES_LOCKFILE="$1/lock"']
    for (const [number, { family, inputs }] of cases.entries()) {
      mkdirSync(join(directory, `${number}`))
      const tool = toolName(family, variant)
      const steps = inputs.flatMap(({ text, noflush }, step) => {
        const base = `${number}/${step}`
        writeFileSync(join(directory, base), text)
        const save = tables.map(table => `${tool}-save -t ${table} >>${base}.save`)
        return [
          `${tool}-restore ${noflush ? '--noflush' : ''} <${base} >${base}.out 2>${base}.err`,
          `echo $? >${base}.rc`,
          ...save,
        ]
      })
      // The set is there for rules that match it.
      const create = `ipset create hp hash:ip,port,ip${family === 'IPv6' ? ' family inet6' : ''}`
      const body = [create, ...steps].join('\n')
      writeFileSync(join(directory, `${number}/script`), body)
      script.push(`unshare -n sh "$1/${number}/script"`)
    }
    const inside = ['sh', '-c', script.join('\n'), 'sh', directory]
    const [command = '', ...args] = process.getuid?.() === 0 ? inside : ['unshare', '-Urn', ...inside]
    execFileSync(command, args, { stdio: ['ignore', 'ignore', 'inherit'] })
    return cases.map(({ inputs }, number) =>
      inputs.map((_, step) => {
        const read = (suffix: string) => readFileSync(join(directory, `${number}/${step}.${suffix}`), 'utf8')
        return { exitCode: Number(read('rc')), stderr: read('err').replace(/\s+$/gm, ''), saved: lines(read('save')) }
      }),
    )
  } finally {
    rmSync(directory, { recursive: true })
  }
}

function strict(one: Case, variant: Variant): Result[] {
  const machine = new StrictIptables({ family: one.family, variant, sets: ['hp'] })
  return one.inputs.map(({ text, noflush }) => {
    const { exitCode, stderr } = machine.restore(text, { noflush })
    const saved = tables.flatMap(table => lines(machine.save(table)))
    return { exitCode, stderr: stderr.replace(/\s+$/gm, ''), saved }
  })
}

const samples: Case[] = sampleInputs().map(({ name, family, text, noflush }) => ({
  name,
  family,
  inputs: [{ text, noflush }],
}))

const chain = fc.constantFrom('A', 'B', 'C', 'PENSTOCK-D')
// Positions and deletions only in chains that are not flushed on the way: iptables 1.8.9 over nf_tables then counts the
// rules that were there before.
const builtIn = fc.constantFrom('PREROUTING', 'OUTPUT', 'POSTROUTING')
const anyChain = fc.oneof({ weight: 3, arbitrary: chain }, { weight: 1, arbitrary: builtIn })

const fragments = {
  IPv4: ['-s 10.1.2.3', '! -d 10.96.0.0/16', '-s 10.244.0.7/24', '-j DNAT --to-destination 10.1.2.3:80'],
  IPv6: ['-s fd00::3', '! -d fd00:10:96::/112', '-s fd00:10:244::7/64', '-j DNAT --to-destination [fd00::3]:80'],
}

const matches = [
  ...['-p tcp', '-p udp -m udp --dport 53', '-p tcp --dport 80', '! -p sctp', '-p sctp -m sctp --dport 1:9', '-i eth0'],
  ...[
    '-o veth+',
    '-m mark --mark 0x4000/0x4000',
    '-m conntrack --ctstate ESTABLISHED,NEW',
    '-m addrtype --src-type LOCAL',
  ],
  ...[
    '-m statistic --mode random --probability 0.14285714',
    '-m comment --comment "ns/name -> x"',
    '-m comment --comment plain',
  ],
  ...['-m recent --name R --set', '-m recent --name R --rcheck --seconds 5 --reap'],
]
const jumps = [
  ...['ACCEPT', 'RETURN', 'DROP', 'MASQUERADE --random-fully', 'MASQUERADE', 'REJECT', 'MARK --or-mark 0x4000'],
  ...['MARK --xor-mark 1', 'MISSING', 'OUTPUT'],
]

const ruleOf = (family: Family) =>
  fc
    .tuple(
      fc.subarray([...matches, ...fragments[family].slice(0, 3)], { maxLength: 3 }),
      fc.oneof(
        { weight: 3, arbitrary: fc.tuple(fc.constantFrom('-j ', '-g '), chain).map(words => words.join('')) },
        { weight: 3, arbitrary: fc.constantFrom(...jumps).map(to => `-j ${to}`) },
        { weight: 1, arbitrary: fc.constantFrom(fragments[family][3] ?? '', '') },
      ),
    )
    .map(([words, to]) => [...words, to].join(' '))

const commandOf = (family: Family) =>
  fc.oneof(
    { weight: 5, arbitrary: fc.tuple(anyChain, ruleOf(family)).map(([name, rule]) => `-A ${name} ${rule}`) },
    { weight: 2, arbitrary: fc.tuple(anyChain, ruleOf(family)).map(([name, rule]) => `-I ${name} ${rule}`) },
    {
      weight: 1,
      arbitrary: fc.tuple(builtIn, fc.integer({ min: 1, max: 3 })).map(([name, at]) => `-I ${name} ${at} -j RETURN`),
    },
    {
      weight: 1,
      arbitrary: fc.tuple(builtIn, fc.integer({ min: 1, max: 3 })).map(([name, at]) => `-D ${name} ${at}`),
    },
    { weight: 1, arbitrary: builtIn.map(name => `-D ${name} -j RETURN`) },
    { weight: 4, arbitrary: chain.map(name => `:${name} - [0:0]`) },
    { weight: 2, arbitrary: chain.map(name => `-X ${name}`) },
    { weight: 1, arbitrary: chain.map(name => `-F ${name}`) },
    { weight: 1, arbitrary: chain.map(name => `-N ${name}`) },
  )

/** Most inputs make all chains first, so that more than the first command is carried out. */
const inputOf = (family: Family) =>
  fc
    .record({
      table: fc.constantFrom('nat', 'nat', 'nat', 'mangle'),
      prelude: fc.constantFrom(['A', 'B', 'C', 'PENSTOCK-D'], ['A', 'B'], []),
      commands: fc.array(commandOf(family), { minLength: 1, maxLength: 6 }),
      noflush: fc.constantFrom(true, true, true, false),
    })
    .map(({ table, prelude, commands, noflush }) => {
      const declared = prelude.map(name => `:${name} - [0:0]`)
      return { noflush, text: [`*${table}`, ...declared, ...commands, 'COMMIT', ''].join('\n') }
    })

function randomCases(family: Family): Case[] {
  const sequences = fc.sample(fc.array(inputOf(family), { minLength: 1, maxLength: 4 }), {
    numRuns: 120,
    seed: 20_260_730,
  })
  return sequences.map((inputs, number) => ({ name: `random ${number}`, family, inputs }))
}

test.each(['nft', 'legacy'] as const)('every sample is taken, refused and saved as by the real %s tools', variant => {
  const results = real(samples, variant)
  for (const [index, one] of samples.entries()) {
    // A segmentation fault is 139 in a shell.
    const expected = results[index]?.map(result => ({
      ...result,
      exitCode: result.exitCode === 139 ? -1 : result.exitCode,
    }))
    expect({ name: one.name, results: strict(one, variant) }).toEqual({ name: one.name, results: expected })
  }
})

test.each([
  ['nft', 'IPv4'],
  ['nft', 'IPv6'],
  ['legacy', 'IPv4'],
  ['legacy', 'IPv6'],
] as const)('random inputs lead to the same tables as the real %s tools, %s', (variant, family) => {
  const cases = randomCases(family)
  const results = real(cases, variant)
  for (const [index, one] of cases.entries()) {
    expect({ one, results: strict(one, variant) }).toEqual({ one, results: results[index] })
  }
})
