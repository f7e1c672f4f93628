// Inside a namespace: asks and answers over UDP and TCP, fills and lists the table of connections, and runs a keeper of
// flows. Run by `Sandbox.worker`.
import { createSocket, type Socket } from 'node:dgram'
import { connect, createServer, type Socket as TcpSocket } from 'node:net'
import { type Cleaning, FlowKeeper } from '../../src/conntrack/keeper.ts'
import type { ServedPort } from '../../src/conntrack/table.ts'
import { flowsOver, machineFlows } from '../../src/kernel/conntrack-flows.ts'
import { createRequest, dumpRequest, readFlow } from '../../src/kernel/conntrack-messages.ts'
import { toolFlows } from '../../src/kernel/conntrack-tool.ts'
import { machineExec } from '../../src/kernel/exec.ts'
import { type NetlinkSocket, openNetlink } from '../../src/kernel/netlink/socket.ts'
import type { Flow } from '../../src/net/flow.ts'
import type { Family, IP } from '../../src/net/ip.ts'
import { answerCalls } from '../support/netns/calls.ts'

/** What a Service has become, and a sync after it. */
export interface Step {
  readonly notes: Readonly<Record<string, readonly ServedPort[]>>
}

export interface KeptFlow extends Flow {
  /** The kernel's name for it: the same tuple made anew has another. */
  readonly id: string
}

const kindOf = (address: string): 'udp4' | 'udp6' => (address.includes(':') ? 'udp6' : 'udp4')

function serve({ address, port }: { address: string; port: number }): Promise<void> {
  const socket = createSocket(kindOf(address), (_, from) => socket.send(address, from.port, from.address))
  const udp = new Promise<void>(resolve => socket.bind({ address, port }, resolve))
  const server = createServer(connection => connection.pipe(connection))
  const tcp = new Promise<void>(resolve => server.listen(port, address, resolve))
  return Promise.all([udp, tcp]).then(() => undefined)
}

const clients = new Map<number, Socket>()

async function clientAt(address: string, port: number): Promise<Socket> {
  const known = clients.get(port)
  if (known !== undefined) return known
  const made = createSocket(kindOf(address))
  clients.set(port, made)
  await new Promise<void>(resolve => made.bind({ port }, resolve))
  return made
}

/** Sends from one port, again and again, until somebody answers: who. Each question has an answer of its own. */
async function ask({ from, address, port }: { from: number; address: string; port: number }): Promise<string> {
  const socket = await clientAt(address, from)
  return new Promise(resolve => {
    const send = (): void => socket.send('who?', port, address)
    const timer = setInterval(send, 200)
    socket.removeAllListeners('message')
    socket.once('message', data => {
      clearInterval(timer)
      resolve(data.toString())
    })
    send()
  })
}

/** Sends one packet, which nobody need answer. */
async function send({ from, address, port }: { from: number; address: string; port: number }): Promise<void> {
  const socket = await clientAt(address, from)
  await new Promise<void>(resolve => socket.send('to whom it may concern', port, address, () => resolve()))
}

let stream: TcpSocket | undefined

/** One TCP connection that stays, and echoes what it is told. */
async function tell({ address, port, text }: { address: string; port: number; text: string }): Promise<string> {
  stream ??= await new Promise<TcpSocket>((resolve, reject) => {
    const made = connect(port, address, () => resolve(made))
    made.once('error', reject)
  })
  const open = stream
  return new Promise(resolve => {
    open.once('data', data => resolve(data.toString()))
    open.write(text)
  })
}

async function withSocket<T>(work: (socket: NetlinkSocket) => Promise<T>): Promise<T> {
  let why = ''
  const explain = (sentence: string): void => {
    why = sentence
  }
  const socket = await openNetlink('netfilter', { explain })
  if (socket === undefined) throw new Error(why)
  try {
    return await work(socket)
  } finally {
    await socket.close()
  }
}

