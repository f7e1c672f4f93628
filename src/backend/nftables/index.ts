// The nftables backend, put together. See README.md in this folder.
import type { Exec } from '../../kernel/exec.ts'
import type { Family } from '../../net/ip.ts'
import type { Backend } from '../backend.ts'
import { cleanup, commit, read } from './commit.ts'
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
  return {
    mode: 'nftables',
    skeleton,
    compile: compileServicePort,
    plan: (delta, program) => plan(delta, program, family),
    read: signal => read(exec, family, signal),
    commit: (transaction, signal) => commit(exec, transaction, signal),
    trace,
    cleanup: signal => cleanup(exec, family, signal),
  }
}
