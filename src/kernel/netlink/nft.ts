// The connection to nf_tables: batches written whole or not at all, and dumps that are all of one generation.
import { setTimeout as sleep } from 'node:timers/promises'
import { NetlinkError, type NetlinkMessage, nfgen, nfType, text } from './message.ts'
import type { NftConnection, NftRefusal } from './nft-connection.ts'
import { decodeChain, decodeElements, decodeGeneration, decodeRule, decodeSet, decodeTable } from './nft-decode.ts'
import { encodeBatch } from './nft-encode.ts'
import {
  elementsAttribute,
  familyNumber,
  operationType,
  setAttribute,
  subsystem,
  tableAttribute,
} from './nft-numbers.ts'
import type {
  NftChain,
  NftContents,
  NftElement,
  NftFamily,
  NftOperation,
  NftRule,
  NftSet,
  NftTable,
} from './nft-objects.ts'
import { type NetlinkRequest, type NetlinkSocket, openNetlink } from './socket.ts'
import { MessageWriter } from './writer.ts'

/** Elements for 30,000 Services with five endpoints each have 10 MB. The kernel takes no memory in advance for this. */
const sendBuffer = 64 << 20
/** Kept between batches, bytes: one change of a Service has some hundreds. */
const keptWriter = 1 << 16
/** How often a dump is made again that others changed meanwhile; one of 60,000 elements takes 0.2 s. */
const attempts = 5
const noEntry = 2
const interrupted = 4
/** Kernel-wide reasons, which say nothing of the message that the kernel happens to name: EINTR, EAGAIN, ENOMEM. */
const ofTheWhole: ReadonlySet<string> = new Set(['EINTR', 'EAGAIN', 'ENOMEM'])

/**
 * Opens nf_tables in this process's network namespace. Undefined where koffi, nf_tables or CAP_NET_ADMIN is missing;
 * `explain` is told in one sentence why.
 */
export async function openNft(
  explain: (sentence: string) => void = () => undefined,
): Promise<NftConnection | undefined> {
  const socket = await openNetlink('netfilter', { sendBuffer, explain })
  if (socket === undefined) return undefined
  try {
    const connection = new NftSocket(socket, socket.port)
    await connection.generation()
    return connection
  } catch (error) {
    await socket.close()
    if (!(error instanceof NetlinkError)) throw error
    explain(`nf_tables cannot be spoken to: ${error.message}`)
    return undefined
  }
}

/** For a set to grow; tried longer each time. Milliseconds. */
const growingMs = 20

/** The elements of all answers, those of one answer in a turn of the event loop. */
async function inTurns(
  payloads: readonly Buffer[],
  signal: AbortSignal | undefined,
  visit: (element: NftElement) => void,
): Promise<void> {
  for (const payload of payloads) {
    signal?.throwIfAborted()
    decodeElements(payload, visit)
    await new Promise(resolve => setImmediate(resolve))
  }
}

/**
 * True where an element was told of twice: then another was passed over. A hash table that has got many elements grows a little
 * later, by itself, and a dump that goes on after as many elements as it has told of finds them in another order then; the
 * kernel does not say so (Linux, net/netfilter/nft_set_hash.c, nft_rhash_walk; seen on 6.18 right after 60,000 were written).
 */
async function holdsTwice(payloads: readonly Buffer[], signal: AbortSignal | undefined): Promise<boolean> {
  // One answer is of one moment.
  if (payloads.length < 2) return false
  const seen = new Set<string>()
  let count = 0
  await inTurns(payloads, signal, ({ key, flags = 0 }) => {
    seen.add(`${flags} ${key.toString('latin1')}`)
    count++
  })
  return seen.size < count
}

/** The connection over an open socket, which it closes in the end. */
export class NftSocket implements NftConnection {
  readonly port: number
  readonly #socket: NetlinkSocket
  #writer = new MessageWriter(keptWriter)

  constructor(socket: NetlinkSocket, port: number) {
    this.#socket = socket
    this.port = port
  }

  async commit(
    family: NftFamily,
    table: string,
    operations: Iterable<NftOperation>,
    signal?: AbortSignal,
  ): Promise<readonly NftRefusal[]> {
    let first = 0
    let indexes: readonly number[] = []
    const writing = this.#socket.transaction(async sequence => {
      signal?.throwIfAborted()
      first = sequence
      const encoding = encodeBatch(family, table, operations, sequence, this.#writer)
      for (;;) {
        const { done, value } = encoding.next()
        if (done === true) {
          indexes = value.operations
          return value.operations.length === 0 ? undefined : value
        }
        await new Promise(resolve => setImmediate(resolve))
        signal?.throwIfAborted()
      }
    })
    const errors = await writing.finally(() => {
      if (this.#writer.length > keptWriter) this.#writer = new MessageWriter(keptWriter)
    })
    return errors.map(({ sequence, ack }) => {
      const error = new NetlinkError('the kernel refused', ack.errno, ack.words)
      const operation = indexes[sequence - first - 1]
      // What the kernel says of the batch's beginning it says before it looks at any operation.
      if (operation === undefined && !ofTheWhole.has(error.code)) throw error
      const isWhole = ofTheWhole.has(error.code)
      return { operation: isWhole ? undefined : operation, code: error.code, message: error.message }
    })
  }

