// Speaking to ipset: sets and their elements, without a program.
import type { Requester } from './generic.ts'
import {
  encodeIpset,
  encodeIpsetElement,
  encodeIpsetName,
  type IpsetElement,
  type IpsetListing,
  type IpsetSpec,
  ipsetType,
  readIpsetListing,
} from './ipset-messages.ts'
import { type Ack, flag, NetlinkError } from './message.ts'
import { type NetlinkRequest, openNetlink } from './socket.ts'

const errnoOf = { noBuffers: 105 } as const

/** A change of a set, or of one element. */
export type IpsetOperation =
  | { readonly kind: 'create'; readonly set: IpsetSpec }
  | { readonly kind: 'destroy'; readonly name: string }
  | {
      readonly kind: 'add'
      readonly name: string
      readonly element: IpsetElement
      /** One that is there gets the new comment and mark; else it is refused. */
      readonly replace: boolean
    }
  | { readonly kind: 'delete'; readonly name: string; readonly element: IpsetElement }

/** A way to sets. All methods throw NetlinkError when the kernel cannot be spoken to. */
export interface IpsetConnection {
  /**
   * Makes the changes in order, also those after a refused one. Returns what the kernel said to each: errno 0, EEXIST for a
   * set and ENOENT for none of the name, and `ipsetRefusal`'s numbers.
   */
  apply(operations: readonly IpsetOperation[]): Promise<readonly Ack[]>
  /**
   * Hands over a set, in parts that are only valid within the call; the first has its header. False if there is none of the
   * name. The kernel keeps a set that is being listed, but elements may come and go meanwhile. Throws NetlinkError with ENOBUFS
   * where a part got lost.
   */
  list(name: string, visit: (part: IpsetListing) => void, signal?: AbortSignal): Promise<boolean>
  close(): Promise<void>
}

/** Opens one in this network namespace. Undefined where there is no netlink; `explain` is told why, in one sentence. */
export async function openIpset(explain?: (sentence: string) => void): Promise<IpsetConnection | undefined> {
  const socket = await openNetlink('netfilter', explain === undefined ? {} : { explain })
  return socket === undefined ? undefined : ipsetOver(socket)
}

/** Sets by an open socket of netfilter, which `close` closes. */
export function ipsetOver(socket: Requester): IpsetConnection {
  return {
    apply: operations => socket.batch(operations.map(requestOf)),
    async list(name, visit, signal) {
      try {
        const request = { type: ipsetType('list'), payload: encodeIpsetName(name) }
        const { interrupted } = await socket.dump(request, message => visit(readIpsetListing(message.payload)), signal)
        // Parts have been handed over and cannot be taken back.
        if (interrupted) throw new NetlinkError(`a part of the set ${name} got lost`, errnoOf.noBuffers)
        return true
      } catch (error) {
        if (error instanceof NetlinkError && error.code === 'ENOENT') return false
        throw error
      }
    },
    close: () => socket.close(),
  }
}

/** Without `excl` what is there already is no error: IPSET_FLAG_EXIST. */
function requestOf(operation: IpsetOperation): NetlinkRequest {
  const fresh = flag.excl
  switch (operation.kind) {
    case 'create':
      return { type: ipsetType('create'), flags: fresh | flag.create, payload: encodeIpset(operation.set) }
    case 'destroy':
      return { type: ipsetType('destroy'), flags: fresh, payload: encodeIpsetName(operation.name) }
    case 'add':
      return {
        type: ipsetType('add'),
        flags: operation.replace ? 0 : fresh,
        payload: encodeIpsetElement(operation.name, operation.element),
      }
    case 'delete':
      return { type: ipsetType('delete'), flags: fresh, payload: encodeIpsetElement(operation.name, operation.element) }
  }
}
