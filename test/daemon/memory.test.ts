// How the daemon takes memory. In a process of its own, since there is no way back.
import { execFile } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'

const module = join(import.meta.dirname, '../../src/kernel/memory.ts')
const line = /^THP_enabled:\t(\d)$/m
const kernelTells = process.platform === 'linux' && line.test(readFileSync('/proc/self/status', 'utf8'))

test.runIf(kernelTells)('in small pages (a kernel that has others)', async () => {
  const program = `
    import { readFileSync } from 'node:fs'
    import { useSmallPages } from '${module}'
    const enabled = () => ${line}.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]
    const before = enabled()
    await useSmallPages()
    console.log(before, enabled())`
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', program])
  expect(stdout).toBe('1 0\n')
})
