// Checks of who else writes rules on this node, or holds what we need.
import type { Variant } from '../backend/xtables/tools.ts'
import { legacyTables, toolsOf } from '../backend/xtables/tools.ts'
import type { Family } from '../net/ip.ts'
import { nftTable } from '../takeover/names.ts'
import { proxyRules, proxyTables } from '../takeover/tables.ts'
import { type Finding, ok, unknown } from './finding.ts'
import type { Look } from './look.ts'
import { isDenied } from './tools.ts'

/** One variant's rules of one family and table. */
interface Saved {
  readonly family: Family
  readonly variant: Variant
  readonly text: string
}

/** Rules of both variants; the legacy programs are not asked where there are no legacy tables, as asking would make them. */
async function savedRules(
  look: Look,
): Promise<{ readonly saved: readonly Saved[]; readonly blind: readonly string[] }> {
  const saved: Saved[] = []
  const blind: string[] = []
  for (const family of look.wanted.families) {
    for (const variant of ['nft', 'legacy'] as const) {
      const tools = await toolsOf(look.exec, family, variant)
      if (tools === undefined) continue
      const there = variant === 'legacy' ? ((await legacyTables(look.exec, family)) ?? []) : proxyTables
      for (const table of proxyTables) {
        if (!there.includes(table)) continue
        // One by one: for all tables at once the nft variant's save takes fifty times as long on a large node.
        const result = await look.exec.run(tools.save, ['-t', table], { timeoutMs: 30_000 })
        if (result.exitCode === 0) saved.push({ family, variant, text: result.stdout })
        else blind.push(`${tools.save}: ${result.stderr.trim().split('\n', 1)[0] ?? ''}`)
      }
    }
  }
  return { saved, blind }
}

/** Service proxies and policy agents by what their chains begin with. */
const agents: readonly (readonly [name: string, chain: RegExp, meaning: string])[] = [
  ['kube-router', /^:(?:KUBE-ROUTER-|KUBE-POD-FW-|KUBE-NWPLCY-)/m, 'with --run-service-proxy it proxies Services too'],
  ['Cilium', /^:(?:CILIUM_|OLD_CILIUM_)/m, 'with kubeProxyReplacement it proxies Services too, before any rule'],
  ['Weave Net', /^:WEAVE/m, 'its rules for network policy may drop what ours let through'],
  ['Antrea', /^:ANTREA-/m, 'with antreaProxy.proxyAll it proxies Services too'],
]

/** What is in the tables of iptables and nftables: two variants at once, kube-proxy's leftovers, other proxies. */
export async function foreignRules(look: Look): Promise<Finding[]> {
  const { saved, blind } = await savedRules(look)
  const tables = await look.exec.run('nft', ['list', 'tables'], { timeoutMs: 10_000 })
  const names = tables.exitCode === 0 ? tables.stdout.split('\n') : []
  if (blind.length > 0 && saved.length === 0) {
    const why = blind[0] ?? ''
    return ['iptables-variants', 'kube-proxy-rules', 'other-proxies'].map(id =>
      unknown(id, `rules cannot be read${isDenied(why) ? ' by this user' : ''}: ${why}`),
    )
  }
  return [mixed(saved), ...(await kubeProxy(look, saved, names)), otherProxies(saved, names)]
}

const countRules = (text: string): number => text.match(/^-A /gm)?.length ?? 0

/** Each variant knows its own rules only: which of two DNAT rules wins is chance, and a DROP in one cannot be seen in the other (#71305). */
function mixed(saved: readonly Saved[]): Finding {
  const id = 'iptables-variants'
  const counts = (['nft', 'legacy'] as const).map(variant => ({
    variant,
    rules: saved.filter(item => item.variant === variant).reduce((sum, { text }) => sum + countRules(text), 0),
  }))
  const used = counts.filter(({ rules }) => rules > 0)
  if (used.length < 2) {
    const [only] = used
    return ok(
      id,
      only === undefined
        ? 'iptables holds no rules'
        : `only the ${only.variant} variant of iptables holds rules (${only.rules})`,
    )
  }
  return {
    id,
    severity: 'warning',
    title: `both variants of iptables hold rules: ${used.map(({ variant, rules }) => `${variant} ${rules}`).join(', ')}`,
    meaning: 'packets pass both, and each program sees only its own: rules that look right are overruled unseen',
    mend: 'iptables-legacy-save; iptables-nft-save   # find who writes the other variant, and make it use the one that kubelet marks with KUBE-IPTABLES-HINT',
  }
}

