// The nftables backend, put together. See README.md in this folder.
import type { Exec } from '../../kernel/exec.ts'
import type { Family } from '../../net/ip.ts'
import type { Backend } from '../backend.ts'
import { checkVersion, cleanup, commit, fingerprint, read } from './commit.ts'
import { compileServicePort } from './compile.ts'
import { tableName } from './names.ts'
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
    watched: () => [{ kind: 'nf_tables', family, table: tableName, prefix: '', hooks: [] }],
    fingerprint: async (signal, watched) => (watched ? undefined : fingerprint(exec, family, signal)),
    trace,
    prepare: async ({ release }) => complaintsAbout(release),
    cleanup: signal => cleanup(exec, family, signal),
  }
}

/**
 * Kernels before 5.13 lack what kube-proxy's nftables mode needs, and ours was never seen to work there. Whether one has had
 * it ported back shows when it takes the rules, or says why not: it is worth a warning, not a refusal.
 */
function complaintsAbout(release: string): string[] {
  const [major = 0, minor = 0] = release.split('.').map(Number)
  if (major > 5 || (major === 5 && minor >= 13)) return []
  return [`this kernel is ${release}: nftables mode needs 5.13 or newer, and may not work; iptables mode does`]
}
