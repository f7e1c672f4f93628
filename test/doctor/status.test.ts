// The daemon's word at /debug/status: told from other answers, and printed for people.
import { createServer, type Server } from 'node:http'
import { afterEach, expect, test } from 'vitest'
import { askDaemon, daemonAddress } from '../../src/commands/daemon.ts'
import { parseIP } from '../../src/net/ip.ts'
import { ageText, type DaemonStatus, isDaemonStatus, statusText } from '../../src/observe/status.ts'

const healthy: DaemonStatus = {
  version: 'v0.1.0',
  mode: 'nftables',
  startedAt: '2026-01-01T00:00:00Z',
  now: '2026-01-01T05:00:00Z',
  node: { name: 'node-a', eligible: true, addresses: ['192.0.2.1'], podCIDRs: ['10.0.0.0/24'] },
  families: [
    {
      family: 'IPv4',
      lastSync: '2026-01-01T04:59:57Z',
      failures: 0,
      lastError: null,
      dirty: 2,
      services: 120,
      kernelObjects: 1500,
      drift: 1,
      setAside: [],
      conflicts: [],
    },
  ],
  watches: [{ kind: 'Service', state: 'watching', lastEvent: '2026-01-01T04:59:00Z' }],
  problems: [],
}
const [family] = healthy.families
if (family === undefined) throw new Error('there is a family')

test('a healthy daemon reads like this', () => {
  expect(statusText(healthy)).toBe(
    [
      'penstock v0.1.0, mode nftables, up for 5 h: the kernel holds what the cluster asks for',
      'node node-a, in service; addresses 192.0.2.1; pods 10.0.0.0/24',
      '',
      'IPv4: synced 3 s ago; 120 Services, 1500 kernel objects, 2 Services waiting, drift repaired 1 times',
      '',
      'Service  watching, last heard of 60 s ago',
      '',
    ].join('\n'),
  )
})

test('what is wrong comes with its reason', () => {
  const text = statusText({
    ...healthy,
    node: { ...healthy.node, eligible: null },
    problems: ['port 10256 is taken'],
    families: [
      {
        ...family,
        lastSync: null,
        failures: 4,
        lastError: 'denied: nft: Operation not permitted',
        setAside: [{ servicePort: 'a/b:c', reason: 'no such target' }],
        conflicts: [{ service: 'a/new', frontend: '203.0.113.1:80/TCP', holder: 'a/old' }],
      },
    ],
    watches: [{ kind: 'Node', state: 'listing', lastEvent: null }],
  })
  for (const part of [
    'the kernel may not hold',
    'not known to the API yet',
    '! port 10256 is taken',
    'IPv4: never synced',
    '! 4 syncs failed since: denied: nft: Operation not permitted',
    '! a/b:c is not programmed, the kernel refuses it: no such target',
    '! a/new does not get 203.0.113.1:80/TCP: a/old is older and has it',
    'Node  listing, nothing received yet',
  ]) {
    expect(text).toContain(part)
  }
})

test('a status is told from anything else', () => {
  expect(isDaemonStatus(JSON.parse(JSON.stringify(healthy)))).toBe(true)
  expect(isDaemonStatus({ ...healthy, more: 'of a later version' })).toBe(true)
  for (const [name, value] of Object.entries(healthy)) {
    const other = typeof value === 'string' ? 7 : 'text'
    expect(isDaemonStatus({ ...healthy, [name]: other }), name).toBe(false)
    expect(isDaemonStatus({ ...healthy, [name]: undefined }), name).toBe(false)
  }
  for (const name of Object.keys(family)) {
    expect(isDaemonStatus({ ...healthy, families: [{ ...family, [name]: undefined }] }), name).toBe(false)
  }
  for (const value of [null, 'ok', [], {}]) expect(isDaemonStatus(value)).toBe(false)
})

test('ages are in the unit that says something', () => {
  const at = (ms: number): string => new Date(ms).toISOString()
  const ages = [0, 119_000, 120_000, 7_199_000, 7_200_000, 172_800_000].map(ms => ageText(at(0), at(ms)))
  expect(ages).toEqual(['0 s', '119 s', '2 min', '119 min', '2 h', '2 d'])
  expect(ageText('never', at(0))).toBe('unknown')
  expect(ageText(at(5_000), at(0))).toBe('0 s')
})

test('an unspecified address is asked on loopback', () => {
  const at = (text: string) => ({ address: parseIP(text) ?? fail(text), port: 10_249 })
  expect(daemonAddress(at('0.0.0.0'))).toBe('127.0.0.1:10249')
  expect(daemonAddress(at('::'))).toBe('[::1]:10249')
  expect(daemonAddress(at('192.0.2.1'))).toBe('192.0.2.1:10249')
  expect(daemonAddress(at('fd00::1'))).toBe('[fd00::1]:10249')
  expect(daemonAddress('disabled')).toBeUndefined()
})

const fail = (text: string): never => {
  throw new Error(`${text} is no address`)
}

const servers: Server[] = []
afterEach(async () => {
  for (const server of servers.splice(0)) {
    server.closeAllConnections()
    await new Promise(resolve => server.close(resolve))
  }
})

async function serve(answers: Readonly<Record<string, string>>): Promise<Parameters<typeof askDaemon>[0]> {
  const server = createServer((request, response) => {
    const body = answers[request.url ?? '']
    response.statusCode = body === undefined ? 404 : 200
    response.end(body ?? 'not here')
  })
  servers.push(server)
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('it listens on a port')
  return { address: parseIP('127.0.0.1') ?? fail('127.0.0.1'), port: address.port }
}

test('the daemon answers', async () => {
  const metrics = await serve({ '/debug/status': JSON.stringify(healthy) })
  expect(await askDaemon(metrics)).toEqual({ kind: 'status', status: healthy })
})

test('a kube-proxy is called by its name, another program is not', async () => {
  const proxy = await askDaemon(await serve({ '/proxyMode': 'ipvs' }))
  expect(proxy).toMatchObject({ kind: 'other', why: expect.stringContaining('a kube-proxy in mode ipvs (status 404)') })
  const other = await askDaemon(await serve({ '/debug/status': '<html>' }))
  expect(other).toMatchObject({ kind: 'other', why: expect.stringContaining('another program (status 200)') })
})

test('nobody there is said with what to do', async () => {
  const metrics = await serve({})
  const [server] = servers.splice(0)
  await new Promise(resolve => server?.close(resolve))
  const answer = await askDaemon(metrics)
  expect(answer).toMatchObject({ kind: 'silent', why: expect.stringContaining('ECONNREFUSED') })
  expect(answer).toMatchObject({ why: expect.stringContaining('--metrics-bind-address') })
  expect(await askDaemon('disabled')).toMatchObject({ kind: 'silent', why: expect.stringContaining('disabled') })
})
