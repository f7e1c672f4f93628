// What the machine says of itself: host name, address families, kernel.
import { existsSync, readFileSync } from 'node:fs'
import { hostname, release } from 'node:os'
import type { Family } from '../net/ip.ts'

/** The host name as kube-proxy uses it for the node's: trimmed and in lower case. */
export const hostName = (): string => hostname().trim().toLowerCase()

/**
 * True if the machine speaks this family. IPv6 can be compiled out, or switched off by sysctl
 * `net.ipv6.conf.all.disable_ipv6`.
 */
export function speaks(family: Family): boolean {
  if (family === 'IPv4') return true
  try {
    readFileSync('/proc/net/if_inet6')
    return readFileSync('/proc/sys/net/ipv6/conf/all/disable_ipv6', 'utf8').trim() !== '1'
  } catch {
    return false
  }
}

/** True if the kernel has this family at all, switched off or not: rules may be left in it. */
export const hasFamily = (family: Family): boolean => family === 'IPv4' || existsSync('/proc/net/if_inet6')

/** The kernel's release, `6.1.0-13-amd64`. */
export const kernelRelease = (): string => release()
