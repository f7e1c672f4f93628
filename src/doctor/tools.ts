// Checks of the kernel's age and of the programs that write rules: which there are, and whether they work here.
import { toolsOf } from '../backend/xtables/tools.ts'
import type { Family } from '../net/ip.ts'
import { type Finding, ok, unknown } from './finding.ts'
import type { Look } from './look.ts'

const numbersOf = (version: string): number[] => (/\d+(?:\.\d+)*/.exec(version)?.[0] ?? '').split('.').map(Number)

/** True if a version is at least another; versions count part by part. */
export function isAtLeast(version: string, least: string): boolean {
  const have = numbersOf(version)
  for (const [i, wanted] of numbersOf(least).entries()) {
    const own = have[i] ?? 0
    if (own !== wanted) return own > wanted
  }
  return true
}

/** Verdict maps with concatenated keys and `dnat … to … map` need 5.13 (`kube-proxy.md` §6.1). */
export async function kernelVersion(look: Look): Promise<Finding[]> {
  const id = 'kernel-version'
  const { release, wanted } = look
  if (wanted.mode === 'nftables' && !isAtLeast(release, '5.13')) {
    return [
      {
        id,
        severity: 'problem',
        title: `Linux ${release} is too old for mode nftables`,
        meaning: 'mode nftables needs 5.13 or newer; the rules are refused',
        mend: 'use mode iptables (--proxy-mode=iptables) or a newer kernel',
      },
    ]
  }
  if (wanted.mode === 'ipvs' && !isAtLeast(release, '5.9')) {
    return [
      {
        id,
        severity: 'warning',
        title: `Linux ${release} has IPVS of before 5.9`,
        meaning:
          'a client that uses a port again within a minute waits a second, or reaches an endpoint that is gone (#81775)',
        mend: 'use mode iptables, or a kernel of 5.9 or newer',
      },
    ]
  }
  return [ok(id, `Linux ${release} is new enough for mode ${wanted.mode}`)]
}

/** Both variants, as far as they are installed. iptables-nft before 1.8.4 misreads its own rules (#71305). */
export async function iptablesVersion(look: Look): Promise<Finding[]> {
  const id = 'iptables-version'
  const isNeeded = look.wanted.mode !== 'nftables'
  const found: string[] = []
  const old: string[] = []
  for (const family of look.wanted.families) {
    for (const variant of ['nft', 'legacy'] as const) {
      const tools = await toolsOf(look.exec, family, variant)
      if (tools === undefined) continue
      found.push(`${tools.iptables} ${tools.version}`)
      if (!isAtLeast(tools.version, '1.8.4')) old.push(`${tools.iptables} ${tools.version} (${variant})`)
    }
  }
  if (found.length === 0) {
    if (!isNeeded) return [ok(id, 'iptables is not installed, and mode nftables does without')]
    return [
      {
        id,
        severity: 'problem',
        title: 'iptables is not installed',
        meaning: `mode ${look.wanted.mode} cannot write its rules`,
        mend: 'apt-get install iptables   # or use mode nftables',
      },
    ]
  }
  if (old.length === 0) return [ok(id, found.join(', '))]
  return [
    {
      id,
      severity: isNeeded ? 'problem' : 'warning',
      title: `${old.join(', ')}: older than 1.8.4`,
      meaning: 'the nft variant before 1.8.4 corrupts rules that others write at the same time (#71305)',
      mend: 'install iptables 1.8.4 or newer, the same on the host and in every image that writes rules',
    },
  ]
}

/** 50,000 lines take nft 1.0.6 three seconds; it stumbles early or not at all. */
const listingMs = 5_000

/** Too old for our maps; or older than what made the rules that are there: then it fails or crashes (#136786, #140898). */
export async function nftVersion(look: Look): Promise<Finding[]> {
  const id = 'nft-version'
  const isNeeded = look.wanted.mode === 'nftables'
  const version = await look.exec.run('nft', ['--version'], { timeoutMs: 5_000 })
  if (version.notFound) {
    if (!isNeeded) return [ok(id, `nft is not installed, and mode ${look.wanted.mode} does without`)]
    const meaning = 'mode nftables cannot write its rules'
    return [{ id, severity: 'problem', title: 'nft is not installed', meaning, mend: 'apt-get install nftables' }]
  }
  const text = /v(\d+\.\d+\.\d+)/.exec(version.stdout)?.[1] ?? ''
  if (text !== '' && !isAtLeast(text, '1.0.6')) {
    return [
      {
        id,
        severity: isNeeded ? 'problem' : 'warning',
        title: `nft ${text} is older than 1.0.6`,
        meaning: 'it does not know what our maps are made of, or lists it wrongly',
        mend: 'install nftables 1.0.6 or newer',
      },
    ]
  }
  const listed = await look.exec.run('nft', ['-t', 'list', 'ruleset'], { timeoutMs: listingMs })
  if (listed.exitCode === 0) return [ok(id, `nft ${text} reads the rules of this node`)]
  const said = listed.stderr.trim().split('\n', 1)[0] ?? ''
  if (/timed out/.test(said))
    return [ok(id, `nft ${text} has read rules for ${listingMs / 1000} s and stumbled over none`)]
  if (isDenied(said))
    return [unknown(id, `nft ${text}; whether it reads the rules of this node cannot be seen: ${said}`)]
  return [
    {
      id,
      severity: isNeeded ? 'problem' : 'warning',
      title: `nft ${text} cannot read the rules of this node: ${said === '' ? 'it ended by a signal' : said}`,
      meaning:
        'most often a table was made by a newer nft, as the host has beside an older one in an image; every call of it may fail (#136786)',
      mend: 'nft list tables   # then install an nft at least as new as the newest that writes here',
    },
  ]
}

