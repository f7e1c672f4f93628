// Generic netlink: families by name, against the running kernel (asking is everybody's right) and against bytes.
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { encodeGeneric, familyId, readFamilyId, readGeneric } from '../../src/kernel/netlink/generic.ts'
import { NetlinkError, NetlinkFormatError } from '../../src/kernel/netlink/message.ts'
import { openNetlink } from '../../src/kernel/netlink/socket.ts'

test('a message is taken apart as it was put together', () => {
  fc.assert(
    fc.property(fc.nat(255), fc.nat(255), fc.uint8Array({ maxLength: 40 }), (command, version, bytes) => {
      const attributes = Buffer.from(bytes)
      const found = readGeneric(encodeGeneric(command, version, attributes))
      expect({ ...found, attributes: Buffer.from(found.attributes) }).toEqual({ command, version, attributes })
    }),
  )
})

test('whatever comes in is a family or no netlink', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 40 }), bytes => {
      try {
        expect(readFamilyId(Buffer.from(bytes))).toBeLessThan(65_536)
      } catch (error) {
        expect(error).toBeInstanceOf(NetlinkFormatError)
      }
    }),
  )
})

test.runIf(process.platform === 'linux')('the kernel tells of the families that it has, and of no others', async () => {
  const socket = await openNetlink('generic', { explain: why => expect.fail(why) })
  if (socket === undefined) throw new Error('no netlink')
  try {
    // The family that tells of families has a number of its own: GENL_ID_CTRL.
    expect(await familyId(socket, 'nlctrl')).toBe(16)
    expect(await familyId(socket, 'no such family')).toBeUndefined()
  } finally {
    await socket.close()
  }
})

test('a kernel that refuses otherwise is heard', async () => {
  const refusing = { request: () => Promise.reject(new NetlinkError('the kernel refused', 1)) }
  await expect(familyId(refusing, 'IPVS')).rejects.toThrow('EPERM')
})
