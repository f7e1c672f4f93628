// The daily life of a node in IPVS mode, on a kernel that has it: see ipvs-life.ts, which runs in the virtual machine.
import { spawnSync } from 'node:child_process'
import { join, resolve } from 'node:path'
import { expect, it } from 'vitest'

const root = resolve(import.meta.dirname, '../..')

it("takes a node over from kube-proxy's ipvs, and mends what others do", () => {
  const build = spawnSync(process.execPath, [join(root, 'hack/build.mjs')], { encoding: 'utf8' })
  expect(build.status, build.stderr).toBe(0)
  const inVm = ['--timeout', '900', process.execPath, join(import.meta.dirname, 'ipvs-life.ts')]
  const { status, stdout, stderr } = spawnSync(join(root, 'hack/vm'), inVm, { cwd: root, encoding: 'utf8' })
  expect(status, `${stdout}${stderr}`).toBe(0)
  expect(stdout.match(/^ok: /gm)).toHaveLength(8)
}, 1_000_000)
