// The connection to nf_tables against a scripted kernel: all that a real one does when memory is short, when others write
// meanwhile, when a signal comes.
import { describe, expect, test } from 'vitest'
import {
  be32,
  encodeMessage,
  flag,
  type NetlinkMessage,
  nested,
  nfgen,
  text,
} from '../../src/kernel/netlink/message.ts'
import { NftSocket } from '../../src/kernel/netlink/nft.ts'
import { operationType } from '../../src/kernel/netlink/nft-numbers.ts'
import type { NftElement, NftOperation } from '../../src/kernel/netlink/nft-objects.ts'
import { type Answer, ack, done, errno, FakeKernel } from './fake-kernel.ts'

const family = 'ip'
const table = 'penstock'
const addChains = (count: number): NftOperation[] =>
  Array.from({ length: count }, (_, n) => ({ kind: 'add-chain', chain: { name: `c${n}` } }))

/** A connection to a kernel that answers a batch so; it is handed the number of the batch's beginning, and its last. */
function connection(answer: (first: number, last: number) => readonly Answer[]): {
  nft: NftSocket
  kernel: FakeKernel
} {
  const kernel = new FakeKernel(messages => {
    const acked = messages.find(({ flags }) => (flags & flag.ack) !== 0)
    return answer(messages[0]?.sequence ?? 0, acked?.sequence ?? 0)
  })
  const socket = kernel.socket()
  return { nft: new NftSocket(socket, socket.port), kernel }
}

