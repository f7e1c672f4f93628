// A short soak: the daemon while everything around it changes and breaks. `hack/soak` goes on for as long as one likes.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import type { ProxyMode } from '../../src/config/types.ts'
import { bundle } from '../daemon/program.ts'
import { runSoak } from '../soak/soak.ts'

let directory: string
let program: string
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'penstock-soak-program-'))
  program = await bundle(directory)
})
afterAll(async () => {
  await rm(directory, { recursive: true, force: true })
})

it.each<ProxyMode>(['iptables', 'nftables'])(
  '%s: after churn and faults the kernel holds what a fresh compile gives, memory is level, nothing is left over',
  { timeout: 400_000 },
  async mode => {
    const lines: string[] = []
    const report = await runSoak({
      seconds: 25,
      mode,
      variant: 'nft',
      seed: `test ${mode}`,
      services: 40,
      program,
      say: line => lines.push(line),
    })
    expect(report.failures, [...lines, `kept: ${report.kept}`].join('\n')).toEqual([])
    // It was a soak: the whole of it happened.
    expect(report.rounds).toBe(1)
    expect(report.changes).toBeGreaterThan(200)
    expect(report.troubles.size).toBeGreaterThan(8)
    for (const what of ['SIGKILL', 'SIGSTOP', 'configuration']) expect([...report.troubles.keys()]).toContain(what)
    expect(report.answers).toBeGreaterThan(50)
    expect(report.growth).toHaveLength(2)
  },
)
