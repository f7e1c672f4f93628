// What the kernel's connection tracking is set to.
import { readSysctl } from './sysctl.ts'

const liberal = 'net.netfilter.nf_conntrack_tcp_be_liberal'

/** True if packets outside the TCP window are not called INVALID. */
export async function isLiberal(): Promise<boolean> {
  const value = await readSysctl(liberal)
  return value !== undefined && value !== '0'
}

/** How full the table of connections is; undefined where the kernel does not say. */
export async function conntrackFill(): Promise<{ readonly entries: number; readonly limit: number } | undefined> {
  const [entries, limit] = await Promise.all(
    ['nf_conntrack_count', 'nf_conntrack_max'].map(name => readSysctl(`net.netfilter.${name}`)),
  )
  return entries === undefined || limit === undefined ? undefined : { entries: Number(entries), limit: Number(limit) }
}
