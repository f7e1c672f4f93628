// Reading the table from the kernel, by netlink.
import { hash } from 'node:crypto'
import { NetlinkError } from '../../kernel/netlink/message.ts'
import type { NftConnection } from '../../kernel/netlink/nft-connection.ts'
import {
  type NftContents,
  type NftElement,
  type NftFamily,
  type NftSet,
  tableFlag,
} from '../../kernel/netlink/nft-objects.ts'
import type { Family } from '../../net/ip.ts'
import type { KernelObject, Look, Program } from '../backend.ts'
import { chainObjects, containerObject, elementReader, isAnonymous } from './contents.ts'
import type { AnonymousSet } from './expressions.ts'
import { familyWord, tableKey, tableName } from './names.ts'

/** How often everything is read again that somebody changed meanwhile. What is read in the end may be of two moments. */
const attempts = 3

/** Objects made between two turns of others; some milliseconds. */
const objectsInTurn = 1_000

/** What the kernel holds. */
export interface Held {
  readonly program: Program
  /** NFT_TABLE_F_*; undefined if there is no table. */
  readonly tableFlags: number | undefined
}

/** What the table holds; nothing if there is none. Throws NetlinkError. */
export async function readTable(connection: NftConnection, family: Family, signal: AbortSignal): Promise<Held> {
  for (let attempt = 1; ; attempt++) {
    const before = await connection.generation()
    const held = await readOnce(connection, family, signal).catch(unlessGone)
    if (attempt < attempts && (held === undefined || (await connection.generation()) !== before)) continue
    return held ?? { program: new Map(), tableFlags: undefined }
  }
}

/** A set, or the table, went while it was read. */
function unlessGone(error: unknown): undefined {
  if (error instanceof NetlinkError && error.code === 'ENOENT') return undefined
  throw error
}

async function readOnce(connection: NftConnection, family: Family, signal: AbortSignal): Promise<Held> {
  const contents = await connection.read(familyWord(family), tableName, signal)
  if (contents === undefined) return { program: new Map(), tableFlags: undefined }
  const anonymous = await anonymousSets(connection, contents, familyWord(family), signal)
  const program = new Map<string, string>()
  // All of its rules are switched off.
  if ((contents.table.flags & tableFlag.dormant) !== 0) program.set(tableKey, 'dormant')
  await put(
    program,
    chainObjects(contents, name => anonymous.get(name), family),
    signal,
  )
  for (const set of contents.sets) {
    if (isAnonymous(set)) continue
    const { object, container } = containerObject(set, family)
    program.set(object.key, object.value)
    // Elements of what is not ours go with it; those of dynamic sets come and go by themselves.
    if (container === undefined || (container.kind === 'set' && container.timeoutSeconds !== undefined)) continue
    const reader = elementReader(container, family)
    await connection.elements(familyWord(family), tableName, set, element => reader.take(element), signal)
    await put(program, reader.objects(), signal)
  }
  return { program, tableFlags: contents.table.flags }
}

const put = (program: Map<string, string>, objects: Iterable<KernelObject>, signal: AbortSignal): Promise<void> =>
  inTurns(pairs(objects), signal, (key, value) => program.set(key, value))

function* pairs(objects: Iterable<KernelObject>): Iterable<readonly [string, string]> {
  for (const { key, value } of objects) yield [key, value]
}

async function inTurns(
  objects: Iterable<readonly [string, string]>,
  signal: AbortSignal,
  visit: (key: string, value: string) => void,
): Promise<void> {
  let count = 0
  for (const [key, value] of objects) {
    visit(key, value)
    if (++count % objectsInTurn !== 0) continue
    await new Promise(resolve => setImmediate(resolve))
    signal.throwIfAborted()
  }
}

/** The sets within rules, by name. */
async function anonymousSets(
  connection: NftConnection,
  { sets }: NftContents,
  family: NftFamily,
  signal: AbortSignal,
): Promise<ReadonlyMap<string, AnonymousSet>> {
  const found = new Map<string, AnonymousSet>()
  for (const set of sets.filter(isAnonymous)) {
    found.set(set.name, { set, elements: await elementsOf(connection, set, family, signal) })
  }
  return found
}

async function elementsOf(
  connection: NftConnection,
  set: NftSet,
  family: NftFamily,
  signal: AbortSignal,
): Promise<readonly NftElement[]> {
  const elements: NftElement[] = []
  await connection.elements(family, tableName, set, element => elements.push(element), signal)
  return elements
}

/** Of SHA-256, bytes. */
const digestLength = 32

/** Milliseconds of processor time for each object that is read. Measured: README.md. */
const costOfObject = 0.015

/**
 * Looks at the table as cheaply as can be. As long as nobody writes to nf_tables at all, the number of the last
 * transaction tells; else the table is read and digested.
 */
export class Fingerprint {
  #generation: number | undefined
  #digest = ''

  /** Throws NetlinkError. */
  async look(connection: NftConnection, family: Family, signal: AbortSignal): Promise<Look> {
    const generation = await connection.generation()
    if (generation === this.#generation) return { digest: this.#digest, costMs: 0 }
    const { program, tableFlags } = await readTable(connection, family, signal)
    const sum = Buffer.alloc(digestLength)
    sum[0] = tableFlags === undefined ? 0 : 1
    await inTurns(program, signal, (key, value) => {
      // The order of elements in a dump means nothing.
      const digest = hash('sha256', `${key}\n${value}`, 'buffer')
      for (let at = 0; at < digestLength; at++) sum[at] = (sum[at] ?? 0) ^ (digest[at] ?? 0)
    })
    this.#digest = sum.toString('base64')
    // What was written while it was read may not be in it.
    this.#generation = generation
    return { digest: this.#digest, costMs: program.size * costOfObject }
  }
}
