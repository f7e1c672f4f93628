// From what the kernel dumps of our table to the objects of a program: the inverse of `commands.ts`.
import {
  type NftChain,
  type NftContents,
  type NftElement,
  type NftRule,
  type NftSet,
  setFlag,
} from '../../kernel/netlink/nft-objects.ts'
import type { Family } from '../../net/ip.ts'
import type { KernelObject } from '../backend.ts'
import { type Container, containerOfKernel } from './containers.ts'
import { textOfRule } from './delinearize.ts'
import { elementCodec } from './elements.ts'
import type { AnonymousSets } from './expressions.ts'
import { textOfHook } from './hooks.ts'
import { greatestIndex } from './listing.ts'
import { chainKey, elementKey, indexedKey, mapKey, setKey } from './names.ts'
import { containerText } from './render.ts'

/** True for sets that are parts of rules. */
export const isAnonymous = ({ flags }: NftSet): boolean => (flags & setFlag.anonymous) !== 0

/** The chains with their rules. What we would not have written keeps some text of its own, and shows as a difference. */
export function* chainObjects(
  { chains, rules }: NftContents,
  sets: AnonymousSets,
  family: Family,
): Iterable<KernelObject> {
  const byChain = new Map<string, NftRule[]>()
  for (const rule of rules) {
    const list = byChain.get(rule.chain)
    if (list === undefined) byChain.set(rule.chain, [rule])
    else list.push(rule)
  }
  for (const chain of chains) yield chainObject(chain, byChain.get(chain.name) ?? [], sets, family)
}

function chainObject(
  { name, hook }: NftChain,
  rules: readonly NftRule[],
  sets: AnonymousSets,
  family: Family,
): KernelObject {
  const lines = rules.map(({ expressions, userdata }) => {
    const text = textOfRule(expressions, sets, family)
    return userdata === undefined || userdata.length === 0 ? text : `${text} userdata 0x${userdata.toString('hex')}`
  })
  return { key: chainKey(name), value: (hook === undefined ? lines : [textOfHook(hook), ...lines]).join('\n') }
}

/** A named set or map, and what it is if it is ours. */
export function containerObject(
  set: NftSet,
  family: Family,
): { object: KernelObject; container: Container | undefined } {
  const container = containerOfKernel(set, family)
  const key = (set.flags & setFlag.map) === 0 ? setKey(set.name) : mapKey(set.name)
  const value = container === undefined ? foreignText(set) : containerText(container, family)
  return { object: { key, value }, container }
}

const foreignText = ({ flags, keyType, keyLength, dataType, dataLength, timeoutMs, size }: NftSet): string =>
  `flags ${flags} key ${keyType}/${keyLength} data ${dataType}/${dataLength} timeout ${timeoutMs} size ${size};`

/** Takes in the elements of a set or map of ours, one by one, in any order. */
export interface ElementReader {
  take(element: NftElement): void
  objects(): Iterable<KernelObject>
}

/** A reader for one set or map of ours. */
export function elementReader(container: Container, family: Family): ElementReader {
  const codec = elementCodec(container, family)
  const { name } = container
  const found: KernelObject[] = []
  const byKey = new Map<string, string[]>()
  return {
    take: element => {
      const { key, index, between, data } = codec.decode(element)
      if (index === undefined || index > greatestIndex || between !== '' || data === undefined) {
        const whole = index === undefined ? key : `${key} . ${index}`
        const parts = between === '' ? [] : [between]
        if (data !== undefined) parts.push(`: ${data}`)
        found.push({ key: elementKey(name, whole), value: parts.join(' ') })
        return
      }
      const list = byKey.get(key)
      if (list === undefined) byKey.set(key, withAt(index, data))
      else list[index] = data
    },
    *objects() {
      yield* found
      for (const [key, list] of byKey) {
        yield { key: indexedKey(name, key), value: Array.from(list, data => data ?? '').join('\n') }
      }
    },
  }
}

function withAt(index: number, data: string): string[] {
  const list: string[] = []
  list[index] = data
  return list
}
