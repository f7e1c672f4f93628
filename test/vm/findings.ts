// Programs that find things in order in the virtual machine, and say so, a line each.
import { spawnSync } from 'node:child_process'
import { join, resolve } from 'node:path'
import { expect } from 'vitest'

export const root = resolve(import.meta.dirname, '../..')

/** What a program of this folder found in order; a failed expectation if it ended with another status than 0. */
export function findingsOf(program: string): readonly string[] {
  const inVm = ['--timeout', '900', process.execPath, join(import.meta.dirname, program)]
  const run = () => spawnSync(join(root, 'hack/vm'), inVm, { cwd: root, encoding: 'utf8' })
  const first = run()
  // Under emulation V8 now and then fails a check of its own compiled code, or runs into what is none: tried once more.
  const death = /^ended by SIG(?:SEGV|TRAP|ILL|BUS|ABRT)$/m.exec(first.stdout)?.[0]
  if (death !== undefined) console.info(`${program}: ${death}, tried once more`)
  const { status, stdout, stderr } = death === undefined ? first : run()
  expect(status, `${stdout}${stderr}`).toBe(0)
  return stdout.match(/^ok: .*$/gm) ?? []
}
