// Random clusters and packets through every backend: `node main.ts [--packets N] [--seed S] …`. Status 0 only if all agree.
import { parseArgs } from 'node:util'
import { packetsPerCluster, runTrial, summed, type TrialResult } from './campaign.ts'
import { defaultSeed, realDifferential, usualRealClusters } from './kernel.ts'
import { modes } from './modes.ts'
import { described, replayOf } from './report.ts'

const usage = `usage: hack/differential [options]
Makes random clusters, traces random packets through the rules that every backend compiles, and compares the answers with
the policy and the written differences of the modes.
  --packets N     packets to trace (default 100000), ${packetsPerCluster} a cluster
  --seed S        any word; the same word makes the same clusters and packets (default ${defaultSeed}); random: another one each time
  --clusters A-B  only these clusters, or one: A
  --packet N      only this packet of each cluster
  --kernel        sends a sample of packets for real, in network namespaces, and compares with the rules the kernel holds`

const say = (line: string): void => console.log(line)

interface Options {
  readonly seed: string
  readonly first: number
  readonly last: number
  readonly packets: number
  readonly only?: number
  readonly kernel: boolean
}

function whole(name: string, text: string): number {
  const value = Number(text)
  if (/^\d+$/.test(text) && value >= 1 && Number.isSafeInteger(value)) return value
  throw new Error(`--${name} ${text}: expected a whole number from 1`)
}

function optionsOf(argv: readonly string[]): Options | undefined {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      packets: { type: 'string' },
      seed: { type: 'string', default: defaultSeed },
      clusters: { type: 'string' },
      packet: { type: 'string' },
      kernel: { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h', default: false },
    },
  })
  if (values.help) return undefined
  const seed = values.seed === 'random' ? Math.random().toString(36).slice(2, 10) : values.seed
  if (!/^[\w.-]+$/.test(seed)) throw new Error(`--seed ${seed}: expected letters and digits`)
  const [first, last] = (values.clusters ?? '').split('-')
  const from = values.clusters === undefined ? 1 : whole('clusters', first ?? '')
  const to = last === undefined ? from : whole('clusters', last)
  if (to < from) throw new Error(`--clusters ${values.clusters}: the first is greater than the last`)
  const given = values.packets === undefined ? undefined : whole('packets', values.packets)
  const packets = given ?? (values.clusters === undefined ? 100_000 : (to - from + 1) * packetsPerCluster)
  return {
    seed,
    first: from,
    last:
      values.clusters !== undefined ? to : values.kernel ? usualRealClusters : Math.ceil(packets / packetsPerCluster),
    packets,
    ...(values.packet === undefined ? {} : { only: whole('packet', values.packet) }),
    kernel: values.kernel,
  }
}

async function traceAll({ seed, first, last, packets, only }: Options): Promise<boolean> {
  const clusters = first === last ? `cluster ${first}` : `clusters ${first} to ${last}`
  say(
    `Seed ${seed}, ${clusters}, ${only === undefined ? `${packets} packets` : `packet ${only}`}, modes ${modes.join(', ')}.`,
  )
  const began = performance.now()
  const results: TrialResult[] = []
  let left = packets
  let said = began
  for (let cluster = first; cluster <= last && left > 0; cluster++) {
    const count = Math.min(left, packetsPerCluster)
    left -= count
    const result = await runTrial({ seed, cluster, packets: only === undefined ? count : { only }, modes })
    results.push(result)
    if (result.disagreements.length > 0) break
    if (performance.now() - said < 5_000) continue
    said = performance.now()
    say(`  ${summed(results).traced} packets, ${cluster - first + 1} clusters, ${((said - began) / 1000).toFixed(0)} s`)
  }
  const { traced, disagreements, verdicts } = summed(results)
  const counts = [...verdicts].sort(([, a], [, b]) => b - a).map(([verdict, count]) => `${count} ${verdict}`)
  say(
    `${traced} packets into ${results.length} clusters in ${((performance.now() - began) / 1000).toFixed(1)} s: ${counts.join('; ')}.`,
  )
  if (disagreements.length === 0) {
    say(`All of ${modes.join(', ')} answer as they must.`)
    return true
  }
  say('They do not agree:')
  for (const disagreement of disagreements) {
    say(`  ${disagreement.mode}: ${replayOf(seed, disagreement)}`)
  }
  for (const disagreement of disagreements) say(`\n${await described(seed, disagreement)}`)
  return false
}

async function main(): Promise<boolean> {
  const options = optionsOf(process.argv.slice(2))
  if (options === undefined) {
    say(usage)
    return true
  }
  if (options.kernel) return realDifferential({ ...options, say })
  return traceAll(options)
}

main().then(
  good => {
    process.exitCode = good ? 0 : 1
  },
  (error: unknown) => {
    process.stderr.write(`hack/differential: ${error instanceof Error ? error.message : String(error)}\n`)
    process.exitCode = 2
  },
)
