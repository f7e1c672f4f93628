// What others do to our rules on a real kernel is noticed and mended by the running daemon, in every mode that this kernel
// has; what they do to their own makes no work.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { type Daemon, KernelNode, type LogLine, syncsOf, until, type Variant } from '../daemon/kernel-node.ts'
import { manifest, manyServices } from '../daemon/manifests.ts'
import { bundle } from '../daemon/program.ts'

let directory: string
let program: string
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'penstock-drift-'))
  program = await bundle(directory)
})
afterAll(async () => {
  await rm(directory, { recursive: true, force: true })
})

interface DriftLine extends LogLine {
  readonly compared?: boolean
  readonly missing?: number
  readonly foreign?: number
  readonly examples?: readonly string[]
  readonly by?: readonly string[]
}

/** Of IPv4: what is done to both families is reported by both. */
const driftsOf = (lines: readonly DriftLine[]): DriftLine[] =>
  lines.filter(({ family, missing }) => family === 'IPv4' && missing !== undefined)
const comparisonsOf = (lines: readonly DriftLine[]): number =>
  syncsOf(lines).filter((line: DriftLine) => line.compared).length

interface Mode {
  readonly name: string
  readonly variant: Variant
  readonly proxyMode: 'iptables' | 'nftables'
  /** The kernel tells of changes, so that the period for looking may be long. */
  readonly period: string
  /** What is done, as a shell command, and what the log must name. */
  readonly damages: readonly (readonly [what: string, command: string, named: RegExp])[]
  /** 200 changes of somebody else's own rules. */
  readonly others: string
}

/** A rule in the middle of the chain of a Service port. */
const deleteInside = (variant: Variant): string =>
  `chain=$(iptables-${variant}-save -t nat | grep -o 'PENSTOCK-SVC-[A-Z0-9]*' | sort | head -n 1); ` +
  `iptables-${variant} -t nat -D $chain 2`

const iptablesDamages = (variant: Variant): Mode['damages'] => [
  ['a flushed table', `iptables-${variant} -t nat -F`, /^nat\/.* lacks: |^nat\/.* is gone/],
  ['one rule', deleteInside(variant), /^nat\/PENSTOCK-SVC-\S+ \(shop\/svc-\d+:http\/TCP\) lacks: .*-j DNAT/],
  ['an emptied base chain', `iptables-${variant} -t nat -F PREROUTING`, /^nat\/PREROUTING>PENSTOCK-SERVICES is gone/],
  [
    'one jump',
    `iptables-${variant}-save -t filter | grep -- '-A FORWARD .*PENSTOCK-FORWARD' | sed 's/^-A/iptables-${variant} -D/' | sh`,
    /^filter\/FORWARD>PENSTOCK-FORWARD is gone/,
  ],
  ['everything', `for t in nat filter; do iptables-${variant} -t $t -F; iptables-${variant} -t $t -X; done`, /is gone/],
]

const iptablesOthers = (variant: Variant): string =>
  `iptables-${variant} -t nat -N CNI-X; for i in $(seq 50); do ` +
  `iptables-${variant} -t nat -A CNI-X -p tcp --dport $i -j ACCEPT; iptables-${variant} -t nat -I POSTROUTING -j CNI-X; ` +
  `iptables-${variant} -t nat -D POSTROUTING -j CNI-X; iptables-${variant} -t nat -D CNI-X 1; done`

