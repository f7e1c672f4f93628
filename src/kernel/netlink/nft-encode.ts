// From nf_tables' values to the bytes of a batch. Pure. What nft sends for the same, so that it lists it as its own.
import { flag } from './message.ts'
import { encodeData, encodeValue } from './nft-data.ts'
import { encodeExpression } from './nft-encode-expression.ts'
import {
  batchMessage,
  chainAttribute,
  descriptionAttribute,
  elementAttribute,
  elementsAttribute,
  familyNumber,
  fieldLength,
  hookAttribute,
  listElement,
  operationType,
  policyNumber,
  ruleAttribute,
  setAttribute,
  subsystem,
  tableAttribute,
} from './nft-numbers.ts'
import {
  elementFlag,
  type NftChain,
  type NftElement,
  type NftFamily,
  type NftOperation,
  type NftRule,
  type NftSet,
} from './nft-objects.ts'
import { MessageWriter } from './writer.ts'

/** The length of NFTA_SET_ELEM_LIST_ELEMENTS, its header included, has 16 bits, and is a multiple of 4. */
const longestList = 0xfffc
/** After so many bytes other work gets its turn: 0.3 to 0.5 ms of encoding elements. */
const turnLength = 1 << 16
/** Sets that no reference within the batch needs get numbers from here on; callers count from 1. */
const unreferenced = 0x80000000

/** A batch in bytes. */
export interface EncodedBatch {
  readonly bytes: Buffer
  /** Of the last message before the batch's end: the one that asks for an acknowledgement. */
  readonly lastSequence: number
  /** Index of the operation that a message carries, by its number minus that of the batch's beginning, minus 1. */
  readonly operations: readonly number[]
}

/**
 * A batch of these operations on one table. Messages are numbered from `sequence`, that of the batch's beginning.
 * Yields now and then, so that the caller can let others have their turn. `writer` is emptied first; the bytes are a view
 * of it. Without operations there is nothing to acknowledge: `operations` is empty. Throws RangeError for a name or data
 * longer than its length can say.
 */
export function* encodeBatch(
  family: NftFamily,
  table: string,
  operations: Iterable<NftOperation>,
  sequence: number,
  writer: MessageWriter = new MessageWriter(),
): Generator<void, EncodedBatch> {
  const batch = new Batch(writer, familyNumber[family], table, sequence)
  let index = 0
  let turn = turnLength
  for (const operation of operations) {
    batch.operation = index++
    for (const _ of encodeOperation(batch, operation)) {
      if (writer.length < turn) continue
      turn = writer.length + turnLength
      yield
    }
  }
  return batch.finish()
}

/** The messages of a batch under way. */
class Batch {
  readonly writer: MessageWriter
  readonly table: string
  operation = 0
  readonly #family: number
  readonly #first: number
  readonly #operations: number[] = []
  #message = 0

  constructor(writer: MessageWriter, family: number, table: string, sequence: number) {
    this.writer = writer
    this.table = table
    this.#family = family
    this.#first = sequence
    writer.truncate(0)
    writer.endMessage(writer.beginMessage(batchMessage.begin, 0, sequence, 0, subsystem))
  }

  begin(type: number, flags = 0): void {
    this.#operations.push(this.operation)
    const sequence = this.#first + this.#operations.length
    this.#message = this.writer.beginMessage((subsystem << 8) | type, flags, sequence, this.#family)
  }