describe('a batch', () => {
  test('that is taken is acknowledged once', async () => {
    const { nft, kernel } = connection((_, last) => [ack(last)])
    expect(nft.port).toBe(4711)
    expect(await nft.commit(family, table, addChains(3))).toEqual([])
    expect(await nft.commit(family, table, addChains(2))).toEqual([])
    expect(kernel.sent).toHaveLength(2)
    expect(kernel.sentOffLoop).toBe(0)
  })

  test('of nothing is not sent', async () => {
    const { nft, kernel } = connection(() => [])
    expect(await nft.commit(family, table, [])).toEqual([])
    expect(kernel.sent).toEqual([])
  })

  test('has numbers that do not wrap around', async () => {
    const highest = 0xfffffff0
    const numbers: number[] = []
    const kernel = new FakeKernel(messages => {
      numbers.push(...messages.map(({ sequence }) => sequence))
      return [ack(messages.at(-2)?.sequence ?? highest)]
    })
    const socket = kernel.socket()
    await socket.transaction(async () => ({ bytes: Buffer.alloc(0), lastSequence: highest }))
    expect(await new NftSocket(socket, 1).commit(family, table, addChains(100))).toEqual([])
    expect(numbers).toEqual(Array.from({ length: 102 }, (_, n) => n + 1))
  })

  test('what the kernel objects to is told by operation, in its own words', async () => {
    const elements = Array.from({ length: 3_000 }, (): NftElement => ({ key: Buffer.alloc(30) }))
    const operations: NftOperation[] = [
      ...addChains(1),
      { kind: 'add-elements', set: 's', elements },
      { kind: 'delete-chain', name: 'gone' },
      ...addChains(1),
    ]
    // The elements go in three messages: 2 to 4 after the beginning.
    const { nft } = connection((first, last) => [
      ack(first + 3, errno.invalid, 'Key is too long'),
      Buffer.concat([ack(first + 5, errno.noEntry)]),
      ack(last),
    ])
    expect(await nft.commit(family, table, operations)).toEqual([
      { operation: 1, code: 'EINVAL', message: 'the kernel refused: Key is too long (EINVAL)' },
      { operation: 2, code: 'ENOENT', message: 'the kernel refused: ENOENT' },
    ])
  })

  test('an objection to the last operation is its acknowledgement', async () => {
    const { nft } = connection((_, last) => [ack(last, errno.invalid)])
    expect(await nft.commit(family, table, addChains(2))).toMatchObject([{ operation: 1, code: 'EINVAL' }])
  })

  test('answers to what was asked before are passed over', async () => {
    const { nft } = connection((first, last) => [ack(first - 1, errno.invalid), ack(first + 1000), ack(last)])
    expect(await nft.commit(family, table, addChains(2))).toEqual([])
  })

  test('a kernel short of memory refuses the whole of it, whichever message it names', async () => {
    const { nft } = connection(first => [ack(first + 1, errno.noMemory)])
    expect(await nft.commit(family, table, addChains(2))).toMatchObject([{ operation: undefined, code: 'ENOMEM' }])
    const before = connection(first => [ack(first, errno.noMemory)])
    expect(await before.nft.commit(family, table, addChains(2))).toMatchObject([
      { operation: undefined, code: 'ENOMEM' },
    ])
  })

  test('a kernel that one may not speak to throws', async () => {
    const { nft } = connection(first => [ack(first, errno.perm)])
    await expect(nft.commit(family, table, addChains(2))).rejects.toMatchObject({ name: 'NetlinkError', code: 'EPERM' })
  })

  test('no acknowledgement: the outcome is unknown', async () => {
    const { nft } = connection(() => [])
    await expect(nft.commit(family, table, addChains(2))).rejects.toMatchObject({ code: 'ENOBUFS' })
  })

  test('the acknowledgement lost for want of room: the outcome is unknown, and the connection stays good', async () => {
    let isLost = true
    const { nft } = connection((_, last) => (isLost ? [errno.noBuffers] : [ack(last)]))
    await expect(nft.commit(family, table, addChains(2))).rejects.toMatchObject({ code: 'ENOBUFS' })
    isLost = false
    expect(await nft.commit(family, table, addChains(2))).toEqual([])
  })

  test('some errors lost: one is enough to know that nothing was taken', async () => {
    const { nft } = connection(first => [errno.noBuffers, ack(first + 1, errno.noEntry), ack(first + 2, errno.noEntry)])
    const refusals = await nft.commit(family, table, addChains(500))
    expect(refusals.map(({ operation }) => operation)).toEqual([0, 1])
  })

  test('loss told of before an acknowledgement that did arrive', async () => {
    const { nft } = connection((_, last) => [errno.noBuffers, ack(last)])
    expect(await nft.commit(family, table, addChains(2))).toEqual([])
  })

  test('signals interrupt neither sending nor receiving', async () => {
    const { nft, kernel } = connection((_, last) => [errno.interrupted, errno.interrupted, ack(last)])
    kernel.sendErrors.push(errno.interrupted, errno.interrupted)
    expect(await nft.commit(family, table, addChains(2))).toEqual([])
    expect(kernel.sent).toHaveLength(1)
  })

  test('one that does not fit throws, and the connection stays good', async () => {
    const { nft, kernel } = connection((_, last) => [ack(last)])
    kernel.sendErrors.push(errno.tooLong)
    await expect(nft.commit(family, table, addChains(2))).rejects.toMatchObject({ code: 'EMSGSIZE' })
    expect(await nft.commit(family, table, addChains(2))).toEqual([])
  })

  test('a large one is sent on a thread, interrupted or not', async () => {
    const { nft, kernel } = connection((_, last) => [ack(last)])
    kernel.sendErrors.push(errno.interrupted)
    expect(await nft.commit(family, table, addChains(2_000))).toEqual([])
    expect([kernel.sent.length, kernel.sentOffLoop]).toEqual([1, 2])
    kernel.sendErrors.push(errno.tooLong)
    await expect(nft.commit(family, table, addChains(2_000))).rejects.toMatchObject({ code: 'EMSGSIZE' })
  })

  test('several at once go one after the other', async () => {
    const { nft, kernel } = connection((_, last) => [ack(last)])
    const all = [addChains(3_000), addChains(1), addChains(3_000)].map(operations =>
      nft.commit(family, table, operations),
    )
    expect(await Promise.all(all)).toEqual([[], [], []])
    expect(kernel.sent.map(bytes => bytes.length > 1 << 16)).toEqual([true, false, true])
  })

  test('an abort comes before it is sent, or not at all', async () => {
    const { nft, kernel } = connection((_, last) => [ack(last)])
    const reason = new Error('enough')
    await expect(nft.commit(family, table, addChains(1), AbortSignal.abort(reason))).rejects.toBe(reason)
    const controller = new AbortController()
    const large = nft.commit(family, table, addChains(10_000), controller.signal)
    setImmediate(() => controller.abort(reason))
    await expect(large).rejects.toBe(reason)
    expect(kernel.sent).toEqual([])
    expect(await nft.commit(family, table, addChains(1))).toEqual([])
  })
})

/** A kernel with one table, one of each kind of object in it, and a generation. */
class Tables {
  generation = 1
  exists = true
  /** Dumps that are interrupted, and how they say so. */
  readonly interruptions: ('flag' | 'error' | 'loss' | 'generation' | 'gone' | 'twice')[] = []
  readonly asked: number[] = []

