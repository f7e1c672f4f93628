// What it costs to encode a batch for nf_tables.
import { encodeBatch } from '../../src/kernel/netlink/nft-encode.ts'
import type { NftElement, NftOperation } from '../../src/kernel/netlink/nft-objects.ts'
import { MessageWriter } from '../../src/kernel/netlink/writer.ts'
import type { Step } from '../bench/micro.ts'

/** An element as of the map of endpoints: address, protocol, port and index to address and port, 4 bytes each. */
function element(n: number): NftElement {
  const key = Buffer.alloc(16)
  key.writeUInt32BE(0x0a60_0000 + n, 0)
  key[4] = 6
  key.writeUInt16BE(80, 8)
  const data = Buffer.alloc(8)
  data.writeUInt32BE(0x0af4_0000 + n, 0)
  data.writeUInt16BE(8080, 4)
  return { key, data }
}

const change = (elements: readonly NftElement[]): NftOperation[] => [
  { kind: 'delete-elements', set: 'endpoints', elements },
  { kind: 'add-elements', set: 'endpoints', elements },
]

function step(count: number): Step {
  const operations = change(Array.from({ length: count }, (_, n) => element(n)))
  const writer = new MessageWriter()
  return {
    name: `replace ${count} elements of a map`,
    run: () => {
      const batch = encodeBatch('ip', 'penstock', operations, 1, writer)
      for (let next = batch.next(); ; next = batch.next()) if (next.done === true) return next.value.lastSequence
    },
  }
}

export const steps: readonly Step[] = [step(5), step(10_000)]