function insert({ family, flows }: { family: Family; flows: readonly Flow[] }): Promise<void> {
  return withSocket(async socket => {
    const acks = await socket.batch(flows.map(flow => createRequest(family, flow, 3600)))
    const refused = acks.find(({ errno }) => errno !== 0)
    if (refused !== undefined) throw new Error(`not inserted: ${refused.errno} ${refused.words ?? ''}`)
  })
}

/** So many flows of clients 10.100.0.0/14 to a resolver that is no Service, answered by one of eight others. */
async function fill({ count }: { count: number }): Promise<void> {
  for (let at = 0; at < count; at += 10_000) {
    const flows = Array.from({ length: Math.min(10_000, count - at) }, (_, index): Flow => {
      const n = at + index
      return {
        source: `10.${100 + (n >> 16)}.${(n >> 8) & 255}.${n & 255}` as IP,
        sourcePort: 1024 + (n % 60_000),
        destination: '10.96.9.9' as IP,
        destinationPort: 53,
        replySource: `10.97.0.${1 + (n % 8)}` as IP,
        replySourcePort: 5300,
      }
    })
    await insert({ family: 'IPv4', flows })
  }
}

function list({ family, except }: { family: Family; except?: string }): Promise<KeptFlow[]> {
  return withSocket(async socket => {
    const found: KeptFlow[] = []
    await socket.dump(dumpRequest({ family }), ({ payload }) => {
      const read = readFlow(payload, flow => flow.destination !== except)
      if (typeof read === 'object') found.push({ ...read.flow, id: read.id?.toString('hex') ?? '' })
    })
    return found
  })
}

/** How many UDP flows there are to an address. */
function count({ family, to }: { family: Family; to: string }): Promise<number> {
  return withSocket(async socket => {
    let found = 0
    await socket.dump(dumpRequest({ family, destination: to as IP }), () => {
      found++
    })
    return found
  })
}

const keepers = new Map<string, { keeper: FlowKeeper; cleanings: Cleaning[]; problems: string[] }>()

export interface KeepParams {
  /** A new one for each name. */
  readonly keeper: string
  readonly family: Family
  readonly means: 'netlink' | 'tool'
  readonly nodeAddresses: readonly string[]
  readonly steps: readonly Step[]
}

export interface Kept {
  readonly cleanings: readonly Cleaning[]
  readonly problems: readonly string[]
}

/** Notes and syncs, step by step, each cleaned to its end. */
async function keep(params: KeepParams): Promise<Kept> {
  const made = keepers.get(params.keeper) ?? makeKeeper(params)
  keepers.set(params.keeper, made)
  for (const { notes } of params.steps) {
    for (const [service, ports] of Object.entries(notes)) made.keeper.note(service, ports)
    made.keeper.afterSync()
    await made.keeper.idle()
  }
  const { cleanings, problems } = made
  return { cleanings: cleanings.splice(0), problems: problems.splice(0) }
}

function makeKeeper({ family, means, nodeAddresses }: KeepParams) {
  const cleanings: Cleaning[] = []
  const problems: string[] = []
  const own = new Set(nodeAddresses)
  const keeper = new FlowKeeper({
    family,
    flows: means === 'netlink' ? machineFlows(machineExec) : toolFlows(machineExec),
    takesNodePorts: ip => own.has(ip),
    onCleaned: cleaning => cleanings.push(cleaning),
    onProblem: problem => problems.push(problem ?? 'over'),
    sleep: () => Promise.resolve(),
  })
  return { keeper, cleanings, problems }
}

/** Removes the flow from this source port over netlink; returns how many went. */
async function removeFrom({ family, sourcePort }: { family: Family; sourcePort: number }): Promise<number> {
  const flows = flowsOver(() => openNetlink('netfilter'), {
    remove: () => Promise.reject(new Error('there is no netlink')),
  })
  const isStale = (flow: Flow): boolean => flow.sourcePort === sourcePort
  return (await flows.remove({ family }, isStale, new AbortController().signal)).removed
}

const methods = { serve, ask, send, tell, insert, fill, list, count, keep, removeFrom }
export type WorkerMethods = typeof methods

answerCalls(methods)
