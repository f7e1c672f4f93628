// What nft says, and what the syncer is told.
import { describe, expect, it } from 'vitest'
import { CommitError, type KernelObject, type Transaction } from '../../../src/backend/backend.ts'
import { nftablesBackend } from '../../../src/backend/nftables/index.ts'
import { plan } from '../../../src/backend/nftables/plan.ts'
import type { ExecResult } from '../../../src/kernel/exec.ts'

const { signal } = new AbortController()
const ok: ExecResult = { exitCode: 0, stdout: '', stderr: '', notFound: false }
const failed = (stderr: string, exitCode = 1): ExecResult => ({ ...ok, exitCode, stderr })

/** A backend whose nft answers these, in turn; the last one again and again. Commands are noted. */
function backend(...answers: readonly ExecResult[]) {
  const commands: string[] = []
  let at = 0
  return {
    commands,
    ...nftablesBackend({
      family: 'IPv4',
      exec: {
        async run(command, args, options) {
          if (args[0] === '--version') return { ...ok, stdout: 'nftables v1.0.6 (Lester Gooch #5)' }
          commands.push(`${command} ${args.join(' ')}${options?.input === undefined ? '' : `\n${options.input}`}`)
          return answers[Math.min(at++, answers.length - 1)] ?? ok
        },
      },
    }),
  }
}

async function errorOf(done: Promise<unknown>): Promise<CommitError> {
  const error = await done.then(
    () => undefined,
    (thrown: unknown) => thrown,
  )
  if (!(error instanceof CommitError)) throw new Error(`expected a CommitError, was ${String(error)}`)
  return error
}

describe('a failed commit', () => {
  const added: KernelObject[] = [
    { key: 'chain external/a/b/tcp', value: 'meta l4proto tcp dnat to 10.1.0.1:80' },
    { key: 'element services 10.96.0.1 . tcp . 80', value: 'comment "a/b" : goto external/a/b/tcp' },
  ]
  // The chain is made, emptied and filled, in the lines 1 to 3; then comes the element.
  const transaction: Transaction = plan({ added, changed: [], removed: [] }, new Map(), 'IPv4')
  const at = (line: number, what: string) => failed(`/dev/stdin:${line}:1-20: Error: ${what}\nadd …\n^^^\n`)

  it.each([
    ['refused', at(3, 'Could not process rule: Operation not supported'), ['chain external/a/b/tcp']],
    ['refused', at(4, 'Could not process rule: No such file or directory'), ['element services 10.96.0.1 . tcp . 80']],
    ['refused', at(3, 'syntax error, unexpected junk'), ['chain external/a/b/tcp']],
    ['refused', failed('internal:0:0-0: Error: conflicting protocols specified: ip vs. th\n'), []],
    ['stale', at(2, 'Could not process rule: No such file or directory'), []],
    ['transient', at(4, 'Could not process rule: Device or resource busy'), []],
    ['transient', failed('', -1), []],
    ['denied', at(1, 'Could not process rule: Operation not permitted'), []],
    ['unsupported', { ...ok, exitCode: -1, notFound: true }, []],
  ] as const)('is %s', async (kind, answer, keys) => {
    const error = await errorOf(backend(answer).commit(transaction, signal))
    expect({ kind: error.kind, keys: error.keys }).toEqual({ kind, keys })
    expect(error.message).toMatch(/nft/)
  })

  it('is none when a chain that goes stays busy', async () => {
    const removed = [{ key: 'chain external/a/b/tcp', value: 'drop' }]
    const { steps } = plan({ added: [], changed: [], removed }, new Map(), 'IPv4')
    const sweep = { steps: steps.slice(1) }
    const text = 'delete chain ip penstock external/a/b/tcp\n'
    const busy = at(1, 'Could not process rule: Device or resource busy')
    const soon = backend(busy, ok)
    await soon.commit(sweep, signal)
    expect(soon.commands).toEqual([`nft -f -\n${text}`, `nft -f -\n${text}`])
    const never = backend(busy)
    await never.commit(sweep, signal)
    expect(never.commands.length).toBeGreaterThan(2)
  })
})

describe('a transaction that is too long for nft', () => {
  it('is written in halves', async () => {
    const tooLong = failed('netlink: Error: Could not process rule: Message too long\n')
    const one = backend(tooLong, ok)
    const added = [1, 2, 3, 4].map(n => ({ key: `element cluster-ips 10.96.0.${n}`, value: '' }))
    await one.commit(plan({ added, changed: [], removed: [] }, new Map(), 'IPv4'), signal)
    const add = (n: number): string => `add element ip penstock cluster-ips { 10.96.0.${n} }\n`
    expect(one.commands).toEqual([
      `nft -f -\n${add(1)}${add(2)}${add(3)}${add(4)}`,
      `nft -f -\n${add(1)}${add(2)}`,
      `nft -f -\n${add(3)}${add(4)}`,
    ])
    const never = backend(tooLong)
    const error = await errorOf(never.commit(plan({ added, changed: [], removed: [] }, new Map(), 'IPv4'), signal))
    expect(error.kind).toBe('transient')
  })
})

describe('a table that another process owns', () => {
  const denied = failed('Error: Could not process rule: Operation not permitted\ndelete table ip penstock\n')
  const listed = { ...ok, stdout: 'table ip penstock { # progname node\n\tflags owner\n\n\tchain a {\n\t}\n}\n' }

  it('is told from one that nobody may write to', async () => {
    const error = await errorOf(backend(denied, denied, listed).cleanup(signal))
    expect({ kind: error.kind, owned: /belongs to another process/.test(error.message) }).toEqual({
      kind: 'transient',
      owned: true,
    })
    const unowned = { ...listed, stdout: 'table ip penstock {\n}\n' }
    expect((await errorOf(backend(denied, denied, unowned).cleanup(signal))).kind).toBe('denied')
  })
})

describe('reading and cleaning up', () => {
  const missing = failed('Error: No such file or directory\nlist table ip penstock\n')

  it('take a table that is not there for an empty one', async () => {
    expect(await backend(missing).read(signal)).toEqual(new Map())
    await backend(missing).cleanup(signal)
    await backend({ ...ok, exitCode: -1, notFound: true }).cleanup(signal)
  })

  it('take the ways into the table away before the table', async () => {
    const one = backend(ok)
    await one.cleanup(signal)
    expect(one.commands).toEqual([
      'nft -f -\ndelete chain ip penstock prerouting\ndelete chain ip penstock output\n',
      'nft delete table ip penstock',
    ])
  })

  it('fail where nft may not ask', async () => {
    const answer = failed('netlink: Error: cache initialization failed: Operation not permitted\n')
    expect((await errorOf(backend(answer).read(signal))).kind).toBe('denied')
    expect((await errorOf(backend(answer).cleanup(signal))).kind).toBe('denied')
  })

  it('need nft 1.0.6', async () => {
    const old = nftablesBackend({
      family: 'IPv4',
      exec: { run: async () => ({ ...ok, stdout: 'nftables v1.0.2 (Lester Gooch)' }) },
    })
    const error = await errorOf(old.read(signal))
    expect({ kind: error.kind, message: error.message }).toEqual({
      kind: 'unsupported',
      message: 'nft 1.0.2 is too old: install nftables 1.0.6 or newer',
    })
  })
})
