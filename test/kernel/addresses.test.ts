// The node's own addresses, in a namespace: which are its own, and when somebody hears of others.
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { Sandbox, type Worker } from '../support/netns/sandbox.ts'
import type { AddressMethods } from './addresses-worker.ts'

let sandbox: Sandbox
let worker: Worker<AddressMethods>
const namespace = 'node'
const ip = (...argv: readonly string[]): Promise<string> => sandbox.check({ namespace, argv: ['ip', ...argv] })
const periodMs = 100
const patient = { timeout: 30_000 }
const loopback = ['127.0.0.1', '::1']

beforeAll(async () => {
  sandbox = await Sandbox.open()
  await sandbox.addNamespaces([namespace])
  for (const args of [
    ['link', 'set', 'lo', 'up'],
    // By its name, whatever it is: not every kernel has dummy devices.
    ['link', 'add', 'kube-ipvs0', 'type', 'bridge'],
    ['addr', 'add', '10.96.0.1/32', 'dev', 'kube-ipvs0'],
    // Its other end is down: it has no carrier, and is not running.
    ['link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'other'],
    ['link', 'set', 'eth0', 'up'],
    ['addr', 'add', '192.0.2.1/24', 'dev', 'eth0'],
    ['addr', 'add', 'fd00::1/64', 'dev', 'eth0', 'nodad'],
  ]) {
    await ip(...args)
  }
  worker = await sandbox.worker<AddressMethods>({ namespace, module: join(import.meta.dirname, 'addresses-worker.ts') })
})
afterAll(async () => {
  await sandbox?.close()
})

test("a device without carrier keeps its addresses, and those of Services are not the node's", async () => {
  expect(await worker.call('list', undefined)).toEqual([...loopback, '192.0.2.1', 'fd00::1'].sort())
})

test('what comes and goes is told of, but for addresses of Services', async () => {
  await worker.call('follow', { periodMs })
  const heard = () => worker.call('heard', undefined)
  const last = async () => (await heard()).at(-1)
  await expect.poll(last, patient).toEqual([...loopback, '192.0.2.1', 'fd00::1'].sort())
  await ip('addr', 'add', '192.0.2.2/24', 'dev', 'eth0')
  await expect.poll(last, patient).toEqual([...loopback, '192.0.2.1', '192.0.2.2', 'fd00::1'].sort())
  const began = performance.now()
  for (let host = 2; host <= 9; host++) {
    await ip('addr', 'add', `10.96.0.${host}/32`, 'dev', 'kube-ipvs0')
    await sleep(1.5 * periodMs)
  }
  // One look in twelve is made untold.
  const untold = (performance.now() - began) / (12 * periodMs)
  expect((await heard()).length).toBeLessThan(untold + 3)
  await ip('addr', 'del', 'fd00::1/64', 'dev', 'eth0')
  await expect.poll(last, patient).toEqual([...loopback, '192.0.2.1', '192.0.2.2'].sort())
  // The last of its kind goes with its device.
  await ip('link', 'del', 'eth0')
  await expect.poll(last, patient).toEqual(loopback)
  await worker.call('end', undefined)
  await ip('addr', 'add', '192.0.2.3/32', 'dev', 'lo')
  await sleep(3 * periodMs)
  expect((await heard()).flat()).not.toContain('192.0.2.3')
})
