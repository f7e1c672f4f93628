// Takes back what iptables mode opened: without its rule, route_localnet lets neighbours reach 127.0.0.0/8 (CVE-2020-8558).
import { chains } from '../backend/iptables/names.ts'
import { legacyTables, lockWait, toolsOf } from '../backend/xtables/tools.ts'
import type { Exec } from '../kernel/exec.ts'
import { ensureSysctl } from '../kernel/sysctl.ts'

/**
 * Closes 127.0.0.0/8 again, before the rule goes that protects it. The rule says that it was we who opened it. Returns a
 * sentence when that fails; undefined when it is done, or there was nothing to do.
 */
export async function closeLocalnet(exec: Exec, signal: AbortSignal): Promise<string | undefined> {
  if (!(await holdsRule(exec, signal))) return undefined
  try {
    await ensureSysctl('net.ipv4.conf.all.route_localnet', '0')
    return undefined
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error)
    return `${why}: neighbours may reach what listens on 127.0.0.1 only (CVE-2020-8558)`
  }
}

async function holdsRule(exec: Exec, signal: AbortSignal): Promise<boolean> {
  for (const variant of ['nft', 'legacy'] as const) {
    const tools = await toolsOf(exec, 'IPv4', variant)
    if (tools === undefined) continue
    if (variant === 'legacy' && (await legacyTables(exec, 'IPv4'))?.includes('filter') === false) continue
    const args = [...lockWait, '-t', 'filter', '-S', chains.localnet]
    if ((await exec.run(tools.iptables, args, { signal, timeoutMs: 60_000 })).exitCode === 0) return true
  }
  return false
}
