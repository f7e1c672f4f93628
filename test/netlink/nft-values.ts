// Arbitrary values of nf_tables for property tests: everything that the types allow and a length can say.
import fc from 'fast-check'
import {
  elementFlag,
  type NftChain,
  type NftElement,
  type NftExpression,
  type NftOperation,
  type NftRule,
  type NftSet,
  type NftVerdict,
} from '../../src/kernel/netlink/nft-objects.ts'

const u32 = fc.nat(0xffffffff)
const register = fc.constantFrom(1, 2, 3, 4, 8, 9, 10, 23)
const bytes = (max: number, min = 0): fc.Arbitrary<Buffer> =>
  fc.uint8Array({ minLength: min, maxLength: max }).map(array => Buffer.from(array))
const value = bytes(16, 1)

export const name = fc
  .array(fc.constantFrom(...'abcdefghijklmnopqrstuvwxyz0123456789-_/.ä'), { minLength: 1, maxLength: 40 })
  .map(letters => letters.join(''))

const verdict: fc.Arbitrary<NftVerdict> = fc.oneof(
  fc.record({ kind: fc.constantFrom('accept', 'drop', 'continue', 'break', 'return') }),
  fc.record({ kind: fc.constantFrom('jump', 'goto'), chain: name }),
)
const data = fc.oneof(value, verdict)

/** A record some of whose fields may be absent. */
const record = <T, K extends keyof T>(model: { [P in keyof T]: fc.Arbitrary<T[P]> }, requiredKeys: K[]) =>
  fc.record<T, K>(model, { requiredKeys })

const kind = <K extends string>(text: K): fc.Arbitrary<K> => fc.constant(text)

const expressions: { readonly [K in NftExpression['kind']]: fc.Arbitrary<Extract<NftExpression, { kind: K }>> } = {
  meta: fc.record({ kind: kind('meta'), key: u32, to: register }),
  'meta-set': fc.record({ kind: kind('meta-set'), key: u32, from: register }),
  payload: fc.record({ kind: kind('payload'), base: u32, offset: u32, length: u32, to: register }),
  cmp: fc.record({ kind: kind('cmp'), from: register, op: u32, data: value }),
  range: fc.record({ kind: kind('range'), from: register, op: u32, first: value, last: value }),
  bitwise: fc.record({
    kind: kind('bitwise'),
    from: register,
    to: register,
    length: u32,
    op: u32,
    mask: value,
    xor: value,
  }),
  byteorder: fc.record({ kind: kind('byteorder'), from: register, to: register, op: u32, length: u32, size: u32 }),
  lookup: record(
    { kind: kind('lookup'), set: name, setId: u32, from: register, to: fc.nat(23), inverted: fc.boolean() },
    ['kind', 'set', 'from', 'inverted'],
  ),
  dynset: record({ kind: kind('dynset'), set: name, setId: u32, op: u32, from: register }, [
    'kind',
    'set',
    'op',
    'from',
  ]),
  immediate: fc.record({ kind: kind('immediate'), to: register, data }),
  fib: fc.record({ kind: kind('fib'), result: u32, flags: u32, to: register }),
  ct: fc.record({ kind: kind('ct'), key: u32, to: register }),
  numgen: fc.record({ kind: kind('numgen'), type: u32, modulus: u32, offset: u32, to: register }),
  nat: record(
    {
      kind: kind('nat'),
      type: u32,
      family: u32,
      addressMin: fc.constant(1),
      addressMax: fc.constant(2),
      portMin: fc.constant(9),
      portMax: fc.constant(10),
      flags: u32,
    },
    ['kind', 'type', 'family', 'flags'],
  ),
  masq: fc.record({ kind: kind('masq'), flags: u32 }),
  reject: fc.record({ kind: kind('reject'), type: u32, code: fc.nat(255) }),
  unknown: fc.record({
    kind: kind('unknown'),
    name: name.map(text => `other-${text}`),
    attributes: bytes(10).map(payload => Buffer.concat([payload, Buffer.alloc((4 - (payload.length % 4)) % 4)])),
  }),
}

export const expression: fc.Arbitrary<NftExpression> = fc.oneof(...Object.values(expressions))

export const chain: fc.Arbitrary<NftChain> = record(
  {
    name,
    hook: fc.record({
      number: fc.nat(4),
      priority: fc.integer({ min: -0x80000000, max: 0x7fffffff }),
      type: fc.constantFrom('nat', 'filter', 'route'),
      policy: fc.constantFrom('accept', 'drop'),
    }),
  },
  ['name'],
)

export const rule: fc.Arbitrary<NftRule> = record(
  { chain: name, expressions: fc.array(expression, { maxLength: 6 }), userdata: bytes(256, 1) },
  ['chain', 'expressions'],
)

export const set: fc.Arbitrary<NftSet> = record(
  {
    name,
    id: u32,
    flags: u32,
    keyType: u32,
    keyLength: fc.nat(64),
    dataType: u32,
    dataLength: fc.nat(64),
    timeoutMs: fc.bigInt({ min: 0n, max: 0xffffffffffffffffn }),
    size: u32,
    concatLengths: fc.array(fc.nat(16), { maxLength: 6 }),
    userdata: bytes(256, 1),
  },
  ['name', 'id', 'flags', 'keyType', 'keyLength'],
)

export const element: fc.Arbitrary<NftElement> = record(
  { key: value, keyEnd: value, data, flags: fc.constant(elementFlag.intervalEnd), userdata: bytes(256, 1) },
  ['key'],
)

export const operation: fc.Arbitrary<NftOperation> = fc.oneof(
  record({ kind: kind('add-table'), flags: u32, userdata: bytes(256, 1) }, ['kind', 'flags']),
  fc.record({ kind: kind('delete-table') }),
  fc.record({ kind: kind('add-chain'), chain }),
  fc.record({ kind: fc.constantFrom('delete-chain', 'flush-chain', 'delete-set'), name }),
  fc.record({ kind: kind('add-rule'), rule }),
  fc.record({ kind: kind('add-set'), set }),
  record({ kind: kind('add-elements'), set: name, setId: u32, elements: fc.array(element, { maxLength: 10 }) }, [
    'kind',
    'set',
    'elements',
  ]),
  fc.record({ kind: kind('delete-elements'), set: name, elements: fc.array(element, { maxLength: 10 }) }),
)
