// IPVS mode on a kernel that has it: a node's daily life, and netlink against ipvsadm. See ipvs-life.ts and netlink-ipvs.ts,
// which run in the virtual machine.
import { spawnSync } from 'node:child_process'
import { join, resolve } from 'node:path'
import { expect, it } from 'vitest'

const root = resolve(import.meta.dirname, '../..')

/** What a program in the virtual machine finds in order, a line each. */
function findingsOf(program: string): readonly string[] | null {
  const inVm = ['--timeout', '900', process.execPath, join(import.meta.dirname, program)]
  const { status, stdout, stderr } = spawnSync(join(root, 'hack/vm'), inVm, { cwd: root, encoding: 'utf8' })
  expect(status, `${stdout}${stderr}`).toBe(0)
  return stdout.match(/^ok: .*$/gm)
}

it("takes a node over from kube-proxy's ipvs, and mends what others do", () => {
  const build = spawnSync(process.execPath, [join(root, 'hack/build.mjs')], { encoding: 'utf8' })
  expect(build.status, build.stderr).toBe(0)
  expect(findingsOf('ipvs-life.ts')).toHaveLength(8)
}, 1_000_000)

it('speaks netlink as ipvsadm does, and starts no program for a change', () => {
  expect(findingsOf('netlink-ipvs.ts')).toHaveLength(8)
}, 1_000_000)
