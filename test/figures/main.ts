// Measures the program at scale: `node main.ts [--services N,N] [--endpoints N] [--kind nftables,ipvs] [--changes N]`.
import { execFile } from 'node:child_process'
import { existsSync, writeFileSync } from 'node:fs'
import { availableParallelism, release, totalmem } from 'node:os'
import { parseArgs, promisify } from 'node:util'
import { findMeans } from '../support/netns/sandbox.ts'
import { type Case, type Figures, type Kind, kinds, measure } from './measure.ts'
import { mostServices } from './objects.ts'
import { formatBars, formatTable, type Machine } from './table.ts'

const usage = `usage: hack/figures [options]
  --services N,N          numbers of Services (default 1000,10000)
  --endpoints N           endpoints of each (default 5)
  --kind K,K              of ${kinds.join(', ')} (default: all that this kernel can)
  --changes N             changes of one EndpointSlice that are timed (default 30)
  --wait SECONDS          for a quiet machine, before each case, at most (default 60)
  --json FILE             write the figures as JSON too
  --node-options=OPTIONS  for the Node that runs the program, such as --node-options=--cpu-prof`

function numbers(name: string, text: string, most: number, least = 1): number[] {
  return text.split(',').map(word => {
    const value = Number(word)
    if (!Number.isInteger(value) || value < least || value > most) {
      throw new Error(`--${name} ${text}: expected whole numbers from ${least} to ${most}`)
    }
    return value
  })
}

function kindsOf(text: string): Kind[] {
  return text.split(',').map(word => {
    const kind = kinds.find(known => known === word)
    if (kind === undefined) throw new Error(`--kind ${text}: expected ${kinds.join(', ')}`)
    return kind
  })
}

/** All but IPVS, where the kernel has none: its listing in /proc is there once the module is loaded. */
async function possible(): Promise<Kind[]> {
  await promisify(execFile)('ipvsadm', ['-Ln']).catch(() => undefined)
  return kinds.filter(kind => kind !== 'ipvs' || existsSync('/proc/net/ip_vs'))
}

async function machine(): Promise<Machine> {
  const { stdout } = await promisify(execFile)('iptables', ['--version'])
  return {
    date: new Date().toISOString().slice(0, 10),
    cores: availableParallelism(),
    memoryGiB: totalmem() / 2 ** 30,
    kernel: release(),
    iptables: stdout.trim().replace(/ \(.*/, ''),
    node: process.version,
  }
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      services: { type: 'string', default: '1000,10000' },
      endpoints: { type: 'string', default: '5' },
      kind: { type: 'string' },
      changes: { type: 'string', default: '30' },
      wait: { type: 'string', default: '60' },
      json: { type: 'string' },
      'node-options': { type: 'string', default: '' },
      help: { type: 'boolean', short: 'h', default: false },
    },
  })
  if (values.help) {
    console.log(usage)
    return
  }
  const [endpoints = 5] = numbers('endpoints', values.endpoints, 1_000)
  const [changes = 30] = numbers('changes', values.changes, 10_000)
  const [waitSeconds = 60] = numbers('wait', values.wait, 3_600, 0)
  const nodeOptions = values['node-options'].split(' ').filter(word => word !== '')
  const wantedKinds = values.kind === undefined ? await possible() : kindsOf(values.kind)
  const cases: Case[] = wantedKinds.flatMap(kind =>
    numbers('services', values.services, mostServices).map(services => {
      return { services, endpoints, kind, changes: Math.min(changes, services), nodeOptions, waitSeconds }
    }),
  )
  const means = await findMeans()
  if (means.kind === 'none') throw new Error(`this machine allows no namespaces: ${means.reason}`)

  const say = (line: string): void => console.error(line)
  const measured: Figures[] = []
  for (const wanted of cases) {
    say(`${wanted.services} Services × ${wanted.endpoints} endpoints, ${wanted.kind}:`)
    measured.push(await measure(means, wanted, say))
  }
  const where = await machine()
  console.log(`\n${formatTable(where, measured)}${formatBars(measured)}`)
  if (values.json !== undefined) {
    writeFileSync(values.json, `${JSON.stringify({ machine: where, figures: measured }, null, 2)}\n`)
  }
}

main().catch((error: unknown) => {
  process.stderr.write(`hack/figures: ${error instanceof Error ? error.message : String(error)}\n`)
  process.exitCode = 1
})
