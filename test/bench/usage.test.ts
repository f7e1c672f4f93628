// What /proc tells of a process tree.
import { describe, expect, it } from 'vitest'
import { type ProcessUsage, parseProcess, sum, threadMs, treeOf, usageOf } from './usage.ts'

const stat =
  '42 (a ) (b) S 7 42 42 0 -1 4194304 100 0 0 0 120 30 15 5 20 0 7 0 12345 1000000 500 18446744073709551615 1 1 0'
const status = 'Name:\ta\nVmPeak:\t  900000 kB\nVmHWM:\t   60000 kB\nVmRSS:\t   50000 kB\n'

const usage = (pid: number, parent: number, cpuMs: number, childCpuMs: number): ProcessUsage => ({
  pid,
  parent,
  cpuMs,
  childCpuMs,
  rssKiB: 10,
  peakKiB: 20,
})

describe('one process', () => {
  it('is read out of its files, whatever its name is', () => {
    expect(parseProcess(42, stat, status)).toEqual({
      pid: 42,
      parent: 7,
      cpuMs: 1_500,
      childCpuMs: 200,
      rssKiB: 50_000,
      peakKiB: 60_000,
    })
  })

  it('has no memory once it has ended', () => {
    expect(parseProcess(42, stat, 'Name:\ta\n')).toMatchObject({ rssKiB: 0, peakKiB: 0 })
  })
})

describe('a process tree', () => {
  const all = [usage(3, 2, 5, 0), usage(1, 0, 1_000, 0), usage(2, 9, 100, 40), usage(4, 3, 7, 3), usage(5, 1, 50, 0)]

  it('is a process with its descendants, in whatever order they are listed', () => {
    expect(treeOf(2, all).map(({ pid }) => pid)).toEqual([2, 3, 4])
    expect(() => treeOf(8, all)).toThrow('process 8 is gone')
  })

  it('adds up, those that have ended included', () => {
    expect(sum(treeOf(2, all))).toEqual({ cpuMs: 155, childCpuMs: 55, endedCpuMs: 43, rssKiB: 30, peakKiB: 60 })
  })

  it('can be read of this process', () => {
    const { rssKiB, peakKiB, cpuMs } = usageOf(process.pid)
    expect(rssKiB).toBeGreaterThan(10_000)
    expect(peakKiB).toBeGreaterThanOrEqual(rssKiB)
    expect(cpuMs).toBeGreaterThan(0)
    expect(threadMs(process.pid) ?? 1).toBeGreaterThan(0)
  })
})
