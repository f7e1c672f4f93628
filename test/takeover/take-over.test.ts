// When kube-proxy's leftovers are removed, how often, and what is said: a kube-proxy that runs is not fought.
import { beforeEach, expect, test } from 'vitest'
import type { Exec, ExecResult } from '../../src/kernel/exec.ts'
import { type TakeOverOptions, takeOver } from '../../src/takeover/take-over.ts'

const { signal } = new AbortController()
const done = (stdout = ''): ExecResult => ({ exitCode: 0, stdout, stderr: '', notFound: false })
const failed = (stderr: string, notFound = false): ExecResult => ({ exitCode: 1, stdout: '', stderr, notFound })

/** A machine with nft alone, which holds kube-proxy's table or not. */
class Machine {
  holds = true
  deletions = 0
  answer: ExecResult | undefined
  readonly exec: Exec = {
    run: async command => {
      if (command !== 'nft') return failed(`${command} is not there`, command !== 'ip')
      if (this.answer !== undefined) return this.answer
      if (!this.holds) return failed('Error: Could not process rule: No such file or directory', false)
      this.holds = false
      this.deletions++
      return done()
    },
  }
}

let machine: Machine
let said: string[]
let slept: number[]
beforeEach(() => {
  machine = new Machine()
  said = []
  slept = []
})

const run = (options: Partial<TakeOverOptions> = {}): Promise<boolean> =>
  takeOver(
    {
      family: 'IPv4',
      exec: machine.exec,
      excludeCIDRs: [],
      running: async () => [],
      once: false,
      tell: ({ level, text }) => said.push(`${level}: ${text}`),
      sleep: async ms => {
        slept.push(ms)
      },
      now: () => slept.reduce((sum, ms) => sum + ms, 0),
      ...options,
    },
    signal,
  )

test('nothing there: nothing said, nothing waited for', async () => {
  machine.holds = false
  expect(await run()).toBe(true)
  expect([said, slept]).toEqual([[], []])
})

test('removed once, and looked at again for a while', async () => {
  expect(await run()).toBe(true)
  expect(machine.deletions).toBe(1)
  expect(said).toEqual(["info: removed kube-proxy's leftovers, with our rules in: nftables' table ip kube-proxy"])
  expect(slept).toEqual([10_000, 60_000, 600_000])
})

test('with --once it is removed and not waited for', async () => {
  expect(await run({ once: true })).toBe(true)
  expect(slept).toEqual([])
})

test('what comes back is removed again and said louder, and at last left', async () => {
  const sleep = async (ms: number): Promise<void> => {
    slept.push(ms)
    machine.holds = true
  }
  expect(await run({ sleep })).toBe(false)
  expect(machine.deletions).toBe(4)
  expect(said.map(line => line.split(':')[0])).toEqual(['info', 'warn', 'warn', 'warn', 'warn'])
  expect(said.at(1)).toContain('again, because they had come back')
  expect(said.at(-1)).toContain('keep coming back')
  expect(slept).toEqual([10_000, 10_000, 10_000])
})

test('a kube-proxy that runs keeps its rules until it ends', async () => {
  let looks = 0
  const running = async (): Promise<number[]> => (++looks <= 3 ? [4711] : [])
  const deletionsWhileRunning: number[] = []
  const sleep = async (ms: number): Promise<void> => {
    slept.push(ms)
    if (looks <= 3) deletionsWhileRunning.push(machine.deletions)
  }
  expect(await run({ running, sleep })).toBe(true)
  expect(deletionsWhileRunning).toEqual([0, 0, 0])
  expect(machine.deletions).toBe(1)
  expect(said).toHaveLength(2)
  expect(said[0]).toBe(
    'warn: kube-proxy still runs here (process 4711): its rules stay beside ours, harmlessly, until it ends; ' +
      'stop it with `kubectl -n kube-system delete daemonset kube-proxy`',
  )
})

test('with --once a kube-proxy that runs is said and left', async () => {
  expect(await run({ once: true, running: async () => [4711] })).toBe(false)
  expect(machine.deletions).toBe(0)
  expect(said).toHaveLength(1)
})

test('what may not be done is said once', async () => {
  machine.answer = failed('Operation not permitted (you must be root)')
  expect(await run()).toBe(false)
  expect(said).toEqual([
    "warn: kube-proxy's rules cannot be removed and stay beside ours: nft: Operation not permitted (you must be root)",
  ])
  expect(slept).toEqual([])
})

test('what passes is tried again with growing pauses', async () => {
  machine.answer = failed('Error: Could not process rule: Resource temporarily unavailable')
  const sleep = async (ms: number): Promise<void> => {
    slept.push(ms)
    if (slept.length === 3) machine.answer = undefined
  }
  expect(await run({ sleep })).toBe(true)
  expect(slept.slice(0, 3)).toEqual([500, 1_000, 1_500])
  expect(machine.deletions).toBe(1)
})

test('it ends with the signal', async () => {
  const stop = new AbortController()
  const options: TakeOverOptions = {
    family: 'IPv4',
    exec: machine.exec,
    excludeCIDRs: [],
    running: async () => [4711],
    once: false,
    tell: () => undefined,
    sleep: async () => stop.abort(),
  }
  expect(await takeOver(options, stop.signal)).toBe(false)
  expect(machine.deletions).toBe(0)
})