const modes: readonly Mode[] = [
  {
    name: 'iptables-nft',
    variant: 'nft',
    proxyMode: 'iptables',
    period: '10m',
    damages: [...iptablesDamages('nft'), ['the ruleset', 'nft flush ruleset', /is gone/]],
    others: iptablesOthers('nft'),
  },
  {
    name: 'iptables-legacy',
    variant: 'legacy',
    proxyMode: 'iptables',
    period: '10m',
    damages: iptablesDamages('legacy'),
    others: iptablesOthers('legacy'),
  },
  {
    name: 'nftables',
    variant: 'nft',
    proxyMode: 'nftables',
    period: '10m',
    damages: [
      ['the ruleset', 'nft flush ruleset', /is gone/],
      ['the table', 'nft delete table ip penstock', /is gone/],
      [
        'one element',
        'nft delete element ip penstock services { 10.96.0.7 . tcp . 80 }',
        /^element services 10\.96\.0\.7 \. tcp \. 80 \(shop\/svc-7:http\/TCP\) is gone/,
      ],
      ['one element of a set', 'nft delete element ip penstock cluster-ips { 10.96.0.3 }', /10\.96\.0\.3.* is gone/],
      [
        'one rule',
        "handle=$(nft -a list chain ip penstock postrouting | grep -o 'handle [0-9]*$' | tail -n 1); " +
          'nft delete rule ip penstock postrouting $handle',
        /^chain postrouting lacks: /,
      ],
      ['an emptied base chain', 'nft flush chain ip penstock prerouting', /^chain prerouting lacks: /],
      ['a rule that is not ours', 'nft insert rule ip penstock services accept', /^chain services has: accept/],
    ],
    others:
      'nft add table ip other; nft add chain ip other c; nft "add map ip other m { type ipv4_addr : ipv4_addr; }"; ' +
      'for i in $(seq 50); do nft add rule ip other c tcp dport $i accept; nft "add element ip other m { 1.1.1.$i : 2.2.2.2 }"; ' +
      'nft "delete element ip other m { 1.1.1.$i }"; nft flush chain ip other c; done',
  },
]

describe.each(modes)('$name', ({ name, variant, proxyMode, period, damages, others }) => {
  let node: KernelNode
  let daemon: Daemon
  let count = 0
  beforeEach(async () => {
    node = await KernelNode.open(variant, program, join(directory, `${name}-${count++}`))
    const manifests = await node.write('objects.json', manifest(manyServices(20)))
    daemon = await node.start(
      '--manifests',
      manifests,
      '--proxy-mode',
      proxyMode,
      '--iptables-sync-period',
      period,
      '--healthz-bind-address',
      '127.0.0.1:0',
      '--metrics-bind-address',
      '',
      // Where it has one nobody can do what is done here.
      '--nftables-table-owner=false',
    )
    await until('the first sync of both families', async () => {
      const families = syncsOf(await daemon.log()).map(({ family }) => family)
      return new Set(families).size === 2
    })
  })
  afterEach(async () => {
    await node.close()
  })

  const shell = (command: string) => node.sandbox.check({ namespace: 'node', argv: ['sh', '-ec', command] })
  const rules = async (): Promise<string> =>
    proxyMode === 'nftables'
      ? (await node.sandbox.exec({ namespace: 'node', argv: ['nft', '-s', 'list', 'table', 'ip', 'penstock'] })).stdout
      : (await node.save()).filter(line => line.includes('PENSTOCK-')).join('\n')
  /** In an order of its own: what is put back may be in another place. */
  const sorted = async (): Promise<string[]> => (await rules()).split('\n').sort()

  it('mends what others do, and says what it was', async () => {
    const before = await sorted()
    let seen = 0
    for (const [what, command, named] of damages) {
      await shell(command)
      await until(`a report of ${what}`, async () => driftsOf(await daemon.log()).length > seen)
      const found = driftsOf(await daemon.log()).slice(seen)
      expect(found[0]?.examples, what).toContainEqual(expect.stringMatching(named))
      // The legacy variant's tables do not say who writes to them.
      expect(found[0]?.by, what).toEqual(variant === 'legacy' ? [] : [expect.stringMatching(/^(?:ip|nft)/)])
      await until(`the repair of ${what}`, async () => (await sorted()).join() === before.join())
      seen = driftsOf(await daemon.log()).length
    }
  })

  it('makes nothing of 200 changes that others make to their own rules', async () => {
    const comparisons = async () => comparisonsOf(await daemon.log())
    await shell(others)
    // Both families' first; and where looks are at digests, the one that the first digest is remembered with.
    const atFirst = variant === 'legacy' ? 3 : 2
    await until('the first comparisons', async () => (await comparisons()) >= atFirst)
    await shell(
      others.replace(/(?:iptables-\w+ -t nat -N CNI-X|nft add (?:table|chain)[^;]*|nft "add map[^"]*"); /g, ''),
    )
    expect(await comparisons()).toBe(atFirst)
    // What concerns us is noticed after all of that.
    const [, flush = ''] = damages[0] ?? []
    const families = flush.includes('ruleset') ? 2 : 1
    await shell(flush)
    await until('the repair', async () => (await comparisons()) >= atFirst + families)
    expect(driftsOf(await daemon.log())).toHaveLength(1)
    expect(await comparisons()).toBe(atFirst + families)
  })
})
