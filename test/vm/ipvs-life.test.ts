// IPVS mode on a kernel that has it: a node's daily life. See ipvs-life.ts, which runs in the virtual machine.
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { findingsOf, root } from './findings.ts'

it("takes a node over from kube-proxy's ipvs, and mends what others do", () => {
  const build = spawnSync(process.execPath, [join(root, 'hack/build.mjs')], { encoding: 'utf8' })
  expect(build.status, build.stderr).toBe(0)
  expect(findingsOf('ipvs-life.ts')).toHaveLength(8)
}, 1_000_000)
