// Which iptables programs to run on this node: the variant that kubelet and the CNI use.
import type { Exec, ExecResult } from '../../kernel/exec.ts'
import type { Family } from '../../net/ip.ts'
import { CommitError, type WatchedTable } from '../backend.ts'

export type Variant = 'nft' | 'legacy'

/** Programs of one family and variant. */
export interface Tools {
  readonly variant: Variant
  readonly version: string
  readonly iptables: string
  readonly restore: string
  readonly save: string
}

const base = (family: Family): string => (family === 'IPv4' ? 'iptables' : 'ip6tables')

/** `-w 5`: wait up to five seconds for the lock that legacy tools share; the nft variant accepts and ignores it. */
export const lockWait: readonly string[] = ['-w', '5']

/** Programs of a given variant, if they are installed. */
export async function toolsOf(exec: Exec, family: Family, variant: Variant): Promise<Tools | undefined> {
  for (const name of [`${base(family)}-${variant}`, base(family)]) {
    const result = await exec.run(name, ['--version'])
    const version = /v(\d+\.\d+\.\d+) \((nf_tables|legacy)\)/.exec(result.stdout)
    if (result.exitCode !== 0 || version === null) continue
    if ((version[2] === 'nf_tables') !== (variant === 'nft')) continue
    return { variant, version: version[1] ?? '', iptables: name, restore: `${name}-restore`, save: `${name}-save` }
  }
  return undefined
}

/**
 * The legacy tables of this family that the kernel holds in this network namespace; undefined where that cannot be known.
 * Asked before the legacy programs are run, because their mere listing makes a table, which then costs every packet a little
 * and alarms operators.
 */
export async function legacyTables(exec: Exec, family: Family): Promise<readonly string[] | undefined> {
  const names = family === 'IPv4' ? 'ip_tables_names' : 'ip6_tables_names'
  const result = await exec.run('cat', [`/proc/net/${names}`])
  if (result.exitCode === 0) return result.stdout.split('\n').filter(name => name !== '')
  // Without the file the module is not loaded; without `cat` nothing is known.
  return result.notFound || result.exitCode === -1 ? undefined : []
}

/**
 * Detects the variant as kube-proxy's image does (KEP-3178): kubelet's hint chain in the mangle table decides; without it,
 * the variant that holds more rules; with none, nft. Throws CommitError `unsupported` when no iptables is installed.
 */
export async function detectTools(exec: Exec, family: Family): Promise<Tools> {
  const nft = await toolsOf(exec, family, 'nft')
  const legacy = await toolsOf(exec, family, 'legacy')
  if (nft === undefined && legacy === undefined) {
    throw new CommitError(
      'unsupported',
      `neither variant of ${base(family)} is installed: install the package iptables (1.8.4 or newer)`,
    )
  }
  if (nft === undefined || legacy === undefined) return (nft ?? legacy) as Tools
  const hint = /^:(?:KUBE-IPTABLES-HINT|KUBE-KUBELET-CANARY) /m
  const nftMangle = await exec.run(nft.save, ['-t', 'mangle'])
  const nftWorks = nftMangle.exitCode === 0
  if (nftWorks && hint.test(nftMangle.stdout)) return nft
  if (nftWorks && (await legacyTables(exec, family))?.length === 0) return nft
  const legacyMangle = await exec.run(legacy.save, ['-t', 'mangle'])
  // There are legacy tables and they cannot be read, for want of CAP_NET_RAW for instance: guessing could mix variants.
  if (legacyMangle.exitCode !== 0) throw failure(legacy.save, legacyMangle)
  if (!nftWorks || hint.test(legacyMangle.stdout)) return legacy
  // Rules of ours say nothing of what others use: they may be left over from another variant.
  const rules = async (tools: Tools) =>
    (await exec.run(tools.save, [])).stdout.match(/^-A (?!.*PENSTOCK)/gm)?.length ?? 0
  return (await rules(legacy)) > (await rules(nft)) ? legacy : nft
}

/** The programs of one family on this node, found when they are first needed. */
export interface ToolChoice {
  /** Throws CommitError `unsupported`, and what the programs say where they cannot be asked. */
  find(): Promise<Tools>
  /** What was found; undefined before, when only text for people is planned. */
  readonly known: Tools | undefined
}

/** The given variant, or without one the detected (`detectTools`). After a failure they are looked for again. */
export function toolChoice(exec: Exec, family: Family, variant?: Variant): ToolChoice {
  let tools: Promise<Tools> | undefined
  let known: Tools | undefined
  return {
    get known() {
      return known
    },
    find() {
      tools ??= (variant === undefined ? detectTools(exec, family) : given(exec, family, variant)).then(
        found => {
          known = found
          return found
        },
        (error: unknown) => {
          // Asked again next time: iptables may be installed later.
          tools = undefined
          throw error
        },
      )
      return tools
    },
  }
}

/** Tables with something of ours, as the contract names them; none before the tools are known. */
export const watchedTables = (
  tools: Pick<Tools, 'variant'> | undefined,
  family: Family,
  prefix: string,
  hooks: Readonly<Record<string, readonly string[]>>,
): WatchedTable[] => {
  if (tools === undefined) return []
  const kind = tools.variant === 'nft' ? 'nf_tables' : 'legacy'
  return Object.entries(hooks).map(([table, names]) => ({ kind, family, table, prefix, hooks: names }))
}

async function given(exec: Exec, family: Family, variant: Variant): Promise<Tools> {
  const tools = await toolsOf(exec, family, variant)
  if (tools === undefined) throw new CommitError('unsupported', `the ${variant} variant of iptables is not installed`)
  return tools
}

/** Reasons of the kernel that pass by themselves, or once the kernel has been read again. */
const passing =
  /Resource temporarily unavailable|Device or resource busy|Cannot allocate memory|No buffer space|Interrupted/i

/** What a failed program means for the syncer (`design.md` §3). */
export function failure(command: string, result: ExecResult): CommitError {
  const said = result.stderr.trim().split('\n').slice(-4).join('; ')
  const message = `${command}: ${said === '' ? `exit status ${result.exitCode}` : said}`
  if (result.notFound) return new CommitError('unsupported', `${command} is not installed`)
  if (/Permission denied|you must be root|Operation not permitted/i.test(said))
    return new CommitError('denied', message)
  // The nft variant names the rules that the kernel refuses, with the exit status of a resource problem.
  const reasons = [...result.stderr.matchAll(/^line \d+: [A-Z_]+ failed \((.+?)\)/gm)].map(([, reason = '']) => reason)
  if (reasons.length > 0 && !reasons.some(reason => passing.test(reason))) return new CommitError('refused', message)
  // 4: a resource problem, such as the lock; 3: the kernel's tables speak another version.
  if (
    result.exitCode === 4 ||
    /xtables lock|Resource temporarily unavailable|Device or resource busy|Could not fetch rule set generation id|interrupted/i.test(
      said,
    )
  ) {
    return new CommitError('transient', message)
  }
  if (
    result.exitCode === 3 ||
    /can't initialize|table does not exist|Protocol not (?:supported|available)/i.test(said)
  ) {
    return new CommitError('unsupported', message)
  }
  return new CommitError(result.exitCode === -1 ? 'transient' : 'refused', message)
}
