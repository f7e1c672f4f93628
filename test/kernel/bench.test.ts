// hack/bench from its command line to its files, on a small cluster, with this project's own daemon as the other proxy too.
import { execFile } from 'node:child_process'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { parseReport } from '../bench/report.ts'
import { bundle } from '../daemon/program.ts'

let directory: string
let program: string
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'penstock-bench-test-'))
  program = await bundle(directory)
})
afterAll(async () => {
  await rm(directory, { recursive: true, force: true })
})

it('measures our program and another one in every way, and writes what it found', { timeout: 400_000 }, async () => {
  const json = join(directory, 'report.json')
  const peer =
    `'${process.execPath}' '${program}' run --kubeconfig={kubeconfig} --hostname-override={hostname} ` +
    '--cluster-cidr={cluster-cidr} --proxy-mode={mode}'
  const small = [
    '--services',
    '50',
    '--changes',
    '3',
    '--storm',
    '50,100,2',
    '--large',
    '200',
    '--idle',
    '1',
    '--wait',
    '0',
  ]
  const files = ['--json', json, '--svg', join(directory, 'plots')]
  const { stdout } = await promisify(execFile)(process.execPath, [
    join(import.meta.dirname, '../bench/main.ts'),
    ...['--kind', 'nftables', '--program', program, '--peer', peer, '--peer-name', 'other'],
    ...small,
    ...files,
  ])
  const { figures } = parseReport(await readFile(json, 'utf8'), json)
  expect(figures.flatMap(({ problems }) => problems)).toEqual([])
  expect(figures.map(({ subject, services, endpoints }) => `${subject} ${services} × ${endpoints}`)).toEqual([
    'penstock 50 × 5',
    'other 50 × 5',
    'penstock 1 × 200',
    'other 1 × 200',
  ])
  for (const { services, change, burst, rolling, storm, throughput, ...others } of figures) {
    const { programmedMs, startCpuMs, cpuPerChangeMs, rssBytes, peakBytes, connectUs, restart } = others
    for (const value of [programmedMs, startCpuMs, cpuPerChangeMs, rssBytes, connectUs?.last, rolling?.cpuMs]) {
      expect(value).toBeGreaterThan(0)
    }
    expect(peakBytes).toBeGreaterThanOrEqual(rssBytes ?? Number.NaN)
    expect(rolling?.stepMs).toHaveLength(4)
    expect(restart).toMatchObject({ failedConnects: 0 })
    expect(restart?.connects).toBeGreaterThan(0)
    if (services === 1) continue
    expect(change?.timed).toBe(3)
    expect(change?.p50Ms).toBeGreaterThan(0)
    expect(burst).toMatchObject({ changes: 50 })
    expect(storm).toMatchObject({ sent: 200 })
    expect(storm?.inStepMs).not.toBeNull()
    expect(storm?.lag?.seen).toBeGreaterThan(0)
    expect(restart?.caughtUpMs).toBeGreaterThan(0)
    expect(throughput?.serviceBytesPerSecond).toBeGreaterThan(1e6)
  }
  // Only our own program's log and event loop are looked into.
  expect(figures.map(({ restart }) => restart?.written)).toEqual([0, null, 0, null])
  expect(figures.map(({ loopDelay }) => loopDelay === null)).toEqual([false, true, false, true])
  expect(stdout).toContain('50 × 5, other')
  expect(await readFile(join(directory, 'plots/start.svg'), 'utf8')).toContain('other, nftables')
})
