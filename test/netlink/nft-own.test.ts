// Whose notifications are taken for ours: those of a connection of our own, for as long as we run.
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import type { Exec } from '../../src/kernel/exec.ts'
import { OwnPrograms } from '../../src/kernel/netlink/table-watch.ts'

beforeEach(() => {
  vi.useFakeTimers()
})
afterEach(() => {
  vi.useRealTimers()
})

test('an adopted port stays ours, also when a program that had the same number is gone', async () => {
  const exec: Exec = {
    async run(_command, _args, options) {
      options?.onStart?.(42)
      return { exitCode: 0, stdout: '', stderr: '', notFound: false }
    },
  }
  const own = new OwnPrograms(exec)
  await own.run('nft', [])
  vi.advanceTimersByTime(60_000)
  expect(own.has(42)).toBe(false)
  own.adopt(42)
  await own.run('nft', [])
  vi.advanceTimersByTime(60_000)
  expect([own.has(42), own.has(43)]).toEqual([true, false])
})
