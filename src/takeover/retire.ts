// Removes what a kube-proxy left in the kernel, of all its modes and nothing else. Ours must be in charge before.
import { CommitError } from '../backend/backend.ts'
import { commit } from '../backend/xtables/commit.ts'
import type { Table } from '../backend/xtables/names.ts'
import { plan, restoreLimits } from '../backend/xtables/plan.ts'
import { failure, legacyTables, lockWait, type Tools, toolsOf, type Variant } from '../backend/xtables/tools.ts'
import type { Exec } from '../kernel/exec.ts'
import type { CIDR, Family } from '../net/ip.ts'
import { retireServers } from './ipvs.ts'
import { nftTable, telltales } from './names.ts'
import { type ProxyRules, proxyRules, proxyTables } from './tables.ts'

export interface RetireOptions {
  readonly exec: Exec
  readonly family: Family
  /** Virtual servers at these addresses are left alone (`ipvs.excludeCIDRs`). */
  readonly excludeCIDRs: readonly CIDR[]
  /** Virtual servers of IPVS stay, at weight 0, while they have connections. Connections of the other modes need no rules. */
  readonly keepConnections: boolean
}

export interface Retired {
  /** What was removed, a phrase each, as `12 chains and 9 jumps of iptables (nft)`. Empty: there was nothing. */
  readonly removed: readonly string[]
  /** What bears kube-proxy's names and stays, a sentence each. */
  readonly kept: readonly string[]
  /** A kube-proxy's own entry was among what was removed; not only what kubelet or a CNI of that name makes. */
  readonly wasInCharge: boolean
  /** Virtual servers that stay for the connections they have. */
  readonly busy: number
}

const timeoutMs = 120_000

/**
 * One pass. Takes kube-proxy's chains and jumps from both variants of iptables, its table from nftables, its virtual
 * servers, addresses and sets. Established connections live on: conntrack keeps their translation, and IPVS what `busy`
 * counts. What is shared with kubelet or a CNI stays (`proxyRules`). Each part is tried whatever became of the others;
 * throws the first CommitError.
 */
export async function retireKubeProxy(options: RetireOptions, signal: AbortSignal): Promise<Retired> {
  const { exec, family } = options
  const removed: string[] = []
  const kept: string[] = []
  let wasInCharge = false
  let busy = 0
  let hadIpvsRules = false
  let firstError: CommitError | undefined
  const attempt = async (work: () => Promise<void>): Promise<void> => {
    for (let tries = 1; ; tries++) {
      try {
        return await work()
      } catch (error) {
        if (!(error instanceof CommitError)) throw error
        if (error.kind === 'stale' && tries < staleTries && !signal.aborted) continue
        firstError ??= error
        return
      }
    }
  }
  for (const variant of ['nft', 'legacy'] as const) {
    await attempt(async () => {
      const tools = await toolsOf(exec, family, variant)
      if (tools === undefined) return
      const rules = await removeRules(exec, tools, await tablesOf(exec, family, variant), signal)
      kept.push(...rules.kept.map(sentence => `iptables (${variant}): ${sentence}`))
      if (rules.chains + rules.jumps === 0) return
      hadIpvsRules ||= rules.isIpvs
      wasInCharge ||= rules.wasInCharge
      removed.push(`${count(rules.chains, 'chain')} and ${count(rules.jumps, 'jump')} of iptables (${variant})`)
    })
  }
  await attempt(async () => {
    if (!(await removeTable(exec, family, signal))) return
    wasInCharge = true
    removed.push(`nftables' table ${nftTable(family)}`)
  })
  await attempt(async () => {
    const gone = await retireServers(options, hadIpvsRules, signal)
    busy = gone.busy
    if (gone.servers > 0) removed.push(count(gone.servers, 'virtual server'))
    if (gone.addresses > 0) removed.push(`${count(gone.addresses, 'address', 'addresses')} of kube-ipvs0`)
    if (gone.sets > 0) removed.push(count(gone.sets, 'set'))
  })
  if (firstError !== undefined) throw firstError
  return { removed, kept, wasInCharge, busy }
}

/** The kernel changes between reading and writing where others write: so often it is read again at once. */
const staleTries = 5

const count = (number: number, one: string, many = `${one}s`): string => `${number} ${number === 1 ? one : many}`

/** Listing a legacy table makes it: only those are asked for that are there. */
async function tablesOf(exec: Exec, family: Family, variant: Variant): Promise<readonly Table[]> {
  if (variant === 'nft') return proxyTables
  const there = (await legacyTables(exec, family)) ?? []
  return proxyTables.filter(table => there.includes(table))
}

/**
 * False if no chain of kube-proxy's is there: asked one by one, which costs milliseconds, where our own 10,000 Services would
 * be listed, held and read for seconds.
 */
async function wasHere(exec: Exec, tools: Tools, tables: readonly Table[], signal: AbortSignal): Promise<boolean> {
  for (const [table, chain] of telltales) {
    if (!tables.includes(table)) continue
    const result = await exec.run(tools.iptables, [...lockWait, '-t', table, '-S', chain], { signal, timeoutMs })
    // 1.8.9's words for a chain that the nft variant does not have, besides the usual: "is incompatible, use 'nft' tool".
    if (result.exitCode === 0 || !/No chain|does not exist|No such file|is incompatible/i.test(result.stderr))
      return true
  }
  return false
}

async function removeRules(
  exec: Exec,
  tools: Tools,
  tables: readonly Table[],
  signal: AbortSignal,
): Promise<ProxyRules> {
  if (!(await wasHere(exec, tools, tables, signal))) return proxyRules('')
  let text = ''
  for (const table of tables) {
    // One by one: for all tables at once iptables-nft-save 1.8.9 takes 20 s with 33,000 rules, for one table 0.4 s.
    const result = await exec.run(tools.save, ['-t', table], { signal, timeoutMs })
    if (result.exitCode !== 0) throw failure(tools.save, result)
    text += result.stdout
  }
  const rules = proxyRules(text)
  const { delta } = rules
  if (delta.removed.length + delta.changed.length > 0) {
    const options = { ...restoreLimits(tools), refusalsFirst: false }
    await commit(exec, tools, plan(delta, options), signal)
  }
  return rules
}

/**
 * False if there is no such table, or no nft. Throws CommitError. It is not looked for first: with 10,000 Services in the nft
 * variant of iptables, `nft list tables` takes 1.7 s (nft 1.0.6), and this 0.04 s.
 */
async function removeTable(exec: Exec, family: Family, signal: AbortSignal): Promise<boolean> {
  const gone = await exec.run('nft', ['delete', 'table', ...nftTable(family).split(' ')], { signal, timeoutMs })
  if (gone.exitCode === 0) return true
  if (gone.notFound || /No such file or directory/.test(gone.stderr)) return false
  throw nftFailure(gone)
}

function nftFailure({ exitCode, stderr }: { readonly exitCode: number; readonly stderr: string }): CommitError {
  const said = stderr.trim().split('\n', 1)[0] ?? ''
  const message = `nft: ${said === '' ? `exit status ${exitCode}` : said}`
  if (/Operation not permitted|Permission denied|must be root/i.test(said)) return new CommitError('denied', message)
  if (/cache initialization failed|Protocol not supported|Unable to initialize Netlink/i.test(said)) {
    return new CommitError('unsupported', message)
  }
  return new CommitError('transient', message)
}
