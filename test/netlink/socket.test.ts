// Sockets against this machine's own kernel, reading only: its network devices can be listed by everybody.
import { afterEach, describe, expect, test } from 'vitest'
import { NetlinkError, readAttributes, readText } from '../../src/kernel/netlink/message.ts'
import { type NetlinkSocket, openNetlink } from '../../src/kernel/netlink/socket.ts'

const getLink = 18
const linkName = 3
/** `ifinfomsg` without a device. */
const anyDevice = Buffer.alloc(16)

const open: NetlinkSocket[] = []
async function socket(): Promise<NetlinkSocket> {
  const made = await openNetlink('route', { explain: why => expect.fail(why) })
  if (made === undefined) throw new Error('no netlink')
  open.push(made)
  return made
}
afterEach(async () => {
  await Promise.all(open.splice(0).map(one => one.close()))
})

const nameOf = (payload: Buffer): string =>
  readText(readAttributes(payload.subarray(anyDevice.length)).get(linkName) ?? Buffer.alloc(0))

describe.runIf(process.platform === 'linux')('a netlink socket', () => {
  test('dumps', async () => {
    const links = await (await socket()).collect({ type: getLink, payload: anyDevice })
    expect(links.map(nameOf)).toContain('lo')
  })

  test('asks for one object', async () => {
    const device = Buffer.alloc(16)
    device.writeInt32LE(1, 4)
    const answers = await (await socket()).request({ type: getLink, payload: device })
    expect(answers.map(nameOf)).toEqual(['lo'])
  })

  test('throws what the kernel refuses', async () => {
    const device = Buffer.alloc(16)
    device.writeInt32LE(0x7fffffff, 4)
    const asked = (await socket()).request({ type: getLink, payload: device })
    await expect(asked).rejects.toBeInstanceOf(NetlinkError)
    await expect(asked).rejects.toThrow('ENODEV')
  })

  test('answers each of a batch, in order, also the ones after a refused one', async () => {
    const device = (index: number): Buffer => {
      const payload = Buffer.alloc(16)
      payload.writeInt32LE(index, 4)
      return payload
    }
    const indexes = Array.from({ length: 300 }, (_, n) => (n % 3 === 0 ? 0x7fffffff : 1))
    const acks = await (await socket()).batch(indexes.map(index => ({ type: getLink, payload: device(index) })))
    expect(acks.map(({ errno }) => errno)).toEqual(indexes.map(index => (index === 1 ? 0 : 19)))
  })

  test('takes requests in turn, whoever asks at once', async () => {
    const one = await socket()
    const all = await Promise.all(Array.from({ length: 20 }, () => one.collect({ type: getLink, payload: anyDevice })))
    for (const links of all) expect(links.map(nameOf)).toContain('lo')
  })

  test('is good for more after a dump that was given up', async () => {
    const one = await socket()
    const giveUp = one.dump({ type: getLink, payload: anyDevice }, () => {
      throw new Error('enough')
    })
    await expect(giveUp).rejects.toThrow('enough')
    const aborted = one.dump({ type: getLink, payload: anyDevice }, () => undefined, AbortSignal.abort(new Error('no')))
    await expect(aborted).rejects.toThrow('no')
    expect((await one.collect({ type: getLink, payload: anyDevice })).map(nameOf)).toContain('lo')
  })

  test('has a port that no other has', async () => {
    const ports = [(await socket()).port, (await socket()).port, (await socket()).port]
    expect(ports.every(port => port > 0)).toBe(true)
    expect(new Set(ports).size).toBe(3)
  })

  test('refuses what it is not for', async () => {
    const one = await socket()
    expect(() =>
      one.subscribe(
        () => undefined,
        () => undefined,
      ),
    ).toThrow('joined no group')
    await one.close()
    await expect(one.request({ type: getLink, payload: anyDevice })).rejects.toThrow('closed')
  })

  test('says why there is none', async () => {
    const said: string[] = []
    // Rtnetlink has no such group.
    expect(await openNetlink('route', { groups: [4000], explain: why => said.push(why) })).toBeUndefined()
    expect(said).toEqual(['netlink group 4000 cannot be joined: EINVAL'])
  })
})
