// Holds the strict IPVS machine against the real tools on a kernel with IPVS:
//   hack/vm node_modules/.bin/node test/vm/strict-ipvs.ts
// and, to record what they answer for the tests that need neither root nor IPVS:
//   hack/vm --out test/support/strict-ipvs node_modules/.bin/node test/vm/strict-ipvs.ts --record
import { deepStrictEqual } from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { release } from 'node:os'
import { answersFile, type Case, printAnswers, sampleCases, strictAnswers } from '../support/strict-ipvs/cases.ts'
import { randomCases } from '../support/strict-ipvs/random.ts'
import { realAnswers } from '../support/strict-ipvs/real.ts'

const say = (line: string): boolean => process.stdout.write(`${line}\n`)

/** How many cases are answered otherwise; each is printed. */
async function differences(cases: readonly Case[]): Promise<number> {
  const real = realAnswers(cases)
  let different = 0
  for (const [index, one] of cases.entries()) {
    try {
      deepStrictEqual(await strictAnswers(one), real[index])
    } catch (error) {
      different++
      say(`${one.name}:\n${error instanceof Error ? error.message : error}`)
    }
  }
  return different
}

function record(cases: readonly Case[]): void {
  const version = (program: string, ...args: string[]) => execFileSync(program, args, { encoding: 'utf8' }).trim()
  const tools = [version('ipvsadm', '--version'), version('ip', '-V')]
  const answers = realAnswers(cases)
  const sections = cases.map(({ name }, index) => printAnswers(name, answers[index] ?? []))
  writeFileSync(answersFile, `Recorded on Linux ${release()} with ${tools.join(' and ')}.\n${sections.join('')}`)
}

// ipset and iptables are held against the machine's own in test/kernel/strict-ipvs.test.ts.
const samples = sampleCases().filter(({ name }) => /^ip(?:vsadm)?: /.test(name))
if (process.argv.includes('--record')) record(samples)
else {
  const cases = [...samples, ...randomCases('ipvsadm', 60), ...randomCases('ip', 20)]
  const different = await differences(cases)
  say(`${cases.length} cases on Linux ${release()}, ${different} answered otherwise`)
  process.exitCode = different === 0 ? 0 : 1
}
