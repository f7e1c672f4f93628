// Speaking rtnetlink: the machine's addresses, a device and local routes of our own, without a program.
import { type Family, familyOf, type IP } from '../../net/ip.ts'
import type { Requester } from './generic.ts'
import { type Ack, flag, NetlinkError } from './message.ts'
import {
  encodeAddressDump,
  encodeLink,
  encodeLinkName,
  encodeLocalRoute,
  encodeLocalRouteDump,
  encodeRouteQuestion,
  isLocalRoute,
  type Link,
  type LinkAddress,
  type LocalRoute,
  type RouteMark,
  readLink,
  readLinkAddress,
  readLocalRoute,
  routeType,
} from './route-messages.ts'
import { type NetlinkRequest, openNetlink } from './socket.ts'

/** A change of a device, or of one local route. */
export type RouteOperation =
  | { readonly kind: 'add-link'; readonly name: string; readonly type: string }
  | { readonly kind: 'delete-link'; readonly name: string }
  | (LocalRoute & { readonly kind: 'add-local' | 'delete-local' })

/** A way to devices, addresses and local routes. All methods throw NetlinkError when the kernel cannot be spoken to. */
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
  /** The addresses that have a local route so marked, in the kernel's order. */
  locals(family: Family, mark: RouteMark, signal?: AbortSignal): Promise<IP[]>
  /** True if packets for the address are delivered on this machine, whoever saw to that. */
  isLocal(address: IP): Promise<boolean>
  /**
   * Makes the changes in order, also those after a refused one. Returns what the kernel said to each: errno 0, EEXIST for
   * what is there already, ESRCH for a route and ENODEV for a device that is not, ENETDOWN while the device lo is down (IPv6), EPERM. A route may be
   * beside the kernel's own of the same address: either comes and goes by itself.
   */
  apply(operations: readonly RouteOperation[]): Promise<readonly Ack[]>
  close(): Promise<void>
}

/** Opens one in this network namespace. Undefined where there is no netlink; `explain` is told why, in one sentence. */
export async function openRoute(explain?: (sentence: string) => void): Promise<RouteConnection | undefined> {
  const socket = await openNetlink('route', { strict: true, ...(explain === undefined ? {} : { explain }) })
  return socket === undefined ? undefined : routeOver(socket)
}

/** Devices, addresses and local routes by an open socket of rtnetlink, which `close` closes. */
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
    async locals(family, { protocol, metric }, signal) {
      const request = { type: routeType.getRoute, payload: encodeLocalRouteDump(family, protocol) }
      try {
        const routes = (await socket.collect(request, signal)).map(readLocalRoute)
        return routes.flatMap(route =>
          route?.protocol === protocol && route.metric === metric && familyOf(route.address) === family
            ? [route.address]
            : [],
        )
      } catch (error) {
        // Without any address there is no table, as long as lo was never up.
        if (error instanceof NetlinkError && error.code === 'ENOENT') return []
        throw error
      }
    },
    async isLocal(address) {
      try {
        const [answer] = await socket.request({ type: routeType.getRoute, payload: encodeRouteQuestion(address) })
        return answer !== undefined && isLocalRoute(answer)
      } catch (error) {
        // Whatever there is instead of a way to it.
        if (error instanceof NetlinkError && unreachable.includes(error.code)) return false
        throw error
      }
    },
    apply: operations => socket.batch(operations.map(requestOf)),
    close: () => socket.close(),
  }
}

const unreachable: readonly string[] = ['ENETUNREACH', 'EHOSTUNREACH', 'EACCES', 'EINVAL']

/** Beside one of the kernel's own, not in its place; the very same one is refused (fib_table_insert, fib6_add_rt2node). */
function requestOf(operation: RouteOperation): NetlinkRequest {
  switch (operation.kind) {
    case 'add-link': {
      const payload = encodeLink(operation.name, operation.type)
      return { type: routeType.newLink, flags: flag.create | flag.excl, payload }
    }
    case 'delete-link':
      return { type: routeType.deleteLink, payload: encodeLinkName(operation.name) }
    case 'add-local':
      return { type: routeType.newRoute, flags: flag.create | flag.append, payload: encodeLocalRoute(operation) }
    case 'delete-local':
      return { type: routeType.deleteRoute, payload: encodeLocalRoute(operation) }
  }
}
