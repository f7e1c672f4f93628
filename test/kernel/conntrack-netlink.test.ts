// A subscription to what the kernel tells, in a namespace: heard as it comes, and silent after the close.
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { ListenerMethods } from '../netlink/worker.ts'
import { Sandbox, type Worker } from '../support/netns/sandbox.ts'

const newLink = 16
const deleteLink = 17

let sandbox: Sandbox
let listener: Worker<ListenerMethods>

beforeAll(async () => {
  sandbox = await Sandbox.open()
  await sandbox.addNamespaces(['node'])
  const module = join(import.meta.dirname, '../netlink/worker.ts')
  listener = await sandbox.worker<ListenerMethods>({ namespace: 'node', module })
})
afterAll(async () => {
  await sandbox?.close()
})

test('devices that come and go are heard of, a hundred at once too', async () => {
  await listener.call('listen', undefined)
  const ip = (lines: readonly string[]): Promise<string> =>
    sandbox.check({ namespace: 'node', argv: ['ip', '-batch', '-'], input: lines.join('\n') })
  const names = Array.from({ length: 100 }, (_, n) => `heard${n}`)
  const heard = new Set<string>()
  const listen = async (): Promise<number> => {
    const taken = await listener.call('take', undefined)
    for (const line of taken.heard) heard.add(line)
    expect(taken.lost).toBe(0)
    return heard.size
  }
  await ip(names.map(name => `link add ${name} type bridge`))
  await ip(names.map(name => `link del ${name}`))
  await expect.poll(listen, { timeout: 30_000 }).toBeGreaterThanOrEqual(200)
  expect(names.filter(name => !heard.has(`${newLink} ${name}`) || !heard.has(`${deleteLink} ${name}`))).toEqual([])

  await listener.call('close', undefined)
  await ip(['link add unheard type bridge'])
  expect((await listener.call('take', undefined)).heard).toEqual([])
})
