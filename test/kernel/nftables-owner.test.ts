// The table belongs to the process that keeps the rules: what others can do to it, and what becomes of it when that process
// ends. Needs a kernel that has `persist` (6.9); on an older one the table is like any other, and nothing of this holds.
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { type Backend, CommitError, type KernelObject } from '../../src/backend/backend.ts'
import { nftablesBackend } from '../../src/backend/nftables/index.ts'
import type { Exec } from '../../src/kernel/exec.ts'
import type { Family } from '../../src/net/ip.ts'
import type { Network } from '../../src/policy/network.ts'
import { DesiredProgram } from '../../src/sync/program.ts'
import { backendWorker, remoteBackend } from '../backend/nftables/remote.ts'
import type { BackendMethods } from '../backend/nftables/worker.ts'
import { inputOf } from '../support/input.ts'
import type { ExecOutcome } from '../support/netns/host.ts'
import { Sandbox, type Worker } from '../support/netns/sandbox.ts'
import { hasPersist } from '../support/release.ts'

const { signal } = new AbortController()
const family: Family = 'IPv4'
const network: Network = {
  family,
  detector: { kind: 'none' },
  masqueradeAll: false,
  masqueradeMark: 0x4000,
  nodePortAddresses: { kind: 'all' },
  localhostNodePorts: false,
  dropInvalid: true,
  nodeAddresses: [],
}

let sandbox: Sandbox
let daemon: Worker<BackendMethods>
let next: Worker<BackendMethods>
let backend: Backend
let nextBackend: Backend
let textBackend: Backend
let program: DesiredProgram

const run = (argv: readonly string[], input = ''): Promise<ExecOutcome> =>
  sandbox.exec({ namespace: 'node', argv, input })
const nft = (...args: readonly string[]): Promise<ExecOutcome> => run(['nft', ...args])
const exec: Exec = {
  run: async (command, args, options = {}) => ({
    ...(await run([command, ...args], await inputOf(options))),
    notFound: false,
  }),
}

beforeAll(async () => {
  sandbox = await Sandbox.open()
  await sandbox.addNamespaces(['node'])
  daemon = await backendWorker(sandbox, 'node', true)
  next = await backendWorker(sandbox, 'node', true)
  backend = remoteBackend(() => daemon, family)
  nextBackend = remoteBackend(() => next, family)
  textBackend = nftablesBackend({ family, exec })
})
afterAll(async () => {
  await sandbox?.close()
})
beforeEach(async () => {
  // Closing leaves a table that anybody may delete.
  for (const worker of [daemon, next]) await worker.call('close', undefined)
  await expect.poll(async () => (await nft('flush', 'ruleset')).exitCode).toBe(0)
  await expect.poll(async () => (await nft('list', 'ruleset')).stdout).toBe('')
  for (const worker of [daemon, next]) await worker.call('open', { own: true })
  program = new DesiredProgram()
  program.replace('skeleton', backend.skeleton(network))
})

const service = (host: number): KernelObject[] => [
  { key: `element services 10.96.0.${host} . tcp . 80`, value: ': goto pick-1' },
  { key: `indexed endpoints 10.96.0.${host} . tcp . 80`, value: '10.1.0.1 . 8080' },
]

async function settle(by: Backend): Promise<void> {
  await by.commit(by.plan(program.pending(), program.objects), signal)
  program.settle()
}

async function errorOf(work: Promise<unknown>): Promise<CommitError> {
  const error = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  )
  if (!(error instanceof CommitError)) throw new Error(`expected a CommitError, was ${String(error)}`)
  return error
}

const asText = (objects: ReadonlyMap<string, string>): string[] =>
  [...objects].map(([key, value]) => `${key}\n${value}`).sort()

const isHeld = async (by: Backend = backend): Promise<void> => {
  expect(asText(await by.read(signal))).toEqual(asText(program.objects))
}

const isOwned = async (): Promise<boolean> =>
  /^\tflags .*\bowner\b/m.test((await nft('list', 'table', 'ip', 'penstock')).stdout)