async function kubeProxy(look: Look, saved: readonly Saved[], tables: readonly string[]): Promise<Finding[]> {
  const where = new Set<string>()
  for (const { variant, text } of saved) {
    if (proxyRules(text).wasInCharge) where.add(`iptables (${variant})`)
  }
  for (const family of ['IPv4', 'IPv6'] as const) {
    if (tables.includes(`table ${nftTable(family)}`)) where.add(`nftables (table ${nftTable(family)})`)
  }
  const running = await look.processes(['kube-proxy'])
  const stop = 'kubectl -n kube-system delete daemonset kube-proxy'
  const rules =
    where.size === 0
      ? ok('kube-proxy-rules', 'kube-proxy has left no rules')
      : ({
          id: 'kube-proxy-rules',
          severity: 'warning',
          title: `kube-proxy's rules are in ${[...where].join(', ')}`,
          meaning:
            'they grow stale without it and send packets to endpoints that are gone; the daemon removes them after its first sync',
          mend: running.length > 0 ? stop : 'start penstock; or, to remove it all without, kube-proxy --cleanup',
        } satisfies Finding)
  const process =
    running.length === 0
      ? ok('kube-proxy-process', 'no kube-proxy is seen running here')
      : ({
          id: 'kube-proxy-process',
          severity: 'warning',
          title: `kube-proxy runs here (process ${running.map(({ pid }) => pid).join(', ')})`,
          meaning:
            'two programs do the same work; its rules are left alone while it runs, and it holds the ports 10249 and 10256',
          mend: stop,
        } satisfies Finding)
  return [rules, process]
}

function otherProxies(saved: readonly Saved[], tables: readonly string[]): Finding {
  const id = 'other-proxies'
  const found = agents.filter(([, chain]) => saved.some(({ text }) => chain.test(text)))
  const router = tables.some(name => /kube-router/.test(name)) && !found.some(([name]) => name === 'kube-router')
  const names = [...found.map(([name]) => name), ...(router ? ['kube-router'] : [])]
  if (names.length === 0) return ok(id, 'no rules of another Service proxy are known')
  return {
    id,
    severity: 'warning',
    title: `rules of ${names.join(', ')} are in the kernel`,
    meaning: `${found.map(([name, , meaning]) => `${name}: ${meaning}`).join('; ')}${found.length > 0 ? '. ' : ''}Rules of one that is gone stay until they are removed`,
    mend: 'iptables-save | grep -E "KUBE-ROUTER|CILIUM_|WEAVE|ANTREA"   # switch its Service proxy off, or clean up after it',
  }
}

/** How long a holder of the lock is given; kube-proxy and the tools wait five seconds. */
const lockPatienceMs = 2_000

/** The legacy variant's lock: while somebody holds it, nobody writes rules (#48107). */
export async function xtablesLock(look: Look): Promise<Finding[]> {
  const id = 'xtables-lock'
  const path = '/run/xtables.lock'
  const inode = await look.inode(path)
  if (inode === undefined) return [ok(id, `nobody has used ${path} yet`)]
  const holders = async (): Promise<number[] | undefined> => {
    const locks = await look.file('/proc/locks')
    if (locks.kind !== 'text') return undefined
    // `1: FLOCK  ADVISORY  WRITE 1234 08:01:5678 0 EOF`; one that waits has `->` after its number.
    const lines = locks.text.matchAll(/^\d+: +\S+ +\S+ +\S+ +(\d+) +[0-9a-f]+:[0-9a-f]+:(\d+) /gm)
    return [...lines].filter(([, , found]) => Number(found) === inode).map(([, pid]) => Number(pid))
  }
  const first = await holders()
  if (first === undefined) return [unknown(id, '/proc/locks cannot be read')]
  if (first.length === 0) return [ok(id, `nobody holds ${path}`)]
  await look.sleep(lockPatienceMs)
  const second = (await holders()) ?? []
  const [still] = first.filter(pid => second.includes(pid))
  if (still === undefined) return [ok(id, `${path} is used, and given back in time`)]
  const comm = await look.file(`/proc/${still}/comm`)
  const who = comm.kind === 'text' ? `${comm.text.trim()}, process ${still}` : `process ${still}`
  return [
    {
      id,
      severity: 'problem',
      title: `${path} has been held for more than ${lockPatienceMs / 1000} s by ${who}`,
      meaning: 'nobody else can write rules by the legacy variant of iptables meanwhile; changes of Services wait',
      mend: `ps -o pid,etime,args -p ${still}`,
    },
  ]
}

/** A reload of firewalld flushes everybody's rules (#129128). */
export async function firewalld(look: Look): Promise<Finding[]> {
  const id = 'firewalld'
  const running = await look.processes(['firewalld'])
  if (running.length === 0) return [ok(id, 'firewalld is not seen running')]
  return [
    {
      id,
      severity: 'warning',
      title: `firewalld runs (process ${running.map(({ pid }) => pid).join(', ')})`,
      meaning:
        'each of its reloads may flush our rules, which are put back a moment later; its zones reject node ports that they do not list',
      mend: 'systemctl disable --now firewalld   # or set FlushAllOnReload=no in /etc/firewalld/firewalld.conf',
    },
  ]
}
