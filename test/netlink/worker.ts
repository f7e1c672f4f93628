// Inside a namespace: listens to what the kernel tells of its network devices. Run by `Sandbox.worker`.
import { readAttributes, readText } from '../../src/kernel/netlink/message.ts'
import { type NetlinkSocket, openNetlink } from '../../src/kernel/netlink/socket.ts'
import { answerCalls } from '../support/netns/calls.ts'

const linkGroup = 1
const linkName = 3
const deviceHeader = 16

const heard: string[] = []
let lost = 0
let socket: NetlinkSocket | undefined

/** Listens from now on. */
async function listen(): Promise<void> {
  socket = await openNetlink('route', { groups: [linkGroup] })
  if (socket === undefined) throw new Error('no netlink')
  socket.subscribe(
    ({ type, payload }) => {
      const name = readText(readAttributes(payload.subarray(deviceHeader)).get(linkName) ?? Buffer.alloc(0))
      heard.push(`${type} ${name}`)
    },
    () => {
      lost++
    },
  )
}

/** What was heard since last asked, and how often some was lost. */
const take = (): { heard: string[]; lost: number } => ({ heard: heard.splice(0), lost })

async function close(): Promise<void> {
  await socket?.close()
}

const methods = { listen, take, close }
export type ListenerMethods = typeof methods

answerCalls(methods)
