// Speaking nf_tables to the kernel: batches, dumps of one generation, and what the kernel objected to.
import type { NftContents, NftElement, NftFamily, NftOperation, NftSet } from './nft-objects.ts'

/** The kernel took nothing of a batch. */
export interface NftRefusal {
  /** Index of the operation objected to; undefined where the batch as a whole was refused. */
  readonly operation: number | undefined
  /** `ENOENT`. */
  readonly code: string
  readonly message: string
}

export interface NftConnection {
  /** The port that the kernel names in notifications of what this connection wrote. */
  readonly port: number
  /**
   * Writes a batch. Returns what the kernel objected to, in order; empty when it took the batch whole. Batches that do not
   * fit the socket's send buffer throw NetlinkError EMSGSIZE: the caller cuts them.
   * Throws NetlinkError when the kernel cannot be spoken to (EPERM, ENOBUFS, EPROTONOSUPPORT …).
   */
  commit(
    family: NftFamily,
    table: string,
    operations: Iterable<NftOperation>,
    signal?: AbortSignal,
  ): Promise<readonly NftRefusal[]>
  /** The number of the last transaction of anybody in this network namespace. */
  generation(): Promise<number>
  /** All of a table but elements; undefined if there is no such table. Throws NetlinkError. */
  read(family: NftFamily, table: string, signal?: AbortSignal): Promise<NftContents | undefined>
  /** Hands over the elements of a set, in no particular order. Throws NetlinkError, ENOENT without such a set. */
  elements(
    family: NftFamily,
    table: string,
    set: Pick<NftSet, 'name' | 'flags' | 'keyLength' | 'dataType' | 'dataLength'>,
    visit: (element: NftElement) => void,
    signal?: AbortSignal,
  ): Promise<void>
  close(): Promise<void>
}
