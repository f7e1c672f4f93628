// What the kernel's connection tracking is set to.
import { ensureSysctl, readSysctl } from './sysctl.ts'

const liberal = 'net.netfilter.nf_conntrack_tcp_be_liberal'

/** True if packets outside the TCP window are not called INVALID. */
export async function isLiberal(): Promise<boolean> {
  const value = await readSysctl(liberal)
  return value !== undefined && value !== '0'
}

/** Makes it so. Throws an Error that names the setting when it cannot be written. */
export const beLiberal = (): Promise<void> => ensureSysctl(liberal, '1')
