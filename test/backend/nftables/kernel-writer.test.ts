// What the kernel says to a batch, and what the syncer is told: by a connection that answers as it is told to.
import { beforeEach, describe, expect, it } from 'vitest'
import { type Backend, CommitError, type Delta, type KernelObject } from '../../../src/backend/backend.ts'
import { nftablesBackend } from '../../../src/backend/nftables/index.ts'
import { NetlinkError } from '../../../src/kernel/netlink/message.ts'
import type { NftConnection, NftRefusal } from '../../../src/kernel/netlink/nft-connection.ts'
import { type NftContents, type NftOperation, setFlag, tableFlag } from '../../../src/kernel/netlink/nft-objects.ts'

const { signal } = new AbortController()
const numbers: Readonly<Record<string, number>> = { EPERM: 1, EINTR: 4, EBUSY: 16, EMSGSIZE: 90, ENOBUFS: 105 }

/** What it is asked, and what it answers, in turn; the last answer again and again. */
class Connection implements NftConnection {
  readonly port = 4_711
  readonly batches: NftOperation[][] = []
  answers: readonly ((operations: readonly NftOperation[]) => readonly NftRefusal[])[] = [() => []]
  contents: NftContents | undefined
  isClosed = false

  async commit(_family: string, _table: string, operations: Iterable<NftOperation>): Promise<readonly NftRefusal[]> {
    const batch = [...operations]
    const answer = this.answers[Math.min(this.batches.length, this.answers.length - 1)]
    this.batches.push(batch)
    return answer?.(batch) ?? []
  }

  async generation(): Promise<number> {
    return this.batches.length
  }

  async read(): Promise<NftContents | undefined> {
    return this.contents
  }

  async elements(): Promise<void> {}

  async close(): Promise<void> {
    this.isClosed = true
  }
}

let connection: Connection
let backend: Backend
const exec = { run: () => Promise.reject(new Error('no program is needed')) }
const backendWith = (own: boolean): Backend =>
  nftablesBackend({ family: 'IPv4', exec, own, netlink: async () => connection })

beforeEach(() => {
  connection = new Connection()
  backend = backendWith(false)
})

const added: readonly KernelObject[] = [
  { key: 'chain external/a/b/tcp', value: 'meta l4proto tcp dnat to 10.1.0.1:80' },
  { key: 'element services 10.96.0.1 . tcp . 80', value: 'comment "a/b" : goto external/a/b/tcp' },
]

/** `program`: of what there is besides; with nothing, the table is new. */
const commit = (delta: Partial<Delta>, program: ReadonlyMap<string, string> = new Map([['chain x', 'drop']])) =>
  backend.commit(backend.plan({ added: [], changed: [], removed: [], ...delta }, program), signal)

async function errorOf(done: Promise<unknown>): Promise<CommitError> {
  const error = await done.then(
    () => undefined,
    (thrown: unknown) => thrown,
  )
  if (!(error instanceof CommitError)) throw new Error(`expected a CommitError, was ${String(error)}`)
  return error
}

const refusing =
  (code: string, ...kinds: readonly NftOperation['kind'][]) =>
  (operations: readonly NftOperation[]): NftRefusal[] =>
    kinds.map(kind => {
      const operation = operations.findIndex(candidate => candidate.kind === kind)
      return { operation: operation < 0 ? undefined : operation, code, message: `the kernel refused: ${code}` }
    })

const failing = (code: string) => (): never => {
  throw new NetlinkError('the kernel refused', numbers[code] ?? 0)
}

describe('a refused batch', () => {
  it.each([
    ['refused', refusing('EOPNOTSUPP', 'add-rule'), ['chain external/a/b/tcp']],
    ['refused', refusing('ENOENT', 'add-elements'), ['element services 10.96.0.1 . tcp . 80']],
    ['refused', refusing('EMLINK', 'delete-table'), []],
    ['stale', refusing('ENOENT', 'flush-chain', 'add-elements'), []],
    ['stale', refusing('EEXIST', 'add-elements'), []],
    ['stale', refusing('EBUSY', 'add-elements'), []],
    ['transient', refusing('EBUSY', 'add-chain'), []],
    ['transient', refusing('ENOMEM', 'delete-table'), []],
    ['transient', refusing('EPERM', 'add-chain'), []],
    ['transient', failing('ENOBUFS'), []],
    ['denied', failing('EPERM'), []],
  ] as const)('is %s', async (kind, answer, keys) => {
    connection.answers = [answer]
    const error = await errorOf(commit({ added }))
    expect({ kind: error.kind, keys: error.keys }).toEqual({ kind, keys })
    expect(error.message).toMatch(/nf_tables|belongs to another process/)
  })

  it('is sent again, element by element, where one of many is refused', async () => {
    const many = Array.from({ length: 300 }, (_, n) => ({
      key: `element services 10.96.1.${n & 255} . tcp . ${n}`,
      value: n === 222 ? ': goto nowhere' : ': drop',
    }))
    const isBad = ({ data }: { data?: unknown }): boolean => JSON.stringify(data)?.includes('nowhere') === true
    connection.answers = [
      operations => [
        {
          operation: operations.findIndex(
            operation => operation.kind === 'add-elements' && operation.elements.some(isBad),
          ),
          code: 'ENOENT',
          message: 'ENOENT',
        },
      ],
    ]
    const error = await errorOf(commit({ added: many }))
    expect({ kind: error.kind, keys: error.keys }).toEqual({
      kind: 'refused',
      keys: ['element services 10.96.1.222 . tcp . 222'],
    })
    expect(connection.batches.map(batch => batch.length)).toEqual([1, 300])
  })

  it('is written in halves where it is too long', async () => {
    connection.answers = [failing('EMSGSIZE'), () => []]
    await commit({ added: [1, 2, 3].map(n => ({ key: `element cluster-ips 10.96.0.${n}`, value: '' })) })
    expect(connection.batches.map(batch => batch.length)).toEqual([3, 1, 2])
  })

  it('is none when a chain that goes stays busy', async () => {
    connection.answers = [() => [], refusing('EBUSY', 'delete-chain'), () => []]
    await commit({ removed: [{ key: 'chain y', value: 'drop' }] })
    expect(connection.batches.map(([operation]) => operation?.kind)).toEqual([
      'flush-chain',
      'delete-chain',
      'delete-chain',
    ])
  })
})