  end(): void {
    this.writer.endMessage(this.#message)
  }

  finish(): EncodedBatch {
    const { writer } = this
    const lastSequence = this.#first + this.#operations.length
    if (this.#operations.length > 0) writer.addFlags(this.#message, flag.ack)
    writer.endMessage(writer.beginMessage(batchMessage.end, 0, lastSequence + 1, 0, subsystem))
    return { bytes: writer.bytes, lastSequence, operations: this.#operations }
  }
}

/** Yields after each message. */
function* encodeOperation(batch: Batch, operation: NftOperation): Generator<void> {
  switch (operation.kind) {
    case 'add-elements':
      yield* encodeElements(batch, operationType.newElements, flag.create, operation, operation.setId)
      return
    case 'delete-elements':
      yield* encodeElements(batch, operationType.deleteElements, 0, operation)
      return
    case 'add-table':
      batch.begin(operationType.newTable, flag.create)
      batch.writer.text(tableAttribute.name, batch.table)
      batch.writer.be32(tableAttribute.flags, operation.flags)
      if (operation.userdata !== undefined) batch.writer.data(tableAttribute.userdata, operation.userdata)
      break
    case 'delete-table':
      batch.begin(operationType.deleteTable)
      batch.writer.text(tableAttribute.name, batch.table)
      break
    case 'add-chain':
      encodeChain(batch, operation.chain)
      break
    case 'delete-chain':
      batch.begin(operationType.deleteChain)
      batch.writer.text(chainAttribute.table, batch.table)
      batch.writer.text(chainAttribute.name, operation.name)
      break
    case 'flush-chain':
      // The deletion of a rule that names none is that of all of the chain.
      batch.begin(operationType.deleteRule)
      batch.writer.text(ruleAttribute.table, batch.table)
      batch.writer.text(ruleAttribute.chain, operation.name)
      break
    case 'add-rule':
      encodeRule(batch, operation.rule)
      break
    case 'add-set':
      encodeSet(batch, operation.set)
      break
    case 'delete-set':
      batch.begin(operationType.deleteSet)
      batch.writer.text(setAttribute.table, batch.table)
      batch.writer.text(setAttribute.name, operation.name)
      break
  }
  batch.end()
  yield
}

function encodeChain(batch: Batch, { name, hook }: NftChain): void {
  const { writer } = batch
  batch.begin(operationType.newChain, flag.create)
  writer.text(chainAttribute.table, batch.table)
  writer.text(chainAttribute.name, name)
  if (hook === undefined) return
  const at = writer.begin(chainAttribute.hook)
  writer.be32(hookAttribute.number, hook.number)
  writer.be32(hookAttribute.priority, hook.priority)
  writer.end(at)
  writer.be32(chainAttribute.policy, policyNumber[hook.policy])
  writer.text(chainAttribute.type, hook.type)
}

function encodeRule(batch: Batch, { chain, expressions, userdata }: NftRule): void {
  const { writer } = batch
  batch.begin(operationType.newRule, flag.create | flag.append)
  writer.text(ruleAttribute.table, batch.table)
  writer.text(ruleAttribute.chain, chain)
  const list = writer.begin(ruleAttribute.expressions)
  for (const expression of expressions) {
    const at = writer.begin(listElement)
    encodeExpression(writer, expression)
    writer.end(at)
  }
  writer.end(list)
  if (userdata !== undefined) writer.data(ruleAttribute.userdata, userdata)
}

function encodeSet(batch: Batch, set: NftSet): void {
  const { writer } = batch
  batch.begin(operationType.newSet, flag.create)
  writer.text(setAttribute.table, batch.table)
  writer.text(setAttribute.name, set.name)
  writer.be32(setAttribute.flags, set.flags)
  writer.be32(setAttribute.keyType, set.keyType)
  writer.be32(setAttribute.keyLength, set.keyLength)
  if (set.dataType !== undefined) writer.be32(setAttribute.dataType, set.dataType)
  if (set.dataLength !== undefined) writer.be32(setAttribute.dataLength, set.dataLength)
  writer.be32(setAttribute.id, set.id ?? unreferenced + batch.operation)
  if (set.timeoutMs !== undefined) writer.be64(setAttribute.timeout, set.timeoutMs)
  if (set.size !== undefined || set.concatLengths !== undefined) encodeDescription(writer, set)
  if (set.userdata !== undefined) writer.data(setAttribute.userdata, set.userdata)
}

function encodeDescription(writer: MessageWriter, { size, concatLengths }: NftSet): void {
  const description = writer.begin(setAttribute.description)
  if (size !== undefined) writer.be32(descriptionAttribute.size, size)
  if (concatLengths !== undefined) {
    const concat = writer.begin(descriptionAttribute.concat)
    for (const length of concatLengths) {
      const field = writer.begin(listElement)
      writer.be32(fieldLength, length)
      writer.end(field)
    }
    writer.end(concat)
  }
  writer.end(description)
}

/** As many elements a message as its list holds. */
function* encodeElements(
  batch: Batch,
  type: number,
  flags: number,
  { set, elements }: { readonly set: string; readonly elements: readonly NftElement[] },
  setId?: number,
): Generator<void> {
  const { writer } = batch
  const begin = (): number => {
    batch.begin(type, flags)
    writer.text(elementsAttribute.table, batch.table)
    writer.text(elementsAttribute.set, set)
    if (setId !== undefined) writer.be32(elementsAttribute.setId, setId)
    return writer.begin(elementsAttribute.elements)
  }
  let list = begin()
  for (const element of elements) {
    const at = writer.length
    encodeElement(writer, element)
    if (writer.length - list <= longestList) continue
    const tooMuch = Buffer.from(writer.bytes.subarray(at))
    writer.truncate(at)
    writer.end(list)
    batch.end()
    yield
    list = begin()
    writer.raw(tooMuch)
  }
  writer.end(list)
  batch.end()
  yield
}

function encodeElement(writer: MessageWriter, { key, keyEnd, data, flags = 0, userdata }: NftElement): void {
  const element = writer.begin(listElement)
  if (flags !== 0) writer.be32(elementAttribute.flags, flags)
  if ((flags & elementFlag.catchall) === 0) encodeValue(writer, elementAttribute.key, key)
  if (keyEnd !== undefined) encodeValue(writer, elementAttribute.keyEnd, keyEnd)
  if (data !== undefined) encodeData(writer, elementAttribute.data, data)
  if (userdata !== undefined) writer.data(elementAttribute.userdata, userdata)
  writer.end(element)
}
