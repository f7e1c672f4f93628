// What nft says, and what the syncer is told.
import { describe, expect, it } from 'vitest'
import { CommitError } from '../../../src/backend/backend.ts'
import { nftablesBackend } from '../../../src/backend/nftables/index.ts'
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

const step = (text: string) => ({ steps: [{ title: '', text, keys: [] }] })

async function errorOf(done: Promise<unknown>): Promise<CommitError> {
  const error = await done.then(
    () => undefined,
    (thrown: unknown) => thrown,
  )
  if (!(error instanceof CommitError)) throw new Error(`expected a CommitError, was ${String(error)}`)
  return error
}

describe('a failed commit', () => {
  const script = [
    'add table ip penstock',
    'flush chain ip penstock external/a/b/tcp',
    'add rule ip penstock external/a/b/tcp meta l4proto tcp dnat to 10.1.0.1:80',
    'add element ip penstock services { 10.96.0.1 . tcp . 80 comment "a/b" : goto external/a/b/tcp }',
    '',
  ].join('\n')
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
    const error = await errorOf(backend(answer).commit(step(script), signal))
    expect({ kind: error.kind, keys: error.keys }).toEqual({ kind, keys })
    expect(error.message).toMatch(/nft/)
  })

  it('is none when a chain that goes stays busy', async () => {
    const sweep = 'delete chain ip penstock external/a/b/tcp\n'
    const busy = at(1, 'Could not process rule: Device or resource busy')
    const soon = backend(busy, ok)
    await soon.commit(step(sweep), signal)
    expect(soon.commands).toEqual([`nft -f -\n${sweep}`, `nft -f -\n${sweep}`])
    const never = backend(busy)
    await never.commit(step(sweep), signal)
    expect(never.commands.length).toBeGreaterThan(2)
  })
})

describe('reading and cleaning up', () => {
  const missing = failed('Error: No such file or directory\nlist table ip penstock\n')

  it('take a table that is not there for an empty one', async () => {
    expect(await backend(missing).read(signal)).toEqual(new Map())
    await backend(missing).cleanup(signal)
    await backend({ ...ok, exitCode: -1, notFound: true }).cleanup(signal)
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