describe('cleaning up', () => {
  it('takes the ways into the table away before the table', async () => {
    await backend.cleanup(signal)
    expect(connection.batches).toEqual([
      [
        { kind: 'delete-chain', name: 'prerouting' },
        { kind: 'delete-chain', name: 'output' },
      ],
      [{ kind: 'delete-table' }],
    ])
  })

  it('takes a table for gone that is not there, and says why one stays', async () => {
    connection.answers = [refusing('ENOENT', 'delete-chain'), refusing('ENOENT', 'delete-table')]
    await backend.cleanup(signal)
    connection.answers = [refusing('EPERM', 'delete-chain'), refusing('EPERM', 'delete-table')]
    connection.batches.length = 0
    expect((await errorOf(backend.cleanup(signal))).message).toContain('belongs to another process')
  })
})

describe('a table of its own', () => {
  const owned = tableFlag.owner | tableFlag.persist
  const flagsOf = (batch: readonly NftOperation[] | undefined): number | undefined => {
    const [first] = batch ?? []
    return first?.kind === 'add-table' ? first.flags : undefined
  }
  const all = new Map(added.map(({ key, value }) => [key, value]))
  const table = (flags: number): NftContents => ({
    table: { family: 'ip', name: 'penstock', flags },
    chains: [],
    rules: [],
    sets: [],
  })

  beforeEach(async () => {
    backend = backendWith(true)
    await backend.read(signal)
  })

  it('is made with an owner, where that is wanted', async () => {
    await commit({ added }, all)
    await commit({ added })
    backend = backendWith(false)
    await commit({ added }, all)
    expect(connection.batches.map(flagsOf)).toEqual([owned, undefined, 0])
  })

  it('is made without on kernels that have no such flags', async () => {
    const refuse = refusing('EOPNOTSUPP', 'add-table')
    connection.answers = [operations => (flagsOf(operations) === owned ? refuse(operations) : [])]
    await commit({ added }, all)
    expect(connection.batches.map(flagsOf)).toEqual([owned, 0])
    await commit({ added })
    expect(connection.batches.map(flagsOf)).toEqual([owned, 0, undefined])
  })

  it.each([
    ['left by an earlier owner is claimed when it is read', tableFlag.persist, [owned, undefined]],
    ['that another process owned when it was read may be free by now', owned, [owned, undefined]],
    ['without flags is left as it is', 0, [undefined]],
  ] as const)('%s', async (_what, flags, expected) => {
    connection.contents = table(flags)
    await backend.read(signal)
    await commit({ added })
    expect(connection.batches.map(flagsOf)).toEqual(expected)
  })

  it('that another process owns is claimed again and again, also with the first thing that is written', async () => {
    const refuse = refusing('EPERM', 'add-table')
    connection.contents = table(owned)
    connection.answers = [refuse, refuse, () => []]
    await backend.read(signal)
    await expect(commit({ added })).rejects.toMatchObject({ kind: 'transient', patienceMs: 500 })
    await expect.poll(() => connection.batches.length, { timeout: 5_000 }).toBe(3)
    await commit({ added })
    expect(connection.batches.map(flagsOf)).toEqual([owned, owned, owned, undefined])
  })

  it('closes its connection in the end', async () => {
    backend.stop?.()
    await expect.poll(() => connection.isClosed).toBe(true)
  })
})

it('sees a set of another type in the place of one of ours', async () => {
  connection.contents = {
    table: { family: 'ip', name: 'penstock', flags: 0 },
    chains: [],
    rules: [],
    sets: [{ name: 'services', flags: setFlag.map, keyType: 7, keyLength: 4, dataType: 13, dataLength: 2 }],
  }
  const [[key, value] = []] = await backend.read(signal)
  expect(key).toBe('map services')
  expect(value).not.toMatch(/^type/)
})