  answer = (messages: readonly NetlinkMessage[]): Answer[] => messages.flatMap(message => this.#one(message))

  #one({ type, flags, sequence }: NetlinkMessage): Answer[] {
    const operation = type & 0xff
    this.asked.push(operation)
    const object = (kind: number, ...attributes: Buffer[]): Buffer =>
      encodeMessage({ type: 0xa00 | kind, flags: flag.multi, sequence }, nfgen(2), ...attributes)
    switch (operation) {
      case operationType.getGeneration:
        return [object(operationType.newGeneration, be32(1, this.generation)), ack(sequence)]
      case operationType.getTable:
        return this.exists
          ? [object(operationType.newTable, text(1, table), be32(2, 0)), ack(sequence)]
          : [ack(sequence, errno.noEntry)]
    }
    expect(flags & flag.dump).toBe(flag.dump)
    const objects =
      operation === operationType.getChain
        ? [table, 'kube-proxy'].map(name => object(operationType.newChain, text(1, name), text(3, 'services')))
        : operation === operationType.getSet
          ? [object(operationType.newSet, text(1, table), text(2, 'm'), be32(3, 8), be32(4, 7), be32(5, 4))]
          : operation === operationType.getRule
            ? [object(operationType.newRule, text(1, table), text(2, 'services'))]
            : [
                object(
                  operationType.newElements,
                  text(1, table),
                  text(2, 'm'),
                  nested(3, nested(1, nested(1, be32(1, 7)))),
                ),
              ]
    switch (this.interruptions.shift()) {
      case undefined:
        return [...objects, done(sequence)]
      case 'flag':
        return [...objects, done(sequence, flag.dumpInterrupted)]
      case 'error':
        return [...objects, ack(sequence, errno.interrupted)]
      case 'loss':
        return [errno.noBuffers, ...objects, done(sequence)]
      case 'generation':
        this.generation++
        return [...objects, done(sequence)]
      case 'twice':
        return [...objects, ...objects, done(sequence)]
      case 'gone':
        this.exists = false
        return [ack(sequence, errno.noEntry)]
    }
  }
}

describe('reading', () => {
  const open = (): { nft: NftSocket; tables: Tables } => {
    const tables = new Tables()
    return { nft: new NftSocket(new FakeKernel(tables.answer).socket(), 1), tables }
  }
  const contents = {
    table: { family, name: table, flags: 0 },
    chains: [{ name: 'services' }],
    sets: [{ name: 'm', flags: 8, keyType: 7, keyLength: 4 }],
    rules: [{ chain: 'services', expressions: [] }],
  }

  test('a table, without what is in others', async () => {
    const { nft, tables } = open()
    expect(await nft.read(family, table)).toEqual(contents)
    expect(tables.asked.filter(type => type === operationType.getGeneration)).toHaveLength(2)
  })

  test('elements again, when the set grew meanwhile and one is told of twice', async () => {
    const { nft, tables } = open()
    tables.interruptions.push('twice', 'twice')
    const found: NftElement[] = []
    await nft.elements(family, table, { name: 'm' }, element => found.push(element))
    expect(found).toMatchObject([{ key: Buffer.from([0, 0, 0, 7]) }])
    expect(tables.asked).toHaveLength(3)
  })

  test('elements as they are, when that never ends', async () => {
    const { nft, tables } = open()
    tables.interruptions.push(...Array.from({ length: 9 }, () => 'twice' as const))
    let count = 0
    await nft.elements(family, table, { name: 'm' }, () => count++)
    expect([count, tables.asked.length]).toEqual([2, 5])
  })

  test('no table', async () => {
    const { nft, tables } = open()
    tables.exists = false
    expect(await nft.read(family, table)).toBeUndefined()
  })

  test.each(['flag', 'error', 'loss', 'generation'] as const)('again, when interrupted (%s)', async how => {
    const { nft, tables } = open()
    tables.interruptions.push(how, how)
    expect(await nft.read(family, table)).toEqual(contents)
    // Two changes in one reading are noticed together.
    const readings = how === 'generation' ? 2 : 3
    expect(tables.asked.filter(type => type === operationType.getTable)).toHaveLength(readings)
  })

  test('a table that goes away meanwhile', async () => {
    const { nft, tables } = open()
    tables.interruptions.push('gone')
    expect(await nft.read(family, table)).toBeUndefined()
  })

  test.each(['flag', 'generation'] as const)('is taken as it is when others write all the time (%s)', async how => {
    const { nft, tables } = open()
    tables.interruptions.push(...Array.from({ length: 30 }, () => how))
    expect(await nft.read(family, table)).toEqual(contents)
    expect(tables.asked.filter(type => type === operationType.getTable)).toHaveLength(5)
    const found: NftElement[] = []
    await nft.elements(family, table, { name: 'm' }, element => found.push(element))
    expect(found).toHaveLength(1)
  })

  test.each(['flag', 'error', 'loss'] as const)('elements are handed over once, of a whole dump (%s)', async how => {
    const { nft, tables } = open()
    tables.interruptions.push(how, how)
    const found: NftElement[] = []
    await nft.elements(family, table, { name: 'm' }, element => found.push(element))
    expect(found).toEqual([{ key: Buffer.from([0, 0, 0, 7]) }])
    expect(tables.asked).toHaveLength(3)
  })

  test('elements of no set', async () => {
    const { nft, tables } = open()
    tables.interruptions.push('gone')
    await expect(nft.elements(family, table, { name: 'm' }, () => undefined)).rejects.toMatchObject({ code: 'ENOENT' })
  })

  test('an abort', async () => {
    const { nft } = open()
    const reason = new Error('enough')
    await expect(nft.read(family, table, AbortSignal.abort(reason))).rejects.toBe(reason)
    const asked = nft.elements(family, table, { name: 'm' }, () => undefined, AbortSignal.abort(reason))
    await expect(asked).rejects.toBe(reason)
  })
})
