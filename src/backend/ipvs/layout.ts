// What several Service ports need, or may compete for: addresses, frontends at the node's own addresses, and
// marks. The result depends on the set of entries alone, whatever the order in which they came.
import { createHash } from 'node:crypto'
import type { Family, IP } from '../../net/ip.ts'
import type { Protocol } from '../../net/protocol.ts'
import type { KernelObject, Layout, Program } from '../backend.ts'
import { addressKey, markHex, markOf, memberKey, serverKey, setName, type VirtualServer } from './names.ts'
import { type ServerState, serverValue } from './servers.ts'

/** A virtual server by mark: what this node and its pods use instead of those at the elements' addresses. */
export interface Pool {
  readonly family: Family
  readonly protocol: Protocol
  readonly state: ServerState
  /** Frontends as elements of a set. */
  readonly elements: readonly string[]
  /** Those at the node's own addresses, by virtual server: its own only while its bundle is the one that is taken. */
  readonly contested: Readonly<Record<VirtualServer, string>>
}

const separator = '\t'

/** One Service port's need for an address. */
export const addressEntry = (address: IP, owner: string): KernelObject => ({
  key: ['@', addressKey(address), 0, owner].join(separator),
  value: '',
})

const isAddress = (slot: string): boolean => slot.startsWith('address ')

/** What an address that is needed comes to; its slot is called like its key. */
function objectsOfAddress(slot: string): KernelObject[] {
  const address = slot.slice('address '.length)
  const set = setName(address.includes(':') ? 'IPv6' : 'IPv4', 'ADDRESS')
  return [
    { key: slot, value: '' },
    { key: memberKey(set, address), value: '' },
  ]
}

/** One Service port's objects for a frontend; of several the one of the lowest rank is taken, then the first owner. */
export const bundleEntry = (
  server: VirtualServer,
  rank: number,
  owner: string,
  objects: readonly KernelObject[],
): KernelObject => ({
  key: ['@', server, rank, owner].join(separator),
  value: JSON.stringify(objects.map(({ key, value }) => [key, value])),
})

/**
 * One Service port's virtual server by mark. Its mark is a hash of its owner (14 bits) and its place among those with the
 * same hash (2 bits): no two have the same, and one that comes or goes moves those alone that share its hash.
 */
export const poolEntry = (owner: string, pool: Pool): KernelObject => ({
  key: ['@', `pool ${hashOf(owner)}`, 0, owner].join(separator),
  value: JSON.stringify(pool),
})

const placeBits = 2
const hashOf = (owner: string): number => createHash('sha256').update(owner).digest().readUInt16BE(0) & 0x3fff

const markPrefixes = (['IPv4', 'IPv6'] as const).map(family => memberKey(setName(family, 'MARK'), ''))
const isMark = (key: string): boolean => markPrefixes.some(prefix => key.startsWith(prefix))

const isPool = (slot: string): boolean => slot.startsWith('pool ')

interface Slot {
  /** By rank and owner. */
  readonly entries: Map<string, string>
  /** Emitted last. */
  objects: ReadonlyMap<string, string>
}

