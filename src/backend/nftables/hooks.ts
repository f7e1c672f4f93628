// The line of a base chain's hook, and what the kernel calls it.
import type { NftChain } from '../../kernel/netlink/nft-objects.ts'

type KernelHook = NonNullable<NftChain['hook']>

/** Names of the hooks of the families ip and ip6, by enum nf_inet_hooks. */
const hookNames: readonly string[] = ['prerouting', 'input', 'forward', 'output', 'postrouting']

/** Parses `type nat hook prerouting priority -100; policy accept;`. Throws an Error at anything else. */
export function hookOfText(text: string): KernelHook {
  const [, type = '', name = '', priority, policy] =
    /^type (\S+) hook (\S+) priority (-?\d+); policy (accept|drop);$/.exec(text) ?? []
  const number = hookNames.indexOf(name)
  if (number < 0) throw new Error(`not a hook of ours: ${text}`)
  return { number, priority: Number(priority), type, policy: policy === 'drop' ? 'drop' : 'accept' }
}

/** The line of a hook; the inverse of `hookOfText`. */
export const textOfHook = ({ number, priority, type, policy }: KernelHook): string =>
  `type ${type} hook ${hookNames[number] ?? number} priority ${priority}; policy ${policy};`
