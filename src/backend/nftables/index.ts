// The nftables backend, put together. See README.md in this folder.
import type { Exec } from '../../kernel/exec.ts'
import type { NftConnection } from '../../kernel/netlink/nft-connection.ts'
import type { Family } from '../../net/ip.ts'
import type { Backend, Look } from '../backend.ts'
import { commit, failureOf, KernelWriter } from './commit.ts'
import { compileServicePort } from './compile.ts'
import { tableName } from './names.ts'
import { plan } from './plan.ts'
import { Fingerprint, readTable } from './read.ts'
import { skeleton } from './skeleton.ts'
import { checkVersion, cleanupByNft, listingFingerprint, readListing, runScript } from './tools.ts'
import { trace } from './trace.ts'

export interface NftablesOptions {
  readonly family: Family
  /** Runs nft, where there is no connection. */
  readonly exec: Exec
  /**
   * Opens a connection of this backend's own to nf_tables; undefined where that cannot be. Called once, before the kernel
   * is first asked for anything; what it gives is closed by `stop`.
   */
  readonly netlink?: () => Promise<NftConnection | undefined>
  /**
   * The table is this connection's alone where the kernel can (`owner` and `persist`, 6.9): others cannot change it by
   * accident, and it outlives the process. For what keeps the rules; never without a connection.
   */
  readonly own?: boolean
}

/** One instance an address family. */
export function nftablesBackend({ family, exec, netlink, own = false }: NftablesOptions): Backend {
  let opening: Promise<KernelSide | undefined> | undefined
  /** Once it is known. */
  let opened: KernelSide | undefined
  let checked = false
  const kernel = async (): Promise<KernelSide | undefined> => {
    opening ??= openKernelSide(family, own, netlink)
    opened = await opening
    return opened
  }
  const check = async (): Promise<void> => {
    if (checked) return
    await checkVersion(exec)
    checked = true
  }
  return {
    mode: 'nftables',
    skeleton,
    compile: compileServicePort,
    plan: (delta, program) => plan(delta, program, family, opened === undefined ? 'nft' : 'kernel'),
    read: async signal => {
      const side = await kernel()
      if (side !== undefined) return side.read(signal)
      await check()
      return readListing(exec, family, signal)
    },
    commit: async (transaction, signal) => {
      const side = await kernel()
      if (side !== undefined) return commit(side.writer.write, transaction, signal)
      await check()
      return commit((step, stop) => runScript(exec, family, step, stop), transaction, signal)
    },
    watched: () => [{ kind: 'nf_tables', family, table: tableName, prefix: '', hooks: [] }],
    fingerprint: async (signal, watched) => {
      if (watched) return undefined
      return (await kernel())?.look(signal) ?? listingFingerprint(exec, family, signal)
    },
    trace,
    prepare: async ({ release }) => complaintsAbout(release),
    stop: () => {
      void opening?.then(side => side?.close())
    },
    cleanup: async signal => {
      const side = await kernel()
      return side === undefined ? cleanupByNft(exec, family, signal) : side.writer.cleanup(signal)
    },
  }
}

/** What is done by netlink. */
interface KernelSide {
  readonly writer: KernelWriter
  read(signal: AbortSignal): ReturnType<Backend['read']>
  look(signal: AbortSignal): Promise<Look>
  close(): Promise<void>
}

async function openKernelSide(
  family: Family,
  own: boolean,
  netlink: NftablesOptions['netlink'],
): Promise<KernelSide | undefined> {
  const connection = await netlink?.()
  if (connection === undefined) return undefined
  const writer = new KernelWriter(connection, family, own)
  const fingerprint = new Fingerprint()
  return {
    writer,
    read: async signal => {
      try {
        const { program, tableFlags } = await readTable(connection, family, signal)
        writer.saw(tableFlags)
        await writer.claim(signal)
        return program
      } catch (error) {
        throw failureOf(error)
      }
    },
    look: async signal => {
      try {
        return await fingerprint.look(connection, family, signal)
      } catch (error) {
        throw failureOf(error)
      }
    },
    close: () => {
      writer.stop()
      return connection.close()
    },
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
