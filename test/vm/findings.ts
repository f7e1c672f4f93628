// Programs that find things in order in the virtual machine, and say so, a line each.
import { spawnSync } from 'node:child_process'
import { join, resolve } from 'node:path'
import { expect } from 'vitest'

export const root = resolve(import.meta.dirname, '../..')

/** What a program of this folder found in order; a failed expectation if it ended with another status than 0. */
export function findingsOf(program: string): readonly string[] {
  const inVm = ['--timeout', '900', process.execPath, join(import.meta.dirname, program)]
  const { status, stdout, stderr } = spawnSync(join(root, 'hack/vm'), inVm, { cwd: root, encoding: 'utf8' })
  expect(status, `${stdout}${stderr}`).toBe(0)
  return stdout.match(/^ok: .*$/gm) ?? []
}