describe.runIf(hasPersist)('a table that is owned (a kernel from 6.9 on)', () => {
  beforeEach(async () => {
    await settle(backend)
  })

  test('cannot be changed by others, and is passed over by a flush of everything', async () => {
    expect(await isOwned()).toBe(true)
    for (const damage of [
      ['delete', 'table', 'ip', 'penstock'],
      ['flush', 'table', 'ip', 'penstock'],
      ['flush', 'chain', 'ip', 'penstock', 'services'],
      ['add', 'rule', 'ip', 'penstock', 'services', 'accept'],
    ]) {
      const { exitCode, stderr } = await nft(...damage)
      expect({ damage, exitCode, said: /Operation not permitted/.test(stderr) }).toEqual({
        damage,
        exitCode: 1,
        said: true,
      })
    }
    await nft('add', 'table', 'ip', 'other')
    expect((await nft('flush', 'ruleset')).exitCode).toBe(0)
    expect((await nft('list', 'tables')).stdout).toBe('table ip penstock\n')
    await isHeld()
  })

  test('takes changes of its owner', async () => {
    for (const host of [1, 2, 3]) {
      program.replace(`${host}`, service(host))
      await settle(backend)
    }
    program.replace('2', [])
    await settle(backend)
    await isHeld()
    expect(await isOwned()).toBe(true)
    expect(await daemon.call('programs', undefined)).toBe(0)
  })

  test('is another process’s to wait for, which says so', async () => {
    await isHeld(nextBackend)
    program.replace('1', service(1))
    const sentence = 'the table ip penstock belongs to another process, which alone may write to it until it ends'
    for (const by of [nextBackend, textBackend]) {
      await by.read(signal)
      const errors = [
        await errorOf(by.commit(by.plan(program.pending(), program.objects), signal)),
        await errorOf(by.cleanup(signal)),
      ]
      for (const { kind, message } of errors)
        expect({ kind, message }).toEqual({ kind: 'transient', message: sentence })
    }
    // The former one ends: the next takes the table over with the first thing it writes.
    await daemon.call('close', undefined)
    await expect.poll(isOwned).toBe(false)
    await settle(nextBackend)
    await isHeld(nextBackend)
    expect(await isOwned()).toBe(true)
  })

  test('outlives its owner, and takes text then', async () => {
    await daemon.call('close', undefined)
    await expect.poll(isOwned).toBe(false)
    await isHeld(textBackend)
    program.replace('1', service(1))
    await settle(textBackend)
    await isHeld(textBackend)
    await textBackend.cleanup(signal)
    expect((await nft('list', 'tables')).stdout).toBe('')
  })

  test('is claimed again after a restart that had nothing to write', async () => {
    await daemon.call('open', { own: true })
    await expect.poll(isOwned).toBe(false)
    await isHeld()
    expect(await isOwned()).toBe(true)
    program.replace('1', service(1))
    await settle(backend)
    expect(await isOwned()).toBe(true)
    await isHeld()
  })

  test('is claimed by the next process as soon as this one ends, which has nothing to write', async () => {
    await isHeld(nextBackend)
    expect(await isOwned()).toBe(true)
    await daemon.call('close', undefined)
    await expect.poll(isOwned).toBe(false)
    await expect.poll(isOwned).toBe(true)
    program.replace('1', service(1))
    await settle(nextBackend)
    await isHeld(nextBackend)
  })

  test('is removed by its owner', async () => {
    await backend.cleanup(signal)
    expect((await nft('list', 'tables')).stdout).toBe('')
    await backend.cleanup(signal)
    program.rebase(await backend.read(signal))
    await settle(backend)
    await isHeld()
    expect(await isOwned()).toBe(true)
  })
})

test('a table that was made without an owner stays without', async () => {
  await settle(textBackend)
  program.replace('1', service(1))
  program.rebase(await backend.read(signal))
  await settle(backend)
  await isHeld()
  expect(await isOwned()).toBe(false)
  expect((await nft('flush', 'ruleset')).exitCode).toBe(0)
  program.rebase(await backend.read(signal))
  await settle(backend)
  expect(await isOwned()).toBe(true)
})

test('one that somebody else made meanwhile, without an owner, is written to all the same', async () => {
  await backend.read(signal)
  await nft('add', 'table', 'ip', 'penstock')
  await settle(backend)
  await isHeld()
  expect(await isOwned()).toBe(false)
})

test.each([
  ['netlink', () => backend],
  ['nft', () => textBackend],
] as const)('a table that somebody switched off is made anew (%s)', async (_way, by) => {
  await settle(textBackend)
  await nft('add', 'table', 'ip', 'penstock', '{ flags dormant; }')
  program.rebase(await by().read(signal))
  expect(program.pending().removed).toEqual([{ key: 'table flags', value: 'dormant' }])
  await settle(by())
  await isHeld(by())
  expect((await nft('list', 'table', 'ip', 'penstock')).stdout).not.toContain('dormant')
})
