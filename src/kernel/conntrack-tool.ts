// Removing UDP flows with the program `conntrack`, where netlink cannot be spoken directly: it reads the whole table in
// user space each time it is started, so it is started as seldom as can be.
import type { Flow, FlowFilter, FlowTable } from '../net/flow.ts'
import { type Family, type IP, parseIP } from '../net/ip.ts'
import type { Exec, ExecResult } from './exec.ts'

const familyOption: Readonly<Record<Family, string>> = { IPv4: 'ipv4', IPv6: 'ipv6' }
const timeoutMs = 60_000

/** The flows as `conntrack` lists and deletes them. Errors name the program and carry its own words. */
export const toolFlows = (exec: Exec): FlowTable => ({
  async remove(filter, isStale, signal) {
    const listed = await exec.run('conntrack', listArguments(filter), { signal, timeoutMs })
    if (listed.exitCode !== 0) throw new Error(sentence('list UDP flows', listed))
    const flows = parseFlows(listed.stdout)
    const pairs = new Map<string, { flow: Flow; count: number }>()
    for (const flow of flows) {
      if (!isStale(flow)) continue
      const args = pairOf(flow).join(' ')
      pairs.set(args, { flow, count: (pairs.get(args)?.count ?? 0) + 1 })
    }
    let removed = 0
    for (const { flow, count } of pairs.values()) {
      signal.throwIfAborted()
      const args = ['-D', '-f', familyOption[filter.family], '-p', 'udp', ...pairOf(flow)]
      const deleted = await exec.run('conntrack', args, { signal, timeoutMs })
      // It ends with 1 also when the flows have ended meanwhile.
      if (deleted.exitCode === 0) removed += count
      else if (!deleted.stderr.includes('0 flow entries have been deleted')) {
        throw new Error(sentence('delete UDP flows', deleted))
      }
    }
    return { seen: flows.length, removed }
  },
})

function sentence(what: string, { notFound, exitCode, stderr }: ExecResult): string {
  if (notFound) {
    return `stale UDP flows stay: neither the package koffi nor the program conntrack is there to ${what}; install one of them`
  }
  return `conntrack could not ${what} (exit status ${exitCode}): ${stderr.trim()}`
}

const listArguments = (filter: FlowFilter): readonly string[] => [
  ...['-L', '-f', familyOption[filter.family], '-p', 'udp'],
  ...(filter.destination === undefined ? [] : ['--orig-dst', filter.destination]),
  ...(filter.destinationPort === undefined ? [] : ['--orig-port-dst', `${filter.destinationPort}`]),
  ...(filter.replySource === undefined ? [] : ['--reply-src', filter.replySource]),
  ...(filter.replySourcePort === undefined ? [] : ['--reply-port-src', `${filter.replySourcePort}`]),
]

/** All flows to one frontend that one endpoint answers are stale together. */
const pairOf = (flow: Flow): readonly string[] => [
  ...['--orig-dst', flow.destination, '--orig-port-dst', `${flow.destinationPort}`],
  ...['--reply-src', flow.replySource, '--reply-port-src', `${flow.replySourcePort}`],
]

/**
 * The UDP flows in what `conntrack -L` prints, one a line: protocol, number, seconds left, then `src= dst= sport= dport=`
 * of either direction. Lines of other protocols, of other zones (`zone=`, `zone-orig=`) and whatever else are passed over.
 */
export function parseFlows(output: string): Flow[] {
  const flows: Flow[] = []
  for (const line of output.split('\n')) {
    if (!line.startsWith('udp ') || /\szone(-orig|-reply)?=/.test(line)) continue
    const flow = parseFlow(line)
    if (flow !== undefined) flows.push(flow)
  }
  return flows
}

const tuplePattern = /\bsrc=(\S+) dst=(\S+) sport=(\d+) dport=(\d+)/g

function parseFlow(line: string): Flow | undefined {
  const [original, reply] = [...line.matchAll(tuplePattern)].map(([, source, destination, from, to]) => ({
    source: parseIP(source ?? ''),
    destination: parseIP(destination ?? ''),
    sourcePort: Number(from),
    destinationPort: Number(to),
  }))
  if (original === undefined || reply === undefined) return undefined
  const { source, destination, sourcePort, destinationPort } = original
  const replySource: IP | undefined = reply.source
  if (source === undefined || destination === undefined || replySource === undefined) return undefined
  return { source, sourcePort, destination, destinationPort, replySource, replySourcePort: reply.sourcePort }
}
