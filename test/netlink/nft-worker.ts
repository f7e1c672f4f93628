// Inside a namespace: one connection to nf_tables, at a test's call. Run by `Sandbox.worker`.
import { deserialize, serialize } from 'node:v8'
import { NetlinkError, nfgen, nfType, text } from '../../src/kernel/netlink/message.ts'
import { NftSocket, openNft } from '../../src/kernel/netlink/nft.ts'
import type { NftConnection, NftRefusal } from '../../src/kernel/netlink/nft-connection.ts'
import { operationType, subsystem } from '../../src/kernel/netlink/nft-numbers.ts'
import type { NftContents, NftElement, NftFamily, NftOperation } from '../../src/kernel/netlink/nft-objects.ts'
import { openNetlink } from '../../src/kernel/netlink/socket.ts'
import { watchTables } from '../../src/kernel/netlink/table-watch.ts'
import { answerCalls } from '../support/netns/calls.ts'

const table = 'penstock'
let connection: NftConnection | undefined

async function nft(): Promise<NftConnection> {
  connection ??= await openNft(why => console.error(why))
  if (connection === undefined) throw new Error('no nf_tables')
  return connection
}

/** What JSON has no words for, bytes and large numbers, as one text. */
export const pack = (value: unknown): string => serialize(value).toString('base64')
export const unpack = <T>(packed: string): T => deserialize(Buffer.from(packed, 'base64'))

export interface Whole {
  readonly contents: NftContents
  readonly elements: readonly { readonly set: string; readonly elements: readonly NftElement[] }[]
}

/** The code of an error stands for the refusals. */
async function commit({
  family,
  operations,
}: {
  family: NftFamily
  operations: string
}): Promise<readonly NftRefusal[] | string> {
  try {
    return await (await nft()).commit(family, table, unpack<NftOperation[]>(operations))
  } catch (error) {
    if (error instanceof NetlinkError) return error.code
    throw error
  }
}

/** The same over a socket whose send buffer is as the kernel made it. */
async function commitSmall(params: Parameters<typeof commit>[0]): ReturnType<typeof commit> {
  const socket = await openNetlink('netfilter')
  if (socket === undefined) throw new Error('no netlink')
  const before = await nft()
  connection = new NftSocket(socket, socket.port)
  const outcome = await commit(params)
  await connection.close()
  connection = before
  return outcome
}

async function read(family: NftFamily): Promise<string> {
  const one = await nft()
  const contents = await one.read(family, table)
  if (contents === undefined) return pack(undefined)
  const elements: { set: string; elements: NftElement[] }[] = []
  for (const set of contents.sets) {
    const found: NftElement[] = []
    await one.elements(family, table, set, element => found.push(element))
    elements.push({ set: set.name, elements: found })
  }
  const whole: Whole = { contents, elements }
  return pack(whole)
}

/** The payloads of a dump of what the table has, or of a set's elements, as the kernel sends them. */
async function dump({ family, what, set }: DumpParams): Promise<string> {
  const socket = await openNetlink('netfilter')
  if (socket === undefined) throw new Error('no netlink')
  const payload = [nfgen(family), text(1, table), ...(set === undefined ? [] : [text(2, set)])]
  const found = await socket.collect({ type: nfType(subsystem, operationType[what]), payload: Buffer.concat(payload) })
  await socket.close()
  return pack(found)
}

interface DumpParams {
  readonly family: number
  readonly what: 'getChain' | 'getSet' | 'getRule' | 'getElements'
  readonly set?: string
}

const heard: string[] = []

/** Listens for what others write, this worker's own connection left out. */
async function watch(): Promise<void> {
  const watching = await watchTables({ run: () => Promise.reject(new Error('starts nothing')) })
  if (watching === undefined) throw new Error('no watch')
  watching.adopt((await nft()).port)
  const place = { kind: 'nf_tables', family: 'IPv4', table, prefix: '', hooks: [] } as const
  watching.start([{ places: () => [place], found: ({ kind, by }) => heard.push(`${kind} ${by}`) }])
}

const methods = {
  commit,
  commitSmall,
  read,
  dump,
  watch,
  heard: (): string[] => heard.splice(0),
  async generation(): Promise<number> {
    return (await nft()).generation()
  },
  async close(): Promise<void> {
    await connection?.close()
    connection = undefined
  },
}
export type NftMethods = typeof methods

if (process.send !== undefined) answerCalls(methods)
