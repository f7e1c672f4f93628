// Inside a namespace: the nftables backend that speaks to the kernel itself. Run by `Sandbox.worker`.
import { execFile } from 'node:child_process'
import { type Backend, CommitError, type Delta, type KernelObject } from '../../../src/backend/backend.ts'
import { nftablesBackend } from '../../../src/backend/nftables/index.ts'
import type { Exec, ExecResult } from '../../../src/kernel/exec.ts'
import { openNft } from '../../../src/kernel/netlink/nft.ts'
import type { Family } from '../../../src/net/ip.ts'
import { answerCalls } from '../../support/netns/calls.ts'

/** How something ended. */
export type Ended =
  | { readonly kind: 'done' }
  | { readonly kind: CommitError['kind']; readonly message: string; readonly keys: readonly string[] }

/** Starts nft for those who ask for it; how often is counted. */
let started = 0
const exec: Exec = {
  run: (command, args, { input = '' } = {}) => {
    started++
    return new Promise<ExecResult>(resolve => {
      const child = execFile(command, [...args], { maxBuffer: 1 << 26 }, (error, stdout, stderr) => {
        resolve({ exitCode: error === null ? 0 : 1, stdout, stderr, notFound: false })
      })
      child.stdin?.end(input)
    })
  },
}

const { signal } = new AbortController()
const backends = new Map<Family, Backend>()

/** Begins anew, as a process that was started again. */
function open({ own }: { own: boolean }): void {
  close()
  for (const family of ['IPv4', 'IPv6'] as const) {
    const netlink = () =>
      openNft(sentence => {
        throw new Error(sentence)
      })
    backends.set(family, nftablesBackend({ family, exec, netlink, own }))
  }
}

function close(): void {
  for (const backend of backends.values()) backend.stop?.()
  backends.clear()
}

function backendOf(family: Family): Backend {
  const backend = backends.get(family)
  if (backend === undefined) throw new Error('nothing is open')
  return backend
}

async function ended(work: () => Promise<void>): Promise<Ended> {
  try {
    await work()
    return { kind: 'done' }
  } catch (error) {
    if (!(error instanceof CommitError)) throw error
    return { kind: error.kind, message: error.message, keys: error.keys }
  }
}

const write = ({ family, delta, program }: WriteParams): Promise<Ended> =>
  ended(async () => {
    const objects = new Map(program.map(({ key, value }) => [key, value]))
    await backendOf(family).commit(backendOf(family).plan(delta, objects), signal)
  })

interface WriteParams {
  readonly family: Family
  readonly delta: Delta
  readonly program: readonly KernelObject[]
}

const read = async ({ family }: { family: Family }): Promise<readonly KernelObject[]> =>
  [...(await backendOf(family).read(signal))].map(([key, value]) => ({ key, value }))

const cleanup = ({ family }: { family: Family }): Promise<Ended> => ended(() => backendOf(family).cleanup(signal))

const digest = async ({ family }: { family: Family }): Promise<string | undefined> =>
  (await backendOf(family).fingerprint?.(signal, false))?.digest

/** How many programs were started so far. */
const programs = (): number => started

const methods = { open, close, write, read, cleanup, digest, programs }
export type BackendMethods = typeof methods

answerCalls(methods)
