// doctor and status on a real kernel: they find what is wrong there, change nothing, and work without rights.
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Finding } from '../../src/doctor/finding.ts'
import { formerProxies } from '../support/kube-proxy/leftovers.ts'
import { Sandbox } from '../support/netns/sandbox.ts'
import { manifest } from '../support/switching/cluster.ts'

const main = join(import.meta.dirname, '../../src/main.ts')
const namespace = 'node-a'
let sandbox: Sandbox
beforeEach(async () => {
  sandbox = await Sandbox.open()
  await sandbox.addNamespaces([namespace])
  await sandbox.configure(namespace, {
    ip: ['link set lo up'],
    sysctls: {
      'net/ipv4/ip_forward': '1',
      'net/ipv6/conf/all/forwarding': '1',
      'net/ipv4/conf/all/route_localnet': '1',
    },
  })
})
afterEach(() => sandbox.close())

const run = (...argv: readonly string[]) => sandbox.exec({ namespace, argv })
const check = (...argv: readonly string[]): Promise<string> => sandbox.check({ namespace, argv })

interface Examined {
  readonly exitCode: number
  readonly healthy: boolean
  readonly findings: readonly Finding[]
  /** `severity id` of what is not well, sorted. */
  readonly wrong: readonly string[]
}

async function doctor(flags: readonly string[] = [], before: readonly string[] = []): Promise<Examined> {
  const outcome = await run(...before, process.execPath, main, 'doctor', '-o', 'json', ...flags)
  if (!outcome.stdout.startsWith('{')) throw new Error(`no document: ${outcome.stdout}${outcome.stderr}`)
  const document: Pick<Examined, 'healthy' | 'findings'> = JSON.parse(outcome.stdout)
  const wrong = document.findings.filter(({ severity }) => severity !== 'ok')
  return { ...document, exitCode: outcome.exitCode, wrong: wrong.map(({ id, severity }) => `${severity} ${id}`).sort() }
}

/** Everything of the namespace that doctor could disturb. */
async function state(): Promise<string> {
  const outputs = await Promise.all([
    check('nft', '-s', 'list', 'ruleset'),
    check('sh', '-c', 'cat /proc/net/ip_tables_names /proc/net/ip6_tables_names 2>/dev/null || true'),
    check('ip', '-o', 'link'),
    check('sh', '-c', 'cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/conf/*/rp_filter'),
  ])
  return outputs.join('\n--\n')
}

/** koffi is optional: a machine may be without it. */
const noneBut = (...expected: readonly string[]): unknown =>
  expect.toSatisfy(
    (wrong: readonly string[]) =>
      JSON.stringify(wrong.filter(item => item !== 'warning koffi')) === JSON.stringify([...expected].sort()),
    `only ${expected.join(', ')}`,
  )

describe.each(['iptables', 'nftables'])('mode %s', mode => {
  test('a fit node without a daemon: the rules of the mode are tried, and nothing is left behind', async () => {
    if (mode === 'nftables') await check('sh', '-c', 'echo 0 >/proc/sys/net/ipv4/conf/all/route_localnet')
    const before = await state()
    const { wrong, exitCode, healthy, findings } = await doctor(['--proxy-mode', mode])
    expect(wrong).toEqual(noneBut('warning daemon'))
    expect([exitCode, healthy]).toEqual([0, true])
    const features = findings.filter(({ id }) => id.startsWith('kernel-features'))
    expect(features.map(({ severity }) => severity)).toEqual(['ok', 'ok'])
    expect(await state()).toBe(before)
  })
})

test('what is wrong is found, and stays as it is', async () => {
  for (const former of formerProxies) await former.apply(sandbox, manifest)
  await check('iptables-nft', '-t', 'filter', '-N', 'KUBE-ROUTER-FORWARD')
  await check('sh', '-c', 'echo 0 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv4/conf/lo/rp_filter')
  await check('sh', '-c', 'ip link add d0 type veth peer name d1; echo 1 >/proc/sys/net/ipv4/conf/d0/rp_filter')
  const before = await state()
  const { wrong, exitCode, findings } = await doctor()
  expect(wrong).toEqual(
    noneBut(
      'problem ip-forward',
      'warning daemon',
      'warning iptables-variants',
      'warning kube-proxy-rules',
      'warning other-proxies',
      'warning rp-filter',
    ),
  )
  expect(exitCode).toBe(1)
  const titles = new Map(findings.map(({ id, title }) => [id, title]))
  expect(titles.get('rp-filter')).toBe('strict reverse path filtering on d0')
  expect(titles.get('kube-proxy-rules')).toBe(
    "kube-proxy's rules are in iptables (nft), iptables (legacy), nftables (table ip kube-proxy), nftables (table ip6 kube-proxy)",
  )
  expect(await state()).toBe(before)
})

test('who holds the lock of iptables is named', async () => {
  await check('sh', '-c', 'touch /run/xtables.lock')
  const holder = await sandbox.start({
    namespace,
    argv: ['flock', '/run/xtables.lock', 'sleep', '60'],
    output: '/dev/null',
  })
  await check('sh', '-c', 'until ! flock -n /run/xtables.lock true; do sleep 0.05; done')
  const { findings } = await doctor(['--proxy-mode', 'nftables'])
  await sandbox.end(holder, 'SIGKILL')
  const finding = findings.find(({ id }) => id === 'xtables-lock')
  expect(finding?.severity).toBe('problem')
  expect(finding?.title).toMatch(/held for more than 2 s by (?:flock|sleep), process \d+/)
})

test('a running kube-proxy is seen, one in another network is not', async () => {
  await check('sh', '-c', 'cp "$(command -v sleep)" /run/kube-proxy')
  const start = (where: readonly string[]) =>
    sandbox.start({ namespace, argv: [...where, '/run/kube-proxy', '60'], output: '/dev/null' })
  const elsewhere = await start(['unshare', '--net', '--'])
  expect((await doctor()).findings.find(({ id }) => id === 'kube-proxy-process')?.severity).toBe('ok')
  const here = await start([])
  const finding = (await doctor()).findings.find(({ id }) => id === 'kube-proxy-process')
  expect(finding?.title).toBe(`kube-proxy runs here (process ${here})`)
  for (const pid of [elsewhere, here]) await sandbox.end(pid, 'SIGKILL')
})

test('without rights it says what it cannot see, and ends well', async () => {
  const { wrong, exitCode } = await doctor([], ['setpriv', '--reuid', '65534', '--regid', '65534', '--clear-groups'])
  expect(exitCode).toBe(0)
  expect(wrong).toEqual(expect.arrayContaining(['unknown iptables-variants', 'unknown nft-version']))
  expect(wrong.filter(item => item.startsWith('problem'))).toEqual([])
})

test('status says that no daemon answers', async () => {
  const outcome = await run(process.execPath, main, 'status')
  expect(outcome.exitCode).toBe(1)
  expect(outcome.stdout).toBe('')
  expect(outcome.stderr).toMatch(/^penstock: no daemon answers at http:\/\/127\.0\.0\.1:10249\/debug\/status .*\n$/)
})
