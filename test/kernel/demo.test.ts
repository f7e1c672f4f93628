// The demo as a person runs it: everything it shows is as it should be, and nothing is left of it, also after Ctrl-C.
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { beforeAll, expect, test } from 'vitest'

const root = join(import.meta.dirname, '../..')

beforeAll(async () => {
  await promisify(execFile)(process.execPath, [join(root, 'hack/build.mjs')])
})

function demo(...args: readonly string[]): { child: ChildProcess; output: () => string } {
  const child = spawn(process.execPath, [join(root, 'test/demo/main.ts'), ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding('utf8').on('data', (text: string) => {
      output += text
    })
  }
  return { child, output: () => output }
}

/** Process ids of everything below a process. */
function descendants(pid: number): number[] {
  const file = `/proc/${pid}/task/${pid}/children`
  const children = existsSync(file) ? readFileSync(file, 'utf8').trim().split(' ').filter(Boolean).map(Number) : []
  return children.flatMap(child => [child, ...descendants(child)])
}

test.each([[['--mode', 'iptables']], [['--traced']]])('hack/demo %j shows everything as it should be', async args => {
  const { child, output } = demo(...args)
  const [status] = await once(child, 'close')
  expect(output()).toContain('All as it should be')
  expect(output()).toContain('a deleted Service is gone')
  expect(status).toBe(0)
})

test('Ctrl-C in the middle ends it with status 130 and leaves no process', async () => {
  const { child, output } = demo()
  await new Promise<void>((resolve, reject) => {
    child.stdout?.on('data', () => output().includes('a NodePort, on node-b') && resolve())
    child.once('close', () => reject(new Error(`the demo ended early: ${output()}`)))
  })
  const started = descendants(child.pid ?? 0)
  expect(started.length).toBeGreaterThan(10)
  child.kill('SIGINT')
  const [status] = await once(child, 'close')
  expect(status).toBe(130)
  expect(started.filter(pid => existsSync(`/proc/${pid}`))).toEqual([])
})
