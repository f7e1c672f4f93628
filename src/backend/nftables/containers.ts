// The sets and maps of our table: what they are made of in nft's words and in the kernel's, and how their keys lie in bytes.
import { type NftSet, setFlag } from '../../kernel/netlink/nft-objects.ts'
import type { Family } from '../../net/ip.ts'
import { containers } from './names.ts'
import type { KeyType, MapObject, SetObject } from './objects.ts'
import { containerText, dynamicSize } from './render.ts'
import { setUserdata } from './userdata.ts'

export type Container = SetObject | MapObject

/** Those that are always there, in the order in which they are made. */
export const staticContainers: readonly Container[] = [
  { kind: 'map', name: containers.services, key: ['address', 'protocol', 'port'], data: 'verdict' },
  { kind: 'map', name: containers.nodePorts, key: ['protocol', 'port'], data: 'verdict' },
  { kind: 'map', name: containers.endpoints, key: ['address', 'protocol', 'port', 'index'], data: ['address', 'port'] },
  { kind: 'map', name: containers.nodePortEndpoints, key: ['protocol', 'port', 'index'], data: ['address', 'port'] },
  { kind: 'set', name: containers.clusterIPs, key: ['address'] },
  { kind: 'set', name: containers.octets, key: ['octet', 'octet'] },
]

const staticByName = new Map(staticContainers.map(container => [container.name, container]))

/** One that is always there; undefined for any other name. */
export const staticContainer = (name: string): Container | undefined => staticByName.get(name)

/** True for maps of which several elements make one object: their keys end in an index. */
export const isIndexed = ({ key }: Container): boolean => key.at(-1) === 'index'

/** The set or map of a name that is declared so; undefined if it is none of ours. */
export function containerOf(kind: 'set' | 'map', name: string, text: string, family: Family): Container | undefined {
  const fixed = staticByName.get(name)
  if (fixed?.kind === kind && containerText(fixed, family) === text) return fixed
  const seconds = / timeout (\d+)s;$/.exec(text)?.[1]
  if (seconds === undefined) return undefined
  const dynamic = clientsOf(name, Number(seconds))
  return kind === 'set' && containerText(dynamic, family) === text ? dynamic : undefined
}

const clientsOf = (name: string, timeoutSeconds: number): SetObject => ({
  kind: 'set',
  name,
  key: ['address'],
  timeoutSeconds,
})

/** Bytes of one part of a key, without what it is padded to. */
const lengthOf = (type: KeyType, family: Family): number => {
  switch (type) {
    case 'address':
      return family === 'IPv4' ? 4 : 16
    case 'protocol':
    case 'octet':
      return 1
    case 'port':
      return 2
    case 'index':
      return 4
  }
}

/** Where each part lies: nft pads the parts of a concatenation to 4 bytes each. */
export interface Layout {
  readonly parts: readonly { readonly type: KeyType; readonly at: number; readonly length: number }[]
  readonly length: number
}

/** The bytes of a concatenation; no key of ours has a single part that needs padding. */
export function layoutOf(types: readonly KeyType[], family: Family): Layout {
  let at = 0
  const parts = types.map(type => {
    const part = { type, at, length: lengthOf(type, family) }
    at += (part.length + 3) & ~3
    return part
  })
  return { parts, length: at }
}

/** nft's numbers (enum datatypes): integer, ipv4_addr, ipv6_addr, inet_proto, inet_service. */
const typeNumber = (type: KeyType, family: Family): number => {
  switch (type) {
    case 'index':
    case 'octet':
      return 4
    case 'address':
      return family === 'IPv4' ? 7 : 8
    case 'protocol':
      return 12
    case 'port':
      return 13
  }
}

/** Of a concatenation: six bits for each part, the first one highest. */
export const keyTypeOf = (types: readonly KeyType[], family: Family): number =>
  types.reduce((number, type) => (number << 6) | typeNumber(type, family), 0)

/** nft's number for data that are verdicts. */
const verdictType = 0xffffff00

/** A set or map as the kernel is told of it, but for its number in the batch. */
export function kernelSet(container: Container, family: Family): Omit<NftSet, 'id'> {
  const { name, key } = container
  const common = {
    name,
    keyType: keyTypeOf(key, family),
    keyLength: layoutOf(key, family).length,
    userdata: setUserdata(container, family),
  }
  if (container.kind === 'map') {
    const { data } = container
    return data === 'verdict'
      ? { ...common, flags: setFlag.map, dataType: verdictType, dataLength: 0 }
      : { ...common, flags: setFlag.map, dataType: keyTypeOf(data, family), dataLength: layoutOf(data, family).length }
  }
  const { timeoutSeconds } = container
  return timeoutSeconds === undefined
    ? { ...common, flags: 0 }
    : {
        ...common,
        flags: setFlag.dynamic | setFlag.timeout,
        timeoutMs: BigInt(timeoutSeconds) * 1000n,
        size: dynamicSize,
      }
}

/** What a dumped set is; undefined if it is none of ours. What nft keeps beside a set decides only how it is shown. */
export function containerOfKernel(set: NftSet, family: Family): Container | undefined {
  const fixed = staticByName.get(set.name)
  if (fixed !== undefined && isSame(kernelSet(fixed, family), set)) return fixed
  if (set.timeoutMs === undefined || set.timeoutMs % 1000n !== 0n) return undefined
  const dynamic = clientsOf(set.name, Number(set.timeoutMs / 1000n))
  return isSame(kernelSet(dynamic, family), set) ? dynamic : undefined
}

function isSame(ours: Omit<NftSet, 'id'>, theirs: NftSet): boolean {
  return (
    // Newer versions of nft say of each concatenation that it is one.
    ours.flags === (theirs.flags & ~setFlag.concat) &&
    ours.keyType === theirs.keyType &&
    ours.keyLength === theirs.keyLength &&
    (ours.dataType ?? 0) === (theirs.dataType ?? 0) &&
    // That of a verdict is the kernel's own affair.
    (ours.dataType === verdictType || (ours.dataLength ?? 0) === (theirs.dataLength ?? 0)) &&
    (ours.timeoutMs ?? 0n) === (theirs.timeoutMs ?? 0n) &&
    (ours.size ?? 0) === (theirs.size ?? 0)
  )
}
