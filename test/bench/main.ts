// Measures programs at scale, or single steps of ours: `node main.ts [options]`; --help says which.
import { execFile } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { availableParallelism, cpus, release, totalmem } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { version } from '../../src/version.ts'
import { findMeans } from '../support/netns/sandbox.ts'
import { formatBars } from './bars.ts'
import { formatComparison } from './compare.ts'
import { measure } from './measure.ts'
import { runMicro } from './micro.ts'
import { type Kind, kinds, type Options, parseOptions, usage } from './options.ts'
import { formatPlots } from './plot.ts'
import { leastDisturbed } from './quiet.ts'
import { type Figures, formatReport, type Machine, type Micro, parseReport, type Report, schema } from './report.ts'
import type { Case } from './setup.ts'
import { formatMachine, formatMicro, formatTables } from './table.ts'

const run = promisify(execFile)

/** All but IPVS, where the kernel has none: its listing in /proc is there once the module is loaded. */
async function possible(): Promise<Kind[]> {
  await run('ipvsadm', ['-Ln']).catch(() => undefined)
  return kinds.filter(kind => kind !== 'ipvs' || existsSync('/proc/net/ip_vs'))
}

async function versionOf(program: string): Promise<string> {
  try {
    const { stdout } = await run(program, ['--version'])
    return stdout.trim().replace(/ \(.*/, '')
  } catch {
    return `no ${program}`
  }
}

const machine = async (): Promise<Machine> => ({
  date: new Date().toISOString().slice(0, 10),
  processor: cpus()[0]?.model ?? 'unknown',
  cores: availableParallelism(),
  memoryGiB: totalmem() / 2 ** 30,
  kernel: release(),
  iptables: await versionOf('iptables'),
  nft: await versionOf('nft'),
  node: process.version,
  penstock: version,
})

/** Every program in turn on each case, so that both meet the same weather. */
function casesOf(options: Options, wantedKinds: readonly Kind[]): Case[] {
  const programs = options.peer === undefined ? [undefined] : [undefined, options.peer]
  const shapes = options.services.map(services => ({ services, endpoints: options.endpoints, isLarge: false }))
  const large = options.scenarios.has('large') ? [{ services: 1, endpoints: options.large, isLarge: true }] : []
  return wantedKinds.flatMap(kind =>
    [...shapes, ...large].flatMap(shape => programs.map(peer => ({ ...shape, kind, peer }))),
  )
}

const say = (line: string): void => console.error(line)

async function measureAll(options: Options, found: (figures: readonly Figures[]) => void): Promise<void> {
  const means = await findMeans()
  if (means.kind === 'none') throw new Error(`this machine allows no namespaces: ${means.reason}`)
  const cases = casesOf(options, options.kinds ?? (await possible()))
  const figures: Figures[] = []
  for (const [place, wanted] of cases.entries()) {
    const { services, endpoints, kind, peer } = wanted
    say(`${place + 1} of ${cases.length}: ${services} × ${endpoints}, ${kind}, ${peer?.name ?? 'penstock'}`)
    figures.push(await leastDisturbed(options.tries, () => measure(means, wanted, options, say), say))
    found(figures)
  }
}

function writePlots(folder: string, figures: readonly Figures[]): void {
  mkdirSync(folder, { recursive: true })
  for (const [name, text] of formatPlots(figures)) writeFileSync(join(folder, name), text)
}

async function main(options: Options): Promise<void> {
  if (options.help) {
    console.log(usage)
    return
  }
  const { json, svg, compare } = options
  // A file that cannot be read is better found out before than after an hour.
  const earlier = compare === undefined ? undefined : parseReport(readFileSync(compare, 'utf8'), compare)
  const where = await machine()
  let now: Report = { schema, machine: where, figures: [], micro: [] }
  const keep = (part: { figures: readonly Figures[] } | { micro: readonly Micro[] }): void => {
    now = { ...now, ...part }
    if (json !== undefined) writeFileSync(json, formatReport(now))
  }
  if (options.micro) keep({ micro: await runMicro(say) })
  else {
    if (options.kinds === undefined && !(await possible()).includes('ipvs')) {
      say('ipvs is left out: this kernel has no IPVS')
    }
    await measureAll(options, figures => keep({ figures }))
    if (svg !== undefined) writePlots(svg, now.figures)
  }
  const tables = options.micro ? formatMicro(now.micro) : `${formatTables(now.figures)}${formatBars(now.figures)}`
  console.log(`${formatMachine(where)}\n\n${tables}`)
  if (earlier !== undefined) console.log(formatComparison(earlier, now))
}

const fail = (status: number) => (error: unknown) => {
  process.stderr.write(`hack/bench: ${error instanceof Error ? error.message : String(error)}\n`)
  process.exitCode = status
}

try {
  const options = parseOptions(process.argv.slice(2))
  main(options).catch(fail(1))
} catch (error) {
  fail(2)(error)
}
