// `penstock trace`: where packets would go, found by walking the compiled rules.
import { readFileSync } from 'node:fs'
import { UsageError } from '../config/types.ts'
import { type Family, familyOf, parseIP } from '../net/ip.ts'
import type { Packet } from '../net/packet.ts'
import { parseProtocol } from '../net/protocol.ts'
import type { CommandContext } from './context.ts'
import { type Traced, tracedJson, tracedText } from './outputs.ts'
import { loadAssembly } from './program.ts'

export async function trace(context: CommandContext): Promise<number> {
  const { commandLine, print } = context
  const { packets, isList } = packetsOf(context)
  const families = [...new Set(packets.map(packet => familyOf(packet.dst)))]
  const assembly = await loadAssembly(context, families)
  const tracers = new Map<Family, (packet: Packet) => Traced>()
  for (const { family, backend, syncer, network } of assembly.families) {
    const program = await syncer.compile()
    tracers.set(family, packet => ({ packet, ...backend.trace(program, packet, network()) }))
  }
  const traced = packets.map(packet => {
    const tracer = tracers.get(familyOf(packet.dst))
    if (tracer === undefined) throw new Error(`no rules of the family of ${packet.dst}`)
    return tracer(packet)
  })
  if (commandLine.options.output !== 'json') return print(traced.map(tracedText).join(''))
  const documents = traced.map(tracedJson)
  return print(`${JSON.stringify(isList ? documents : documents[0], null, 2)}\n`)
}

/** The packets that the command line or the file names. Throws an Error that names the packet and field at fault. */
function packetsOf({ commandLine }: CommandContext): { packets: Packet[]; isList: boolean } {
  const { packets: file, src, dst, port, protocol = 'TCP' } = commandLine.options
  if (file === undefined) {
    if (src === undefined || dst === undefined || port === undefined) {
      throw new UsageError(['trace needs --src, --dst and --port, or --packets'])
    }
    if (familyOf(src) !== familyOf(dst)) throw new UsageError(['--src and --dst are of different address families'])
    return { packets: [{ src, dst, port, protocol }], isList: false }
  }
  const name = file === '-' ? 'standard input' : file
  let document: unknown
  try {
    document = JSON.parse(readFileSync(file === '-' ? 0 : file, 'utf8'))
  } catch (error) {
    throw new Error(`--packets: ${name}: ${(error as Error).message}`, { cause: error })
  }
  if (!Array.isArray(document)) throw new Error(`--packets: ${name}: expected a JSON array of packets`)
  return { packets: document.map((item, index) => packetAt(item, `--packets: ${name}: [${index}]`)), isList: true }
}

function packetAt(item: unknown, where: string): Packet {
  if (typeof item !== 'object' || item === null || Array.isArray(item)) {
    throw new Error(`${where}: expected an object {"src","dst","port","protocol"}`)
  }
  const fields: Partial<Record<string, unknown>> = { ...item }
  const address = (field: 'src' | 'dst') => {
    const text = fields[field]
    const ip = typeof text === 'string' ? parseIP(text) : undefined
    if (ip === undefined) throw new Error(`${where}.${field}: expected an IP address, found ${JSON.stringify(text)}`)
    return ip
  }
  const { port } = fields
  if (typeof port !== 'number' || !Number.isInteger(port) || port < 1 || port > 65535) {
    throw new Error(`${where}.port: expected an integer from 1 to 65535, found ${JSON.stringify(port)}`)
  }
  const named = fields.protocol ?? 'tcp'
  const protocol = typeof named === 'string' ? parseProtocol(named) : undefined
  if (protocol === undefined) {
    throw new Error(`${where}.protocol: expected tcp, udp or sctp, found ${JSON.stringify(named)}`)
  }
  const arrived = fields.interface
  if (arrived !== undefined && typeof arrived !== 'string') throw new Error(`${where}.interface: expected a string`)
  const packet = { src: address('src'), dst: address('dst'), port, protocol }
  return checked(arrived === undefined ? packet : { ...packet, interface: arrived }, where)
}

function checked(packet: Packet, where: string): Packet {
  if (familyOf(packet.src) !== familyOf(packet.dst)) {
    throw new Error(`${where}: ${packet.src} and ${packet.dst} are of different address families`)
  }
  return packet
}
