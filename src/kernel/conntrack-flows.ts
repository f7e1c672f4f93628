// Removing UDP flows from connection tracking: over netlink, or with the program `conntrack` where there is no netlink.
import type { Flow, FlowFilter, FlowTable, Removal } from '../net/flow.ts'
import { dumpRequest, readFlow, removeRequest, type TrackedFlow } from './conntrack-messages.ts'
import { toolFlows } from './conntrack-tool.ts'
import type { Exec } from './exec.ts'
import { errnoName } from './netlink/message.ts'
import { type NetlinkSocket, openNetlink } from './netlink/socket.ts'

const noSuchFlow = 2
const attempts = 3

/** The kernel's flows; each removal opens a socket of its own, which costs less than keeping one right. */
export const machineFlows = (exec: Exec): FlowTable => flowsOver(() => openNetlink('netfilter'), toolFlows(exec))

/** Flows by a socket that each removal opens and closes; by `tool` where there is none. */
export function flowsOver(open: () => Promise<NetlinkSocket | undefined>, tool: FlowTable): FlowTable {
  return {
    async remove(filter, isStale, signal) {
      const socket = await open()
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
  const { seen, stale, isWhole } = await findStale(socket, filter, isStale, signal)
  const acks = await socket.batch(stale.map(removeRequest))
  let removed = 0
  const refused = new Map<number, number>()
  for (const { errno } of acks) {
    if (errno === 0) removed++
    // It ended by itself, or somebody else was quicker.
    else if (errno !== noSuchFlow) refused.set(errno, (refused.get(errno) ?? 0) + 1)
  }
  if (refused.size > 0) {
    const counts = [...refused].map(([errno, count]) => `${count} with ${errnoName(errno)}`)
    return { seen, removed, problem: `the kernel refused to remove stale UDP flows: ${counts.join(', ')}` }
  }
  if (isWhole) return { seen, removed }
  return { seen, removed, problem: `the kernel did not list all UDP flows, ${attempts} times` }
}

interface Found {
  readonly seen: number
  readonly stale: readonly TrackedFlow[]
  readonly isWhole: boolean
}

/** A listing of which a part got lost for want of room is made again; the last one counts as it is. */
async function findStale(
  socket: NetlinkSocket,
  filter: FlowFilter,
  isStale: (flow: Flow) => boolean,
  signal: AbortSignal,
): Promise<Found> {
  for (let attempt = 1; ; attempt++) {
    const stale: TrackedFlow[] = []
    let seen = 0
    const { interrupted } = await socket.dump(
      dumpRequest(filter),
      message => {
        const read = readFlow(message.payload, isStale)
        if (read === undefined) return
        seen++
        if (read !== 'not kept') stale.push(read)
      },
      signal,
    )
    if (!interrupted || attempt === attempts) return { seen, stale, isWhole: !interrupted }
  }
}
