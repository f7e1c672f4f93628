// Started on a node that kube-proxy programmed, and leaving it to kube-proxy again, while connections live and come.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { bundle } from '../daemon/program.ts'
import { formerProxies, saved } from '../support/kube-proxy/leftovers.ts'
import { takeOverAndBack } from '../support/kube-proxy/take-over.ts'
import { Sandbox } from '../support/netns/sandbox.ts'
import { manifest } from '../support/switching/cluster.ts'
import { commonKinds } from '../support/switching/kinds.ts'
import { World } from '../support/world/world.ts'

let directory: string
let program: string
const seen: string[] = []
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'penstock-takeover-'))
  program = await bundle(directory)
})
afterAll(async () => {
  await rm(directory, { recursive: true, force: true })
  console.info(['taking over under traffic:', ...seen].join('\n  '))
})

// The image that replaces kube-proxy's on a node uses the same variant of iptables; nftables mode does not look at it.
const pairs = formerProxies.flatMap(from =>
  commonKinds
    .filter(to => from.variant === to.variant || to.mode === 'nftables')
    .map(to => [from.name, to.name, from, to] as const),
)

test.each(pairs)('from %s to %s and back', async (_from, _to, from, to) => {
  const world = await World.open(to.variant)
  try {
    const report = await takeOverAndBack(world, { from, to, program, directory: join(directory, 'node') })
    expect(report.failures).toEqual([])
    expect(report.probes).toBeGreaterThan(1_000)
    seen.push(`${from.name} to ${to.name}: ${report.probes} new connections, ${report.echoes} echoes of older ones`)
  } finally {
    await world.close()
  }
})

test.each(['nft', 'legacy'] as const)('what others use of kube-proxy in iptables-%s stays', async variant => {
  const sandbox = await Sandbox.open()
  const namespace = 'node-a'
  try {
    await sandbox.addNamespaces([namespace])
    await formerProxies.find(({ name }) => name.endsWith(variant))?.apply(sandbox, manifest)
    const input = [
      '*nat',
      ':CNI-DN-1 - [0:0]',
      ':MY-OWN - [0:0]',
      '-A CNI-DN-1 -s 10.0.0.0/8 -j KUBE-MARK-MASQ',
      '-A MY-OWN -p tcp -j KUBE-SERVICES',
      'COMMIT',
      '',
    ].join('\n')
    for (const tool of ['iptables', 'ip6tables']) {
      const family = tool === 'iptables' ? input : input.replace('10.0.0.0/8', 'fd00::/8')
      await sandbox.check({ namespace, argv: [`${tool}-${variant}-restore`, '--noflush'], input: family })
    }
    const retire = (): Promise<string> =>
      sandbox.check({
        namespace,
        argv: [process.execPath, join(import.meta.dirname, '../support/kube-proxy/retire-main.ts')],
      })
    const told = await retire()
    expect(told).toContain('nat KUBE-SERVICES stays, empty: a rule in MY-OWN of somebody else goes to it')
    const left = (await saved(sandbox, variant)).filter(line => line.includes('KUBE-'))
    for (const [ip, source] of [
      ['ip', '10.0.0.0/8'],
      ['ip6', 'fd00::/8'],
    ]) {
      expect(
        left
          .filter(line => line.startsWith(`${ip}: `))
          .map(line => line.slice(`${ip}: `.length))
          .sort(),
      ).toEqual([
        `-A CNI-DN-1 -s ${source} -j KUBE-MARK-MASQ`,
        '-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000',
        '-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0',
        '-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully',
        '-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN',
        '-A MY-OWN -p tcp -j KUBE-SERVICES',
        '-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING',
        ':KUBE-MARK-MASQ -',
        ':KUBE-POSTROUTING -',
        ':KUBE-SERVICES -',
      ])
    }
    const before = await saved(sandbox, variant)
    expect(await retire()).toBe('')
    expect(await saved(sandbox, variant)).toEqual(before)
  } finally {
    await sandbox.close()
  }
})
