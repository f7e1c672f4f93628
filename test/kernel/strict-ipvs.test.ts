// The strict IPVS machine against this machine's ipset, ip and iptables; ipvsadm needs a kernel with IPVS: test/vm.
import { execFileSync } from 'node:child_process'
import { expect, test } from 'vitest'
import { type Answer, type Case, programsOf, sampleCases, strictAnswers } from '../support/strict-ipvs/cases.ts'
import { crowdedCases, randomCases } from '../support/strict-ipvs/random.ts'
import { realAnswers } from '../support/strict-ipvs/real.ts'

const asRoot = process.getuid?.() === 0

/** Some kernels have no dummy devices; a bridge without ports has addresses in the same way. */
function deviceType(): 'dummy' | 'bridge' {
  const [command = '', ...args] = [...(asRoot ? ['unshare', '-n'] : ['unshare', '-Urn']), 'ip', 'link', 'add', 'x']
  try {
    execFileSync(command, [...args, 'type', 'dummy'], { stdio: 'ignore' })
    return 'dummy'
  } catch {
    return 'bridge'
  }
}

/** What newer kernels say in words of their own, in those of Linux 6.1. */
const newerWords: readonly [RegExp, string][] = [
  [/^Error: ipv[46]: [Aa]ddress already assigned\.$/, 'RTNETLINK answers: File exists'],
  [/^Error: ipv[46]: [Aa]ddress not found\.$/, 'RTNETLINK answers: Cannot assign requested address'],
  [/^Error: ipv6: Invalid address\.$/, 'RTNETLINK answers: Cannot assign requested address'],
  [/^Error: ipv6: Cannot assign multicast address .*$/, 'RTNETLINK answers: Cannot assign requested address'],
]

const inOldWords = (answers: readonly Answer[]): readonly Answer[] =>
  answers.map(answer => ({
    ...answer,
    call: answer.call.replace('type bridge', 'type dummy'),
    stdout: answer.stdout.map(line =>
      line.replace(' tentative ', ' ').replace('<BROADCAST,MULTICAST>', '<BROADCAST,NOARP>'),
    ),
    stderr: answer.stderr.map(line => newerWords.reduce((text, [from, to]) => text.replace(from, to), line)),
  }))

async function compare(cases: readonly Case[]): Promise<void> {
  expect(cases.length).toBeGreaterThan(0)
  const type = deviceType()
  const asked = cases.map(one => ({
    ...one,
    steps: one.steps.map(({ words, input }) => ({
      words: words.map(word => (word === 'dummy' ? type : word)),
      input: input.replaceAll('type dummy', `type ${type}`),
    })),
  }))
  const real = realAnswers(asked)
  for (const [index, one] of cases.entries()) {
    const answers = await strictAnswers(one)
    expect({ one, answers }).toEqual({ one, answers: inOldWords(real[index] ?? []) })
  }
}

const samples = sampleCases().filter(one => !programsOf(one).has('ipvsadm'))

test('ipset answers every sample as the real one', () =>
  compare(samples.filter(({ name }) => name.startsWith('ipset'))))
test('ipset hands elements over together as the real one', () => compare(crowdedCases()))
test('ip answers every sample as the real one', () => compare(samples.filter(({ name }) => name.startsWith('ip:'))))
test('iptables meets IP sets as the real one', () => compare(samples.filter(({ name }) => name.startsWith('xtables'))))
test('ipset answers random inputs as the real one', () => compare(randomCases('ipset', 150)))
test('ip answers random inputs as the real one', () => compare(randomCases('ip', 100)))
