// Speaking rtnetlink: a device of our own and the addresses on it, without a program.
import type { Family, IP } from '../../net/ip.ts'
import type { Requester } from './generic.ts'
import { type Ack, flag, NetlinkError } from './message.ts'
import {
  encodeAddress,
  encodeAddressDump,
  encodeLink,
  encodeLinkName,
  type Link,
  type LinkAddress,
  readLink,
  readLinkAddress,
  routeType,
} from './route-messages.ts'
import { type NetlinkRequest, openNetlink } from './socket.ts'

/** A change of a device, or of one address. `index` is the device's. */
export type RouteOperation =
  | { readonly kind: 'add-link'; readonly name: string; readonly type: string }
  | { readonly kind: 'delete-link'; readonly name: string }
  | { readonly kind: 'add-address'; readonly index: number; readonly address: IP; readonly deprecated: boolean }
  | { readonly kind: 'delete-address'; readonly index: number; readonly address: IP }

/** A way to devices and addresses. All methods throw NetlinkError when the kernel cannot be spoken to. */
export interface RouteConnection {
  /** The device of that name; undefined where there is none. */
  link(name: string): Promise<Link | undefined>
  /** Hands over the addresses of a device; without one, those of all. */
  addresses(
    index: number | undefined,
    family: Family,
    visit: (address: LinkAddress) => void,
    signal?: AbortSignal,
  ): Promise<void>
  /**
   * Makes the changes in order, also those after a refused one. Returns what the kernel said to each: errno 0, EEXIST for
   * what is there already, EADDRNOTAVAIL for an address that is not, ENODEV for a device that is not, EPERM.
   */
  apply(operations: readonly RouteOperation[]): Promise<readonly Ack[]>
  close(): Promise<void>
}

/** Opens one in this network namespace. Undefined where there is no netlink; `explain` is told why, in one sentence. */
export async function openRoute(explain?: (sentence: string) => void): Promise<RouteConnection | undefined> {
  const socket = await openNetlink('route', explain === undefined ? {} : { explain })
  return socket === undefined ? undefined : routeOver(socket)
}

/** Devices and addresses by an open socket of rtnetlink, which `close` closes. */
export function routeOver(socket: Requester): RouteConnection {
  return {
    async link(name) {
      try {
        const [answer] = await socket.request({ type: routeType.getLink, payload: encodeLinkName(name) })
        return answer === undefined ? undefined : readLink(answer)
      } catch (error) {
        if (error instanceof NetlinkError && error.code === 'ENODEV') return undefined
        throw error
      }
    },
    async addresses(index, family, visit, signal) {
      const request = { type: routeType.getAddress, payload: encodeAddressDump(family) }
      for (const answer of await socket.collect(request, signal)) {
        const found = readLinkAddress(answer)
        if (found !== undefined && (index === undefined || found.index === index)) visit(found)
      }
    },
    apply: operations => socket.batch(operations.map(requestOf)),
    close: () => socket.close(),
  }
}

function requestOf(operation: RouteOperation): NetlinkRequest {
  const fresh = flag.create | flag.excl
  switch (operation.kind) {
    case 'add-link':
      return { type: routeType.newLink, flags: fresh, payload: encodeLink(operation.name, operation.type) }
    case 'delete-link':
      return { type: routeType.deleteLink, payload: encodeLinkName(operation.name) }
    case 'add-address':
      return { type: routeType.newAddress, flags: fresh, payload: encodeAddress(operation) }
    case 'delete-address':
      return { type: routeType.deleteAddress, payload: encodeAddress({ ...operation, deprecated: false }) }
  }
}
