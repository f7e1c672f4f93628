// Removing UDP flows from connection tracking: over netlink, or with the program `conntrack` where there is no netlink.
import type { Flow, FlowFilter, FlowTable, Removal } from '../net/flow.ts'
import { dumpRequest, readFlow, removeRequest, type TrackedFlow } from './conntrack-messages.ts'
import { toolFlows } from './conntrack-tool.ts'
import type { Exec } from './exec.ts'
import { errnoName } from './netlink/message.ts'
import { type NetlinkSocket, openNetlink } from './netlink/socket.ts'

const noSuchFlow = 2

/** The kernel's flows; each removal opens a socket of its own, which costs less than keeping one right. */
export const machineFlows = (exec: Exec): FlowTable => {
  const tool = toolFlows(exec)
  return {
    async remove(filter, isStale, signal) {
      const socket = await openNetlink('netfilter')
      if (socket === undefined) return tool.remove(filter, isStale, signal)
      try {
        return await removeOver(socket, filter, isStale, signal)
      } finally {
        await socket.close()
      }
    },
  }
}

async function removeOver(
  socket: NetlinkSocket,
  filter: FlowFilter,
  isStale: (flow: Flow) => boolean,
  signal: AbortSignal,
): Promise<Removal> {
  const stale: TrackedFlow[] = []
  let seen = 0
  await socket.dump(
    dumpRequest(filter),
    message => {
      const read = readFlow(message.payload, isStale)
      if (read === undefined) return
      seen++
      if (read !== 'not kept') stale.push(read)
    },
    signal,
  )
  const acks = await socket.batch(stale.map(removeRequest))
  let removed = 0
  const refused = new Map<number, number>()
  for (const { errno } of acks) {
    if (errno === 0) removed++
    // It ended by itself, or somebody else was quicker.
    else if (errno !== noSuchFlow) refused.set(errno, (refused.get(errno) ?? 0) + 1)
  }
  if (refused.size === 0) return { seen, removed }
  const counts = [...refused].map(([errno, count]) => `${count} with ${errnoName(errno)}`)
  return { seen, removed, problem: `the kernel refused to remove stale UDP flows: ${counts.join(', ')}` }
}
