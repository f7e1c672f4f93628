// How the modes that can speak netlink open it in this process; without it programs do the same.
import { openIpvsNetlink } from '../backend/ipvs/netlink.ts'
import type { Netlink } from '../backend/registry.ts'
import { openNft } from '../kernel/netlink/nft.ts'

/** What became of opening. */
export interface NetlinkTold {
  /** The port that the kernel names in notifications of what is written through the connection. */
  opened?(port: number): void
  /** Why programs do the work, in one sentence. */
  missing?(sentence: string): void
}

/**
 * Netlink in this process's network namespace: only where the programs of the same backend run in it, too. Backends open it
 * when they first ask the kernel for something, and close it in `stop`.
 */
export const machineNetlink = (told: NetlinkTold = {}): Netlink => ({
  nft: async () => {
    const connection = await openNft(told.missing)
    if (connection !== undefined) told.opened?.(connection.port)
    return connection
  },
  ipvs: () => openIpvsNetlink(told.missing),
})
