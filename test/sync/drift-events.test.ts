// Notifications of nf_tables, sorted: what concerns our rules, who wrote it, and what we wrote ourselves.
import fc from 'fast-check'
import { expect, it } from 'vitest'
import type { Exec, ExecOptions } from '../../src/kernel/exec.ts'
import {
  be32,
  encodeMessage,
  type NetlinkMessage,
  nfgen,
  readMessages,
  text,
} from '../../src/kernel/netlink/message.ts'
import { type Finding, type Place, Sorter } from '../../src/kernel/netlink/nft-events.ts'
import { OwnPrograms } from '../../src/kernel/netlink/table-watch.ts'

const types = {
  deleteTable: 2,
  newChain: 3,
  newRule: 6,
  deleteRule: 8,
  newElement: 12,
  deleteElement: 14,
  generation: 15,
}
const families = { ip: 2, ip6: 10, inet: 1 }

function message(
  type: keyof typeof types,
  payload: readonly Buffer[],
  { family = 'ip', port = 77 } = {},
): NetlinkMessage {
  const bytes = encodeMessage(
    { type: (10 << 8) | types[type], flags: 0, sequence: 1 },
    nfgen(families[family as keyof typeof families]),
    ...payload,
  )
  bytes.writeUInt32LE(port, 12)
  const [read] = readMessages(bytes)
  if (read === undefined) throw new Error('no message')
  return read
}

const rule = (table: string, chain: string, expressions?: string) => [
  text(1, table),
  text(2, chain),
  be32(3, 7),
  ...(expressions === undefined ? [] : [text(4, expressions)]),
]
const chain = (table: string, name: string) => [text(1, table), be32(2, 7), text(3, name)]
const element = (table: string, name: string) => [text(1, table), text(2, name)]
const generation = (name: string) => [be32(1, 9), be32(2, 4_242), text(3, name)]

const iptables: Place[] = [
  { kind: 'nf_tables', family: 'IPv4', table: 'nat', prefix: 'PENSTOCK-', hooks: ['PREROUTING'] },
  { kind: 'nf_tables', family: 'IPv4', table: 'filter', prefix: 'PENSTOCK-', hooks: ['FORWARD'] },
]
const nftables: Place[] = [{ kind: 'nf_tables', family: 'IPv6', table: 'penstock', prefix: '', hooks: [] }]
const legacy: Place[] = [{ ...iptables[0], kind: 'legacy' } as Place]

/** What listeners are told of one transaction. */
function told(places: readonly Place[], ...messages: NetlinkMessage[]): Finding[] {
  const found: Finding[] = []
  const sorter = new Sorter([{ places: () => places, found: finding => found.push(finding) }], port => port === 11)
  for (const item of messages) sorter.take(item)
  expect(found, 'before the end of the transaction').toEqual([])
  sorter.take(message('generation', generation('nft')))
  sorter.take(message('generation', generation('later')))
  return found
}

const ours: Finding[] = [{ kind: 'ours', by: 'nft' }]

