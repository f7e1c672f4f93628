// Who speaks to IPVS when: a dump must not be overtaken by a change, which the kernel would not tell of.
import { expect, test } from 'vitest'
import type { Requester } from '../../src/kernel/netlink/generic.ts'
import { ipvsOver } from '../../src/kernel/netlink/ipvs.ts'

/** A socket whose dumps end when they are told to. */
function slowSocket(name: string, told: string[]) {
  const dumped = Promise.withResolvers<Buffer[]>()
  // The answer to who has the name: genlmsghdr, then the attribute with the family's number.
  const known = Buffer.alloc(4 + 8)
  known.writeUInt16LE(6, 4)
  known.writeUInt16LE(1, 6)
  known.writeUInt16LE(0x20, 8)
  const socket: Requester = {
    request: async () => [known],
    batch: async requests => {
      told.push(`${name} writes`)
      return requests.map(() => ({ errno: 0 }))
    },
    collect: async () => {
      told.push(`${name} dumps`)
      const answers = await dumped.promise
      told.push(`${name} has dumped`)
      return answers
    },
    dump: async () => ({ interrupted: false }),
    close: async () => undefined,
  }
  return { socket, end: () => dumped.resolve([]) }
}

test('a change waits for a dump of another connection', async () => {
  const told: string[] = []
  const four = slowSocket('IPv4', told)
  const six = slowSocket('IPv6', told)
  const dumping = ipvsOver(six.socket).services(() => undefined)
  await expect.poll(() => told).toEqual(['IPv6 dumps'])
  const writing = ipvsOver(four.socket).apply([])
  await new Promise(next => setTimeout(next, 20))
  expect(told).toEqual(['IPv6 dumps'])
  six.end()
  await Promise.all([dumping, writing])
  expect(told).toEqual(['IPv6 dumps', 'IPv6 has dumped', 'IPv4 writes'])
})
