// Speaking to IPVS: virtual servers, their real servers and what these have to do, without a program.

import { familyId, type Requester } from './generic.ts'
import {
  encodeDestination,
  encodeDestinationId,
  encodePlain,
  encodeService,
  encodeServiceId,
  encodeTimeouts,
  familyOfService,
  type IpvsDestination,
  type IpvsLoad,
  type IpvsService,
  type IpvsServiceId,
  type IpvsTimeouts,
  ipvsCommand,
  ipvsFamily,
  readDestination,
  readService,
  readTimeouts,
} from './ipvs-messages.ts'
import { type Ack, NetlinkError } from './message.ts'
import { openNetlink } from './socket.ts'

/** A change of one virtual or real server. */
export type IpvsOperation =
  | { readonly kind: 'add-service' | 'edit-service'; readonly service: IpvsService }
  | { readonly kind: 'delete-service'; readonly id: IpvsServiceId }
  | {
      readonly kind: 'add-destination' | 'edit-destination'
      readonly id: IpvsServiceId
      readonly destination: IpvsDestination
    }
  | {
      readonly kind: 'delete-destination'
      readonly id: IpvsServiceId
      readonly destination: Pick<IpvsDestination, 'address' | 'port'>
    }

/**
 * A way to IPVS. All methods throw NetlinkError when the kernel cannot be spoken to: EPERM without CAP_NET_ADMIN,
 * ENOPROTOOPT while it has no IPVS.
 */
export interface IpvsConnection {
  /** True if the kernel has IPVS. Asks each time: a module may have been loaded. */
  isThere(): Promise<boolean>
  /**
   * Makes the changes in order, also those after a refused one. Returns what the kernel said to each: errno 0, EEXIST for
   * what is there already, ESRCH without the virtual server, ENOENT without the real server or the scheduler, EINVAL for an
   * address that is not unicast (net/netfilter/ipvs/ip_vs_ctl.c).
   */
  apply(operations: readonly IpvsOperation[]): Promise<readonly Ack[]>
  /** Hands over every virtual server, of both families. */
  services(visit: (service: IpvsService) => void, signal?: AbortSignal): Promise<void>
  /** True if there is such a virtual server. */
  hasService(id: IpvsServiceId): Promise<boolean>
  /** Its real servers; none also where there is no such virtual server. */
  destinations(id: IpvsServiceId, signal?: AbortSignal): Promise<IpvsLoad[]>
  timeouts(): Promise<IpvsTimeouts>
  setTimeouts(timeouts: IpvsTimeouts): Promise<void>
  close(): Promise<void>
}

/** Opens one in this network namespace. Undefined where there is no netlink; `explain` is told why, in one sentence. */
export async function openIpvs(explain?: (sentence: string) => void): Promise<IpvsConnection | undefined> {
  const socket = await openNetlink('generic', explain === undefined ? {} : { explain })
  return socket === undefined ? undefined : ipvsOver(socket)
}

let last: Promise<unknown> = Promise.resolve()

/**
 * A dump of IPVS goes on after as many objects as it has told of, and nothing says that the table changed meanwhile
 * (net/netfilter/ipvs/ip_vs_ctl.c, ip_vs_genl_dump_services, sets no NLM_F_DUMP_INTR): where one is deleted in between, others
 * are passed over. So this process writes and reads in turns, both families together: they share the table.
 */
function inTurn<T>(work: () => Promise<T>): Promise<T> {
  const turn = last.then(work)
  last = turn.catch(() => undefined)
  return turn
}

/** IPVS by an open socket of generic netlink, which `close` closes. */
export function ipvsOver(socket: Requester): IpvsConnection {
  let known: number | undefined
  const find = async (): Promise<number> => {
    known ??= await familyId(socket, ipvsFamily.name)
    if (known === undefined) throw new NetlinkError('this kernel has no IPVS', noProtocol)
    return known
  }
  const request = async (payload: Buffer): Promise<Buffer[]> => await socket.request({ type: await find(), payload })
  return {
    async isThere() {
      known = await familyId(socket, ipvsFamily.name)
      return known !== undefined
    },
    async apply(operations) {
      const type = await find()
      const requests = operations.map(operation => ({ type, payload: payloadOf(operation) }))
      return await inTurn(() => socket.batch(requests))
    },
    async services(visit, signal) {
      // The number may be another one since the module was last loaded; a full look is when that is found out.
      known = undefined
      const payload = encodePlain(ipvsCommand.getService)
      const asked = { type: await find(), payload }
      const answers = await inTurn(() => socket.collect(asked, signal))
      for (const [index, answer] of answers.entries()) {
        if (index % turnLength === turnLength - 1) {
          await new Promise(next => setImmediate(next))
          signal?.throwIfAborted()
        }
        const service = readService(answer)
        if (service !== undefined) visit(service)
      }
    },
    async hasService(id) {
      try {
        return (await request(encodeServiceId(ipvsCommand.getService, id))).length > 0
      } catch (error) {
        if (error instanceof NetlinkError && error.code === 'ESRCH') return false
        throw error
      }
    },
    async destinations(id, signal) {
      const payload = encodeServiceId(ipvsCommand.getDestination, id)
      const family = familyOfService(id)
      const asked = { type: await find(), payload, small: true }
      const answers = await inTurn(() => socket.collect(asked, signal))
      return answers.map(answer => readDestination(answer, family)).filter(found => found !== undefined)
    },
    async timeouts() {
      const [answer] = await request(encodePlain(ipvsCommand.getConfig))
      return readTimeouts(answer ?? Buffer.alloc(0))
    },
    async setTimeouts(timeouts) {
      await request(encodeTimeouts(timeouts))
    },
    close: () => socket.close(),
  }
}

/** Virtual servers that are decoded in one turn of the event loop: two or three milliseconds. */
const turnLength = 512

/** ENOPROTOOPT, which IPVS' own socket option answers where there is none. */
const noProtocol = 92

/** A change as the kernel is told of it. */
function payloadOf(operation: IpvsOperation): Buffer {
  switch (operation.kind) {
    case 'add-service':
      return encodeService(ipvsCommand.newService, operation.service)
    case 'edit-service':
      return encodeService(ipvsCommand.setService, operation.service)
    case 'delete-service':
      return encodeServiceId(ipvsCommand.deleteService, operation.id)
    case 'add-destination':
      return encodeDestination(ipvsCommand.newDestination, operation.id, operation.destination)
    case 'edit-destination':
      return encodeDestination(ipvsCommand.setDestination, operation.id, operation.destination)
    case 'delete-destination':
      return encodeDestinationId(ipvsCommand.deleteDestination, operation.id, operation.destination)
  }
}
