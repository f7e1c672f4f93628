// What others do to our rules: shell commands that flush, delete, empty and add. Each may find nothing to do, and then fails.
import type { ProxyMode } from '../../src/config/types.ts'
import type { Variant } from '../daemon/kernel-node.ts'
import type { Random } from '../differential/random.ts'

export interface Damage {
  readonly name: string
  /** For `sh -c`. */
  readonly command: string
  /** Takes everything. */
  readonly isTotal?: boolean
}

/** Prints the line of its input that this number chooses. */
const choose = (number: number): string =>
  `awk -v n=${number} '{ line[NR] = $0 } END { if (NR > 0) print line[n % NR + 1] }'`

/** Others' rules come and go in the same tables: `PENSTOCK` is in none of them. */
const noise = (tool: string, port: number): string =>
  `${tool} -t nat -N CNI-NOISE; ${tool} -t nat -A CNI-NOISE -p tcp --dport ${port} -j RETURN; ` +
  `${tool} -t nat -C POSTROUTING -j CNI-NOISE || ${tool} -t nat -I POSTROUTING -j CNI-NOISE; ` +
  `${tool} -t filter -I FORWARD -p tcp --dport ${port} -j ACCEPT; ${tool} -t filter -D FORWARD -p tcp --dport ${port} -j ACCEPT`

function xtablesDamage(random: Random, variant: Variant): Damage {
  const tool = `${random.pick(['iptables', 'ip6tables'])}-${variant}`
  const table = random.pick(['nat', 'filter'])
  const number = random.int(0, 100_000)
  const rules = `${tool}-save -t ${table} | grep -- '-A .*PENSTOCK'`
  const chain = `$(${tool}-save -t ${table} | grep -o '^:PENSTOCK[^ ]*' | cut -c 2- | ${choose(number)})`
  const all: readonly Damage[] = [
    { name: `${tool} -t ${table} -F`, command: `${tool} -w -t ${table} -F`, isTotal: true },
    {
      name: `${tool} one rule of ${table}`,
      command: `${rules} | ${choose(number)} | sed 's/^-A/${tool} -w -t ${table} -D/' | sh`,
    },
    {
      name: `${tool} one rule of ${table}`,
      command: `${rules} | ${choose(number)} | sed 's/^-A/${tool} -w -t ${table} -D/' | sh`,
    },
    { name: `${tool} one chain of ${table}`, command: `${tool} -w -t ${table} -F ${chain}` },
    {
      name: `${tool} a rule in ours`,
      command: `${tool} -w -t ${table} -I ${chain} -p tcp --dport ${1 + (number % 60_000)} -j RETURN`,
    },
    {
      name: `${tool} all of ${table}`,
      command: `${tool} -w -t ${table} -F; ${tool} -w -t ${table} -X`,
      isTotal: true,
    },
    { name: `${tool} rules of others`, command: noise(`${tool} -w`, 1 + (number % 9)) },
    ...(variant === 'nft' ? [{ name: 'nft flush ruleset', command: 'nft flush ruleset', isTotal: true }] : []),
  ]
  return pickBySize(random, all)
}

function nftDamage(random: Random): Damage {
  const family = random.pick(['ip', 'ip6'])
  const number = random.int(0, 100_000)
  const table = `${family} penstock`
  const chain = `$(nft -t list table ${table} | sed -n 's/^\\tchain \\(.*\\) {/\\1/p' | ${choose(number)})`
  const map = random.pick(['map services', 'map node-ports', 'map endpoints', 'set cluster-ips'])
  const [kind = '', name = ''] = map.split(' ')
  const element =
    `nft -n list ${kind} ${table} ${name} | sed -n '/elements = {/,/}/p' | sed 's/.*elements = {//; s/}.*//' | ` +
    `tr ',' '\\n' | grep '[0-9]' | sed 's/ : .*//' | ${choose(number)}`
  const all: readonly Damage[] = [
    { name: 'nft flush ruleset', command: 'nft flush ruleset', isTotal: true },
    { name: `nft delete table ${table}`, command: `nft delete table ${table}`, isTotal: true },
    {
      name: `nft delete element ${table} ${name}`,
      command: `nft "delete element ${table} ${name} { $(${element}) }"`,
    },
    {
      name: `nft delete element ${table} ${name}`,
      command: `nft "delete element ${table} ${name} { $(${element}) }"`,
    },
    { name: `nft flush ${kind} ${table} ${name}`, command: `nft flush ${kind} ${table} ${name}` },
    { name: `nft flush a chain of ${table}`, command: `nft flush chain ${table} "${chain}"` },
    { name: `nft a rule in a chain of ${table}`, command: `nft insert rule ${table} "${chain}" counter` },
    {
      name: `nft one rule of ${table}`,
      command:
        `c="${chain}"; h=$(nft -a list chain ${table} "$c" | grep -o 'handle [0-9]*$' | tail -n 1); ` +
        `nft delete rule ${table} "$c" $h`,
    },
    {
      name: 'nft rules of others',
      command: 'nft add table ip other; nft add chain ip other c; nft add rule ip other c counter',
    },
  ]
  return pickBySize(random, all)
}

function ipvsDamage(random: Random, variant: Variant): Damage {
  const number = random.int(0, 100_000)
  const set = `$(ipset list -n | grep PENSTOCK | ${choose(number)})`
  const server = `ipvsadm -S -n | grep -- '^-A' | ${choose(number)} | cut -d ' ' -f 2,3`
  const all: readonly Damage[] = [
    { name: 'ipvsadm -C', command: 'ipvsadm -C', isTotal: true },
    { name: 'ipvsadm one virtual server', command: `ipvsadm -D $(${server})` },
    {
      name: 'ipvsadm one real server',
      command: `ipvsadm -S -n | grep -- '^-a' | ${choose(number)} | cut -d ' ' -f 2-5 | xargs ipvsadm -d`,
    },
    { name: 'ipset flush', command: `ipset flush ${set}` },
    {
      name: 'ipset one entry',
      command: `ipset save | grep '^add PENSTOCK' | ${choose(number)} | cut -d ' ' -f 2,3 | xargs ipset del`,
    },
    {
      name: 'one route',
      command: `ip -4 route show table local proto 112 | ${choose(number)} | xargs -I % sh -c 'ip route del % table local'`,
    },
    { name: 'all routes', command: 'ip route flush table local proto 112', isTotal: true },
    { name: 'the device kube-ipvs0', command: 'ip link delete kube-ipvs0' },
    xtablesDamage(random, variant),
  ]
  return pickBySize(random, all)
}

/** Damage that takes everything hides the rest for as long as its repair takes: it is rarer. */
function pickBySize(random: Random, all: readonly Damage[]): Damage {
  const wantsTotal = random.chance(0.15)
  return random.pick(all.filter(({ isTotal = false }) => isTotal === wantsTotal))
}

/** Something that may happen to what this mode keeps in the kernel. */
export function randomDamage(random: Random, mode: ProxyMode, variant: Variant): Damage {
  switch (mode) {
    case 'iptables':
      return xtablesDamage(random, variant)
    case 'nftables':
      return nftDamage(random)
    case 'ipvs':
      return ipvsDamage(random, variant)
  }
}