/** A fresh layout. */
export function ipvsLayout(): Layout {
  const slots = new Map<string, Slot>()
  const addresses = new AddressNeeds()
  const dirty = new Set<string>()
  /**
   * Keys that pools want, and marks, by the slots that want them: a frontend may pass from one Service to another, or become
   * one at the node's own address.
   */
  const wanted = new Map<string, Map<string, string>>()
  const want = (key: string, slot: string, value: string | undefined): string | undefined => {
    const by = wanted.get(key) ?? new Map<string, string>()
    if (value === undefined) by.delete(slot)
    else by.set(slot, value)
    if (by.size === 0) wanted.delete(key)
    else wanted.set(key, by)
    return by.get([...by.keys()].sort()[0] ?? '')
  }
  const split = (key: string): [slot: string, name: string] => {
    const [, slot = '', ...name] = key.split(separator)
    return [slot, name.join(separator)]
  }
  /** Pools with their marks, by owner; and by slot. */
  const marked = new Map<string, Marked>()
  const markedIn = new Map<string, readonly Marked[]>()

  /** Gives the pools of a slot their marks, and has the frontends looked at that these concern. */
  const mark = (name: string, { entries }: Slot): void => {
    const now = poolsOf(name, entries)
    const before = markedIn.get(name) ?? []
    for (const { owner } of before) marked.delete(owner)
    for (const item of now) marked.set(item.owner, item)
    if (now.length === 0) markedIn.delete(name)
    else markedIn.set(name, now)
    for (const { pool } of [...before, ...now]) {
      for (const server of Object.keys(pool.contested)) if (slots.has(server)) dirty.add(server)
    }
  }
  /** A bundle with the mark of its owner's pool. */
  const bundle = (name: string, { entries }: Slot): ReadonlyMap<string, string> => {
    const [winner = ''] = [...entries.keys()].sort()
    const objects = new Map(JSON.parse(entries.get(winner) ?? '[]') as [string, string][])
    const known = marked.get(winner.slice(winner.indexOf(separator) + 1))
    const element = known?.pool.contested[name]
    if (known !== undefined && element !== undefined) {
      objects.set(memberKey(setName(known.pool.family, 'MARK'), element), `skbmark ${known.mark}`)
    }
    return objects
  }
  /** What an entry stands for, as far as it is the one that is taken. */
  const objectsOf = ({ key, value }: KernelObject): KernelObject[] => {
    const [name, member] = split(key)
    if (isAddress(name)) return objectsOfAddress(name)
    if (!isPool(name)) return (JSON.parse(value) as [string, string][]).map(([of, to]) => ({ key: of, value: to }))
    const own = marked.get(member.slice(member.indexOf(separator) + 1))
    return own === undefined ? [] : [...objectsOfPool(own)].map(([of, to]) => ({ key: of, value: to }))
  }
  const settle = function* (name: string): Generator<{ readonly key: string; readonly value: string | undefined }> {
    if (isAddress(name)) {
      const isNeeded = addresses.has(name)
      for (const { key, value } of objectsOfAddress(name)) yield { key, value: isNeeded ? value : undefined }
      return
    }
    const slot = slots.get(name)
    if (slot === undefined) return
    const before = slot.objects
    slot.objects = isPool(name) ? poolObjects(name, slot.entries) : bundle(name, slot)
    if (slot.entries.size === 0) slots.delete(name)
    const settled = (key: string, value: string | undefined) => ({
      key,
      value: isPool(name) || isMark(key) ? want(key, name, value) : value,
    })
    for (const key of before.keys()) if (!slot.objects.has(key)) yield settled(key, undefined)
    for (const [key, value] of slot.objects) if (before.get(key) !== value) yield settled(key, value)
  }
  return {
    isEntry: key => key.startsWith(`@${separator}`),
    set({ key, value }) {
      const [name, member] = split(key)
      if (isAddress(name)) {
        if (addresses.add(name, key)) dirty.add(name)
        return
      }
      let slot = slots.get(name)
      if (slot === undefined) {
        slot = { entries: new Map(), objects: new Map() }
        slots.set(name, slot)
      }
      if (slot.entries.get(member) === value) return
      slot.entries.set(member, value)
      dirty.add(name)
    },
    delete(key) {
      const [name, member] = split(key)
      if (isAddress(name)) {
        if (addresses.delete(name, key)) dirty.add(name)
        return
      }
      if (slots.get(name)?.entries.delete(member) === true) dirty.add(name)
    },
    concerns: (entry, key) => objectsOf(entry).some(object => object.key === key),
    isHeld: (entry, program) => isHeldIn(program, objectsOf(entry)),
    *drain() {
      for (const name of [...dirty]) {
        const slot = slots.get(name)
        if (slot !== undefined && isPool(name)) mark(name, slot)
      }
      for (const name of dirty) yield* settle(name)
      dirty.clear()
    },
  }
}

/** Which entries need an address. Nearly every address is that of one Service port: of such its entry alone is held. */
class AddressNeeds {
  readonly #needs = new Map<string, string | Set<string>>()

  has(slot: string): boolean {
    return this.#needs.has(slot)
  }

  /** True if it is the first to need the address. */
  add(slot: string, entry: string): boolean {
    const known = this.#needs.get(slot)
    if (known === undefined) this.#needs.set(slot, entry)
    else if (typeof known !== 'string') known.add(entry)
    else if (known !== entry) this.#needs.set(slot, new Set([known, entry]))
    return known === undefined
  }

  /** True if nobody needs the address any more. */
  delete(slot: string, entry: string): boolean {
    const known = this.#needs.get(slot)
    if (known === undefined) return false
    if (typeof known === 'string') return known === entry && this.#needs.delete(slot)
    known.delete(entry)
    return known.size === 0 && this.#needs.delete(slot)
  }
}

interface Marked {
  readonly owner: string
  readonly mark: string
  readonly pool: Pool
}

/** The pools of a slot with their marks. */
function poolsOf(name: string, entries: ReadonlyMap<string, string>): Marked[] {
  const hash = Number(name.slice('pool '.length))
  // Beyond that many with one hash, this node's own connections meet the virtual servers that all others meet.
  return [...entries]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .slice(0, 1 << placeBits)
    .map(([member, value], place) => {
      const pool = JSON.parse(value) as Pool
      const mark = markHex(markOf((hash << placeBits) | place, pool.protocol))
      return { owner: member.slice(member.indexOf(separator) + 1), mark, pool }
    })
}

/** What a slot of pools comes to. */
const poolObjects = (name: string, entries: ReadonlyMap<string, string>): ReadonlyMap<string, string> =>
  new Map(poolsOf(name, entries).flatMap(item => [...objectsOfPool(item)]))

function* objectsOfPool({ mark, pool }: Marked): Iterable<[string, string]> {
  yield [serverKey(`mark ${mark}`), serverValue(pool.state)]
  for (const element of pool.elements) yield [memberKey(setName(pool.family, 'MARK'), element), `skbmark ${mark}`]
}

/** A frontend that another Service has is not missed. */
const isHeldIn = (program: Program, objects: readonly KernelObject[]): boolean =>
  objects.every(({ key, value }) => program.get(key) === value)