/** Words of programs that were not allowed to look. */
export const isDenied = (said: string): boolean =>
  /Operation not permitted|Permission denied|must be root|need to be root/i.test(said)

/** Programs besides those for rules; mode ipvs cannot do without, and node-wide conntrack cleaning likes one. */
export async function otherPrograms(look: Look): Promise<Finding[]> {
  if (look.wanted.mode !== 'ipvs') return []
  const missing: string[] = []
  for (const [program, args] of [
    ['ipvsadm', ['--version']],
    ['ipset', ['--version']],
    ['ip', ['-V']],
  ] as const) {
    if ((await look.exec.run(program, args, { timeoutMs: 5_000 })).notFound) missing.push(program)
  }
  const id = 'ipvs-programs'
  if (missing.length === 0) return [ok(id, 'ipvsadm, ipset and ip are installed')]
  const packages = missing.map(name => (name === 'ip' ? 'iproute2' : name)).join(' ')
  return [
    {
      id,
      severity: 'problem',
      title: `not installed: ${missing.join(', ')}`,
      meaning: 'mode ipvs cannot write virtual servers, sets and addresses',
      mend: `apt-get install ${packages}`,
    },
  ]
}

/** How a namespace is made that nothing else is in: as root, else in a user namespace. */
const apart = [
  ['--net', '--'],
  ['--user', '--map-root-user', '--net', '--'],
] as const

async function runApart(
  look: Look,
  command: string,
  args: readonly string[],
  input?: string,
): Promise<{ readonly exitCode: number; readonly said: string } | undefined> {
  for (const flags of apart) {
    // Whether a namespace can be made at all.
    const trial = await look.exec.run('unshare', [...flags, 'true'], { timeoutMs: 5_000 })
    if (trial.exitCode !== 0) continue
    const result = await look.exec.run('unshare', [...flags, command, ...args], {
      timeoutMs: 15_000,
      ...(input === undefined ? {} : { input }),
    })
    return { exitCode: result.exitCode, said: result.stderr.trim() }
  }
  return undefined
}

/**
 * Writes the mode's own rules in a network namespace of their own, which ends with the program: the one sure way to learn
 * whether this kernel and these programs take them. Nothing of the node's own is touched; the kernel may load the modules
 * that the mode needs anyway.
 */
export async function features(look: Look): Promise<Finding[]> {
  const found: Finding[] = []
  for (const family of look.wanted.families) found.push(await featuresOf(look, family))
  return found
}

async function featuresOf(look: Look, family: Family): Promise<Finding> {
  const id = family === 'IPv4' ? 'kernel-features' : 'kernel-features-ipv6'
  const { mode } = look.wanted
  const sample = await look.sample(family)
  if (sample === undefined) return unknown(id, `no rules of mode ${mode} could be tried: its program is not installed`)
  const result = await runApart(look, sample.command, sample.args, sample.input)
  if (result === undefined) {
    return unknown(
      id,
      `rules of mode ${mode} could not be tried: this user may make no network namespace (\`unshare --net\`)`,
    )
  }
  if (result.exitCode === 0) return ok(id, `the kernel takes the rules of mode ${mode} (${family})`)
  const [first = ''] = result.said.split('\n')
  const isIpvs = mode === 'ipvs'
  return {
    id,
    severity: 'problem',
    title: `the kernel refuses what mode ${mode} needs (${family}): ${first === '' ? `exit status ${result.exitCode}` : first}`,
    meaning: isIpvs
      ? 'there is no IPVS: CONFIG_IP_VS, module ip_vs'
      : 'a module is missing: see which match, statement or target the line above names',
    mend: isIpvs
      ? 'modprobe ip_vs   # or use mode nftables'
      : 'modprobe -a nf_conntrack nf_nat nft_fib nft_numgen xt_addrtype xt_statistic xt_recent xt_comment xt_mark',
  }
}

/** Without it conntrack entries go one program call at a time. */
export async function directKernelCalls(look: Look): Promise<Finding[]> {
  const id = 'koffi'
  const why = await look.netlink()
  if (why === undefined) return [ok(id, 'the kernel is spoken to directly (package koffi)')]
  const program = await look.exec.run('conntrack', ['--version'], { timeoutMs: 5_000 })
  const without = program.notFound
    ? 'stale UDP flows stay, because the program conntrack is not installed either: clients of a UDP Service go on to an endpoint that is gone'
    : 'the program conntrack is called instead, which takes longer on nodes with many connections'
  return [
    {
      id,
      severity: 'warning',
      title: `the kernel cannot be spoken to directly: ${why}`,
      meaning: without,
      mend: program.notFound
        ? 'apt-get install conntrack'
        : 'npm install --include=optional koffi   # or use the published image, which has it',
    },
  ]
}
