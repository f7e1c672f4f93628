// What the machine says of itself: addresses, host name, address families.
import { existsSync, readFileSync } from 'node:fs'
import { hostname, networkInterfaces, release } from 'node:os'
import { type Family, type IP, parseIP } from '../net/ip.ts'

/** Holds addresses of Services in IPVS mode, ours and kube-proxy's: they are not the node's own. */
const serviceDevice = 'kube-ipvs0'

/** Addresses of all interfaces, without zones. */
export function hostAddresses(): IP[] {
  const found = new Set<IP>()
  for (const [name, list] of Object.entries(networkInterfaces())) {
    if (name === serviceDevice) continue
    for (const { address } of list ?? []) {
      const ip = parseIP(address.split('%')[0] ?? '')
      if (ip !== undefined) found.add(ip)
    }
  }
  return [...found]
}

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
