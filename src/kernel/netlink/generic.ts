// Generic netlink: its header, and the number that a family has got in the running kernel.
import { NetlinkError, NetlinkFormatError, readAttributes, text } from './message.ts'
import type { NetlinkRequest, NetlinkSocket } from './socket.ts'

/** What the connections of this folder need of a socket. */
export type Requester = Pick<NetlinkSocket, 'request' | 'batch' | 'dump' | 'collect' | 'close'>

/** Length of `genlmsghdr`. */
export const genericHeaderLength = 4

/** The family that tells of families: GENL_ID_CTRL, its command CTRL_CMD_GETFAMILY, and attributes (linux/genetlink.h). */
const controller = { family: 16, getFamily: 3, version: 1, idAttribute: 1, nameAttribute: 2 } as const

/** `genlmsghdr`, byte by byte. */
export const genericHeader = (command: number, version: number): readonly number[] => [command, version, 0, 0]

/** The payload of a message of generic netlink: command, version of the family, attributes. */
export function encodeGeneric(command: number, version: number, ...attributes: readonly Buffer[]): Buffer {
  return Buffer.concat([Buffer.from(genericHeader(command, version)), ...attributes])
}

/** Takes such a payload apart; `attributes` is a view. Throws NetlinkFormatError. */
export function readGeneric(payload: Buffer): { command: number; version: number; attributes: Buffer } {
  if (payload.length < genericHeaderLength) throw new NetlinkFormatError('a generic message ends within its header')
  return {
    command: payload.readUInt8(0),
    version: payload.readUInt8(1),
    attributes: payload.subarray(genericHeaderLength),
  }
}

/** Asks for a family by name. */
export const familyRequest = (name: string): NetlinkRequest => ({
  type: controller.family,
  payload: encodeGeneric(controller.getFamily, controller.version, text(controller.nameAttribute, name)),
})

/** The number in the answer. Throws NetlinkFormatError where there is none. */
export function readFamilyId(payload: Buffer): number {
  const id = readAttributes(readGeneric(payload).attributes).get(controller.idAttribute)
  if (id === undefined || id.length < 2) throw new NetlinkFormatError('a family of generic netlink without a number')
  return id.readUInt16LE(0)
}

/**
 * The number of a family: the `type` of its messages. Undefined while the kernel has no such family; a module that brings it
 * may be loaded later, and under another number again. Throws NetlinkError and NetlinkFormatError.
 */
export async function familyId(socket: Pick<Requester, 'request'>, name: string): Promise<number | undefined> {
  try {
    const [answer] = await socket.request(familyRequest(name))
    return answer === undefined ? undefined : readFamilyId(answer)
  } catch (error) {
    if (error instanceof NetlinkError && error.code === 'ENOENT') return undefined
    throw error
  }
}
