// How flows are asked for and read: netlink's bytes, and the lines of the program `conntrack`.
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { flowsOver } from '../../src/kernel/conntrack-flows.ts'
import { createRequest, dumpRequest, readFlow, removeRequest } from '../../src/kernel/conntrack-messages.ts'
import { parseFlows, toolFlows } from '../../src/kernel/conntrack-tool.ts'
import type { Exec, ExecResult } from '../../src/kernel/exec.ts'
import { encodeMessage, flag, NetlinkFormatError, u8 } from '../../src/kernel/netlink/message.ts'
import type { Flow } from '../../src/net/flow.ts'
import { type Family, type IP, ipFromHex } from '../../src/net/ip.ts'
import { ack, done, errno, FakeKernel } from '../netlink/fake-kernel.ts'

const address = (family: Family): fc.Arbitrary<IP> => {
  const length = family === 'IPv4' ? 4 : 16
  return fc
    .uint8Array({ minLength: length, maxLength: length })
    .map(bytes => ipFromHex(Buffer.from(bytes).toString('hex')))
}
const port = fc.nat(0xffff)
const flowOf = (family: Family): fc.Arbitrary<Flow> =>
  fc.record({
    source: address(family),
    sourcePort: port,
    destination: address(family),
    destinationPort: port,
    replySource: address(family),
    replySourcePort: port,
  })

/** A kernel whose listing loses something so often; it has one flow, which is stale. */
async function removalAfter(losses: number) {
  const flow: Flow = {
    source: '10.0.0.1' as IP,
    sourcePort: 1,
    destination: '10.96.0.10' as IP,
    destinationPort: 53,
    replySource: '10.0.0.9' as IP,
    replySourcePort: 53,
  }
  const { payload } = createRequest('IPv4', flow, 60)
  let left = losses
  let removals = 0
  const kernel = new FakeKernel(([asked, ...more]) => {
    if (asked === undefined) return []
    if (asked.type !== dumpRequest({ family: 'IPv4' }).type) {
      removals += 1 + more.length
      return [asked, ...more].map(({ sequence }) => ack(sequence))
    }
    const found = encodeMessage({ type: 256, flags: flag.multi, sequence: asked.sequence }, payload)
    return [found, ...(left-- > 0 ? [errno.noBuffers] : []), done(asked.sequence)]
  })
  const flows = flowsOver(async () => kernel.socket(), { remove: () => expect.unreachable() })
  const removal = await flows.remove({ family: 'IPv4' }, () => true, new AbortController().signal)
  return { removal, removals }
}

test('a listing of which a part got lost is made again', async () => {
  expect(await removalAfter(2)).toEqual({ removal: { seen: 1, removed: 1 }, removals: 1 })
})

test('where that is so each time, what was found goes, and somebody hears of it', async () => {
  expect(await removalAfter(3)).toEqual({
    removal: { seen: 1, removed: 1, problem: 'the kernel did not list all UDP flows, 3 times' },
    removals: 1,
  })
})

describe('netlink', () => {
  test.each(['IPv4', 'IPv6'] as const)('a flow of %s is read as it was written', family => {
    fc.assert(
      fc.property(flowOf(family), flow => {
        const { payload } = createRequest(family, flow, 60)
        expect(readFlow(payload, () => true)).toMatchObject({ flow, family })
        expect(readFlow(payload, () => false)).toBe('not kept')
      }),
    )
  })

  test('removing says which flow in the very bytes that the kernel gave', () => {
    const flow: Flow = {
      source: '10.0.0.1' as IP,
      sourcePort: 1000,
      destination: '10.96.0.10' as IP,
      destinationPort: 53,
      replySource: '10.0.0.2' as IP,
      replySourcePort: 5300,
    }
    const read = readFlow(createRequest('IPv4', flow, 60).payload, () => true)
    if (typeof read !== 'object') throw new Error('not read')
    const { payload } = removeRequest({ ...read, id: Buffer.from([1, 2, 3, 4]) })
    expect(payload.toString('hex')).toBe(
      // nfgenmsg; CTA_TUPLE_ORIG: addresses, then protocol and ports; CTA_ID.
      '02000000' +
        '3400' +
        '0180' +
        '14000180' +
        '0800' +
        '0100' +
        '0a000001' +
        '0800' +
        '0200' +
        '0a60000a' +
        '1c000280' +
        '0500' +
        '0100' +
        '11000000' +
        '0600' +
        '0200' +
        '03e80000' +
        '0600' +
        '0300' +
        '00350000' +
        '0800' +
        '0c00' +
        '01020304',
    )
  })

  test('whatever comes in is read or refused', () => {
    const some = fc
      .tuple(fc.constantFrom('IPv4' as const, 'IPv6' as const), fc.nat(200), fc.nat(255))
      .chain(([family, at, value]) =>
        flowOf(family).map(flow => {
          const { payload } = createRequest(family, flow, 60)
          payload[at % payload.length] = value
          return payload
        }),
      )
    const any = fc.uint8Array({ maxLength: 200 }).map(bytes => Buffer.from(bytes))
    fc.assert(
      fc.property(fc.oneof(some, any), payload => {
        try {
          readFlow(payload, () => true)
        } catch (error) {
          expect(error).toBeInstanceOf(NetlinkFormatError)
        }
      }),
      { numRuns: 2000 },
    )
  })

  test('no address of IPv6 is asked for, since the kernel takes it the wrong way round', () => {
    const filter = { destination: 'fd00::1' as IP, destinationPort: 53, replySource: 'fd00::2' as IP }
    const { payload } = dumpRequest({ family: 'IPv6', ...filter })
    expect(payload).toEqual(dumpRequest({ family: 'IPv6', destinationPort: 53 }).payload)
    expect(payload).not.toEqual(dumpRequest({ family: 'IPv6' }).payload)
    expect(payload.includes(u8(1, 17))).toBe(true)
  })
})

