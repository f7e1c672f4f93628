// The nftables backend, put together. See README.md in this folder.
import type { Exec } from '../../kernel/exec.ts'
import type { Family } from '../../net/ip.ts'
import type { Backend } from '../backend.ts'
import { checkVersion, cleanup, commit, read } from './commit.ts'
import { compileServicePort } from './compile.ts'
import { plan } from './plan.ts'
import { skeleton } from './skeleton.ts'
import { trace } from './trace.ts'

export interface NftablesOptions {
  readonly family: Family
  readonly exec: Exec
}

/** One instance an address family. */
export function nftablesBackend({ family, exec }: NftablesOptions): Backend {
  let checked = false
  const check = async (): Promise<void> => {
    if (checked) return
    await checkVersion(exec)
    checked = true
  }
  return {
    mode: 'nftables',
    skeleton,
    compile: compileServicePort,
    plan: (delta, program) => plan(delta, program, family),
    read: async signal => {
      await check()
      return read(exec, family, signal)
    },
    commit: async (transaction, signal) => {
      await check()
      return commit(exec, transaction, signal)
    },
    trace,
    cleanup: signal => cleanup(exec, family, signal),
  }
}
