// What goes wrong between a kernel and a socket, by a scripted kernel: nothing is taken for done that is not known to be, and
// the socket is good for more.
import { afterEach, describe, expect, test, vi } from 'vitest'
import { ipsetOver } from '../../src/kernel/netlink/ipset.ts'
import { encodeMessage, flag, NetlinkFormatError, type NetlinkMessage } from '../../src/kernel/netlink/message.ts'
import { type Answer, ack, done, errno, FakeKernel } from './fake-kernel.ts'

const payload = Buffer.from([1, 2, 3, 4])
const request = { type: 100, payload }
const requests = (count: number) => Array.from({ length: count }, () => request)
const acks = (messages: readonly NetlinkMessage[]): Buffer[] => messages.map(({ sequence }) => ack(sequence))
const object = (sequence: number, flags = 0): Buffer =>
  encodeMessage({ type: 100, flags: flag.multi | flags, sequence }, payload)
/** Longer than the buffer of 64 KiB. */
const tooLong = Buffer.alloc(70_000)

/** A kernel that answers the first datagram like this, and all later ones as they should be. */
function atFirst(answer: (messages: readonly NetlinkMessage[]) => readonly Answer[]): FakeKernel {
  let isFirst = true
  return new FakeKernel(messages => {
    if (!isFirst) return acks(messages)
    isFirst = false
    return answer(messages)
  })
}

describe('a batch of requests', () => {
  test('one of whose acknowledgements got lost is not known to be done, and late ones are not taken for others', async () => {
    const kernel = atFirst(messages => [...acks(messages.slice(0, 2)), errno.noBuffers, ...acks(messages.slice(2, 3))])
    const socket = kernel.socket()
    await expect(socket.batch(requests(4))).rejects.toMatchObject({ name: 'NetlinkError', code: 'ENOBUFS' })
    expect((await socket.batch(requests(100))).map(one => one.errno)).toEqual(Array(100).fill(0))
  })

  test('a refusal in the middle stops no other, in whatever datagrams the answers come', async () => {
    const kernel = new FakeKernel(messages => [
      errno.interrupted,
      Buffer.concat(acks(messages.slice(0, 30))),
      ack(messages[30]?.sequence ?? 0, errno.noEntry, 'no such thing'),
      errno.interrupted,
      Buffer.concat(acks(messages.slice(31))),
    ])
    kernel.sendErrors.push(errno.interrupted, errno.interrupted)
    const answers = await kernel.socket().batch(requests(64))
    expect(answers.flatMap((one, index) => (one.errno === 0 ? [] : [{ index, ...one }]))).toEqual([
      { index: 30, errno: errno.noEntry, words: 'no such thing' },
    ])
  })

  test('a datagram that does not fit is refused, and the next request is answered', async () => {
    const socket = atFirst(() => [tooLong]).socket()
    await expect(socket.batch(requests(2))).rejects.toBeInstanceOf(NetlinkFormatError)
    expect(await socket.batch(requests(1))).toEqual([{ errno: 0 }])
  })

  test('what cannot be sent is thrown, and the next request is answered', async () => {
    const kernel = new FakeKernel(acks)
    kernel.sendErrors.push(errno.noBuffers)
    const socket = kernel.socket()
    await expect(socket.request(request)).rejects.toMatchObject({ code: 'ENOBUFS' })
    expect(await socket.request(request)).toEqual([])
  })
})

describe('a kernel that does not answer', () => {
  afterEach(() => {
    vi.useRealTimers()
  })

  test('is waited for ten seconds', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    const kernel = new FakeKernel(() => [])
    kernel.isSilent = true
    let said = ''
    const asked = kernel
      .socket()
      .request(request)
      .catch((error: Error) => {
        said = error.message
      })
    await vi.advanceTimersByTimeAsync(9_900)
    expect(said).toBe('')
    await vi.advanceTimersByTimeAsync(200)
    await asked
    expect(said).toBe('the kernel does not answer: ETIMEDOUT')
  })
})

describe('a dump', () => {
  test.each(['on a thread', 'on the event loop'])(
    '%s goes on after a signal and a loss, and tells of the loss',
    async how => {
      const kernel = new FakeKernel(([asked]) => {
        const of = asked?.sequence ?? 0
        return [errno.interrupted, object(of), errno.noBuffers, object(of), errno.interrupted, done(of)]
      })
      let seen = 0
      const small = how === 'on the event loop'
      expect(await kernel.socket().dump({ ...request, small }, () => seen++)).toEqual({ interrupted: true })
      expect(seen).toBe(2)
      expect(kernel.sentOffLoop).toBe(small ? 0 : 1)
    },
  )

  test('that is cut off is thrown, and the next request is answered', async () => {
    const socket = atFirst(([asked]) => [object(asked?.sequence ?? 0), tooLong]).socket()
    await expect(socket.dump(request, () => undefined)).rejects.toBeInstanceOf(NetlinkFormatError)
    expect(await socket.request(request)).toEqual([])
  })

  test('that is interrupted each time is made five times, then thrown', async () => {
    const kernel = new FakeKernel(([asked]) => [
      object(asked?.sequence ?? 0, flag.dumpInterrupted),
      done(asked?.sequence ?? 0),
    ])
    await expect(kernel.socket().collect(request)).rejects.toMatchObject({ code: 'EINTR' })
    expect(kernel.sent).toHaveLength(5)
  })

  test('that is interrupted once is made again, and its objects count once', async () => {
    const kernel = atFirst(([asked]) => [
      object(asked?.sequence ?? 0),
      done(asked?.sequence ?? 0, flag.dumpInterrupted),
    ])
    const socket = kernel.socket()
    // The second is answered by an acknowledgement alone: no objects.
    expect(await socket.collect(request)).toEqual([])
    expect(kernel.sent).toHaveLength(2)
  })

  test('a set of which a part got lost is not taken for the whole', async () => {
    const kernel = new FakeKernel(([asked]) => [errno.noBuffers, done(asked?.sequence ?? 0)])
    const listed = ipsetOver(kernel.socket()).list('PENSTOCK-ADDRESS', () => undefined)
    await expect(listed).rejects.toThrow('a part of the set PENSTOCK-ADDRESS got lost: ENOBUFS')
  })
})

describe('a subscription', () => {
  const notification = encodeMessage({ type: 200, flags: 0, sequence: 0 }, payload)

  /** How many notifications come of these, and how often some are said to be lost. */
  async function hear(...told: readonly Answer[]): Promise<{ heard: number; lost: number }> {
    const socket = new FakeKernel(() => []).subscriber(...told)
    const found = { heard: 0, lost: 0 }
    socket.subscribe(
      () => found.heard++,
      () => found.lost++,
    )
    await new Promise(next => setTimeout(next, 10))
    await socket.close()
    return found
  }

  test('tells of a loss, and goes on', async () => {
    expect(await hear(notification, errno.noBuffers, notification)).toEqual({ heard: 2, lost: 1 })
  })

  test('tells of what is no netlink as of a loss, and goes on', async () => {
    expect(await hear(Buffer.from('nothing of the kind'), tooLong, notification)).toEqual({ heard: 1, lost: 2 })
  })

  test('that fails for good says so once a turn', async () => {
    expect(await hear(...Array<number>(64).fill(9))).toEqual({ heard: 0, lost: 1 })
  })

  test('is interrupted by no signal', async () => {
    expect(await hear(errno.interrupted, notification, errno.interrupted, notification)).toEqual({ heard: 2, lost: 0 })
  })
})
