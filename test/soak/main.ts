// A soak from the command line: `node main.ts [--seconds N] …`. Status 0 only if the program stood it.
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import type { ProxyMode } from '../../src/config/types.ts'
import type { Variant } from '../daemon/kernel-node.ts'
import { runSoak, type SoakOptions, type SoakReport } from './soak.ts'

const usage = `usage: hack/soak [options]
Runs the daemon in namespaces of its own against an API server, while Services and endpoints change all the time and what
can break breaks: API server, kernel rules, tools, the process, its configuration. After every minute of it the faults end,
and the kernel must hold exactly what a fresh run puts into an empty one; in the end memory must be level and nothing left.
  --seconds N    how long to make trouble (default 300)
  --mode M       iptables (default), nftables or ipvs; ipvs needs a kernel that has it: hack/vm hack/soak --mode ipvs --slow 10
  --variant V    of iptables: nft (default) or legacy
  --seed WORD    the same word makes the same changes and faults (default: another one each time)
  --services N   about how many Services (default 100)
  --round N      seconds between two comparisons (default 60)
  --slow N       this machine is N times slower than others, as hack/vm's is some 10 times: wait longer`

const modes: readonly ProxyMode[] = ['iptables', 'nftables', 'ipvs']
const variants: readonly Variant[] = ['nft', 'legacy']

function whole(name: string, text: string): number {
  const value = Number(text)
  if (/^\d+$/.test(text) && value >= 1 && Number.isSafeInteger(value)) return value
  throw new Error(`--${name} ${text}: expected a whole number from 1`)
}

function oneOf<T extends string>(name: string, text: string, known: readonly T[]): T {
  const found = known.find(word => word === text)
  if (found !== undefined) return found
  throw new Error(`--${name} ${text}: expected ${known.join(' or ')}`)
}

function optionsOf(argv: readonly string[]): SoakOptions | undefined {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      seconds: { type: 'string', default: '300' },
      mode: { type: 'string', default: 'iptables' },
      variant: { type: 'string', default: 'nft' },
      seed: { type: 'string', default: Math.random().toString(36).slice(2, 10) },
      services: { type: 'string', default: '100' },
      round: { type: 'string', default: '60' },
      slow: { type: 'string', default: '1' },
      help: { type: 'boolean', short: 'h', default: false },
    },
  })
  if (values.help) return undefined
  return {
    seconds: whole('seconds', values.seconds),
    mode: oneOf('mode', values.mode, modes),
    variant: oneOf('variant', values.variant, variants),
    seed: values.seed,
    services: whole('services', values.services),
    roundSeconds: whole('round', values.round),
    slowness: whole('slow', values.slow),
    program: join(import.meta.dirname, '../../dist/penstock.js'),
    say: line => console.log(line),
  }
}

function summary({ failures, rounds, changes, troubles, answers, growth, kept }: SoakReport): string {
  const faults = [...troubles.values()].reduce((sum, count) => sum + count, 0)
  const lives = growth.map(({ lastedMs, residentBytes, grownBytes }) => {
    const grown =
      grownBytes === undefined ? 'too short to tell' : `${(grownBytes / 1e6).toFixed(1)} MB more than when warm`
    return `  a process of ${Math.round(lastedMs / 1000)} s: ${(residentBytes / 1e6).toFixed(1)} MB at its end, ${grown}`
  })
  return [
    `${changes} changes and ${faults} faults of ${troubles.size} kinds in ${rounds} rounds; ${answers} answers of its servers looked at.`,
    ...lives,
    failures.length === 0
      ? 'The program stood it.'
      : `It did not stand it:\n${failures.map(each => `- ${each}`).join('\n')}`,
    ...(kept === undefined ? [] : [`Logs, objects and rules are kept in ${kept}`]),
  ].join('\n')
}

async function main(): Promise<boolean> {
  const options = optionsOf(process.argv.slice(2))
  if (options === undefined) {
    console.log(usage)
    return true
  }
  const { seconds, mode, variant, seed, services, roundSeconds, slowness } = options
  const again =
    `hack/soak --seconds ${seconds} --mode ${mode} --variant ${variant} --seed ${seed} --services ${services} ` +
    `--round ${roundSeconds} --slow ${slowness}`
  console.log(`Seed ${seed}; again: ${again}`)
  const report = await runSoak(options)
  console.log(summary(report))
  return report.failures.length === 0
}

main().then(
  good => {
    process.exitCode = good ? 0 : 1
  },
  (error: unknown) => {
    process.stderr.write(`hack/soak: ${error instanceof Error ? error.message : String(error)}\n`)
    process.exitCode = 1
  },
)
