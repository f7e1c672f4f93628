// What the kernel says of a legacy table of iptables in one call: how many rules, how large, where its chains begin. It
// tells of no changes by itself; but asking takes 2 µs, where listing ten thousand Services takes half a second.
import type { Family } from '../../net/ip.ts'
import { loadLibc } from './libc.ts'

/** Numbers of linux/netfilter_ipv4/ip_tables.h and ip6_tables.h. */
const numbers = { IPv4: { domain: 2, level: 0 }, IPv6: { domain: 10, level: 41 } } as const
const getInfo = 64
const nameLength = 32
/** A name, the hooks, where the chains of each hook begin and end, the number of rules, and their size. */
const infoLength = nameLength + 13 * 4
const datagramCloseOnExec = 2 | 0o2000000

/** Asks for the shape of tables. */
export interface LegacyTables {
  /**
   * The same as long as nobody adds or deletes a rule; undefined where there is no such table, or no right to ask
   * (CAP_NET_ADMIN). Only for tables that are in use: asking for another makes it.
   */
  shape(family: Family, table: string): string | undefined
  close(): void
}

/** Undefined where koffi is missing. */
export async function openLegacyTables(): Promise<LegacyTables | undefined> {
  const libc = await loadLibc()
  if (typeof libc === 'string') return undefined
  const { default: koffi } = await import('koffi')
  const getsockopt = koffi.load(null).func('int getsockopt(int, int, int, void *, void *)')
  const sockets = {
    IPv4: libc.socket(numbers.IPv4.domain, datagramCloseOnExec, 0),
    IPv6: libc.socket(numbers.IPv6.domain, datagramCloseOnExec, 0),
  }
  const info = Buffer.alloc(infoLength)
  const length = Buffer.alloc(4)
  return {
    shape(family, table) {
      const socket = sockets[family]
      if (socket < 0 || table.length >= nameLength) return undefined
      info.fill(0).write(table)
      length.writeUInt32LE(infoLength)
      const result: unknown = getsockopt(socket, numbers[family].level, getInfo, info, length)
      return result === 0 ? info.toString('base64', nameLength) : undefined
    },
    close() {
      for (const socket of Object.values(sockets)) if (socket >= 0) libc.close(socket)
    },
  }
}
