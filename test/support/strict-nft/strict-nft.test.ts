// The strict nft by itself: what it takes and refuses is held against the real one in test/kernel.
import { expect, test } from 'vitest'
import { alike, base, otherwise, stricter } from './inputs.ts'
import { StrictNft } from './strict-nft.ts'

function machine(): StrictNft {
  const nft = new StrictNft()
  expect(nft.apply(base)).toMatchObject({ ok: true })
  return nft
}

const send = (nft: StrictNft, ...lines: readonly string[]) =>
  nft.run('nft', ['-f', '-'], { input: lines.map(line => `${line}\n`).join('') })

test('a script takes effect whole or not at all', () => {
  let taken = 0
  for (const script of [...alike, ...otherwise, ...stricter]) {
    const nft = machine()
    const before = nft.listAll()
    if (nft.apply(script).ok) taken++
    else expect(nft.listAll(), script).toBe(before)
  }
  expect(taken).toBeGreaterThan(80)
})

test('a table is listed as nft lists it', () => {
  const nft = new StrictNft()
  const script = [
    'add table ip penstock',
    'add map ip penstock services { type ipv4_addr . inet_proto . inet_service : verdict; }',
    'add set ip penstock seen { type ipv4_addr; size 4096; flags dynamic,timeout; timeout 60s; }',
    'add chain ip penstock prerouting { type nat hook prerouting priority -100; policy accept; }',
    'add chain ip penstock a',
    'add rule ip penstock prerouting ip daddr . meta l4proto . th dport vmap @services',
    'add rule ip penstock a ip saddr { 10.0.0.0/9, 10.128.0.0/9, 192.0.2.1 } meta mark set meta mark | 0x4000 drop',
    'add element ip penstock services { 10.96.0.1 . tcp . 80 comment "x/y" : goto a, 10.96.0.2 . udp . 53 : drop }',
  ].join('\n')
  expect(nft.apply(script)).toMatchObject({ ok: true, tables: ['ip penstock'] })
  expect(nft.list('ip penstock')).toBe(`table ip penstock {
	map services {
		type ipv4_addr . inet_proto . inet_service : verdict
		elements = { 10.96.0.1 . 6 . 80 comment "x/y" : goto a,
			     10.96.0.2 . 17 . 53 : drop }
	}

	set seen {
		type ipv4_addr
		size 4096
		flags dynamic,timeout
		timeout 60s
	}

	chain prerouting {
		type nat hook prerouting priority -100; policy accept;
		ip daddr . meta l4proto . th dport vmap @services
	}

	chain a {
		ip saddr { 10.0.0.0/8, 192.0.2.1 } meta mark set meta mark | 0x00004000 drop
	}
}
`)
})

test('refusals are told as nft tells them', async () => {
  const { exitCode, stderr } = await send(
    machine(),
    'add chain ip penstock c',
    'add element ip penstock services { 10.96.0.9 . tcp . 80 : goto nowhere }',
    'delete chain ip penstock a',
  )
  expect(exitCode).toBe(1)
  expect(stderr.split('\n').filter(line => line.includes('Error'))).toEqual([
    '/dev/stdin:2:1-72: Error: Could not process rule: No such file or directory',
    '/dev/stdin:3:1-26: Error: Could not process rule: Device or resource busy',
  ])
})

test('programs answer by name, and writes are counted', async () => {
  const nft = machine()
  const answer = async (command: string, ...args: string[]) => nft.run(command, args)
  expect(await answer('nft', '--version')).toMatchObject({ exitCode: 0, stdout: 'nftables v1.0.6 (Lester Gooch #5)\n' })
  expect(await answer('iptables', '--version')).toMatchObject({ notFound: true })
  expect(await answer('nft', '-n', 'list', 'table', 'ip', 'penstock')).toMatchObject({
    stdout: nft.list('ip penstock'),
  })
  expect(await answer('nft', '-n', 'list', 'table', 'ip6', 'penstock')).toMatchObject({
    exitCode: 1,
    stderr: expect.stringContaining('No such file or directory'),
  })
  expect(await answer('nft', 'monitor')).toMatchObject({ exitCode: 1 })
  expect(nft.writes()).toBe(0)
  expect(await answer('nft', 'delete', 'table', 'ip', 'penstock')).toMatchObject({ exitCode: 0, stderr: '' })
  expect(await answer('nft', 'delete', 'table', 'ip', 'penstock')).toMatchObject({
    exitCode: 1,
    stderr: expect.stringMatching(/^Error: Could not process rule: No such file or directory\n/),
  })
  expect(nft.writes()).toBe(2)
  expect(nft.listAll()).toBe('')
})

test('every commit is seen as it takes effect, and what was seen stays', async () => {
  const nft = machine()
  const seen: { family: string; frozen: StrictNft }[] = []
  nft.onCommit((family, frozen) => seen.push({ family, frozen }))
  await send(nft, 'add table ip6 penstock')
  await send(nft, 'add chain ip penstock first')
  await send(nft, 'add chain ip penstock second', 'delete chain ip penstock nowhere')
  nft.onCommit(undefined)
  await send(nft, 'add chain ip penstock third')
  expect(seen.map(({ family, frozen }) => [family, /chain (first|second|third) /.exec(frozen.listAll())?.[1]])).toEqual(
    [
      ['IPv6', undefined],
      ['IPv4', 'first'],
    ],
  )
  expect(nft.list('ip penstock')).toContain('chain third {')
})

test('failures are injected one write at a time, and lines are refused as the kernel refuses them', async () => {
  const nft = machine()
  nft.failNext({ exitCode: 1, stderr: 'Error: Operation not permitted\n' })
  expect(await send(nft, 'add chain ip penstock c')).toMatchObject({ stderr: 'Error: Operation not permitted\n' })
  nft.refuse(line => line.includes(' d'))
  expect(await send(nft, 'add chain ip penstock c', 'add chain ip penstock d')).toMatchObject({
    exitCode: 1,
    stderr: expect.stringMatching(/^\/dev\/stdin:2:1-23: Error: Could not process rule: Invalid argument\n/),
  })
  nft.refuse(() => false)
  expect(await send(nft, 'add chain ip penstock c', 'add chain ip penstock d')).toMatchObject({ exitCode: 0 })
})