it.each<[string, readonly Place[], NetlinkMessage, Finding[]]>([
  ['a rule of ours', iptables, message('deleteRule', rule('nat', 'PENSTOCK-SVC-X', 'x')), ours],
  ['a chain of ours', iptables, message('newChain', chain('filter', 'PENSTOCK-SVC-X')), ours],
  ['the table', iptables, message('deleteTable', [text(1, 'nat')]), ours],
  ['our jump', iptables, message('deleteRule', rule('nat', 'PREROUTING', 'goto PENSTOCK-SERVICES')), ours],
  ['our jump, once more', iptables, message('newRule', rule('nat', 'PREROUTING', 'goto PENSTOCK-SERVICES')), ours],
  ['a rule beside our jump', iptables, message('deleteRule', rule('nat', 'PREROUTING', 'accept')), []],
  ['a new rule beside our jump', iptables, message('newRule', rule('nat', 'PREROUTING', 'accept')), []],
  [
    'who knows which rule beside our jump',
    iptables,
    message('deleteRule', rule('nat', 'PREROUTING')),
    [{ kind: 'hooks', by: 'nft' }],
  ],
  ['a chain of others', iptables, message('deleteRule', rule('nat', 'CNI-X', 'x')), []],
  ['a rule of theirs that jumps to them', iptables, message('newRule', rule('nat', 'POSTROUTING', 'CNI-X')), []],
  ['the same name in another table', iptables, message('deleteRule', rule('mangle', 'PENSTOCK-SVC-X', 'x')), []],
  ['the other family', iptables, message('deleteRule', rule('nat', 'PENSTOCK-SVC-X'), { family: 'ip6' }), []],
  ['our own program', iptables, message('deleteRule', rule('nat', 'PENSTOCK-SVC-X', 'x'), { port: 11 }), []],
  ['the legacy variant', legacy, message('deleteRule', rule('nat', 'PENSTOCK-SVC-X', 'x')), []],
  ['an element', nftables, message('deleteElement', element('penstock', 'endpoints'), { family: 'ip6' }), ours],
  ['a rule', nftables, message('deleteRule', rule('penstock', 'services'), { family: 'ip6' }), ours],
  ['an element of others', nftables, message('newElement', element('kube-proxy', 'x'), { family: 'ip6' }), []],
  ['a table of that name elsewhere', nftables, message('newElement', element('penstock', 'x'), { family: 'inet' }), []],
])('%s', (_, places, item, found) => {
  expect(told(places, item)).toEqual(found)
})

it('a transaction is told once, by its gravest part, and to those it concerns', () => {
  const four: Finding[] = []
  const six: Finding[] = []
  const sorter = new Sorter(
    [
      { places: () => iptables, found: finding => four.push(finding) },
      { places: () => nftables, found: finding => six.push(finding) },
    ],
    () => false,
  )
  sorter.take(message('deleteRule', rule('nat', 'PREROUTING')))
  for (let count = 0; count < 3; count++) sorter.take(message('deleteRule', rule('nat', 'PENSTOCK-X', 'x')))
  sorter.take(message('deleteRule', rule('filter', 'FORWARD')))
  sorter.take(message('generation', generation('iptables')))
  expect(four).toEqual([{ kind: 'ours', by: 'iptables' }])
  expect(six).toEqual([])
  sorter.lost()
  expect(four.at(-1)).toEqual({ kind: 'ours' })
  expect(six).toEqual([{ kind: 'ours' }])
})

it('notifications of any content are sorted or refused as malformed, and none of others is ours', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 60 }), fc.integer({ min: 0, max: 25 }), (bytes, type) => {
      const found: Finding[] = []
      const sorter = new Sorter([{ places: () => iptables, found: finding => found.push(finding) }], () => false)
      const payload = Buffer.from(bytes)
      try {
        sorter.take({ type: (10 << 8) | type, flags: 0, sequence: 0, port: 5, payload })
        sorter.take(message('generation', generation('nft')))
      } catch (error) {
        expect(error).toMatchObject({ name: 'NetlinkFormatError' })
      }
      if (!payload.includes('nat') && !payload.includes('filter')) expect(found).toEqual([])
    }),
  )
})

it('knows its own programs while they run, and brackets what they restore', async () => {
  const release: (() => void)[] = []
  const exec: Exec = {
    run: async (_command, _args, options: ExecOptions = {}) => {
      options.onStart?.(release.length + 100)
      await new Promise<void>(resolve => release.push(resolve))
      return { exitCode: 0, stdout: '', stderr: '', notFound: false }
    },
  }
  const own = new OwnPrograms(exec)
  const heard: string[] = []
  own.onRestore = (family, begins) => heard.push(`${family} ${begins ? 'begins' : 'ends'}`)
  const first = own.run('iptables-legacy-restore', [])
  const second = own.run('ip6tables-legacy-restore', [])
  const third = own.run('iptables-legacy-save', [])
  expect([100, 101, 102, 103].map(port => own.has(port))).toEqual([true, true, true, false])
  expect(heard).toEqual(['IPv4 begins', 'IPv6 begins'])
  for (const end of release) end()
  await Promise.all([first, second, third])
  expect(heard.slice(2).sort()).toEqual(['IPv4 ends', 'IPv6 ends'])
  expect(own.restores('IPv4')).toBe(false)
  // What they wrote last may still be waiting to be read.
  expect(own.has(100)).toBe(true)
})