  async generation(): Promise<number> {
    const request = { type: nfType(subsystem, operationType.getGeneration), payload: nfgen(0) }
    for (const payload of await this.#socket.request(request)) return decodeGeneration(payload)
    throw new NetlinkError('nf_tables has no generation', noEntry)
  }

  async read(family: NftFamily, table: string, signal?: AbortSignal): Promise<NftContents | undefined> {
    for (let attempt = 0; attempt < attempts; attempt++) {
      const before = await this.generation()
      const found = await this.#table(family, table)
      if (found === undefined) return undefined
      // Where others write all the time, to whatever table, it is of several moments: better than nothing.
      const isLast = attempt === attempts - 1
      const contents = await this.#contents(found, isLast, signal)
      if (contents !== undefined && (isLast || (await this.generation()) === before)) return contents
    }
    throw new NetlinkError(`nf_tables changed each time that a table was read, ${attempts} times`, interrupted)
  }

  async elements(
    family: NftFamily,
    table: string,
    { name }: Pick<NftSet, 'name'>,
    visit: (element: NftElement) => void,
    signal?: AbortSignal,
  ): Promise<void> {
    const request = {
      type: nfType(subsystem, operationType.getElements),
      payload: Buffer.concat([
        nfgen(familyNumber[family]),
        text(elementsAttribute.table, table),
        text(elementsAttribute.set, name),
      ]),
    }
    // Kept until the kernel says that nothing is missing; only then elements are handed over, some hundred at a time. Any
    // write to nf_tables interrupts, to other tables too: in the end what there is is taken.
    let payloads = await this.#socket.collect(request, signal, attempts, true)
    for (let attempt = 1; attempt < attempts && (await holdsTwice(payloads, signal)); attempt++) {
      await sleep(growingMs * attempt, undefined, { signal })
      payloads = await this.#socket.collect(request, signal, attempts, true)
    }
    await inTurns(payloads, signal, visit)
  }

  close(): Promise<void> {
    return this.#socket.close()
  }

  async #table(family: NftFamily, name: string): Promise<NftTable | undefined> {
    const request = {
      type: nfType(subsystem, operationType.getTable),
      payload: Buffer.concat([nfgen(familyNumber[family]), text(tableAttribute.name, name)]),
    }
    const answers = await this.#socket.request(request).catch(unlessMissing)
    for (const payload of answers ?? []) return decodeTable(payload)
    return undefined
  }

  /** Undefined when something changed meanwhile, unless that is taken as it is; or when the table is gone. */
  async #contents(
    table: NftTable,
    takesChanged: boolean,
    signal: AbortSignal | undefined,
  ): Promise<NftContents | undefined> {
    const header = nfgen(familyNumber[table.family])
    const ask = (type: number): NetlinkRequest => ({ type: nfType(subsystem, type), payload: header })
    // Rules and sets have their table's name in the same attribute; of chains, all of the family are dumped.
    const ofTable = (type: number): NetlinkRequest => ({
      type: nfType(subsystem, type),
      payload: Buffer.concat([header, text(setAttribute.table, table.name)]),
    })
    const chains: NftChain[] = []
    const rules: NftRule[] = []
    const sets: NftSet[] = []
    const isWhole =
      (await this.#dump(ask(operationType.getChain), takesChanged, signal, ({ payload }) => {
        const found = decodeChain(payload)
        if (found.table === table.name) chains.push(found.chain)
      })) &&
      (await this.#dump(ofTable(operationType.getSet), takesChanged, signal, ({ payload }) => {
        const found = decodeSet(payload)
        if (found.table === table.name) sets.push(found.set)
      })) &&
      (await this.#dump(ofTable(operationType.getRule), takesChanged, signal, ({ payload }) => {
        const found = decodeRule(payload)
        if (found.table === table.name) rules.push(found.rule)
      }))
    return isWhole ? { table, chains, rules, sets } : undefined
  }

  /** False when something changed meanwhile, the whole table perhaps. */
  async #dump(
    request: NetlinkRequest,
    takesChanged: boolean,
    signal: AbortSignal | undefined,
    visit: (message: NetlinkMessage) => void,
  ): Promise<boolean> {
    const dumped = await this.#socket.dump(request, visit, signal).catch(unlessMissing)
    return dumped !== undefined && (takesChanged || !dumped.interrupted)
  }
}

/** Undefined for ENOENT. */
function unlessMissing(error: unknown): undefined {
  if (error instanceof NetlinkError && error.errno === noEntry) return undefined
  throw error
}