const listed = `udp      17 25 src=10.0.1.2 dst=10.96.0.10 sport=20000 dport=53 src=10.0.2.11 dst=10.0.1.2 sport=5300 dport=20000 [ASSURED] mark=0 use=1
udp      17 25 src=10.0.1.2 dst=10.96.0.10 sport=20001 dport=53 [UNREPLIED] src=10.0.2.11 dst=10.0.1.2 sport=5300 dport=20001 mark=0 use=1
udp      17 25 src=10.0.1.2 dst=10.96.0.10 sport=20002 dport=53 [UNREPLIED] src=10.0.2.12 dst=10.0.1.2 sport=53 dport=20002 mark=0 use=1
udp      17 25 src=10.0.1.2 dst=10.96.0.10 sport=20003 dport=53 src=10.0.2.11 dst=10.0.1.2 sport=5300 dport=20003 mark=0 zone=7 use=1
tcp      6 431999 ESTABLISHED src=10.0.1.2 dst=10.96.0.10 sport=40000 dport=53 src=10.0.2.11 dst=10.0.1.2 sport=53 dport=40000 [ASSURED] mark=0 use=1
udp      17 25 src=fd00::1 dst=fd00:96::10 sport=1 dport=53 src=fd00::2 dst=fd00::1 sport=53 dport=1 mark=0 use=1
udp      17 25 nonsense
`

describe('the program conntrack', () => {
  const asIs = (answer: Partial<ExecResult>): ExecResult => ({
    ...{ exitCode: 0, stdout: '', stderr: '', notFound: false },
    ...answer,
  })
  const recorded = (answers: readonly Partial<ExecResult>[]) => {
    const lines: string[] = []
    const exec: Exec = {
      async run(command, args) {
        lines.push([command, ...args].join(' '))
        return asIs(answers[lines.length - 1] ?? {})
      },
    }
    return { lines, exec }
  }
  const { signal } = new AbortController()
  const all = (): boolean => true

  test('its lines are read; other protocols and other zones are passed over', () => {
    const flows = parseFlows(listed)
    expect(flows.map(({ sourcePort, replySource }) => [sourcePort, replySource])).toEqual([
      [20000, '10.0.2.11'],
      [20001, '10.0.2.11'],
      [20002, '10.0.2.12'],
      [1, 'fd00::2'],
    ])
    expect(flows[0]).toEqual({
      source: '10.0.1.2',
      sourcePort: 20000,
      destination: '10.96.0.10',
      destinationPort: 53,
      replySource: '10.0.2.11',
      replySourcePort: 5300,
    })
  })

  test('is started once to list, and once for each pair of Service and endpoint', async () => {
    const { lines, exec } = recorded([{ stdout: listed }])
    const filter = {
      family: 'IPv4',
      replySource: '10.0.2.11' as IP,
      replySourcePort: 5300,
      destinationPort: 53,
    } as const
    const isStale = ({ replySource }: Flow): boolean => replySource === '10.0.2.11'
    expect(await toolFlows(exec).remove(filter, isStale, signal)).toEqual({ seen: 4, removed: 2 })
    expect(lines).toEqual([
      'conntrack -L -f ipv4 -p udp --orig-port-dst 53 --reply-src 10.0.2.11 --reply-port-src 5300',
      'conntrack -D -f ipv4 -p udp --orig-dst 10.96.0.10 --orig-port-dst 53 --reply-src 10.0.2.11 --reply-port-src 5300',
    ])
  })

  test('flows that ended meanwhile are no error; what it refuses is', async () => {
    const none = { exitCode: 1, stderr: 'conntrack v1.4.7 (conntrack-tools): 0 flow entries have been deleted.' }
    const gone = recorded([{ stdout: listed }, none, none, none])
    expect(await toolFlows(gone.exec).remove({ family: 'IPv4' }, all, signal)).toEqual({ seen: 4, removed: 0 })
    const refused = recorded([{ exitCode: 1, stderr: 'Operation failed: Operation not permitted' }])
    await expect(toolFlows(refused.exec).remove({ family: 'IPv4' }, all, signal)).rejects.toThrow(
      'conntrack could not list UDP flows (exit status 1): Operation failed: Operation not permitted',
    )
    const missing = recorded([{ exitCode: -1, notFound: true }])
    await expect(toolFlows(missing.exec).remove({ family: 'IPv4' }, all, signal)).rejects.toThrow('install one of them')
  })
})
